"""Standard errors: by hand, and the spread of what is drawn again."""

import numpy as np

from listcoupling import standard_errors
from tests import statistics


def test_standard_errors_by_hand():
  assert standard_errors.mean_error([2.0]) == (2.0, None)
  assert standard_errors.mean_error([1.0, 3.0]) == (2.0, 1.0)
  assert standard_errors.binomial_error(0.2, 4) == 0.2
  assert standard_errors.binomial_error(1 + 1e-7, 4) == 0
  assert standard_errors.cluster_error(np.ones(1)) is None
  assert standard_errors.moment_error(2.0, 5.0, 2) == 1.0  # of 1 and 3, again


def test_error_of_a_ratio_is_its_spread():
  generator = np.random.default_rng(0)
  draws = 2000
  calls = generator.integers(10, 20, (draws, 40))
  tokens = 2.0 * calls + generator.normal(0, 3, calls.shape)
  ratios = tokens.sum(axis=1) / calls.sum(axis=1)
  errors = np.array(
    [
      standard_errors.cluster_error(standard_errors.ratio_terms(*pair))
      for pair in zip(tokens, calls)
    ]
  )
  # Both sides are estimates: the spread of `draws` values and a mean.
  slack = np.hypot(
    ratios.std() / np.sqrt(2 * draws), standard_errors.mean_error(errors)[1]
  )
  # Of first order in 1 / 40 clusters, the sample's own fit biases it down.
  bias = ratios.std() / 40
  limit = statistics.SIGMAS * slack + bias
  assert abs(errors.mean() - ratios.std()) < limit
  wrong = [
    standard_errors.mean_error(pair[0] / pair[1].mean())[1]
    for pair in zip(tokens, calls)
  ]
  assert abs(np.mean(wrong) - ratios.std()) > limit  # control
