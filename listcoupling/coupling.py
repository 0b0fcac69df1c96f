"""Coupling a list of samples with one sample without communication.

Gumbel-max list sampling (GLS, Algorithm 1 of Rowan, Phan, Khisti, arXiv
2506.05632), the pairwise Gumbel coupling (Daliri, Musco, Suresh, arXiv
2408.07978) and the shared-race list (Gumbel-top-K). `grouped_streams` rebuilds
the races of a list from the one race that the target reads. The conditional
form of GLS is `compression.codec`.

Legend: N atoms, K drafts, g streams of a group. Functions take one
pair of laws and are mapped with `jax.vmap`. Results are indices: a gradient
taken around them sees constants.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling import gumbel, validation

__all__ = [
  'ListSample',
  'Pair',
  'first_arrivals',
  'group_ranks',
  'grouped_streams',
  'gumbel_coupling',
  'gumbel_list_sampling',
  'list_match',
  'shared_race_list_sampling',
]


def __dir__():
  return __all__


class ListSample(NamedTuple):
  """A list of proposals coupled with one target sample."""

  proposals: jax.Array  # [K] int32, -1 where no atom is left
  target: jax.Array  # [] int32, -1 if the target law is impossible
  is_match: jax.Array  # [] bool, whether the target is in the list


class Pair(NamedTuple):
  """One proposal coupled with one target sample."""

  proposal: jax.Array  # [] int32
  target: jax.Array  # [] int32
  is_match: jax.Array  # [] bool


def list_match(proposals: jax.Array, target: jax.Array) -> ListSample:
  """The `ListSample` of K proposals and a target; index -1 never matches.

  Args:
    proposals: [K] int32.
    target: [] int32.

  Example:
    >>> bool(list_match(jnp.array([2, -1]), jnp.array(-1)).is_match)
    False
  """
  chex.assert_rank([proposals, target], [1, 0])
  is_match = jnp.any(proposals == target) & (target >= 0)
  return ListSample(proposals, target, is_match)


def gumbel_list_sampling(
  key: jax.Array,
  draft_logits: jax.Array,
  target_logits: jax.Array,
  *,
  num_drafts: int | None = None,
) -> ListSample:
  """Gumbel-max list sampling: K proposals from p, one target sample from q.

  With K independent races S^(k) read from `key`, X^(k) = argmin_i
  S_i^(k) / p_i^(k) and Y = argmin_i min_k S_i^(k) / q_i (Algorithm 1 and
  Proposition 5 of arXiv 2506.05632). Y never looks at p: a party that knows
  only q and the key gets the same Y. P[match] is
  `bounds.list_matching_probability`.

  Args:
    key: typed key; consumed (stream k of it is race k).
    draft_logits: [N] for K draws from one law, or [K, N] for one law each;
      unnormalised, any float type, -inf = impossible.
    target_logits: [N].
    num_drafts: K; may be left out with [K, N].

  Returns:
    `ListSample` of proposals [K], target [] and is_match []. Inside `jit` a
    law without a possible atom gives index -1.

  Raises:
    ValueError: for non-finite or wrongly shaped laws, K < 1, legacy keys.

  Example:
    >>> p, q = jnp.log(jnp.array([[.5, .3, .2], [.1, .2, .7]]))
    >>> sample = gumbel_list_sampling(jax.random.key(0), p, q, num_drafts=4)
    >>> sample.proposals.shape
    (4,)
  """
  *laws, num_drafts = validation.as_lists(
    key, draft_logits, target_logits, num_drafts
  )
  return _gumbel_list_sampling(key, *laws, num_drafts=num_drafts)


@functools.partial(jax.jit, static_argnames='num_drafts')
def _gumbel_list_sampling(key, draft_logits, target_logits, *, num_drafts):
  chex.assert_rank([draft_logits, target_logits], [{1, 2}, 1])
  chex.assert_equal_shape_suffix([draft_logits, target_logits], 1)
  noise = gumbel.exponential_streams(
    key, target_logits.shape[-1], num_drafts
  )  # [K, N]
  # Kept in memory once for the K + 1 races that read it.
  noise = jax.lax.optimization_barrier(noise)
  proposals = gumbel.race(noise, jnp.atleast_2d(draft_logits))
  target = gumbel.race(gumbel.earliest(noise), target_logits)
  return list_match(proposals, target)


def gumbel_coupling(
  key: jax.Array, draft_logits: jax.Array, target_logits: jax.Array
) -> Pair:
  """The Gumbel coupling: one race decides both samples (GLS with K = 1).

  P[match] = sum_j 1 / sum_i max(p_i / p_j, q_i / q_j) >= (1 - TV)/(1 + TV)
  (arXiv 2408.07978).

  Args:
    key: typed key; consumed.
    draft_logits: [N] unnormalised, -inf = impossible.
    target_logits: [N].

  Returns:
    `Pair` of proposal [], target [] and is_match [].

  Raises:
    ValueError: for non-finite or wrongly shaped laws, legacy keys.

  Example:
    >>> law = jnp.zeros(5)
    >>> bool(gumbel_coupling(jax.random.key(0), law, law).is_match)
    True
  """
  laws = validation.as_pair(key, draft_logits, target_logits)
  sample = _gumbel_list_sampling(key, *laws, num_drafts=1)
  return Pair(sample.proposals[0], sample.target, sample.is_match)


def shared_race_list_sampling(
  key: jax.Array,
  draft_logits: jax.Array,
  target_logits: jax.Array,
  *,
  num_drafts: int,
) -> ListSample:
  """Gumbel-top-K: the K first arrivals on p against the first on q.

  One race S; the list is the K smallest S_i / p_i, that is K draws from p
  without replacement in order; Y = argmin_i S_i / q_i depends on neither K
  nor the drafter.

  Args:
    key: typed key; consumed (stream 0 of it).
    draft_logits: [N] unnormalised, -inf = impossible.
    target_logits: [N].
    num_drafts: K, at most N.

  Returns:
    `ListSample`; proposals beyond the support of p are -1.

  Raises:
    ValueError: for non-finite or wrongly shaped laws, K < 1 or K > N, legacy
      keys.

  Example:
    >>> p, q = jnp.log(jnp.array([[.5, .3, .2], [.1, .2, .7]]))
    >>> bool(shared_race_list_sampling(
    ...     jax.random.key(0), p, q, num_drafts=3).is_match)
    True
  """
  laws = validation.as_pair(key, draft_logits, target_logits)
  validation.check_positive_int(num_drafts, 'num_drafts')
  if num_drafts > laws[0].size:
    raise ValueError(
      f'num_drafts must be at most the number of atoms {laws[0].size}, got '
      f'{num_drafts}: the list is drawn without replacement.'
    )
  return _shared_race_list_sampling(key, *laws, num_drafts=num_drafts)


@functools.partial(jax.jit, static_argnames='num_drafts')
def _shared_race_list_sampling(key, draft_logits, target_logits, *, num_drafts):
  chex.assert_equal_shape([draft_logits, target_logits])
  noise = gumbel.exponential(key, target_logits.shape[-1])  # [N]
  # Logarithms of the times: every possible atom arrives, however late.
  times, order = first_arrivals(jnp.log(noise) - draft_logits, num_drafts)
  proposals = jnp.where(times < jnp.inf, order, -1)
  target = gumbel.first_arrival(jnp.log(noise) - target_logits)
  return list_match(proposals, target)


def first_arrivals(times: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """The `count` smallest times along the last axis and their indices.

  Args:
    times: [..., N] of a race, or their logarithms.
    count: at most N.

  Returns:
    Times and int32 atoms, [..., count] each, in the order of arrival.

  Example:
    >>> times, atoms = first_arrivals(jnp.array([3.0, 1.0, 2.0]), 2)
    >>> times.tolist(), atoms.tolist()
    ([1.0, 2.0], [1, 2])
  """
  negative, order = jax.lax.top_k(-times, count)
  return -negative, order.astype(jnp.int32)


def group_ranks(groups: jax.Array):
  """Rank of every stream within its group, and the size of that group.

  Args:
    groups: [K] integers; equal labels form a group.

  Returns:
    ranks [K] and sizes [K], int32.

  Example:
    >>> ranks, sizes = group_ranks(jnp.array([0, 3, 0, 0]))
    >>> ranks.tolist(), sizes.tolist()
    ([0, 0, 1, 2], [3, 1, 3, 3])
  """
  chex.assert_rank(groups, 1)
  same = groups[:, None] == groups[None, :]  # [K, K]
  earlier = jnp.tril(same, -1)
  return (
    jnp.sum(earlier, axis=1, dtype=jnp.int32),
    jnp.sum(same, axis=1, dtype=jnp.int32),
  )


def grouped_streams(
  key: jax.Array, atoms, streams, *, ranks, group_sizes
) -> jax.Array:
  """Races of groups of streams, each group's minimum the canonical race.

  For every atom one of the g streams of a group, chosen uniformly, gets E / g
  and the others E / g + a fresh Exp(1), E the canonical noise. By
  memorylessness the g streams are iid Exp(1), and their minimum is E / g: GLS
  on them has the target sample argmin E / q whatever g is. (Not in the
  papers.)

  Args:
    key: typed key of the position.
    atoms: N, or atoms [N] common to the streams or [K, N] of each, as in
      `gumbel.exponential`.
    streams: [K] integers, distinct for every stream of the position.
    ranks: [K] integers in [0, g), distinct within a group.
    group_sizes: [K] integers g.

  Returns:
    [K, N] Exp(1) noise; the canonical noise itself where g = 1.

  Example:
    >>> key, two = jax.random.key(0), jnp.array([2, 2])
    >>> races = grouped_streams(
    ...     key, 9, jnp.arange(2), ranks=jnp.arange(2), group_sizes=two)
    >>> bool((gumbel.earliest(races) == gumbel.exponential(key, 9) / 2).all())
    True
  """
  chex.assert_rank([streams, ranks, group_sizes], 1)
  chex.assert_equal_shape([streams, ranks, group_sizes])
  size = group_sizes[:, None].astype(jnp.float32)  # [K, 1]
  ranks = ranks[:, None].astype(jnp.float32)
  # Drawn once, not once per stream.
  canonical, choice = jax.lax.optimization_barrier(
    (
      jnp.atleast_2d(gumbel.exponential(key, atoms)),
      jnp.atleast_2d(gumbel.uniform(key, atoms, gumbel.CHOICE)),
    )
  )
  first = canonical / size
  choice = jnp.floor(choice * size)
  choice = jnp.minimum(choice, size - 1)  # the uniform can round to 1
  axis = 0 if jnp.ndim(atoms) == 2 else None
  fresh = jax.vmap(gumbel.exponential, (None, axis, 0))(
    key, atoms, gumbel.FRESH + streams
  )
  return jnp.where(choice == ranks, first, first + fresh)
