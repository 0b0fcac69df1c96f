"""Traversal verification: the trie of the drafts, judged from its leaves.

Traversal Verification for Speculative Tree Decoding (arXiv 2505.12398). A node
is accepted with all that leads to it, once everything below it has failed. Let
w be the probability that it is, and r the law of what then follows it; at the
root w = 1, and r is the target's law. A child x drawn from p gets

    w(x) = min(1, w r(x) / p(x)), with the target's law behind it.

If the child is rejected, its parent keeps what the child could not cover:

    m = sum (w r - p)+,  w <- m / (m + 1 - w),  r <- (w r - p)+ / m,

with the old w on the right; then its next child is judged. Chains that agree
are one path: a token that was rejected and is drawn again is rejected at once.
One chain gives block verification.

Legend: K drafts, L draft length, A atoms of a law, S = 1 + K L nodes.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling import gumbel
from listcoupling.decoding import filters
from listcoupling.decoding.draft import SpeculativeConfig
from listcoupling.decoding.tree import DraftTree
from listcoupling.decoding.verify import (
  Context,
  Verification,
  by_depth,
  node_at,
  ratio,
  write,
)


class _Drafts(NamedTuple):
  """The chains of one row, and what decides on their nodes."""

  tokens: jax.Array  # [L + 1, K], none behind the last depth
  laws: filters.Law  # [L, K, A] that they were drawn from
  together: jax.Array  # [L + 1, K, K] bool, chains that are one path so far
  uniforms: jax.Array  # [S]


class _Law(NamedTuple):
  """A law that is compared with others: probabilities."""

  probs: jax.Array  # [A]
  tokens: jax.Array | None  # [A]; None: 0..V-1


class _Looked(NamedTuple):
  """Findings of a step at the last node."""

  more: jax.Array  # [] bool, a draw is left; else the node is judged
  enters: jax.Array  # [] bool, the draw has a node of its own
  parent: jax.Array  # [] depth of the node whose draw it is
  draw: jax.Array  # [] its chain


class _Walk(NamedTuple):
  """The path at hand; entries by depth, 0 the root."""

  going: jax.Array  # [] bool
  depth: jax.Array  # [] of its last node
  drawn: jax.Array  # [L + 1] chain whose draw was judged last, -1 = none yet
  weight: jax.Array  # [L + 1] w
  rest: jax.Array  # [L + 1, A] r
  atoms: jax.Array | None  # [L + 1, A] tokens of r; None: 0..V-1


def verify_traversal(
  context: Context,
  tree: DraftTree,
  config: SpeculativeConfig,
  sampling: filters.SamplingParams,
) -> Verification:
  """The first accepted node in post-order, then a draw from what is left.

  Args:
    context: see `Context`.
    tree: K chains.
    config: see `SpeculativeConfig`.
    sampling: see `SamplingParams`.

  Returns:
    The `Verification`: at least one token per row.
  """
  batch, size = context.logits.shape[:2]
  chex.assert_shape(tree.tokens, (batch, size - 1))
  drafts = jax.vmap(_merge)(context.keys, *by_depth(tree, config))
  law_at = jax.vmap(functools.partial(_law_at, sampling=sampling))
  look, move, finish = (
    jax.vmap(functools.partial(part, config=config))
    for part in (_look, _move, functools.partial(_finish, sampling=sampling))
  )

  def step(walk):
    looked = look(drafts, walk)
    # A law is passes over the vocabulary: none where no row goes deeper.
    law = jax.lax.cond(
      jnp.any(looked.enters & walk.going),
      lambda: law_at(context, drafts.tokens, walk.depth + 1, looked.draw),
      lambda: jax.tree.map(
        lambda leaf: leaf[:, 0], _Law(walk.rest, walk.atoms)
      ),
    )
    return move(drafts, walk, looked, law)

  root = jnp.zeros_like(context.root)
  start = _start(law_at(context, drafts.tokens, root, root), config)
  walk = jax.lax.while_loop(lambda walk: jnp.any(walk.going), step, start)
  return finish(context, drafts, walk)


def _merge(key, tokens, laws):
  chex.assert_rank(tokens, 2)
  width = tokens.shape[1]
  equal = (tokens[:, :, None] == tokens[:, None, :]) & (tokens >= 0)[:, None]
  equal = jnp.concatenate([jnp.ones((1, width, width), bool), equal])
  return _Drafts(
    jnp.pad(tokens, ((0, 1), (0, 0)), constant_values=-1),
    laws,
    jnp.cumprod(equal, axis=0).astype(bool),
    gumbel.uniform(key, 1 + tokens.size, gumbel.ACCEPT),
  )


def _law_at(row, tokens, depth, chain, *, sampling):
  """The target's law behind the node of a chain at a depth, 0 the root."""
  node = jnp.where(depth > 0, 1 + (depth - 1) * tokens.shape[1] + chain, 0)
  law = filters.target_law(
    node_at(row.logits, node),
    _seen(row.seen, tokens[:, chain], depth),
    row.num_new + depth,
    sampling,
  )
  return _Law(jax.nn.softmax(law.logits), law.tokens)


def _start(law, config):
  """At the roots of all rows, whose laws are given."""
  chex.assert_rank(law.probs, 2)
  batch, places = law.probs.shape[0], 1 + config.draft_length

  def at_each(leaf):
    return jnp.broadcast_to(leaf[:, None], (batch, places, leaf.shape[1]))

  return _Walk(
    jnp.ones(batch, bool),
    jnp.zeros(batch, jnp.int32),
    jnp.full((batch, places), -1, jnp.int32),
    jnp.ones((batch, places)),
    *jax.tree.map(at_each, law),
  )


