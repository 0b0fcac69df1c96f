"""Tree masks against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.decoding import tree

LENGTH = 4  # no tree here is deeper


def random_tree(size, batch=3):
  """Parents [batch, size]: any earlier node that is not too deep."""
  rng = np.random.default_rng(size)
  parents = np.zeros((batch, size), int)
  for row in range(batch):
    depths = [0]
    for n in range(size):
      allowed = [i for i, depth in enumerate(depths) if depth < LENGTH]
      parents[row, n] = rng.choice(allowed)
      depths.append(depths[parents[row, n]] + 1)
  return parents


def slow_path(parents, node):
  """Nodes from `node` up to the root, by following parents [N]."""
  path = [node]
  while path[-1]:
    path.append(parents[path[-1] - 1])
  return path


@pytest.mark.parametrize('size', [0, 1, 5, 12])
def test_ancestors_and_lineage_follow_the_parents(size):
  parents = random_tree(size)
  found = np.asarray(tree.ancestors(jnp.asarray(parents), LENGTH))
  lineage = np.asarray(tree.lineage(jnp.asarray(parents), LENGTH))
  assert found.shape == (3, size + 1, size + 1)
  for row in range(3):
    for node in range(size + 1):
      path = slow_path(parents[row], node)
      wanted = np.zeros(size + 1, bool)
      wanted[path] = True
      np.testing.assert_array_equal(found[row, node], wanted)
      path += [0] * (LENGTH + 1 - len(path))
      np.testing.assert_array_equal(lineage[row, node], path)


def test_chains_continue_slot_by_slot():
  tokens = jnp.arange(12).reshape(1, 3, 4)
  chains = tree.chains(tokens)
  found = np.asarray(tree.ancestors(chains.parents, 3))[0]
  for depth, slot in itertools.product(range(3), range(4)):
    path = np.flatnonzero(found[1 + depth * 4 + slot])
    np.testing.assert_array_equal(
      path, [0, *(1 + d * 4 + slot for d in range(depth + 1))]
    )
  np.testing.assert_array_equal(
    tree.node_depths(chains)[0], [0] + [1] * 4 + [2] * 4 + [3] * 4
  )


def test_nodes_that_propose_nothing_hang_on_the_root():
  some = tree.chains(jnp.array([[[5, 6], [7, 8]]]))
  filled = tree.fill(some, 7)
  assert filled.tokens.tolist() == [[5, 6, 7, 8, -1, -1]]
  assert filled.parents.tolist() == [[0, 0, 1, 2, 0, 0]]
  assert filled.depths.tolist() == [[1, 1, 2, 2, 1, 1]]


def test_node_tokens_start_with_the_root_and_hide_empty_nodes():
  proposals = tree.chains(jnp.array([[[4, -1], [5, 6]]]))
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


def test_accelerators_mask_without_a_loop():
  visible = jax.random.bernoulli(jax.random.key(0), 0.5, (3, 4, 5))
  start = jnp.array([0, 3, 9])
  wanted = tree.cache_mask(visible, start, 14)
  found = tree._mask_by_product(visible, start, entries=14)
  np.testing.assert_array_equal(found, wanted)
  assert wanted[2, :, :9].all() and not wanted[0, :, 5:].any()
