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

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


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
  chex.assert_rank([p, q], [2, 1])
  chex.assert_equal_shape_suffix([p, q], 1)
  possible = p > jnp.finfo(p.dtype).tiny ** 0.4
  ratio = jnp.where(possible, q[None] / jnp.where(possible, p, 1.0), 0.0)
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


def _others_propose(time, p, laws: Profile, num_drafts) -> jax.Array:
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


def _log_nodes(low, high, num_nodes: int, dtype):
  """Trapezoid in x = log t: int_0^inf f(t) dt ~ sum_m w_m f(t_m).

  An integrand whose layers, whatever their scale, are smooth in log t and
  which vanishes at both ends is integrated to exponential accuracy.
  """
  step = jnp.asarray((high - low) / (num_nodes - 1), dtype)
  times = jnp.exp(low + step * jnp.arange(num_nodes, dtype=dtype))
  return times, step * times


def rescue_integral(p, q, laws: Profile, num_drafts) -> jax.Array:
  """Pr[the draft whose stream Y won misses Y, and another one proposes it].

  Measured error of the rule: 1e-8 in float32 (48 nodes; rounding is larger),
  1e-13 in float64 (128 nodes).

  Args:
    p: [R, N] draft laws, R = 1 or num_drafts.
    q: [N] target law.
    laws: `profile(p, q)`.
    num_drafts: [] K in the dtype of p.

  Returns:
    [] in the dtype of p. Memory O(R N), derivatives included.
  """
  wide = p.dtype == jnp.float64
  low, high, count = (-30.0, 3.6, 128) if wide else (-16.0, 3.0, 48)
  times, weights = _log_nodes(low, high, count, p.dtype)  # of t = K y

  @jax.checkpoint
  def step(total, node):
    time, weight = node
    own_miss = -jnp.expm1(-time * laws.cost)
    own_miss = jnp.where(laws.possible, own_miss, 1.0)
    saved = own_miss * _others_propose(time, p, laws, num_drafts)
    return total + weight * jnp.sum(q * jnp.mean(saved, axis=0)), None

  nodes = (times / num_drafts, weights * jnp.exp(-times))
  return jax.lax.scan(step, jnp.zeros((), p.dtype), nodes)[0]


def outside_prefix_probabilities(p, num_drafts: int) -> jax.Array:
  """1 - Pr[the first K arrivals of the race on p all lie in prefix H_n].

  H_n holds atoms 0..n. With T ~ Exp(p(H^c)) the first arrival outside,
  1 - W = Pr[fewer than K arrivals of H by T]
    = p(H^c) int e^{-p(H^c) t} Pr[PoissonBinomial_H(1 - e^{-p_i t}) < K] dt.
  One pass over the atoms serves all prefixes: O(N K nodes). Lists are the
  whole support if that has K atoms or fewer.

  Args:
    p: [N] race law, in the order of the prefixes.
    num_drafts: K, static.

  Returns:
    [N] in the dtype of p; error of the rule below 1e-8 in float32 and 1e-12
    in float64 for K up to 64, more nodes are taken for larger K.
  """
  chex.assert_rank(p, 1)
  dtype = p.dtype
  support = jnp.cumsum(p > 0)  # [N] atoms of each prefix a list can hold
  beyond = jax.lax.cumsum(p, reverse=True)
  beyond = jnp.append(beyond[1:], jnp.zeros((), dtype))  # p(H^c)
  # The integrand has vanished when K atoms have arrived: the slowest decay
  # is the rate of all atoms but the K - 1 likeliest.
  rate = jnp.sum(jnp.sort(p)[: max(p.size - num_drafts + 1, 1)])
  rate = jnp.maximum(rate, jnp.finfo(dtype).tiny ** 0.5)
  wide = dtype == jnp.float64
  low, tail, count = (-32.0, 36.0, 320) if wide else (-17.0, 18.0, 128)
  count = count * max(1, math.ceil(math.sqrt(num_drafts / 32)))
  times, weights = _log_nodes(
    low, jax.lax.stop_gradient(jnp.log(tail / rate)), count, dtype
  )

  def add(state, atom):
    mass, outside = atom
    total, lost = state  # [M, K] Pr[c arrivals], and what rounding took of it
    arrive = -jnp.expm1(-mass * times)[:, None]
    before = jnp.pad(total, ((0, 0), (1, 0)))[:, :-1]
    change = arrive * (before - total) - lost
    new = total + change
    few = jnp.sum(new, axis=1)
    return (new, (new - total) - change), outside * jnp.sum(
      weights * jnp.exp(-outside * times) * few
    )

  start = jnp.zeros((count, num_drafts), dtype).at[:, 0].set(1)
  _, late = jax.lax.scan(add, (start, jnp.zeros_like(start)), (p, beyond))
  late = jnp.where(support < num_drafts, 1.0, jnp.clip(late, 0, 1))
  return jnp.where(beyond > 0, late, 0.0)
