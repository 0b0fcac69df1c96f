"""How far apart two ways to compute a network's logits may be."""

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.models import transformer
from tests.statistics import SIGMAS

_SAMPLES = 16
# Than roundings: beside such changes those of the network itself vanish, so
# that a network which loses digits is not allowed more.
_LARGER = 2.0**12

_logits = jax.jit(transformer.causal_logits, static_argnums=0)


def deviation(config, params, tokens) -> float:
  """Of the logits if every parameter is rounded once, where it is largest."""
  rng = np.random.default_rng(0)
  unit = np.finfo(np.float32).eps / 2  # the most; errors up to it are uniform

  def changed(x):
    relative = _LARGER * unit / np.sqrt(3) * rng.normal(size=x.shape)
    return x * jnp.float32(1 + relative)

  found = [
    _logits(config, jax.tree.map(changed, params), tokens)
    for _ in range(_SAMPLES)
  ]
  return float(np.std(np.float64(found), axis=0, ddof=1).max() / _LARGER)


def worst_in_bfloat16(config, params, tokens) -> float:
  """Most that it costs to keep parameters and arrays in bfloat16.

  Rounded once for each product are its kernel, a norm's two arrays, the sums,
  a bias, two phases, a rotation's three, the weights and the mixture.
  """
  larger = jnp.finfo(jnp.bfloat16).eps / jnp.finfo(jnp.float32).eps
  scale = SIGMAS * np.sqrt(12) * float(larger)
  return float(scale * deviation(config, params, tokens))


def apart(config, params, tokens) -> float:
  """Most that roundings alone set two ways to compute the logits apart.

  Roundings of a sum are random, and add up to those of each of its terms, as
  often as there are terms; what lies between two products adds its own.
  """
  terms = max(config.hidden_size, config.intermediate_size)
  terms += config.head_dim + 2 * tokens.shape[1]  # scores, softmax, mixture
  # The root of a norm, a phase, an exponential and an activation, each of two
  # units in the last place: 4 of the half units that the others have.
  squares = terms + 4 * 4**2
  scale = SIGMAS * np.sqrt(2 * squares)
  return float(scale * deviation(config, params, tokens))
