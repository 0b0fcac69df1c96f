"""Three laws on five atoms, draws of couplings between two, and their check."""

import jax.numpy as jnp
import numpy as np

from tests import statistics

TRIALS = 20_000
P = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
Q = np.array([0.1, 0.2, 0.0, 0.3, 0.4])
R = np.array([0.05, 0.05, 0.5, 0.1, 0.3])


def logits(law):
  return jnp.log(jnp.asarray(law, jnp.float32))


def draw_pairs(function, p=P, q=Q, trials=TRIALS, **options):
  return statistics.draw(
    function, logits(p), logits(q), trials=trials, **options
  )


def check_pair(pair, p, q, match):
  statistics.assert_law(pair.proposal, p)
  statistics.assert_law(pair.target, q)
  np.testing.assert_array_equal(pair.is_match, pair.proposal == pair.target)
  statistics.assert_proportion(pair.is_match.sum(), pair.is_match.size, match)


def check_list(sample, drafts, q, match):
  """A `ListSample` of one law for all drafts, or of drafts [K, N]."""
  for k in range(sample.proposals.shape[1]):
    law = drafts if np.ndim(drafts) == 1 else drafts[k]
    statistics.assert_law(sample.proposals[:, k], law)
  statistics.assert_law(sample.target, q)
  statistics.assert_proportion(
    sample.is_match.sum(), sample.is_match.size, match
  )
  listed = (sample.proposals == sample.target[:, None]).any(axis=1)
  np.testing.assert_array_equal(sample.is_match, listed)