def _look(drafts, walk, *, config):
  """The next draw of the last node, or the node itself if none is left."""
  here, chain = walk.depth, _chain(walk)
  left = drafts.together[here, chain] & (drafts.tokens[here] >= 0)
  left &= jnp.arange(config.num_drafts) > walk.drawn[here]
  more, draw = jnp.any(left), gumbel.argmax(left)
  repeated = gumbel.argmax(drafts.together[here + 1, draw]) < draw
  return _Looked(
    more,
    more & ~repeated,
    jnp.where(more, here, here - 1),
    jnp.where(more, draw, chain),
  )


def _move(drafts, walk, looked, law, *, config):
  """Enters the node that was looked at, stays, or takes its draw as failed."""
  here, (more, enters, parent, draw) = walk.depth, looked
  node = 1 + (here - 1) * config.num_drafts + _chain(walk)
  stays = (here == 0) | (node_at(drafts.uniforms, node) <= walk.weight[here])
  covered = _covered(drafts, walk, parent, draw, config)
  written = jax.tree.map(
    functools.partial(jnp.where, enters),
    _enter(drafts, walk, draw, covered, law),
    _fail(walk, parent, covered),
  )
  going = walk.going & (more | ~stays)
  last = parent + enters.astype(jnp.int32)
  drawn = _write(walk.drawn, parent, draw, going)
  return walk._replace(
    going=going,
    depth=jnp.where(going, last, here),
    # The draw of a node that is entered is the first of those behind it.
    drawn=_write(drawn, here + 1, draw - 1, going & enters),
    **{
      name: _write(getattr(walk, name), last, value, going)
      for name, value in written.items()
    },
  )


def _chain(walk):
  """Lowest chain through the last node."""
  return jnp.where(walk.depth > 0, walk.drawn[walk.depth - 1], 0)


def _covered(drafts, walk, parent, draw, config):
  """p at the atoms of the parent's r: [A]."""
  law = jax.tree.map(
    lambda leaf: node_at(
      leaf.reshape(-1, leaf.shape[-1]), parent * config.num_drafts + draw
    ),
    drafts.laws,
  )
  if not config.replacement:
    siblings = drafts.together[parent, draw]
    siblings &= jnp.arange(config.num_drafts) < draw
    gone = jnp.where(siblings, drafts.tokens[parent], -1)
    atoms = law.tokens
    if atoms is None:
      atoms = jnp.arange(law.logits.size, dtype=jnp.int32)
    gone = jnp.any(atoms[:, None] == gone[None], axis=1)
    law = law._replace(logits=jnp.where(gone, -jnp.inf, law.logits))
  if walk.atoms is None:
    return jax.nn.softmax(law.logits)
  return filters.probabilities_at(law, node_at(walk.atoms, parent))


def _enter(drafts, walk, draw, covered, law):
  """A child before anything below it was judged."""
  here = walk.depth
  token = drafts.tokens[here, draw]
  place, known = token, token >= 0
  if walk.atoms is not None:
    hit = walk.atoms[here] == token
    place, known = gumbel.argmax(hit), jnp.any(hit)
  wanted = jnp.where(known, walk.weight[here] * walk.rest[here, place], 0.0)
  return dict(
    weight=jnp.minimum(ratio(wanted, covered[place]), 1.0),
    rest=law.probs,
    atoms=law.tokens,
  )


def _seen(seen, path, depth):
  """Marks the tokens of a path down to a depth as seen: [V] or None."""
  if seen is None:
    return None
  path = jnp.where(jnp.arange(path.size) < depth, path, seen.size)
  return seen.at[path].set(True, mode='drop')


def _fail(walk, parent, covered):
  """A node after a draw from it was rejected."""
  weight, rest = walk.weight[parent], node_at(walk.rest, parent)
  left = jnp.maximum(weight * rest - covered, 0)
  mass = jnp.sum(left)
  return dict(
    weight=ratio(mass, mass + (1 - weight)),  # in this order 1 at the root
    rest=jnp.where(mass > 0, left / jnp.where(mass > 0, mass, 1), rest),
    atoms=None if walk.atoms is None else node_at(walk.atoms, parent),
  )


def _write(values, depth, value, wanted):
  """The values with the one at a depth replaced, if that is wanted."""
  if values is None:
    return None
  depth = jnp.where(wanted, depth, values.shape[0])

  def masked(values, depth, value):
    own = jax.lax.iota(jnp.int32, values.shape[0]) == depth
    own = own.reshape(-1, *[1] * value.ndim)
    return jnp.where(own, value, values)

  # A TPU makes a loop over the rows of a scatter.
  return jax.lax.platform_dependent(
    *(values, depth, value),
    tpu=masked,
    default=lambda values, depth, value: values.at[depth].set(
      value, mode='drop'
    ),
  )


def _finish(row, drafts, walk, *, config, sampling):
  chain = _chain(walk)
  depths = jnp.arange(config.draft_length, dtype=jnp.int32)
  residual = filters.Law(
    jnp.log(node_at(walk.rest, walk.depth)),
    None if walk.atoms is None else node_at(walk.atoms, walk.depth),
  )
  return write(
    row,
    node_at(drafts.tokens[:-1].T, chain),
    1 + depths * config.num_drafts + chain,
    walk.depth,
    residual,
    sampling,
  )
