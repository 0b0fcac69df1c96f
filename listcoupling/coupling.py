"""Coupling a list of samples with one sample without communication.

Gumbel-max list sampling (GLS, Algorithm 1 of Rowan, Phan, Khisti, arXiv
2506.05632), the pairwise Gumbel coupling (Daliri, Musco, Suresh, arXiv
2408.07978) and the shared-race list (Gumbel-top-K). The conditional form of
GLS for compression (section 4 of the former) is in `conditional`, races of
groups of streams out of one canonical race in `grouped`.

Legend: N atoms, K drafts. Functions take one pair of laws and are mapped with
`jax.vmap`. Results are indices: nothing here has a gradient.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import gumbel, validation
from listcoupling.conditional_coupling import (
  conditional_decode,
  conditional_encode,
)
from listcoupling.grouped_streams import group_ranks, grouped_streams

__all__ = [
  'ListSample',
  'Pair',
  'check_laws',
  'check_pair',
  'conditional_decode',
  'conditional_encode',
  'first_arrivals',
  'group_ranks',
  'grouped_streams',
  'gumbel_coupling',
  'gumbel_list_sampling',
  'list_match',
  'shared_race_list_sampling',
]


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
  """The `ListSample` of K proposals and a target; index -1 never matches."""
  is_match = jnp.any(proposals == target) & (target >= 0)
  return ListSample(proposals, target, is_match)


def check_laws(key, draft_logits, target_logits, num_drafts=None):
  """Door check of a coupling of lists; returns (arrays..., K).

  Args:
    key: typed key.
    draft_logits: [N] or [K, N].
    target_logits: [N].
    num_drafts: K, or None where `draft_logits` tells it.

  Returns:
    draft_logits as given or [K, N], target_logits [N], K.

  Raises:
    ValueError: naming the argument, its value and the remedy.
  """
  validation.check_key(key)
  draft_logits = jnp.asarray(draft_logits)
  target_logits = jnp.asarray(target_logits)
  validation.check_logits(draft_logits, 'draft_logits', ndims=(1, 2))
  validation.check_logits(target_logits, 'target_logits')
  validation.check_same_atoms(draft_logits, target_logits)
  if num_drafts is None:
    if draft_logits.ndim == 1:
      raise ValueError(
        'num_drafts must be given with draft_logits of shape [N], got None; '
        'it may be left out only with one row per draft, [K, N].'
      )
    num_drafts = draft_logits.shape[0]
  validation.check_positive_int(num_drafts, 'num_drafts')
  if draft_logits.ndim == 2 and draft_logits.shape[0] != num_drafts:
    raise ValueError(
      f'draft_logits has {draft_logits.shape[0]} rows but num_drafts is '
      f'{num_drafts}; give one row per draft, or one law of shape [N].'
    )
  return draft_logits, target_logits, num_drafts


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
  laws = check_laws(key, draft_logits, target_logits, num_drafts)
  return _gumbel_list_sampling(key, laws[0], laws[1], num_drafts=laws[2])


@functools.partial(jax.jit, static_argnames='num_drafts')
def _gumbel_list_sampling(key, draft_logits, target_logits, *, num_drafts):
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
  check_pair(key, draft_logits, target_logits)
  sample = gumbel_list_sampling(key, draft_logits, target_logits, num_drafts=1)
  return Pair(sample.proposals[0], sample.target, sample.is_match)


def check_pair(key, draft_logits, target_logits):
  """Door check of a coupling of two laws; returns both as arrays [N]."""
  draft_logits = jnp.asarray(draft_logits)
  validation.check_logits(draft_logits, 'draft_logits')
  return check_laws(key, draft_logits, target_logits, 1)[:2]


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
  draft_logits, target_logits = check_pair(key, draft_logits, target_logits)
  validation.check_positive_int(num_drafts, 'num_drafts')
  if num_drafts > draft_logits.shape[-1]:
    raise ValueError(
      f'num_drafts must be at most the number of atoms '
      f'{draft_logits.shape[-1]}, got {num_drafts}: the list is drawn without '
      'replacement.'
    )
  return _shared_race_list_sampling(
    key, draft_logits, target_logits, num_drafts=num_drafts
  )


@functools.partial(jax.jit, static_argnames='num_drafts')
def _shared_race_list_sampling(key, draft_logits, target_logits, *, num_drafts):
  noise = gumbel.exponential(key, target_logits.shape[-1])  # [N]
  # Logarithms of the times: every possible atom arrives, however late.
  times, order = first_arrivals(_log_times(noise, draft_logits), num_drafts)
  proposals = jnp.where(times < jnp.inf, order, -1)
  target = gumbel.first_arrival(_log_times(noise, target_logits))
  return list_match(proposals, target)


def _log_times(noise, logits):
  return jnp.log(noise) - logits.astype(jnp.float32)


def first_arrivals(times: jax.Array, count: int):
  """The `count` smallest times along the last axis and their indices."""
  negative, order = jax.lax.top_k(-times, count)
  return -negative, order.astype(jnp.int32)
