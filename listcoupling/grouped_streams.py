"""Groups of streams whose races are rebuilt from one canonical race.

A group of g streams shares the canonical race as its minimum, so that a list
of drafts can be spread over groups, one per prefix, without moving the
target's sample. Not in the papers.

Legend: N atoms, K streams, g streams of a group.
"""

import jax
import jax.numpy as jnp

from listcoupling import gumbel


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
  size = group_sizes[:, None]
  # Drawn once, not once per stream.
  canonical, choice = jax.lax.optimization_barrier(
    (
      gumbel.exponential(key, atoms),
      gumbel.uniform(key, atoms, gumbel.CHOICE),
    )
  )
  first = canonical / size
  choice = jnp.floor(choice * size)
  choice = jnp.minimum(choice, size - 1)  # the uniform can round to 1
  axis = 0 if jnp.ndim(atoms) == 2 else None
  fresh = jax.vmap(gumbel.exponential, (None, axis, 0))(
    key, atoms, gumbel.FRESH + streams
  )
  return jnp.where(choice == ranks[:, None], first, first + fresh)
