"""The choice of `tune` beside fixed settings, with rates given."""

import types

import jax
import numpy as np
import pytest

from listcoupling.decoding import tuning
from listcoupling.experiments.benchmarks import choice

_RATES = {0: 90.0, 4: 100.0, 16: 80.0, 6: 120.0}


@pytest.fixture
def cases(monkeypatch):
  runs = []

  def generate(key, target, drafters, prompts, lengths, options):
    assert len(prompts) == len(lengths) == 1
    nodes = options.num_nodes or 0
    runs.append(nodes)
    rate = _RATES.get(nodes, 50.0) + len(runs) % 5 / 4
    rate += {0.1: 5.0}.get(options.draft_cost, 0.0)
    figures = types.SimpleNamespace(tokens_per_second=rate)
    return types.SimpleNamespace(metrics=figures)

  monkeypatch.setattr(tuning, 'generate', generate)
  monkeypatch.setattr(choice, 'generate', generate)
  target = types.SimpleNamespace(params=())  # on no mesh
  prompts = np.ones((3, 2), int)
  found = choice.choice_cases(
    jax.random.key(0), target, None, prompts, np.full(3, 2)
  )
  return found, runs


def test_the_fastest_of_the_wider_grid_is_the_measure(cases):
  cases, runs = cases
  rows = [case.measure() for case in cases]
  assert len({case.name for case in cases}) == len(rows)
  (chosen,) = [row for row in rows if row['chosen']]
  # Six nodes are faster, and not in the grid that is tuned.
  assert (chosen['num_nodes'], chosen['depths']) == (4, 4)
  assert chosen['draft_cost'] == 0.1
  assert {row['draft_cost'] for row in rows if row is not chosen} == {0}
  assert chosen['of_best'] == pytest.approx(105 / 120, abs=0.02)
  best = max(rows, key=lambda row: row['tokens_per_second'])
  assert best['num_nodes'] == 6 and best['of_best'] == 1
  assert 0 < best['tokens_per_second_se'] < 1
  plain = rows[0]
  assert plain['method'] == 'autoregressive' and plain['num_nodes'] == 0
  assert runs.count(6) == 8  # one of them does not count
