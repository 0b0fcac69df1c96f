"""The draft tree: L depths of K nodes, each with a parent one depth up.

Node 0 is the root, the last token of the text; node 1 + (j-1) K + k is slot k
at depth j. K independent chains have parents 0..K-1 at every depth. A token
of -1 marks a slot without a proposal; it never matches.

Legend: B batch, K drafts, L draft length, S = 1 + K L nodes, C cache entries,
A atoms of a law.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling.decoding.filters import Law


class DraftTree(NamedTuple):
  """Proposals of one block."""

  tokens: jax.Array  # [B, L, K] int32, -1 = none
  parents: jax.Array  # [B, L, K] int32, slot one depth up (any at depth 1)
  laws: Law | None  # [B, L, K, A] of the drafts, for rejection schemes


def empty_tree(batch: int) -> DraftTree:
  """The tree of the root alone (L = 0): plain sampling."""
  none = jnp.zeros((batch, 0, 1), jnp.int32)
  return DraftTree(none, none, None)


def node_depths(num_drafts: int, draft_length: int) -> jax.Array:
  """Depth of every node: [S] int32, 0 for the root."""
  inner = jnp.repeat(jnp.arange(1, draft_length + 1), num_drafts)
  return jnp.concatenate([jnp.zeros(1, jnp.int32), inner.astype(jnp.int32)])


def node_tokens(root: jax.Array, tree: DraftTree) -> jax.Array:
  """Tokens of all nodes for the target's forward: [B, S], none as 0."""
  drafted = tree.tokens.reshape(tree.tokens.shape[0], -1)
  return jnp.concatenate([root[:, None], jnp.maximum(drafted, 0)], axis=1)


def ancestors(parents: jax.Array) -> jax.Array:
  """Which nodes lie on the path to which: [..., S, S] bool.

  Args:
    parents: [..., L, K] slots one depth up.

  Returns:
    Row n is True at node n, its ancestors and the root.

  Example:
    >>> ancestors(jnp.zeros((1, 2), int)).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
  """
  *batch, length, width = parents.shape
  size = 1 + length * width
  itself = jnp.eye(size, dtype=bool)
  paths = [jnp.broadcast_to(itself[:1], (*batch, 1, size))]
  for depth in range(length):
    up = paths[-1]
    if depth:
      up = jnp.take_along_axis(up, parents[..., depth, :, None], axis=-2)
    first = 1 + depth * width
    paths.append(up | itself[first : first + width])
  return jnp.concatenate(paths, axis=-2)


def cache_mask(visible: jax.Array, start: jax.Array, entries: int) -> jax.Array:
  """Mask over cache entries from visibility among new tokens.

  Args:
    visible: [B, S, W] bool over the W entries from `start` on.
    start: [B] number of entries that every token sees.
    entries: C.

  Returns:
    [B, S, C] bool.
  """

  def row(visible, start):
    prefix = jnp.arange(entries) < start
    prefix = jnp.broadcast_to(prefix, (visible.shape[0], entries))
    return jax.lax.dynamic_update_slice(prefix, visible, (0, start))

  return jax.vmap(row)(visible, start)


def causal(size: int, batch: int) -> jax.Array:
  """Causal visibility among new tokens: [B, S, S] bool."""
  return jnp.broadcast_to(jnp.tri(size, dtype=bool), (batch, size, size))
