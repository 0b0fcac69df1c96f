"""Tables of the compiled loop on small models."""

import jax
import numpy as np

from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import blocks
from tests import fakes

_PROMPTS, _LENGTHS = np.ones((2, 3), np.int32), np.array([3, 2])
_KEY = jax.random.key(0)


def _model(seed):
  return fakes.table_model(
    2 * jax.random.normal(jax.random.key(seed), (6,) * 3)
  )


def test_decoding_measures_each_method_once_per_setting():
  cases = blocks.decoding_cases(
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
  cases = blocks.decoding_cases(_KEY, _model(0), _model(1), _PROMPTS, _LENGTHS)
  assert {case.name.split(',')[0] for case in cases} == set(METHODS)
  assert len(blocks.memory_cases(_KEY, _model(0), _model(1))) == 2


def test_the_loop_of_a_small_model(monkeypatch):
  def milliseconds(functions, *, rounds):
    jax.block_until_ready([function() for function in functions.values()])
    return {name: {'block': 8.0, 'models': 6.0}[name] for name in functions}

  monkeypatch.setattr(blocks, 'milliseconds', milliseconds)
  target, drafter = _model(0), _model(1)
  options = GenerateOptions(method='gls', num_drafts=1, draft_length=1)
  (case,) = blocks.overhead_cases(
    _KEY, target, drafter, _PROMPTS[:1], _LENGTHS[:1], settings=[options],
    rounds=2,
  )  # fmt: skip
  assert case.name == 'gls, K = 1, N = 1'
  row = case.measure()
  assert (row['models_ms'], row['block_ms']) == (6, 8)
  assert row['overhead'] == 0.25
  row = blocks.memory(_KEY, target, drafter, 1, 128, 1)
  assert row['cache_entries'] >= row['capacity'] == 128
  # A token and its position, int32 each.
  assert row['cache_bytes'] == 8 * row['cache_entries']
  assert row['parameter_bytes'] == 2 * 4 * 6**3


def test_capacity_is_compared_on_the_same_texts(monkeypatch):
  run, texts = blocks.generate.generate, []

  def generate(*arguments):
    out = run(*arguments)
    texts.append((arguments[-1].cache_length, out.tokens.tolist()))
    # The first turn, which compiles, and one slow turn do not count.
    rate = {64: 8.0, 256: 6.0}[texts[-1][0]]
    rate = [99.0, rate, 1.0, rate][(len(texts) - 1) // 2]
    return out._replace(metrics=out.metrics._replace(tokens_per_second=rate))

  monkeypatch.setattr(blocks.generate, 'generate', generate)
  cases = blocks.capacity_cases(
    _KEY, _model(0), _model(1), _PROMPTS, _LENGTHS, capacities=(64, 256),
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
