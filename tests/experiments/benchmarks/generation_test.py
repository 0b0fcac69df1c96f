"""Tables of generation on small models, and with rates given."""

import jax
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.decoding import tuning
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import generation, speed
from listcoupling.experiments.benchmarks.generation import Workload
from tests import fakes


def _model(seed):
  return fakes.table_model(
    2 * jax.random.normal(jax.random.key(seed), (6,) * 3)
  )


def _workload():
  prompts = np.ones((2, 3), np.int32), np.array([3, 2])
  return Workload(jax.random.key(0), _model(0), _model(1), *prompts)


def test_the_random_pair_is_of_the_size_it_is_called_by():
  pair = jax.eval_shape(
    lambda key: [
      model.params for model in generation.load_workload(key, '25M')[1:3]
    ],
    gumbel.seed_key(0),
  )
  target, drafter = (
    sum(leaf.size for leaf in jax.tree.leaves(params)) for params in pair
  )
  assert 24e6 < target < 28e6 and 3.5e6 < drafter < 5e6


def test_decoding_measures_each_method_once_per_setting():
  cases = generation.decoding_cases(
    _workload(),
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
  cases = generation.decoding_cases(_workload())
  assert {case.name.split(',')[0] for case in cases} == set(METHODS)
  assert len(generation.memory_cases(_workload())) == 2


def test_the_loop_of_a_small_model(monkeypatch):
  def milliseconds(functions, *, rounds):
    found = {name: function() for name, function in functions.items()}
    if 'block' in found:
      assert (found['block'][1].target_calls == 3).all()
    return {name: {'block': 8.0, 'models': 6.0}[name] for name in functions}

  monkeypatch.setattr(speed, 'milliseconds', milliseconds)
  options = GenerateOptions(method='gls', num_drafts=1, draft_length=1)
  (case,) = generation.overhead_cases(_workload(), settings=[options])
  assert case.name == 'gls, K = 1, N = 1'
  row = case.measure()
  assert (row['models_ms'], row['block_ms']) == (6, 8)
  assert row['overhead'] == 0.25
  (case,) = generation.memory_cases(_workload(), capacity=128, drafts=(1,))
  row = case.measure()
  assert row['cache_entries'] >= row['capacity'] == 128
  # A token and its position, int32 each.
  assert row['cache_bytes'] == 8 * row['cache_entries']
  assert row['parameter_bytes'] == 2 * 4 * 6**3


def test_capacity_is_compared_on_the_same_texts(monkeypatch):
  run, texts = generation.generate.generate, []

  def generate(*arguments):
    out = run(*arguments)
    texts.append((arguments[-1].cache_length, out.tokens.tolist()))
    # The first turn, which compiles, and one slow turn do not count.
    rate = {64: 8.0, 256: 6.0}[texts[-1][0]]
    rate = [99.0, rate, 1.0, rate][(len(texts) - 1) // 2]
    return out._replace(metrics=out.metrics._replace(tokens_per_second=rate))

  monkeypatch.setattr(generation.generate, 'generate', generate)
  cases = generation.capacity_cases(
    _workload(), capacities=(64, 256),
    batches=(2,), options=GenerateOptions('gls', 1, 1, 6), rounds=3,
  )  # fmt: skip
  assert [case.name for case in cases] == [
    'autoregressive, batch 2',
    'gls, batch 2',
  ]
  row = cases[1].measure()
  rates = [row[f'tokens_per_second_at_{n}'] for n in (64, 256)]
  assert rates == [8, 6] and row['ratio'] == 0.75
  assert [size for size, _ in texts] == [64, 256] * 4
  assert all(text == texts[0][1] for _, text in texts)


def test_a_queue_waits_less_for_the_same_texts():
  target, (drafter,) = fakes.random_pair(7, 0.7, 5)
  options = GenerateOptions(
    num_drafts=2, draft_length=2, max_new_tokens=30, stop_tokens=(3,)
  )
  batches, queue = generation.serving_cases(
    Workload(gumbel.seed_key(0), target, drafter, np.ones((2, 4), int), [4, 2]),
    requests=24,
    batch_size=4,
    options=options,
    rounds=1,
  )
  fixed, found = batches.measure(), queue.measure()
  assert fixed['tokens'] == found['tokens'] > fixed['longest'] > 0
  assert fixed['ratio_to_batches'] == 1
  assert found['waiting'] < fixed['waiting'] - 0.1


_RATES = {0: 90.0, 4: 100.0, 16: 80.0, 6: 120.0}


@pytest.fixture
def tuned(monkeypatch):
  runs = []

  def generate(key, target, drafters, prompts, lengths, options):
    assert len(prompts) == len(lengths) == 1
    nodes = options.num_nodes or 0
    runs.append(nodes)
    rate = _RATES.get(nodes, 50.0) + len(runs) % 5 / 4
    rate += {0.1: 5.0}.get(options.draft_cost, 0.0)
    return fakes.timed(rate)

  monkeypatch.setattr(tuning, 'generate', generate)
  monkeypatch.setattr(generation.generate, 'generate', generate)
  target = fakes.table_model(np.zeros((5, 5, 5)))
  workload = Workload(
    jax.random.key(0), target, None, np.ones((3, 2), int), np.full(3, 2)
  )
  return generation.tune_cases(workload), runs


def test_the_fastest_of_the_wider_grid_is_the_measure(tuned):
  cases, runs = tuned
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
