"""The best-first draft tree: the nodes that the text most likely passes.

A node's worth is the probability of its path, the product over its tokens of
softmax((a log p + G) / tau), a mean over the (a, tau) that `calibration` has
learned. A beam of K nodes grows over up to L depths; every beam node
offers its best children as candidates, and the candidates of the largest worth
are verified, wherever they lie. Canonical noise makes this exact: the text
cannot depend on the tree. (Not in the papers.)

Slot k of the beam belongs to drafter k mod D. Legend: B batch, W slots of one
drafter, L depths, N nodes, C children offered per slot, P = L W C candidates,
R tokens read again, V vocabulary.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling import gumbel
from listcoupling.decoding import calibration, draft, filters, tree
from listcoupling.decoding.drafters import Text


class _Candidates(NamedTuple):
  """Nodes that may be verified; in the pool all of one drafter."""

  tokens: jax.Array  # [B, P] int32
  parents: jax.Array  # [B, P] int32, candidates; -1 is the root
  log_worths: jax.Array  # [B, P], -inf where there is none


class _Beam(NamedTuple):
  """The nodes of one depth that are extended."""

  tokens: jax.Array  # [B, W], -1 = none
  slots: jax.Array  # [B, W] slot of the parent one depth up
  candidates: jax.Array  # [B, W] place in the pool
  log_worths: jax.Array  # [B, W]


class _Growth(NamedTuple):
  """A tree that grows depth by depth."""

  depth: jax.Array  # [] depths done
  pool: _Candidates
  beam: _Beam
  best: jax.Array  # [B, N] largest worths so far, in falling order
  state: Any  # of the drafter


def propose_tree(
  keys,
  params,
  state: draft.DraftState,
  text: Text,
  running,
  config: draft.SpeculativeConfig,
  sampling,
):
  """Drafts the `num_nodes` nodes of the largest worth.

  Arguments and results as `draft.propose_chains`. Drafting ends at the depth
  where no running row can gain a node, or where what all can gain costs more
  than it brings, see `_goes_on`.
  """
  chex.assert_equal_shape([keys, text.root, running])
  logits, states = draft.open_block(
    params, state.drafters, text, config, sampling
  )
  opened = state._replace(drafters=states)
  grown, extended, calibrations = zip(
    *(
      _propose_one(
        d, keys, params, opened, text, running, config, sampling, own
      )
      for d, own in enumerate(logits)
    )
  )
  nodes = grown[0] if len(grown) == 1 else _merge(grown, config)
  return nodes, draft.DraftState(extended, calibrations)


def _propose_one(
  d, keys, params, state, text, running, config, sampling, logits
):
  """The tree of one drafter, its state and what was learned of it."""
  cycle = sampling.draft_temperatures
  temperature = cycle[d % len(cycle)]
  learned = calibration.update(
    state.calibrations[d],
    keys,
    text.tokens,
    text.root,
    logits,
    temperature,
    sampling,
  )
  offer = functools.partial(
    _offer,
    fit=calibration.fit(learned),
    temperature=temperature,
    sampling=sampling,
    config=config,
  )
  goes_on = functools.partial(
    _goes_on,
    running=running,
    length=config.draft_length,
    cost=sampling.draft_cost,
  )
  nodes, after = _grow(
    d, keys, params, state.drafters, text, config, logits[:, -1], offer, goes_on
  )
  return nodes, after, learned


def _grow(d, keys, params, states, text, config, logits, offer, goes_on):
  """The tree of one drafter, and its state."""
  drafter, width = config.drafters[d], len(config.slots(d))
  length, count = config.draft_length, config.num_nodes
  batch = text.root.shape[0]
  keys = draft.position_keys(keys, text.root, length)  # [L, B]
  tokens, worths = offer(keys[0], logits[:, None], jnp.zeros((batch, 1)))
  size = width * tokens.shape[-1]  # candidates per depth
  pool = _Candidates(
    jnp.full((batch, length * size), -1, jnp.int32),
    jnp.full((batch, length * size), -1, jnp.int32),
    jnp.full((batch, length * size), -jnp.inf),
  )
  root = jnp.full((batch, 1), -1, jnp.int32)
  growth = _Growth(
    jnp.int32(0),
    pool,
    _Beam(root, root, root, jnp.zeros((batch, 1))),
    jnp.full((batch, count), -jnp.inf),
    states[d],
  )
  growth = _add(growth, tokens, worths, width, size)

  def extend(growth):
    beam = growth.beam
    logits, state = drafter.extend(
      params[d], growth.state, text, growth.depth, beam.tokens, beam.slots
    )
    tokens, worths = offer(keys[growth.depth], logits, beam.log_worths)
    return _add(growth._replace(state=state), tokens, worths, width, size)

  growth = jax.lax.while_loop(goes_on, extend, growth)
  return _select(growth.pool, count, size), growth.state


def _goes_on(growth, *, running, length, cost):
  """Whether another depth can gain a node, and pays.

  A text of E expected tokens so far took 1 + c d forwards of the target; what
  it gains at the next depth is at most the worth of the beam, g. The rate
  grows if (E + g) / (1 + c (d + 1)) > E / (1 + c d), over the rows together.
  """
  better = growth.beam.log_worths[:, 0] > growth.best[:, -1]
  worths = jnp.sum(jnp.exp(growth.best), axis=1)
  gains = jnp.sum(jnp.exp(growth.beam.log_worths), axis=1)
  tokens = jnp.sum(jnp.where(running, 1 + worths, 0.0))
  gained = jnp.sum(jnp.where(running, gains, 0.0))
  forwards = 1 + cost * growth.depth.astype(jnp.float32)
  pays = gained * forwards >= cost * tokens
  return (growth.depth < length) & jnp.any(better & running) & pays


def _offer(keys, logits, above, *, fit, temperature, sampling, config):
  """The best children of nodes: logits [B, W, V], worths above [B, W].

  Returns:
    tokens [B, W, C] and log-worths, C = min(N, atoms of a law).
  """
  chex.assert_rank([logits, above], [3, 2])
  chex.assert_equal_shape_prefix([logits, above], 2)
  logits = draft.widen(logits, config.vocab_size, sampling.top_k)

  def node(key, fit, logits, above):
    law, noise = calibration.perturbed(key, logits, temperature, sampling)
    chances = calibration.chances(fit, law, noise)
    chances = jnp.where(chances > 0, chances, 0.0)  # NaN, too
    count = min(config.num_nodes, chances.shape[-1])
    chances, index = filters.top_k(chances, count)
    return filters.token_at(law, index), above + jnp.log(chances)

  nodes = jax.vmap(node, in_axes=(None, None, 0, 0))
  return jax.vmap(nodes)(keys, fit, logits, above)


def _add(growth, tokens, worths, width, size):
  """Takes the children of the beam [B, W', C] into the pool and the beam."""
  chex.assert_equal_shape([tokens, worths])
  batch, _, children = tokens.shape
  beam, pool, first = growth.beam, growth.pool, growth.depth * size
  parents = jnp.broadcast_to(beam.candidates[:, :, None], tokens.shape)
  new = _Candidates(
    *(leaf.reshape(batch, -1) for leaf in (tokens, parents, worths))
  )
  pool = jax.tree.map(
    lambda old, new: jax.lax.dynamic_update_slice(old, new, (0, first)),
    pool,
    new,
  )
  kept, index = jax.lax.top_k(
    new.log_worths, min(width, new.log_worths.shape[-1])
  )
  index = index.astype(jnp.int32)
  known = jnp.take_along_axis(new.tokens, index, axis=1)
  short = ((0, 0), (0, width - index.shape[1]))
  beam = _Beam(
    jnp.pad(jnp.where(kept > -jnp.inf, known, -1), short, constant_values=-1),
    jnp.pad(index // children, short),
    jnp.pad(first + index, short),
    jnp.pad(kept, short, constant_values=-jnp.inf),
  )
  best = jnp.concatenate([growth.best, new.log_worths], axis=1)
  best, _ = jax.lax.top_k(best, growth.best.shape[1])
  return growth._replace(
    depth=growth.depth + 1, pool=pool, beam=beam, best=best
  )


def _select(pool, count, size):
  """The `count` best candidates as a tree, parents first.

  A child is worth no more than its parent and stands behind it in the pool,
  so that the best are closed under parents, ties included.
  """
  chex.assert_equal_shape(pool)
  short = ((0, 0), (0, max(0, count - pool.tokens.shape[1])))
  worths, chosen = jax.lax.top_k(
    jnp.pad(pool.log_worths, short, constant_values=-jnp.inf), count
  )
  chosen = jnp.where(worths > -jnp.inf, chosen, pool.tokens.shape[1])
  chosen = jnp.sort(chosen, axis=1).astype(jnp.int32)

  def take(leaf, fill):
    return jnp.take_along_axis(
      leaf, chosen, axis=1, mode='fill', fill_value=fill
    )

  parents = take(pool.parents, -1)
  place = gumbel.argmax(parents[:, :, None] == chosen[:, None, :])
  return tree.DraftTree(
    take(pool.tokens, -1),
    jnp.where(parents < 0, 0, 1 + place).astype(jnp.int32),
    1 + jnp.minimum(chosen, pool.tokens.shape[1] - 1) // size,
    log_worths=take(pool.log_worths, -jnp.inf),
  )


def _equal_paths(tokens, parents, length):
  """Pairs of nodes whose paths hold the same tokens: [B, N, N] bool."""
  chex.assert_equal_shape([tokens, parents])
  paths = tree.lineage(parents, length)[:, 1:]  # [B, N, L + 1]
  tokens = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=-2)
  words = jnp.take_along_axis(tokens, paths.reshape(len(paths), -1), axis=1)
  words = words.reshape(paths.shape)
  return jnp.all(words[:, :, None] == words[:, None, :], axis=-1)


def _merge(trees, config):
  """One tree of the best nodes of several drafters.

  A path that several propose is one node with the largest of its worths, which
  is no more than its parent's largest.
  """
  count, length = config.num_nodes, config.draft_length
  joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *trees)
  parents = jnp.concatenate(
    [
      jnp.where(each.parents > 0, each.parents + d * count, 0)
      for d, each in enumerate(trees)
    ],
    axis=1,
  )
  same = _equal_paths(joined.tokens, parents, length)
  worths = jnp.where(same, joined.log_worths[:, None, :], -jnp.inf)
  largest = jnp.max(worths, axis=-1)
  owner = gumbel.argmax(same)  # the first of equal paths
  own = owner == jnp.arange(owner.shape[1])[None]
  # Depth by depth, so that of equal worths the parent stands first.
  order = jnp.argsort(joined.depths, axis=1, stable=True)
  rank = jnp.argsort(order, axis=1)
  kept = jnp.take_along_axis(owner, jnp.maximum(parents - 1, 0), axis=1)
  above = jnp.take_along_axis(rank, kept, axis=1)
  above = jnp.where(parents > 0, above, -1)
  pool = jax.tree.map(
    lambda leaf: jnp.take_along_axis(leaf, order, axis=1),
    _Candidates(
      joined.tokens,
      above.astype(jnp.int32),
      jnp.where(own, largest, -jnp.inf),
    ),
  )
  depths = jnp.take_along_axis(joined.depths, order, axis=1)
  chosen = _select(pool, count, 1)
  return chosen._replace(
    depths=jnp.take_along_axis(depths, chosen.depths - 1, axis=1)
  )
