"""One run: whose folder it is, what is kept of it, which damage is refused."""

import shutil
import time

import numpy as np
import pytest

from listcoupling import files, tables
from listcoupling.experiments.run import environment, open_run

_SETTINGS = {'config': {'k': (1, 2), 'names': {}}, 'models': {'target': 'ab'}}
_TWO = {'a': 0, 'b': 1}
_JOBS = _TWO | {'c': 2}


def _compute(number):
  return {'value': number + 0.1, 'row': tables.join([number]), 'none': None}


def _fill(folder, compute=_compute, settings=_SETTINGS, jobs=_JOBS, **kwargs):
  with open_run(folder, settings, **kwargs) as run:
    return run.rows(jobs, compute, key='name')


def _never(_):
  raise AssertionError('computed again')


def test_a_stopped_run_does_what_is_missing(tmp_path):
  def stopping(number):
    if number == 2:
      raise KeyboardInterrupt
    return _compute(number)

  with pytest.raises(KeyboardInterrupt) as stop:
    _fill(tmp_path, stopping)
  assert 'goes on from there' in stop.value.__notes__[0]
  assert len(tables.read_csv(tmp_path / 'results.csv')) == 2
  seen = []
  rows = _fill(tmp_path, lambda n: seen.append(n) or _compute(n))
  assert seen == [2] and [row['name'] for row in rows] == ['a', 'b', 'c']
  assert [row['value'] for row in rows] == [0.1, 1.1, 2.1]
  assert _fill(tmp_path, _never) == rows == _fill(tmp_path / 'fresh')


def test_nothing_kept_is_not_promised(tmp_path):
  def stopping(_):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt) as stop:
    _fill(tmp_path, stopping)
  assert stop.value.__notes__ == [
    'No row was done yet; the same command begins again.'
  ]


def test_the_machine_that_computed_last_is_on_record(tmp_path):
  began = time.perf_counter()
  _fill(tmp_path, lambda n: time.sleep(0.05) or _compute(n), jobs=_TWO)
  whole = time.perf_counter() - began
  own = files.read_json(tmp_path / 'results.json')
  assert own['environment'] == files.plain(environment())
  assert 2 * 0.05 <= own['seconds'] <= whole
  before = (tmp_path / 'results.json').read_bytes()
  _fill(tmp_path, _never, jobs=_TWO)
  assert (tmp_path / 'results.json').read_bytes() == before
  with open_run(tmp_path, _SETTINGS) as run:
    run.note(summary={'mean': np.float32(0.5)})
  noted = files.read_json(tmp_path / 'results.json')
  assert (
    noted['summary'] == {'mean': 0.5} and noted['seconds'] == own['seconds']
  )


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
  _fill(tmp_path)
  before = _contents(tmp_path)
  with pytest.raises(ValueError, match=rf'settings of {names} \(.*\); resume'):
    _fill(tmp_path, _never, _SETTINGS | change)
  assert _contents(tmp_path) == before


def test_what_may_change_may_grow(tmp_path):
  _fill(tmp_path, jobs={'a': 0}, settings={'config': {'repeats': 1, 'k': 2}})
  grown = {'config': {'repeats': 3, 'k': 2}}
  rows = _fill(tmp_path, settings=grown, may_change=['config.repeats'])
  assert len(rows) == 3
  kept = files.read_json(tmp_path / 'results.json')['settings']
  assert kept == grown
  with pytest.raises(ValueError, match=r'config.k \(2, now 3\);'):
    _fill(
      tmp_path, settings={'config': {'k': 3}}, may_change=['config.repeats']
    )


def _contents(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_damage_of_any_byte_is_refused_or_made_good(tmp_path):
  rows = _fill(tmp_path / 'whole')
  generator = np.random.default_rng(0)
  made_good = 0
  for name in ('results.csv', 'results.json'):
    whole = (tmp_path / 'whole' / name).read_bytes()
    for place in generator.choice(len(whole), 40):
      cut = whole[:place]
      other = bytes([whole[place] ^ generator.integers(1, 255)])
      for damaged in (cut, cut + other + whole[place + 1 :]):
        folder = tmp_path / 'damaged'
        shutil.copytree(tmp_path / 'whole', folder)
        (folder / name).write_bytes(damaged)
        try:
          assert _fill(folder) == rows, (name, place, damaged)
          made_good += 1
        except ValueError as error:
          assert name in str(error) and 'damaged' in str(error), error
        shutil.rmtree(folder)
  assert made_good < 20  # cuts between rows, and white space


def test_removed_rows_are_made_again(tmp_path):
  rows = _fill(tmp_path)
  path = tmp_path / 'results.csv'
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(lines[0] + lines[2])
  seen = []
  assert _fill(tmp_path, lambda n: seen.append(n) or _compute(n)) == rows
  assert seen == [0, 2] and path.read_text() == ''.join(lines)


def test_results_of_unknown_settings_are_refused(tmp_path):
  for name in ('table.csv', 'sums.npz'):
    (tmp_path / name).write_text('a\n1\n')
    with pytest.raises(ValueError, match=f'{name} has no results.json'):
      _fill(tmp_path)
    assert not (tmp_path / 'results.json').exists()
    (tmp_path / name).unlink()


def test_arrays_are_kept_with_their_digest(tmp_path):
  arrays = {'sums': np.arange(6.0).reshape(2, 3), 'done': np.array(3)}
  with open_run(tmp_path, _SETTINGS) as run:
    assert run.load('repeats/r_0') is None and not run.has_kept
    run.save('repeats/r_0', arrays)
    kept = run.load('repeats/r_0')
  assert kept.keys() == arrays.keys() and (kept['sums'] == arrays['sums']).all()
  path = tmp_path / 'repeats' / 'r_0.npz'
  whole = path.read_bytes()
  other = dict(np.load(path)) | {'done': np.array(4)}
  np.savez(path, **other)
  with open_run(tmp_path, _SETTINGS) as run:
    for damage in (path.read_bytes(), whole[: len(whole) // 2], b''):
      path.write_bytes(damage)
      with pytest.raises(ValueError, match='r_0.npz is damaged.*remove it'):
        run.load('repeats/r_0')
