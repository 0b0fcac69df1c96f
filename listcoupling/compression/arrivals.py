"""First arrivals of races over many candidates: exact in law, and fast.

A race over N candidates is decided by its first arrivals, so a simulation
draws those alone (`arrival_codec`, `gaussian_rivals`). Let race k be a Poisson
process of rate N whose arrivals name one of the N candidates each, uniformly
and with replacement. The first arrival of a candidate is then Exp(1),
independent over candidates and races, and later ones cannot beat it: argmin
over arrivals of t / q is the winner of the exponential race, in law and not in
the limit. Candidate i's value and label are functions of (key, i), so that all
races share them.

What is not drawn lies behind the last arrival drawn, at t_M. One more time per
candidate, t_M + Exp(1), completes the race: a candidate not seen by t_M
arrives then, one that was seen loses nothing by a later time.

Legend: B lanes (trials), K races, M arrivals, N candidates. Lanes come last,
where the machine's vectors are.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import gumbel

BLOCK = 256  # arrivals looked at in one go
_OFFSET = 64.0  # keeps logarithmic costs positive, see `arrival_codec`
_STEP = 64  # of the two-level cumulative sum


class Arrivals(NamedTuple):
  """The first M arrivals of K races, in the order of time.

  With `complete`, a time for each of the N candidates follows: M + N.
  """

  log_time: jax.Array  # [K, M, B] log(N t) + a constant
  normal: jax.Array  # [K, M, B] the candidate over sqrt(1 + v)
  tag: jax.Array  # [K, M, B] uniform on (0, 1): iid labels
  index: jax.Array  # [K, M, B] int32, the candidate


def _cumulative_sum(x):
  """Along axis -1: [..., M], M a multiple of 64; one product of matrices."""
  parts = x.reshape(-1, _STEP)
  lower = jnp.tril(jnp.ones((_STEP, _STEP), x.dtype))
  exact = jax.lax.Precision.HIGHEST
  sums = jnp.einsum('mj,ij->mi', parts, lower, precision=exact)
  ends = sums[:, -1].reshape(*x.shape[:-1], -1)
  before = jnp.cumsum(ends, -1) - ends
  return (sums + before.reshape(-1, 1)).reshape(x.shape)


def draw(
  keys,
  *,
  num_races: int,
  num_arrivals: int,
  num_candidates: int,
  complete: bool = False,
) -> Arrivals:
  """First arrivals of B trials.

  Args:
    keys: [B] typed keys; consumed.
    num_races: K.
    num_arrivals: M, a multiple of BLOCK.
    num_candidates: N, with `complete` a multiple of BLOCK.
    complete: append one later time for each candidate, which ends the race.

  Returns:
    `Arrivals` of M, or M + N.
  """
  keys = jax.vmap(lambda key: jax.random.split(key, 5))(keys)  # [B, 5]
  streams = jnp.arange(num_races)

  def by_race(f, keys, count):
    return jax.vmap(jax.vmap(f, (None, None, 0)), (0, None, None))(
      keys, count, streams
    )

  # Stages that are fused into one do not vectorise: keep them apart.
  apart = jax.lax.optimization_barrier
  gaps = apart(by_race(gumbel.exponential, keys[:, 0], num_arrivals))
  time = apart(_cumulative_sum(gaps))  # [B, K, M] N t
  place = by_race(gumbel.uniform, keys[:, 1], num_arrivals) * num_candidates
  index = jnp.minimum(place.astype(jnp.int32), num_candidates - 1)
  if complete:
    later = by_race(gumbel.exponential, keys[:, 4], num_candidates)
    later = time[..., -1:] + num_candidates * later
    time = jnp.concatenate([time, later], -1)
    every = jnp.broadcast_to(jnp.arange(num_candidates), later.shape)
    index = jnp.concatenate([index, every], -1)
  index = apart(index)
  uniform, tag = (
    apart(jax.vmap(gumbel.uniform)(keys[:, i], index)) for i in (2, 3)
  )
  # Half a step of float32 from 0 and 1, where the quantile is infinite.
  uniform = jnp.clip(2 * uniform - 1, -1 + 2.0**-24, 1 - 2.0**-24)
  normal = math.sqrt(2) * apart(jax.lax.erf_inv(uniform))
  log_time = jnp.log(time) + _OFFSET
  parts = log_time, normal, jnp.minimum(tag, 1 - 2.0**-24), index
  return Arrivals(*(apart(jnp.moveaxis(apart(x), 0, -1)) for x in parts))


def share(arrivals: Arrivals) -> Arrivals:
  """The first race in the place of all: the baseline of the paper."""
  return jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), arrivals)
