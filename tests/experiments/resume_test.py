"""Whose folder is it: settings compared, kept, refused."""

import pytest

from listcoupling.experiments import results, resume

_SETTINGS = {'config': {'k': (1, 2), 'names': {}}, 'models': {'target': 'ab'}}


def test_a_fresh_folder_takes_the_settings_and_the_same_come_again(tmp_path):
  record = tmp_path / 'new' / 'results.json'
  resume.claim(record, _SETTINGS)
  assert results.read_json(record) == {'settings': results.plain(_SETTINGS)}
  results.write_json(record, {**results.read_json(record), 'seconds': 1.0})
  before = record.read_bytes()
  resume.claim(record, _SETTINGS, work=[record])
  assert record.read_bytes() == before


@pytest.mark.parametrize(
  'change, names',
  [
    ({'config': {'k': (1, 3), 'names': {}}}, 'config.k'),
    ({'config': {'k': (1, 2), 'names': {'a': 1}}}, 'config.names.*names.a'),
    ({'config': {'k': (1, 2)}}, 'config.names'),
    ({'models': {'target': 'abc'}}, 'models.target'),
    ({'models': {'target': 'ab', 'drafter': None}}, 'models.drafter'),
    ({'seed': None}, 'seed'),
  ],
)
def test_every_change_is_refused_by_name(tmp_path, change, names):
  record = tmp_path / 'results.json'
  resume.claim(record, _SETTINGS)
  before = record.read_bytes()
  with pytest.raises(ValueError, match=f'settings of {names}; resume'):
    resume.claim(record, _SETTINGS | change)
  assert record.read_bytes() == before
  for damage in (
    b'', b'{"settings": {', b'[1]', b'\xff\xfe', b'{"settings": null}',
  ):  # fmt: skip
    record.write_bytes(damage)
    with pytest.raises(ValueError, match='results.json is damaged'):
      resume.claim(record, _SETTINGS)
    assert record.read_bytes() == damage


def test_no_settings_differ_in_every_name(tmp_path):
  record = tmp_path / 'results.json'
  for kept in ({'settings': {}}, {}):
    results.write_json(record, kept)
    with pytest.raises(ValueError, match='settings of a, b.c; resume'):
      resume.claim(record, {'a': 0, 'b': {'c': 1}})
  assert resume.differences({'a': {}}, {}) == ['a']
  assert resume.differences({}, {}) == []


def test_results_of_unknown_settings_are_refused(tmp_path):
  table = tmp_path / 'table.csv'
  table.write_text('a\n1\n')
  record = tmp_path / 'results.json'
  with pytest.raises(ValueError, match='table.csv has no results.json'):
    resume.claim(record, _SETTINGS, work=[tmp_path / 'no.csv', table])
  assert not record.exists() and table.exists()


def test_a_record_may_hold_settings_alone(tmp_path):
  results.write_json(tmp_path / 'settings.json', _SETTINGS)
  resume.claim(tmp_path / 'settings.json', _SETTINGS)
  with pytest.raises(ValueError, match='settings of seed; '):
    resume.claim(tmp_path / 'settings.json', _SETTINGS | {'seed': 1})
