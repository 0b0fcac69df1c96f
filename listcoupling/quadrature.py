"""Integrals over the winning time of a race, one sort and a scan each.

Two probabilities of `bounds` have no closed form: the list matching
probability beyond its closed-form first term (`rescue_integral`), and the
chance that the first K arrivals of a race all lie in a given set
(`outside_prefix_probabilities`). Both condition on an arrival time and
integrate it out. Both work in the dtype of their arguments and add positive
terms only, so that float32 loses little.

Legend: N atoms, K drafts, R rows of draft laws (1 if the drafts are alike,
else K), M quadrature nodes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Winning times are mapped to t = -POWER log(v), v in (0, 1): the power turns
# the fractional powers of u = exp(-t) at 0 into high ones. See bounds_test.
_POWER = 6
_NUM_TIMES = 64


class Profile(NamedTuple):
  """Piecewise linear m(s) = sum_i (s p_i - q_i)+ of each draft law.

  Sorted by the break points s = q_i / p_i. Atoms with p_i = 0 never matter to
  m: they sit at the end with gaps of length 0.

  Attributes:
    inverse: [R, N] position of each atom in the sorted order.
    mass: [R, N] slope of m behind each break point, a prefix sum of p.
    gap: [R, N] distance to the next break point, 0 for the last.
    height: [R, N] m at each break point.
    cost: [R, N] m at each atom's break point, in the order of the atoms.
    possible: [R, N] whether the draft can propose the atom at all.
  """

  inverse: jax.Array
  mass: jax.Array
  gap: jax.Array
  height: jax.Array
  cost: jax.Array
  possible: jax.Array


def profile(p: jax.Array, q: jax.Array) -> Profile:
  """The profile of draft laws p [R, N] against q [N]; O(R N log N).

  Draft probabilities whose square underflows are taken for 0, which keeps
  derivatives of q / p finite; they could not be seen in the result.
  """
  possible = p > jnp.finfo(p.dtype).tiny ** 0.4
  ratio = jnp.where(possible, q / jnp.where(possible, p, 1.0), 0.0)
  last = jnp.max(ratio, axis=-1, keepdims=True)
  order = jnp.argsort(jnp.where(possible, ratio, jnp.inf), axis=-1)
  ratio = jnp.where(possible, ratio, last)
  inverse = jnp.argsort(order, axis=-1)
  ratio = jnp.take_along_axis(ratio, order, axis=-1)
  p = jnp.take_along_axis(jnp.where(possible, p, 0.0), order, axis=-1)
  mass = jnp.cumsum(p, axis=-1)
  gap = jnp.diff(ratio, axis=-1, append=ratio[:, -1:])
  rises = jnp.cumsum((mass * gap)[:, :-1], axis=-1)
  height = jnp.pad(rises, ((0, 0), (1, 0)))
  cost = jnp.take_along_axis(height, inverse, axis=-1)
  return Profile(inverse, mass, gap, height, cost, possible)


def _mean_exponential(x: jax.Array) -> jax.Array:
  """(1 - exp(-x)) / x for x >= 0, with its derivative at 0."""
  small = x < 1e-3
  safe = jnp.where(small, 1.0, x)
  series = 1 - x / 2 + x**2 / 6 - x**3 / 24 + x**4 / 120
  return jnp.where(small, series, -jnp.expm1(-safe) / safe)


def _others_propose(time, p, laws: Profile, num_drafts: int) -> jax.Array:
  """Pr[some draft other than k proposes j | j won at `time` in stream k].

  Draft l proposes j with probability p_j y int_{q_j/p_j}^inf exp(-y m(s)) ds,
  a suffix sum over the linear pieces of m. Returns [R, N].
  """
  decay = jnp.exp(-time * laws.height)
  piece = decay * time * laws.gap
  piece = piece * _mean_exponential(time * laws.mass * laws.gap)
  piece = piece.at[:, -1].set(decay[:, -1] / laws.mass[:, -1])
  tail = jax.lax.cumsum(piece, axis=1, reverse=True)
  tail = jnp.take_along_axis(tail, laws.inverse, axis=-1)
  propose = jnp.where(laws.possible, p * tail, 0.0)
  sure = propose >= 1
  miss = jnp.where(sure, -1e3, jnp.log1p(-jnp.where(sure, 0.0, propose)))
  if p.shape[0] == 1:
    return -jnp.expm1((num_drafts - 1) * miss)
  before = jnp.pad(jnp.cumsum(miss, axis=0)[:-1], ((1, 0), (0, 0)))
  after = jax.lax.cumsum(miss, axis=0, reverse=True)[1:]
  return -jnp.expm1(before + jnp.pad(after, ((0, 1), (0, 0))))


def _time_nodes(num_times: int) -> tuple[np.ndarray, np.ndarray]:
  """Nodes t and weights of int_0^inf exp(-t) f(t) dt, float64."""
  x, weight = np.polynomial.legendre.leggauss(num_times)
  v = (x + 1) / 2
  return -_POWER * np.log(v), weight / 2 * _POWER * v ** (_POWER - 1)


def rescue_integral(p, q, laws: Profile, num_drafts: int) -> jax.Array:
  """Pr[the draft whose stream Y won misses Y, and another one proposes it].

  Args:
    p: [R, N] draft laws, R = 1 or num_drafts.
    q: [N] target law.
    laws: `profile(p, q)`.
    num_drafts: K, static.

  Returns:
    [] in the dtype of p. Memory O(R N), derivatives included.
  """
  if num_drafts == 1:
    return jnp.zeros((), p.dtype)
  times, weights = _time_nodes(_NUM_TIMES)

  @jax.checkpoint
  def step(total, node):
    time, weight = node
    own_miss = -jnp.expm1(-time * laws.cost)
    own_miss = jnp.where(laws.possible, own_miss, 1.0)
    saved = own_miss * _others_propose(time, p, laws, num_drafts)
    return total + weight * jnp.sum(q * jnp.mean(saved, axis=0)), None

  nodes = (
    jnp.asarray(times / num_drafts, p.dtype),
    jnp.asarray(weights, p.dtype),
  )
  return jax.lax.scan(step, jnp.zeros((), p.dtype), nodes)[0]
