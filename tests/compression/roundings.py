"""What roundings of float32 alone do to trials of the Gaussian source."""

import functools

import jax
import jax.numpy as jnp

from listcoupling.compression import gaussian
from tests import floats


@functools.cache
def of_trials(v, s=0.5):
  """Most that the root of a squared error and a density can be apart.

  The formulas on 400 trials whose candidates follow the test channel, of
  variance v; side information of variance s.
  """
  a, side, noise = jax.random.normal(jax.random.key(0), (3, 400))
  z = (a + v**0.5 * noise) / (1 + v) ** 0.5

  def root(z, a, t, v):
    answer = gaussian.estimate(jnp.sqrt(1 + v) * z, t, s, v)
    return jnp.sqrt((answer - a) ** 2)

  def density(z, a, t, v):
    return gaussian.information_density(jnp.sqrt(1 + v) * z, a, t, s, v)

  drawn = z, a, a + s**0.5 * side, jnp.full(400, v)
  return [floats.apart(formula, *drawn) for formula in (root, density)]
