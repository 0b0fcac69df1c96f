import numpy as np
import pytest

from listcoupling.experiments import cells, results

_SETTINGS = {'config': {'k': (1, 2), 'name': 'a'}, 'seed': 0}
_NAMES = [(name, number) for number, name in enumerate('abc')]


def _compute(number):
  return {'value': number + 0.1, 'row': cells.join([number])}


def test_a_stopped_run_does_what_is_missing(tmp_path):
  def stopping(number):
    if number == 2:
      raise KeyboardInterrupt
    return _compute(number)

  with pytest.raises(KeyboardInterrupt):
    cells.fill(tmp_path, _SETTINGS, _NAMES, stopping)
  assert len(results.read_csv(tmp_path / 'cells.csv')) == 2
  seen = []
  rows = cells.fill(
    tmp_path, _SETTINGS, _NAMES, lambda n: seen.append(n) or _compute(n)
  )
  assert seen == [2] and [row['cell'] for row in rows] == ['a', 'b', 'c']
  assert [row['value'] for row in rows] == [0.1, 1.1, 2.1]
  assert [cells.split(row['row']).tolist() for row in rows] == [[0], [1], [2]]
  again = cells.fill(tmp_path, _SETTINGS, _NAMES, None)
  assert [row['value'] for row in again] == [0.1, 1.1, 2.1]
  assert results.read_json(tmp_path / 'results.json')['seconds'] > 0


def test_the_machine_that_computed_last_is_on_record(tmp_path):
  record = tmp_path / 'results.json'
  cells.fill(tmp_path, _SETTINGS, _NAMES[:2], _compute)
  own = results.read_json(record)
  assert own['environment'] == results.plain(results.environment())
  results.write_json(record, {**own, 'environment': 'elsewhere'})
  cells.fill(tmp_path, _SETTINGS, _NAMES[:2], None)
  assert results.read_json(record)['environment'] == 'elsewhere'
  cells.fill(tmp_path, _SETTINGS, _NAMES, _compute)
  assert results.read_json(record)['environment'] == own['environment']


def test_other_settings_are_refused_by_name(tmp_path):
  cells.fill(tmp_path, _SETTINGS, _NAMES, _compute)
  before = (tmp_path / 'cells.csv').read_bytes()
  changed = {'config': {'k': (1, 2), 'name': 'b'}, 'seed': 0}
  with pytest.raises(ValueError, match=r'of config\.name; .* choose another'):
    cells.fill(tmp_path, changed, _NAMES, _compute)
  assert (tmp_path / 'cells.csv').read_bytes() == before
  (tmp_path / 'results.json').unlink()
  with pytest.raises(ValueError, match='cells.csv has no results.json'):
    cells.fill(tmp_path, _SETTINGS, _NAMES, _compute)


def test_numbers_survive_a_cell(tmp_path):
  values = [3, 0.25, 1e-9]
  results.write_csv(
    tmp_path / 'a.csv', [{'a': cells.join(values), 'b': cells.join([])}]
  )
  row = results.read_csv(tmp_path / 'a.csv')[0]
  assert cells.split(row['a']).tolist() == values
  assert cells.split(row['b']).tolist() == []


def test_standard_errors():
  assert cells.mean_and_error([2.0]) == (2.0, None)
  assert cells.mean_and_error([1.0, 3.0]) == (2.0, 1.0)
  assert cells.cluster_error(np.ones(1)) is None
  # A ratio of sums over many draws has the spread that the formula says.
  generator = np.random.default_rng(0)
  calls = generator.integers(10, 20, (2000, 40))
  tokens = 2.0 * calls + generator.normal(0, 3, calls.shape)
  ratios = tokens.sum(axis=1) / calls.sum(axis=1)
  errors = [
    cells.cluster_error((t - r * c) / c.sum())
    for t, c, r in zip(tokens, calls, ratios)
  ]
  assert abs(np.mean(errors) / ratios.std() - 1) < 5 / np.sqrt(2 * 2000) + 0.02
