"""Laws of every method: greedy text, perfect drafters."""

import pathlib
import re

import jax
import numpy as np
import pytest

from listcoupling.decoding.generate import generate
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from tests import fakes, statistics

VOCAB, ROWS, LENGTH = 6, 16, 9
TARGET, (DRAFTER,) = fakes.random_pair(VOCAB, 0.8, 2)
WIDTH, DEPTH = 2, 2


def options_of(method, **changes):
  width = 1 if method in ('single', 'block') else WIDTH
  settings = dict(
    method=method, num_drafts=width, draft_length=DEPTH, max_new_tokens=LENGTH
  )
  return GenerateOptions(**(settings | changes))


def argmax_path(prompt, length):
  row, table = list(prompt), np.asarray(TARGET.params)
  for _ in range(length):
    before = row[-2] if len(row) > 1 else row[-1]
    row.append(int(np.argmax(table[before, row[-1]])))
  return row[len(prompt) :]


@pytest.mark.parametrize('method', METHODS)
def test_greedy_text_is_the_argmax_path(method):
  rng = np.random.default_rng(0)
  prompts = rng.integers(0, VOCAB, (ROWS, 3))
  lengths = rng.integers(1, 4, ROWS)
  # Nodes enough for a tree that is not yet sure of its drafter.
  nodes = dict(num_nodes=2 * VOCAB) if METHODS[method].best_first else {}
  options = options_of(method, temperature=0.0, **nodes)
  calls = {}
  for name, drafter in (('itself', TARGET), ('other', DRAFTER)):
    out = generate(
      jax.random.key(1), TARGET, [drafter], prompts, lengths, options
    )
    for row in range(ROWS):
      wanted = argmax_path(prompts[row, : lengths[row]], LENGTH)
      assert out.tokens[row].tolist() == wanted
    calls[name] = out.metrics.target_calls
  if method != 'autoregressive':
    # With the target as drafter every block returns L + 1 tokens.
    assert (calls['itself'] == LENGTH // (DEPTH + 1)).all()
    assert (calls['other'] >= calls['itself']).all()
    assert (calls['other'] > calls['itself']).any()


def test_the_method_of_the_guide_can_be_registered(monkeypatch):
  """CONTRIBUTING shows one: text of `autoregressive`, two depths at most."""
  monkeypatch.setitem(METHODS, 'shallow', None)  # taken back afterwards
  page = pathlib.Path(__file__).parents[2] / 'CONTRIBUTING.md'
  (code,) = re.findall(r'```python\n(.*?)```', page.read_text(), re.S)
  exec(code, {})
  found = {}
  for method in ('autoregressive', 'shallow'):
    options = options_of(method, num_drafts=3, draft_length=4)
    found[method] = generate(
      jax.random.key(1), TARGET, TARGET, [[1, 2]] * 4, [2] * 4, options
    )
  np.testing.assert_array_equal(*(out.tokens for out in found.values()))
  accepted = found['shallow'].metrics.accepted_per_position
  assert (accepted[:, :2].sum(0) > 0).all() and (accepted[:, 2:] == 0).all()


@pytest.mark.parametrize(
  'names', [('single', 'block'), ('specinfer', 'traversal')]
)
def test_whole_paths_are_accepted_at_least_as_often_as_tokens(names):
  """Their whole point, on the same pair: more tokens per target call."""
  efficiency = []
  for method in names:
    options = options_of(method, draft_length=4, max_new_tokens=40)
    out = generate(
      jax.random.key(2),
      TARGET,
      [DRAFTER],
      np.tile([4, 1], (1000, 1)),
      np.full(1000, 2),
      options,
    )
    efficiency.append(out.metrics.block_efficiency)
  gain = efficiency[1].mean() - efficiency[0].mean()
  error = np.hypot(*(values.std() / np.sqrt(1000) for values in efficiency))
  assert gain > statistics.SIGMAS * error
