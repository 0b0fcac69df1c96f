"""Rows of a table of speed: measured once, timed in turn."""

import numpy as np
import pytest

from listcoupling.experiments.benchmarks import speed
from listcoupling.experiments.benchmarks.speed import Case, milliseconds


def test_rows_are_kept_and_belong_to_one_machine(tmp_path, monkeypatch):
  cases = [Case(f'row {i}', lambda i=i: {'a': i}) for i in range(2)]
  rows = speed.run(lambda: cases, tmp_path, {'seed': 0})
  assert rows == [{'case': 'row 0', 'a': 0}, {'case': 'row 1', 'a': 1}]
  done = [case._replace(measure=None) for case in cases]
  assert speed.run(lambda: done, tmp_path, {'seed': 0}) == rows
  with pytest.raises(ValueError, match='settings of seed'):
    speed.run(lambda: done, tmp_path, {'seed': 1})
  monkeypatch.setattr(speed, 'environment', lambda: {'device': 'another'})
  with pytest.raises(ValueError, match='environment.device'):
    speed.run(lambda: done, tmp_path, {'seed': 0})


def test_times_are_taken_in_turn_after_a_first_round(capsys):
  calls = []
  functions = {n: lambda n=n: calls.append(n) or np.zeros(1) for n in 'ab'}
  times = milliseconds(functions, rounds=3, show=True)
  assert ''.join(calls) == 'ab' * 4  # one round more: it compiles
  assert times.keys() == set('ab') and min(times.values()) >= 0
  assert 'round: 100%' in capsys.readouterr().err
  milliseconds(functions, rounds=1)
  assert not capsys.readouterr().err
