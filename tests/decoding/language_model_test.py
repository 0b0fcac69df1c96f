"""The cache rule: what `commit` and `capacity` promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.decoding import language_model
from listcoupling.models import transformer
from tests.models.transformer_test import TINY


def random_cache(rng, entries):
  """A [B, C, ...] cache of three rows."""
  return {
    'keys': rng.normal(size=(3, entries, 2, 4)),
    'ids': rng.integers(0, 99, (3, entries)),
  }


@pytest.mark.parametrize('length,width', [(1, 1), (3, 2), (4, 3)])
def test_move_entries_of_an_accepted_path(length, width):
  """Up to the very end of the cache, and nothing before the root."""
  rng = np.random.default_rng(5)
  size = 1 + length * width
  entries = 6 + size
  root = np.array([0, 2, 6])  # the last tree ends with the cache
  cache = random_cache(rng, entries)
  slots = rng.integers(0, width, (3, length))
  path = 1 + np.arange(length) * width + slots
  moved = language_model.move_entries(
    jax.tree.map(jnp.asarray, cache), jnp.asarray(root), jnp.asarray(path)
  )
  assert language_model.num_entries(moved) == entries
  for name, leaf in cache.items():
    leaf = leaf.astype(np.asarray(moved[name]).dtype)
    for row in range(3):
      wanted = leaf[row].copy()
      first = root[row] + 1
      wanted[first : first + length] = leaf[row][root[row] + path[row]]
      np.testing.assert_array_equal(moved[name][row], wanted)


def test_transformer_moves_every_layer_and_the_positions():
  rng = np.random.default_rng(6)
  empty = transformer.make_init_cache(TINY)(3, 9)
  assert transformer.num_entries(empty) == 9
  cache = jax.tree.map(
    lambda leaf: jnp.asarray(100 * rng.normal(size=leaf.shape), leaf.dtype),
    empty,
  )
  root, path = jnp.array([0, 2, 4]), jnp.array([[2, 3], [1, 4], [2, 4]])
  moved = transformer.commit(cache, root, path)
  for row in range(3):
    source = np.arange(9)
    first = root[row] + 1
    source[first : first + 2] = root[row] + path[row]
    for new, old in zip(
      jax.tree.leaves(moved.layers), jax.tree.leaves(cache.layers)
    ):
      np.testing.assert_array_equal(new[row], old[row][:, source])
    np.testing.assert_array_equal(
      moved.positions[row], cache.positions[row][source]
    )
