"""Tables of speed: what is measured, rows kept as they are done, progress."""

import jax
import numpy as np
import pytest

from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import benchmark, benchmark_loop, results
from tests import fakes

_PROMPTS, _LENGTHS = np.ones((2, 3), np.int32), np.array([3, 2])


def _model(seed):
  return fakes.table_model(
    2 * jax.random.normal(jax.random.key(seed), (6,) * 3)
  )


def test_rows_are_written_as_they_are_measured(tmp_path, capsys):
  path = tmp_path / 'new' / 'speed.csv'

  def stop():
    assert results.read_csv(path) == [{'a': 0}, {'a': 1}]
    raise KeyboardInterrupt

  cases = [benchmark.Case(f'row {i}', lambda i=i: {'a': i}) for i in range(2)]
  assert benchmark.run(cases, path) == [{'a': 0}, {'a': 1}]
  with pytest.raises(KeyboardInterrupt):
    benchmark.run([*cases, benchmark.Case('stop', stop)], path)
  assert results.read_csv(path) == [{'a': 0}, {'a': 1}]
  progress = capsys.readouterr().err
  assert 'speed: 100%' in progress and '2/3' in progress
  assert 'row 1' in progress


def test_times_are_taken_in_turn_after_a_first_round(capsys):
  calls = []
  functions = {n: lambda n=n: calls.append(n) or np.zeros(1) for n in 'ab'}
  times = benchmark.milliseconds(functions, rounds=3, show=True)
  assert ''.join(calls) == 'ab' * 4  # one round more: it compiles
  assert times.keys() == set('ab') and min(times.values()) >= 0
  assert 'round: 100%' in capsys.readouterr().err
  benchmark.milliseconds(functions, rounds=1)
  assert not capsys.readouterr().err


def test_decoding_measures_each_method_once_per_setting(tmp_path):
  cases = benchmark.decoding_cases(
    _model(0), _model(1), _PROMPTS, _LENGTHS,
    batches=(1, 4), drafts=(2, 3), methods=('autoregressive', 'gls_strong'),
    options=GenerateOptions(draft_length=2, max_new_tokens=6), rounds=1,
  )  # fmt: skip
  names = [case.name for case in cases]
  assert len(set(names)) == len(names) == 2 * 3
  assert 'autoregressive, K = 3, batch 4' not in names
  rows = benchmark.run(cases[3:5], tmp_path / 'decoding.csv')
  settings = [(row['batch'], row['num_drafts'], row['method']) for row in rows]
  assert settings == [(4, 2, 'autoregressive'), (4, 2, 'gls_strong')]
  assert rows[0]['same_text'] == rows[0]['block_efficiency'] == 1
  assert rows[1]['same_text'] < 1 < rows[1]['block_efficiency']  # not plain
  lines = benchmark.format_rows(rows).splitlines()
  assert len(lines) == 3 and len({len(line) for line in lines}) == 1


def test_the_whole_table_has_every_method():
  cases = benchmark.decoding_cases(_model(0), _model(1), _PROMPTS, _LENGTHS)
  assert {case.name.split(',')[0] for case in cases} == set(METHODS)
  assert len(benchmark_loop.memory_cases(_model(0), _model(1))) == 2


def test_the_loop_of_a_small_model():
  target, drafter = _model(0), _model(1)
  options = GenerateOptions(method='gls', num_drafts=1, draft_length=1)
  row = benchmark_loop.overhead(
    target, drafter, _PROMPTS[:1], _LENGTHS[:1], options, rounds=2
  )
  assert row['block_ms'] > 0 and row['models_ms'] > 0 and row['overhead'] < 1
  row = benchmark_loop.memory(target, drafter, 1, 128, 1)
  assert row['cache_entries'] >= row['capacity'] == 128
  # A token and its position, int32 each.
  assert row['cache_bytes'] == 8 * row['cache_entries']
  assert row['parameter_bytes'] == 2 * 4 * 6**3
