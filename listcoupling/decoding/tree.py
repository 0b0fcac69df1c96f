"""The draft tree: nodes with a parent and a depth each, in any shape.

Node 0 is the root, the last token of the text; node 1 + n is the n-th
proposal. Chains, beams and best-first trees are ways to fill it. A token of -1
marks a node without a proposal; it never matches.

Legend: B batch, N proposals, S = 1 + N nodes, L largest depth, C cache
entries, A atoms of a law.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling.decoding.filters import Law


class DraftTree(NamedTuple):
  """Proposals of one block."""

  tokens: jax.Array  # [B, N] int32, -1 = none
  parents: jax.Array  # [B, N] int32, nodes; 0 is the root
  depths: jax.Array  # [B, N] int32, 1..L
  laws: Law | None = None  # [B, N, A] of the drafts, for rejection schemes
  log_worths: jax.Array | None = None  # [B, N] that the text passes there


def empty_tree(batch: int) -> DraftTree:
  """The tree of the root alone (N = 0): plain sampling."""
  none = jnp.zeros((batch, 0), jnp.int32)
  return DraftTree(none, none, none)


def fill(tree: DraftTree, num_nodes: int) -> DraftTree:
  """The tokens and shape of a tree with nodes added that propose nothing.

  They hang on the root, and no other node sees them.

  Args:
    tree: of at most `num_nodes` nodes, the root included.
    num_nodes: S.

  Example:
    >>> fill(empty_tree(1), 3).tokens.tolist()
    [[-1, -1]]
  """
  chex.assert_equal_shape([tree.tokens, tree.parents, tree.depths])
  added = num_nodes - 1 - tree.tokens.shape[1]

  def pad(leaf, value):
    return jnp.pad(leaf, ((0, 0), (0, added)), constant_values=value)

  return DraftTree(
    pad(tree.tokens, -1), pad(tree.parents, 0), pad(tree.depths, 1)
  )


def chains(tokens: jax.Array, laws: Law | None = None) -> DraftTree:
  """K chains from one root: tokens [B, L, K], laws [B, L, K, A].

  Example:
    >>> chains(jnp.array([[[5, 6], [7, 8]]])).parents.tolist()
    [[0, 0, 1, 2]]
  """
  chex.assert_rank(tokens, 3)
  batch, length, width = tokens.shape
  nodes = jnp.arange(1, length * width + 1, dtype=jnp.int32)
  shape = (batch, length * width)
  return DraftTree(
    tokens.reshape(shape),
    jnp.broadcast_to(jnp.maximum(nodes - width, 0), shape),
    jnp.broadcast_to(1 + (nodes - 1) // width, shape),
    jax.tree.map(lambda leaf: leaf.reshape(*shape, -1), laws),
  )


def node_depths(tree: DraftTree) -> jax.Array:
  """Depth of every node: [B, S] int32, 0 for the root."""
  chex.assert_rank(tree.depths, 2)
  return jnp.pad(tree.depths, ((0, 0), (1, 0)))


def node_tokens(root: jax.Array, tree: DraftTree) -> jax.Array:
  """Tokens of all nodes for the target's forward: [B, S], none as 0."""
  chex.assert_rank([root, tree.tokens], [1, 2])
  chex.assert_equal_shape_prefix([root, tree.tokens], 1)
  return jnp.concatenate([root[:, None], jnp.maximum(tree.tokens, 0)], axis=1)


def lineage(parents: jax.Array, length: int) -> jax.Array:
  """Every node, its parent, and so on up to the root.

  Args:
    parents: [..., N] nodes.
    length: L, at least the largest depth.

  Returns:
    [..., S, L + 1] nodes; the root once it is reached.

  Example:
    >>> lineage(jnp.array([0, 1, 1]), 2).tolist()
    [[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 1, 0]]
  """
  up = jnp.pad(parents, [(0, 0)] * (parents.ndim - 1) + [(1, 0)])
  steps = [jnp.broadcast_to(jnp.arange(up.shape[-1], dtype=up.dtype), up.shape)]
  for _ in range(length):
    steps.append(jnp.take_along_axis(up, steps[-1], axis=-1))
  return jnp.stack(steps, axis=-1)


def ancestors(parents: jax.Array, length: int) -> jax.Array:
  """Which nodes lie on the path to which: [..., S, S] bool.

  Args:
    parents: [..., N] nodes.
    length: L, at least the largest depth.

  Returns:
    Row n is True at node n, its ancestors and the root.

  Example:
    >>> ancestors(jnp.array([0, 1]), 2).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
  """
  path = lineage(parents, length)  # [..., S, L + 1]
  return jnp.any(jax.nn.one_hot(path, path.shape[-2], dtype=bool), axis=-2)


def cache_mask(visible: jax.Array, start: jax.Array, entries: int) -> jax.Array:
  """Mask over cache entries from visibility among new tokens.

  Args:
    visible: [B, S, W] bool over the W entries from `start` on.
    start: [B] number of entries that every token sees.
    entries: C.

  Returns:
    [B, S, C] bool.
  """
  chex.assert_rank([visible, start], [3, 1])
  chex.assert_equal_shape_prefix([visible, start], 1)

  mask = functools.partial(jax.lax.platform_dependent, visible, start)
  return mask(
    cpu=functools.partial(_mask_by_rows, entries=entries),
    default=functools.partial(_mask_by_product, entries=entries),
  )


def _mask_by_rows(visible, start, *, entries):
  def row(visible, start):
    prefix = jnp.arange(entries, dtype=jnp.int32) < start
    prefix = jnp.broadcast_to(prefix, (visible.shape[0], entries))
    return jax.lax.dynamic_update_slice(prefix, visible, (0, start))

  return jax.vmap(row)(visible, start)


def _mask_by_product(visible, start, *, entries):
  """The same without the loop over rows that a TPU makes of updates."""
  places = start[:, None] + jnp.arange(visible.shape[2])[None]
  moved = jax.nn.one_hot(places, entries, dtype=jnp.bfloat16)  # [B, W, C]
  new = jnp.einsum('bsw,bwc->bsc', visible.astype(jnp.bfloat16), moved)
  prefix = jnp.arange(entries)[None] < start[:, None]
  return (new > 0) | prefix[:, None]


def causal(size: int, batch: int) -> jax.Array:
  """Causal visibility among new tokens: [B, S, S] bool."""
  return jnp.broadcast_to(jnp.tri(size, dtype=bool), (batch, size, size))
