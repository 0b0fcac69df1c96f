"""Pairs of tables: their distance, and what the drafter tells of the target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.models import table_pair
from tests import floats, statistics

KEY = gumbel.seed_key(0)


def test_the_posterior_leaves_noise_of_its_deviation():
  """Not that of another distance, and the drafter tells nothing of it."""
  target, drafter = table_pair.table_pair(KEY, 1.0, vocab_size=200)
  statistics.assert_mean((drafter.params - target.params) ** 2, 1.0)

  def errors(sigma):
    mean, deviation = table_pair.posterior(drafter.params, sigma)
    return np.asarray((target.params - mean) / deviation)

  statistics.assert_mean(errors(1.0) ** 2, 1.0)
  statistics.assert_mean(errors(1.0) * drafter.params, 0.0)
  for other in (0.8, 1.3):
    with pytest.raises(AssertionError):
      statistics.assert_mean(errors(other) ** 2, 1.0)
    with pytest.raises(AssertionError):
      statistics.assert_mean(errors(other) * drafter.params, 0.0)


def test_the_overlap_is_that_of_the_laws():
  target, drafter = table_pair.table_pair(KEY, 1.0, vocab_size=7)
  laws = target.params, drafter.params

  def shared(*laws):
    q, p = (jnp.exp(x / 0.5) for x in laws)
    q, p = (x / x.sum(1, keepdims=True) for x in (q, p))
    return jnp.minimum(q, p).sum(1).mean()

  found = table_pair.overlap(target, drafter, 0.5)
  assert abs(found - shared(*laws)) < floats.apart(shared, *laws)
  # Cold laws are one token each: the share of rows whose likeliest agrees. A
  # mean of exact numbers is off by the inverse of their count and its product.
  same = np.asarray(laws[0].argmax(1) == laws[1].argmax(1))
  cold = table_pair.overlap(target, drafter, 0.0)
  assert abs(cold - same.mean()) <= statistics.rounding(1)


@pytest.mark.parametrize(
  'wrong, words',
  [
    (dict(key=jax.random.PRNGKey(0)), 'key must be a typed key'),
    (dict(sigma=-0.1), r'sigma must be at least 0, got -0\.1'),
    (dict(sigma=np.nan), 'sigma must be at least 0, got nan'),
    (dict(vocab_size=0), 'vocab_size must be at least 1, got 0'),
    (dict(vocab_size=2.5), r'vocab_size must be a Python int, got 2\.5'),
  ],
)
def test_pairs_that_are_none_are_refused_by_name(wrong, words):
  with pytest.raises(ValueError, match=words):
    table_pair.table_pair(**dict(key=KEY, sigma=0.5, vocab_size=7) | wrong)
