"""The best tree against all trees, on laws that are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.decoding import ceiling
from tests import floats, statistics


def test_chances_of_normal_scores_are_those_of_draws():
  """Within 5 standard errors; scores twice as noisy win otherwise."""
  means = jnp.array([0.0, 0.5, -1.0, 1.2, -30.0])
  noise = jax.random.normal(jax.random.key(0), (100_000, means.size))
  winners = jnp.argmax(means[None] + 0.7 * noise, axis=1)
  counts = np.bincount(winners, minlength=means.size)

  def z(deviation):
    chances = ceiling.win_probabilities(means, deviation)
    # The sum of all, their quotients by it, the sum of those.
    error = statistics.rounding(means.size)
    np.testing.assert_allclose(chances.sum(), 1, rtol=0, atol=error)
    return np.abs(statistics.proportion_z(counts, len(noise), chances))

  assert z(0.7).max() < statistics.SIGMAS < z(1.4).max()


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

  def worths(laws):
    ways = [zip(laws, (2, *path), path) for path in nodes]
    chances = [[law[above, token] for law, above, token in way] for way in ways]
    return 1 + sum(jnp.exp(sum(map(jnp.log, each))) for each in chances) - 1

  np.testing.assert_allclose(
    expected,
    sum(map(paths.get, nodes)),
    rtol=0,
    atol=floats.apart(worths, laws),
  )
  wanted = [
    sum(tuple(row[1 : 1 + size]) in nodes for size in range(1, count + 1))
    for row in rows
  ]
  np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
  'wrong, words',
  [
    (dict(keys=jax.random.PRNGKey(0)[None]), 'keys must be a typed key'),
    (dict(keys=jax.random.key(0)), r'keys must have shape \(1,\), got \(\)'),
    (dict(deviation=0), 'deviation must be positive and finite, got 0'),
    (dict(deviation=-1.0), r'deviation must be positive .*, got -1\.0'),
    (dict(temperature=-0.5), r'temperature must be at least 0, got -0\.5'),
    (dict(num_nodes=0), 'num_nodes must be at least 1, got 0'),
    (dict(num_nodes=2.5), r'num_nodes must be a Python int, got 2\.5'),
  ],
)
def test_ceilings_that_make_no_sense_are_refused_by_name(wrong, words):
  own = dict(deviation=1.0, temperature=1.0, num_nodes=2)
  own |= dict(keys=gumbel.seed_key(0)[None], texts=jnp.zeros((1, 5), int))
  with pytest.raises(ValueError, match=words):
    ceiling.calls_of_best_trees(**own | dict(means=jnp.zeros((3, 3))) | wrong)


def test_chances_and_trees_refuse_likewise_what_is_known():
  """A traced deviation passes."""
  means, text = jnp.zeros(2), jnp.zeros(1, int)
  with pytest.raises(ValueError, match='deviation must be positive'):
    ceiling.win_probabilities(means, 0.0)
  with pytest.raises(ValueError, match='num_nodes must be at least 1, got 0'):
    ceiling.best_tree(lambda *_: means, text, 0)
  chances = jax.jit(ceiling.win_probabilities)(means, 1.0)
  error = floats.apart(ceiling.win_probabilities, means, jnp.float32(1))
  np.testing.assert_allclose(chances, [0.5, 0.5], rtol=0, atol=error)
