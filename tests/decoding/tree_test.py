"""Tree masks against brute force."""

import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.decoding import tree

SHAPES = [(1, 1), (1, 4), (4, 1), (3, 3), (2, 5)]  # (L, K)


def random_parents(length, width, batch=3):
  rng = np.random.default_rng(length * 10 + width)
  return rng.integers(0, width, (batch, length, width))


def slow_path(parents, node):
  """Nodes from `node` up to the root, by following parents [L, K]."""
  width, path = parents.shape[1], [node]
  while node:
    depth, slot = divmod(node - 1, width)
    node = 1 + (depth - 1) * width + parents[depth, slot] if depth else 0
    path.append(node)
  return path


@pytest.mark.parametrize('length,width', SHAPES)
def test_ancestors_follow_the_parents(length, width):
  parents = random_parents(length, width)
  found = np.asarray(tree.ancestors(jnp.asarray(parents)))
  size = 1 + length * width
  assert found.shape == (3, size, size)
  for row in range(3):
    for node in range(size):
      wanted = np.zeros(size, bool)
      wanted[slow_path(parents[row], node)] = True
      np.testing.assert_array_equal(found[row, node], wanted)


def test_ancestors_of_the_empty_tree():
  empty = tree.empty_tree(2)
  np.testing.assert_array_equal(
    tree.ancestors(empty.parents), np.ones((2, 1, 1))
  )


@pytest.mark.parametrize('length,width', [(0, 1), *SHAPES])
def test_depths_agree_with_the_ancestors(length, width):
  parents = random_parents(length, width)
  depths = tree.node_depths(width, length)
  count = np.asarray(tree.ancestors(jnp.asarray(parents))).sum(-1)
  np.testing.assert_array_equal(count - 1, np.broadcast_to(depths, count.shape))


def test_node_tokens_start_with_the_root_and_hide_empty_slots():
  proposals = tree.DraftTree(
    jnp.array([[[4, -1], [5, 6]]]), jnp.zeros((1, 2, 2), int), None
  )
  tokens = tree.node_tokens(jnp.array([9]), proposals)
  np.testing.assert_array_equal(tokens, [[9, 4, 0, 5, 6]])


def test_cache_mask_is_the_prefix_and_then_the_tree():
  entries, start = 12, np.array([0, 3, 7])
  visible = np.random.default_rng(0).random((3, 5, 5)) < 0.5
  found = tree.cache_mask(jnp.asarray(visible), jnp.asarray(start), entries)
  for row in range(3):
    wanted = np.zeros((5, entries), bool)
    wanted[:, : start[row]] = True
    wanted[:, start[row] : start[row] + 5] = visible[row]
    np.testing.assert_array_equal(found[row], wanted)


def test_causal():
  np.testing.assert_array_equal(tree.causal(4, 2)[1], np.tri(4, dtype=bool))
