"""Laws, acceptance and margins read back from finished texts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds
from listcoupling.decoding import analysis, filters
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from tests import fakes, floats, statistics
from tests.decoding import exact

PROMPTS = np.array([[2, 0, 0], [0, 3, 1]])
LENGTHS = np.array([1, 3])
KEY = jax.random.key(3)


def _text(**changes):
  target, (drafter,) = fakes.random_pair(5, 1.0)
  options = GenerateOptions(
    **(dict(num_drafts=3, draft_length=2, max_new_tokens=12) | changes)
  )
  out = generate(KEY, target, [drafter], PROMPTS, LENGTHS, options)
  return target, drafter, out, options


def test_expected_acceptance_is_the_mean_over_the_steps():
  target, drafter, out, options = _text(top_k=4, stop_tokens=(4,))
  found = analysis.expected_acceptance(
    target, drafter, PROMPTS, LENGTHS, out, options
  )
  without = functools.partial(bounds.optimal_list_acceptance, replace=False)
  functions = (
    bounds.list_matching_bound,
    bounds.list_matching_probability,
    bounds.optimal_list_acceptance,
    without,
  )
  laws, wanted = [], []
  for prompt, length, tokens, count in zip(
    PROMPTS, LENGTHS, out.tokens, out.lengths
  ):
    row = [*prompt[:length], *tokens[:count]]
    for place in range(length - 1, length + count - 1):
      before = row[max(place - 1, 0)]
      p, q = (
        exact.draft_law(np.asarray(m.params)[before, row[place]], 1.0, options)
        for m in (drafter, target)
      )
      laws.append((p, q))
      wanted.append([function(p, q, 3) for function in functions])
  assert found.num_tokens == len(wanted) == out.lengths.sum()
  laws = np.array(laws)
  kept = np.argsort(-laws)[..., :4]
  logits = np.log(np.take_along_axis(laws, kept, axis=-1), dtype=np.float32)

  def value(function, logits, kept):
    laws = jax.nn.softmax(logits)
    p, q = (jnp.zeros(7).at[at].set(law) for at, law in zip(kept, laws))
    return function(p, q, 3)

  means = np.mean(wanted, axis=0)
  for function, own, mean in zip(functions, found, means):
    if function is bounds.list_matching_probability:
      error = 2 * floats.promised(function)
    else:
      one = functools.partial(value, function)
      error = floats.apart(jax.vmap(one), logits, kept)
    assert abs(own - mean) < error
  assert found.bound < found.gls < found.optimum


def test_laws_along_a_text_are_padded_alike_behind_it():
  target, drafter, out, options = _text(top_k=4, stop_tokens=(4,))
  assert 0 < out.lengths.sum() < out.tokens.size
  laws = analysis.laws_along(target, drafter, PROMPTS, LENGTHS, out, options)
  rows = np.repeat([0, 1], out.lengths)
  np.testing.assert_array_equal(laws.rows[: rows.size], rows)
  assert (laws.rows[rows.size :] == -1).all()
  assert (
    len(laws.draft) == len(laws.target) == laws.rows.size == out.tokens.size
  )
  total = laws.target[laws.rows >= 0].sum(axis=1)
  # The sum of all, their quotients by it, the sum of those.
  error = statistics.rounding(laws.target.shape[1])
  np.testing.assert_allclose(total, 1, rtol=0, atol=error)


def test_temperatures_and_lengths_of_texts_compile_nothing_new():
  def compiled(max_new_tokens, **changes):
    target, drafter, out, options = _text(**changes)
    lengths = np.minimum(out.lengths, max_new_tokens)
    analysis.expected_acceptance(
      target, drafter, PROMPTS, LENGTHS, out._replace(lengths=lengths), options
    )
    return analysis._step_laws._cache_size(), analysis._acceptance._cache_size()

  first = compiled(12, top_k=4)
  assert compiled(7, top_k=4, temperature=0.7) == first
  assert compiled(12, top_k=3) != first  # control: it sizes the laws


@pytest.mark.parametrize('top_k', [0, 3])
def test_margins_of_a_canonical_text_are_positive(top_k):
  target, _, out, options = _text(top_k=top_k, stop_tokens=(4,))
  margins = analysis.canonical_margins(
    KEY, target, PROMPTS, LENGTHS, out, options
  )
  written = np.arange(12) < out.lengths[:, None]
  assert (margins[written] > 0).all()
  assert np.isnan(margins[~written]).all()
  # Control: under another seed these tokens do not win their races.
  others = analysis.canonical_margins(
    jax.random.key(4), target, PROMPTS, LENGTHS, out, options
  )
  assert (others[written] < 0).any()


@pytest.mark.parametrize('top_k', [0, 4])
def test_common_atoms_hold_both_laws(top_k):
  keys = jax.random.split(jax.random.key(0), 2)
  logits = [2 * jax.random.normal(key, (9,)) for key in keys]
  options = GenerateOptions(top_k=top_k)
  laws = [filters.warp(row, 0.8, options) for row in logits]
  p, q = analysis.common_atoms(*laws, 9)
  assert p.shape == q.shape == (2 * top_k or 9,)
  dense = [np.asarray(filters.probabilities(law, 9)) for law in laws]
  # The same joint law: every pair of masses stands there once.
  ours = sorted(zip(p.tolist(), q.tolist()))
  theirs = sorted(zip(*(law.tolist() for law in dense)))
  both = [pair for pair in ours if max(pair) > 0]
  wanted = [pair for pair in theirs if max(pair) > 0]
  np.testing.assert_array_equal(both, wanted)


def test_calibration_counts_what_was_expected_and_what_came():
  target, (drafter,) = fakes.random_pair(7, 0.5)
  options = GenerateOptions(
    num_drafts=2, draft_length=3, num_nodes=5, max_new_tokens=200
  )
  prompts = np.arange(64)[:, None] % 7
  out = generate(KEY, target, drafter, prompts, np.ones(64, int), options)
  found = analysis.calibration(out)
  calls = out.metrics.target_calls.sum()
  np.testing.assert_array_equal(
    found.accepted, out.metrics.accepted_per_position.sum(0) / calls
  )
  # Worths are probabilities: one node per depth at most is passed.
  assert (found.predicted <= 1).all() and (np.diff(found.predicted) < 0).all()
  # A model of two numbers: its prediction is nearest to what its own depth
  # has, of depths that are apart.
  distance = np.abs(found.predicted[:, None] - found.accepted)
  np.testing.assert_array_equal(distance.argmin(1), np.arange(3))
  gaps = -np.diff(found.accepted)
  assert (gaps > statistics.SIGMAS * found.standard_errors[1:]).all()
  # Errors of independent blocks, of which the prediction explains a part. Of
  # 64 rows an error is itself known to one in sqrt(2 * 63) only.
  noise = np.sqrt(found.accepted * (1 - found.accepted) / calls)
  doubt = statistics.SIGMAS / np.sqrt(2 * 63)
  assert (found.standard_errors < (1 + doubt) * noise).all()
  # Not of the rows' sum, nor of one row: 8 and 64 times off.
  assert (found.standard_errors > noise / 4).all()
  with pytest.raises(ValueError, match='gumbel_tree'):
    options = dataclasses.replace(options, method='gls', num_nodes=None)
    analysis.calibration(
      generate(KEY, target, drafter, prompts, np.ones(64, int), options)
    )


def test_names_of_others_for_the_same_counts():
  """vLLM: 1 + accepted / drafts, and accepted / drafted tokens."""
  _, _, out, _ = _text()
  figures = out.metrics
  np.testing.assert_array_equal(
    figures.mean_acceptance_length,
    1 + figures.accepted_per_position.sum(1) / figures.target_calls,
  )
  np.testing.assert_array_equal(
    figures.draft_acceptance_rate,
    figures.accepted_tokens / figures.drafted_tokens,
  )


def test_scores_do_not_depend_on_64_bits():
  model, _ = fakes.random_pair(5, 0.7, 1)
  rows = np.array([[1, 2, 3, 4]])
  scores = analysis.log_probabilities(model, rows)
  with jax.enable_x64(True), jax.numpy_dtype_promotion('strict'):
    again = analysis.log_probabilities(model, rows)
  np.testing.assert_array_equal(scores, again)
