"""Tables by name: what is measured, in turn, once per setting."""

import jax
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.experiments.benchmarks import speed
from listcoupling.experiments.benchmarks.timing import Case, milliseconds


def test_rows_are_kept_and_belong_to_one_machine(tmp_path, monkeypatch):
  cases = [Case(f'row {i}', lambda i=i: {'a': i}) for i in range(2)]
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
  times = milliseconds(functions, rounds=3, show=True)
  assert ''.join(calls) == 'ab' * 4  # one round more: it compiles
  assert times.keys() == set('ab') and min(times.values()) >= 0
  assert 'round: 100%' in capsys.readouterr().err
  milliseconds(functions, rounds=1)
  assert not capsys.readouterr().err


def test_the_random_pair_is_of_the_size_it_is_called_by():
  pair = jax.eval_shape(
    lambda key: [model.params for model in speed.load_pair(key, '25M')],
    gumbel.seed_key(0),
  )
  target, drafter = (
    sum(leaf.size for leaf in jax.tree.leaves(params)) for params in pair
  )
  assert 24e6 < target < 28e6 and 3.5e6 < drafter < 5e6
