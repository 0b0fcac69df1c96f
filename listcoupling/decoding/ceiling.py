"""The best tree that anyone can draft: a ceiling for those that are learned.

The text of canonical noise is a function of noise and target. Who knows the
noise, and the target's logits up to independent normal errors, knows the
chances of every token: no tree of as many nodes is expected to hold more of the
text than the nodes of the largest chances do, see docs/theory.md.

Legend: A atoms, B texts, T tokens of a text, N nodes of a tree besides its
root, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import gumbel, validation

__all__ = ['best_tree', 'calls_of_best_trees', 'win_probabilities']


def __dir__():
  return __all__


def win_probabilities(means: jax.Array, deviation) -> jax.Array:
  """Probability that each of independent normal scores is the largest: [A].

  One integral over the largest score, on a grid that serves every atom.

  Args:
    means: [A] of the scores.
    deviation: [] of all of them, above 0.

  Returns:
    [A], of sum 1.

  Raises:
    ValueError: for a deviation that is not above 0.

  Example:
    >>> win_probabilities(jnp.array([0.0, 0.0]), 1.0).tolist()
    [0.5, 0.5]
  """
  validation.check_positive(deviation=deviation)
  steps = jnp.linspace(-5.0, 5.5, 64, dtype=jnp.float32)
  grid = jnp.max(means) + deviation * steps
  places = (grid[:, None] - means[None]) / deviation  # [grid, A]
  below = jnp.log(jax.scipy.stats.norm.cdf(places))  # from -5 on
  others = jnp.sum(below, axis=1, keepdims=True) - below
  mass = jnp.exp(others + jax.scipy.stats.norm.logpdf(places))
  chances = jnp.sum(mass, axis=0)
  return chances / jnp.sum(chances)


class _Search(NamedTuple):
  """A tree that grows by its best node; node 0 is the root."""

  pool: jax.Array  # [1 + N, V] log-worths of children that are not nodes
  tokens: jax.Array  # [1 + N]
  depths: jax.Array  # [1 + N]
  log_worths: jax.Array  # [1 + N]
  written: jax.Array  # [1 + N] bool, the text passes the node


def best_tree(
  chances: Callable, text: jax.Array, num_nodes: int
) -> tuple[jax.Array, jax.Array]:
  """The nodes that the text most likely passes, of all there are.

  No beam and no depth is set, and every node is looked behind: the tree is the
  best of N nodes if `chances` are the probabilities given all that is known.

  Args:
    chances: (token, depth) -> [V] probabilities of the token that follows a
      node at this depth, 0 the root.
    text: [1 + N] tokens from the root on.
    num_nodes: N.

  Returns:
    How many tokens of the text are in the tree [], and how many its worths
    lead one to expect [].

  Raises:
    ValueError: for num_nodes below 1.

  Example:
    >>> law = jnp.array([0.5, 0.3, 0.2])  # of every token
    >>> found, expected = best_tree(lambda *_: law, jnp.array([0, 1, 0, 2]), 3)
    >>> int(found), round(float(expected), 2)  # nodes 0, 1 and 00
    (1, 1.05)
  """
  validation.check_positive_int(num_nodes, 'num_nodes')
  size = 1 + num_nodes

  def add(search, node):
    behind = jnp.log(chances(search.tokens[node], search.depths[node]))
    pool = search.pool.at[node].set(search.log_worths[node] + behind)
    parent, token = jnp.divmod(gumbel.argmax(pool.ravel()), behind.size)
    depth = search.depths[parent]
    child = _Search(
      pool.at[parent, token].set(-jnp.inf),
      search.tokens.at[node + 1].set(token),
      search.depths.at[node + 1].set(depth + 1),
      search.log_worths.at[node + 1].set(pool[parent, token]),
      search.written.at[node + 1].set(
        search.written[parent] & (text[depth + 1] == token)
      ),
    )
    return child, None

  nothing = jnp.zeros(size, jnp.int32)
  start = _Search(
    jnp.full((size, chances(text[0], 0).size), -jnp.inf, jnp.float32),
    nothing.at[0].set(text[0]),
    nothing,
    jnp.zeros(size, jnp.float32),
    jnp.arange(size) == 0,
  )
  nodes = jnp.arange(num_nodes, dtype=jnp.int32)
  search, _ = jax.lax.scan(add, start, nodes)
  return (
    jnp.sum(search.written, dtype=jnp.int32) - 1,
    jnp.sum(jnp.exp(search.log_worths)) - 1,
  )


def calls_of_best_trees(
  keys: jax.Array,
  texts: jax.Array,
  means: jax.Array,
  deviation,
  temperature,
  *,
  num_nodes: int,
) -> jax.Array:
  """Calls of the target that texts take if each has its best tree: [B].

  What earlier calls have shown of the target is not used.

  Args:
    keys: [B] of the rows, as `generate` takes them.
    texts: [B, T], a first token and what a canonical method wrote behind it;
      the target looks at the last token alone.
    means: [V, V] of the target's logits after every token, given the drafter's.
    deviation: [] of all of them, above 0.
    temperature: [] of the texts.
    num_nodes: N.

  Raises:
    ValueError: for keys that are not typed and one a row, a deviation that is
      not above 0, a temperature below 0, or num_nodes below 1.

  Example:
    >>> texts = jnp.array([[0, 1, 2, 0, 1]])
    >>> means = 99.0 * jnp.roll(jnp.eye(3), 1, axis=1)  # after 0 comes 1
    >>> key = gumbel.seed_key(0)[None]
    >>> calls_of_best_trees(key, texts, means, 1e-3, 1.0, num_nodes=1).tolist()
    [2]
  """
  validation.check_key(keys, texts.shape[:1], 'keys')
  validation.check_positive(deviation=deviation)
  validation.check_scalar(temperature, 'temperature', minimum=0)
  validation.check_positive_int(num_nodes, 'num_nodes')
  return _calls(keys, texts, means, deviation, temperature, num_nodes)


@functools.partial(jax.jit, static_argnames='num_nodes')
def _calls(keys, texts, means, deviation, temperature, num_nodes):
  last = texts.shape[1] - 1
  texts = jnp.pad(texts, ((0, 0), (0, num_nodes)), constant_values=-1)
  texts = texts.astype(jnp.int32)
  warm = temperature > 0  # else the race has no noise, at any scale
  scale = jnp.where(warm, temperature, 1.0)

  def call(key, text, root):
    places = root + 1 + jnp.arange(num_nodes, dtype=jnp.int32)
    keys = jax.vmap(gumbel.position_key, (None, 0))(key, places)
    noise = jax.vmap(lambda key: gumbel.gumbel(key, len(means)))(keys)
    noise = jnp.where(warm, noise, 0.0)

    def chances(token, depth):
      return win_probabilities(
        means[token] / scale + noise[depth], deviation / scale
      )

    ahead = jax.lax.dynamic_slice(text, (root,), (1 + num_nodes,))
    return best_tree(chances, ahead, num_nodes)[0]

  def row(key, text):
    return jax.lax.while_loop(
      lambda carry: carry[0] < last,
      lambda carry: (carry[0] + 1 + call(key, text, carry[0]), carry[1] + 1),
      (jnp.int32(0), jnp.int32(0)),
    )[1]

  return jax.vmap(row)(keys, texts)
