"""Tables of speed: what is measured, in turn, once per setting."""

import jax
import numpy as np
import pytest

from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import speed
from tests import fakes

_PROMPTS, _LENGTHS = np.ones((2, 3), np.int32), np.array([3, 2])
_KEY = jax.random.key(0)


def _model(seed):
  return fakes.table_model(
    2 * jax.random.normal(jax.random.key(seed), (6,) * 3)
  )


def test_rows_are_kept_and_belong_to_one_machine(tmp_path, monkeypatch):
  cases = [speed.Case(f'row {i}', lambda i=i: {'a': i}) for i in range(2)]
  monkeypatch.setattr(speed, '_cases', lambda *_: cases)
  rows = speed.run('sampler', tmp_path)
  assert rows == [{'case': 'row 0', 'a': 0}, {'case': 'row 1', 'a': 1}]
  monkeypatch.setattr(
    speed, '_cases', lambda *_: [case._replace(measure=None) for case in cases]
  )
  assert speed.run('sampler', tmp_path) == rows
  monkeypatch.setattr(speed, 'environment', lambda: {'device': 'another'})
  with pytest.raises(ValueError, match='environment.device'):
    speed.run('sampler', tmp_path)


@pytest.mark.parametrize('names', [('speed', 'shipped'), ('memory', '7B')])
def test_unknown_names_are_refused(tmp_path, names):
  with pytest.raises(ValueError, match='|'.join(names)):
    speed.run(names[0], tmp_path / 'work', size=names[1])
  assert not (tmp_path / 'work').exists()


def test_times_are_taken_in_turn_after_a_first_round(capsys):
  calls = []
  functions = {n: lambda n=n: calls.append(n) or np.zeros(1) for n in 'ab'}
  times = speed.milliseconds(functions, rounds=3, show=True)
  assert ''.join(calls) == 'ab' * 4  # one round more: it compiles
  assert times.keys() == set('ab') and min(times.values()) >= 0
  assert 'round: 100%' in capsys.readouterr().err
  speed.milliseconds(functions, rounds=1)
  assert not capsys.readouterr().err


def test_decoding_measures_each_method_once_per_setting():
  cases = speed.decoding_cases(
    _KEY, _model(0), _model(1), _PROMPTS, _LENGTHS,
    batches=(1, 4), drafts=(2, 3), methods=('autoregressive', 'gls_strong'),
    options=GenerateOptions(draft_length=2, max_new_tokens=6), rounds=1,
  )  # fmt: skip
  names = [case.name for case in cases]
  assert len(set(names)) == len(names) == 2 * 3
  assert 'autoregressive, K = 3, batch 4' not in names
  rows = [case.measure() for case in cases[3:5]]
  settings = [(row['batch'], row['num_drafts'], row['method']) for row in rows]
  assert settings == [(4, 2, 'autoregressive'), (4, 2, 'gls_strong')]
  assert rows[0]['same_text'] == rows[0]['block_efficiency'] == 1
  assert rows[1]['same_text'] < 1 < rows[1]['block_efficiency']  # not plain


def test_the_whole_table_has_every_method():
  cases = speed.decoding_cases(_KEY, _model(0), _model(1), _PROMPTS, _LENGTHS)
  assert {case.name.split(',')[0] for case in cases} == set(METHODS)
  assert len(speed.memory_cases(_KEY, _model(0), _model(1))) == 2


def test_the_loop_of_a_small_model():
  target, drafter = _model(0), _model(1)
  options = GenerateOptions(method='gls', num_drafts=1, draft_length=1)
  row = speed.overhead(
    _KEY, target, drafter, _PROMPTS[:1], _LENGTHS[:1], options, rounds=2
  )
  ratio = row['models_ms'] / row['block_ms']
  assert row['overhead'] == pytest.approx(1 - ratio)
  row = speed.memory(_KEY, target, drafter, 1, 128, 1)
  assert row['cache_entries'] >= row['capacity'] == 128
  # A token and its position, int32 each.
  assert row['cache_bytes'] == 8 * row['cache_entries']
  assert row['parameter_bytes'] == 2 * 4 * 6**3
