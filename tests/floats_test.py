"""The bound on roundings is above those of other orders of sums, and near."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests import floats, statistics

WEIGHTS = jax.random.normal(jax.random.key(0), (2, 256, 256)) / 16
ROWS = jax.random.normal(jax.random.key(1), (40, 256))


def network(rows, order):
  """Two layers whose sums run in another order."""
  hidden = jax.nn.silu(rows[:, order] @ WEIGHTS[0][order])
  return jax.nn.softmax(hidden[:, order] @ WEIGHTS[1][order])


FUNCTIONS = {
  'sum': lambda rows, order: rows[:, order].sum(1),
  'cumulative': lambda rows, order: jnp.cumsum(rows[:, order], 1)[:, -1],
  'product': lambda rows, order: rows[:, order] @ WEIGHTS[0][order],
  'network': network,
  'compiled': jax.jit(network),
}


@pytest.mark.parametrize('name', FUNCTIONS)
def test_orders_of_sums_are_within_and_near(name):
  function, orders = FUNCTIONS[name], np.random.default_rng(0)
  bound = floats.apart(function, ROWS, jnp.arange(256))
  exact = function(ROWS, jnp.arange(256))
  found = [
    jnp.abs(function(ROWS, orders.permutation(256)) - exact).max()
    for _ in range(20)
  ]
  assert 0 < max(found) < bound
  # Control: a single number of 10240 that is off by a hundredth is seen.
  wrong = function(ROWS.at[0, 0].multiply(1.01), jnp.arange(256))
  assert jnp.abs(wrong - exact).max() > bound


def test_what_only_moves_numbers_rounds_nothing():
  def function(rows):
    return jnp.sort(jnp.where(rows > 0, rows, -rows)[:, ::-1].T, axis=0)

  assert floats.apart(function, ROWS) == 0


def test_one_rounding_is_one_rounding():
  # Products of numbers in [1, 2): at most half a unit in the last place of 4.
  rows = 1 + jax.random.uniform(jax.random.key(2), (40, 256))
  bound = floats.apart(lambda rows: rows * rows[::-1], rows)
  exact = np.float64(rows) * np.float64(rows[::-1])
  worst = np.abs(np.float64(rows * rows[::-1]) - exact).max()
  # The largest of so many estimates, were all products as large as 4.
  law = stats.chi2(floats._SAMPLES - 1)
  excess = law.isf(statistics.LEVEL / rows.size) / (floats._SAMPLES - 1)
  most = statistics.SIGMAS * np.sqrt(2 * excess / 3) * 2**-22
  assert 2**-24 < worst <= 2**-23 < bound < most


def test_what_is_not_counted_is_refused():
  with pytest.raises(AssertionError, match='scatter-add is not counted'):
    floats.apart(lambda rows: jnp.zeros(9).at[rows.astype(int)].add(rows), ROWS)
