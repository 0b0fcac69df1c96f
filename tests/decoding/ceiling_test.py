"""The best tree against all trees, on laws that are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.decoding import ceiling


def test_chances_of_normal_scores_are_those_of_draws():
  """Within 5 standard errors; scores twice as noisy win otherwise."""
  means = jnp.array([0.0, 0.5, -1.0, 1.2, -30.0])
  noise = jax.random.normal(jax.random.key(0), (100_000, means.size))
  winners = jnp.argmax(means[None] + 0.7 * noise, axis=1)
  counts = np.bincount(winners, minlength=means.size)

  def z(deviation):
    chances = ceiling.win_probabilities(means, deviation)
    np.testing.assert_allclose(chances.sum(), 1, rtol=1e-6)
    wanted = len(noise) * np.asarray(chances)
    return np.abs(counts - wanted) / np.sqrt(np.maximum(wanted, 1))

  assert z(0.7).max() < 5
  assert z(1.4).max() > 50


def test_the_best_tree_is_the_best_of_all_nodes():
  """Laws by token and depth, all paths enumerated, all texts to depth 3."""
  laws = jax.random.normal(jax.random.key(1), (8, 3, 3))
  laws = jax.nn.softmax(laws / 2)
  count, paths = len(laws), {}
  known = np.asarray(laws, np.float64)
  for depth in range(1, count + 1):
    for path in itertools.product(range(3), repeat=depth):
      steps = zip(known, (2, *path), path)
      paths[path] = np.prod([law[above, token] for law, above, token in steps])
  nodes = set(sorted(paths, key=paths.get)[-count:])
  assert len({(len(node), node[-1]) for node in nodes}) < count  # cousins, too
  texts = np.array([*itertools.product(range(3), repeat=3)])
  rows = np.pad(texts, ((0, 0), (1, count - 3)), constant_values=2)
  found, expected = jax.vmap(
    lambda row: ceiling.best_tree(
      lambda token, depth: laws[depth, token], row, count
    )
  )(jnp.asarray(rows))
  np.testing.assert_allclose(expected, sum(map(paths.get, nodes)), rtol=1e-5)
  wanted = [
    sum(tuple(row[1 : 1 + size]) in nodes for size in range(1, count + 1))
    for row in rows
  ]
  np.testing.assert_array_equal(found, wanted)
