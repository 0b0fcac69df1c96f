"""Drafting of chains: K paths of L tokens under `lax.scan`.

*   plain chains: chain k on stream k of the position (Algorithm 2 of arXiv
    2506.05632).
*   grouped chains: chains that share their drafted prefix race on grouped
    streams rebuilt from the canonical race, so each step matches like GLS.

Slot k belongs to drafter k mod D. Legend: B batch, K slots, L draft length, R
tokens read again, A atoms of a law, V vocabulary, D drafters.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling import coupling, gumbel
from listcoupling.decoding import filters, placement, tree
from listcoupling.decoding.drafters import Drafter, Text


class SpeculativeConfig(NamedTuple):
  """Static description of how blocks are drafted."""

  drafters: tuple[Drafter, ...]
  vocab_size: int
  num_drafts: int  # K
  draft_length: int  # L
  num_nodes: int  # of the tree besides the root
  keep_laws: bool  # for rejection
  replacement: bool

  def slots(self, drafter: int) -> range:
    """Slots of one drafter."""
    return range(drafter, self.num_drafts, len(self.drafters))


class DraftState(NamedTuple):
  """Carried from one block's drafting to the next."""

  drafters: tuple  # state of each
  calibrations: tuple = ()  # of each, for best-first trees


class _Nodes(NamedTuple):
  """The nodes of one depth, in slot order."""

  tokens: jax.Array  # [B, K]
  laws: filters.Law | None  # [B, K, A]


def propose_chains(
  keys,
  params,
  state: DraftState,
  text: Text,
  running,
  config: SpeculativeConfig,
  sampling: filters.SamplingParams,
  *,
  grouped: bool = False,
):
  """Drafts K chains.

  Args:
    keys: [B] keys of the block's noise.
    params: per drafter.
    state: see `DraftState`.
    text: the rows.
    running: [B] bool, rows whose draft is read; chains are drawn for all.
    config: see `SpeculativeConfig`.
    sampling: temperatures and filters.
    grouped: streams rebuilt from the canonical race.

  Returns:
    The `DraftTree` and the new state.
  """
  del running
  batch, width = text.root.shape[0], config.num_drafts
  chex.assert_shape(keys, (batch,))
  depths = jnp.arange(1, config.draft_length + 1)
  keys = position_keys(keys, text.root, config.draft_length)  # [L, B]
  propose = functools.partial(
    _propose, config=config, sampling=sampling, grouped=grouped
  )
  logits, states = open_block(params, state.drafters, text, config, sampling)
  groups = jnp.zeros((batch, width), jnp.int32)  # all slots are at the root
  first = propose(keys[0], [leaf[:, -1:] for leaf in logits], groups)

  def step(carry, place):
    (tokens, groups, states), (depth, keys) = carry, place
    logits, states = _extend(
      params, states, tokens, text, depth, config, sampling
    )
    groups = _regroup(groups, tokens)
    children = propose(keys, logits, groups)
    # Nothing follows a slot without a token, whatever a model says of it.
    ended = jnp.where(tokens < 0, -1, children.tokens)
    return (ended, groups, states), children._replace(tokens=ended)

  start = (first.tokens, groups, states)
  (_, _, states), rest = jax.lax.scan(step, start, (depths[:-1], keys[1:]))
  nodes = jax.tree.map(_by_depth, first, rest)
  return tree.chains(*nodes), state._replace(drafters=states)


def _by_depth(first, rest):
  """Leaves [B, ...] of the first depth and [L - 1, B, ...]: [B, L, ...]."""
  return jnp.moveaxis(jnp.concatenate([first[None], rest]), 0, 1)


propose_grouped_chains = functools.partial(propose_chains, grouped=True)


def position_keys(keys, root, length: int):
  """Keys of the positions root + 1 .. root + L: [B] -> [L, B]."""
  chex.assert_equal_shape([keys, root])
  places = root[None] + jnp.arange(1, length + 1)[:, None]
  return jax.vmap(jax.vmap(gumbel.position_key), (None, 0))(keys, places)


def open_block(params, states, text, config, sampling):
  """Logits of every drafter after the last tokens, [B, R, V], and states."""
  logits, opened = [], []
  for drafter, own, state in zip(config.drafters, params, states):
    last, state = drafter.open_block(own, state, text)
    last = last[:, None] if last.ndim == 2 else last
    logits.append(widen(last, config.vocab_size, sampling.top_k))
    opened.append(state)
  return logits, tuple(opened)


def _extend(params, states, tokens, text, depth, config, sampling):
  """Lets every drafter look at its new nodes: logits [B, K_d, V], states."""
  count, batch = len(config.drafters), tokens.shape[0]
  logits, extended = [], []
  for d, drafter in enumerate(config.drafters):
    size = len(config.slots(d))
    own = jnp.broadcast_to(jnp.arange(size), (batch, size))  # each its parent
    new, state = drafter.extend(
      params[d], states[d], text, depth, tokens[:, d::count], own
    )
    logits.append(widen(new, config.vocab_size, sampling.top_k))
    extended.append(state)
  return logits, tuple(extended)


def _regroup(groups, tokens):
  """Slots [B, K] that share their path, by the lowest slot among them."""
  chex.assert_equal_shape([groups, tokens])
  same = (groups[:, :, None] == groups[:, None, :]) & (
    tokens[:, :, None] == tokens[:, None, :]
  )
  return gumbel.argmax(same)


def widen(logits, vocab_size, top_k=0):
  """Logits [..., V] from those of a shorter vocabulary, -inf beyond it.

  Under a `top_k` of fewer tokens than the drafter has, they stay [..., V_d], as
  wide as its own vocabulary: the law keeps `top_k` tokens with their ids, and
  no one looks at the width.
  """
  if 0 < top_k < logits.shape[-1]:
    return logits
  missing = vocab_size - logits.shape[-1]
  if missing and placement.automatic('tp') > 1:
    # Whole, as its parameters lie: parts would exchange their edges.
    logits = placement.everywhere(logits)
  widths = [(0, 0)] * (logits.ndim - 1) + [(0, missing)]
  return jnp.pad(logits, widths, constant_values=-jnp.inf)


def _propose(keys, logits, groups, *, config, sampling, grouped):
  """One child of each chain; logits [B, 1 or K_d, V] per drafter."""
  count, width = len(config.drafters), config.num_drafts
  ranks = jax.vmap(coupling.group_ranks)(groups) if grouped else ()
  cycle = sampling.draft_temperatures
  parts = []
  for d in range(count):
    own = slice(d, None, count)
    slots = jnp.arange(d, width, count)
    row = functools.partial(
      _children,
      slots=slots,
      # Equal temperatures at one node are one law.
      temperatures=cycle if len(cycle) == 1 else cycle[slots % len(cycle)],
      config=config,
      sampling=sampling,
    )
    mine = jax.tree.map(lambda leaf, own=own: leaf[:, own], ranks)
    parts.append(jax.vmap(row)(keys, logits[d], mine))
  # Interleave: slot k is slot k // D of drafter k mod D.
  order = [k // count + _offset(k % count, width, count) for k in range(width)]
  return jax.tree.map(
    lambda *leaves: jnp.concatenate(leaves, axis=1)[:, jnp.array(order)], *parts
  )


def _offset(drafter, width, count):
  """Slots of the drafters before this one."""
  return sum(len(range(d, width, count)) for d in range(drafter))


def _children(key, logits, ranks, *, slots, temperatures, config, sampling):
  """One child per chain of one drafter, on grouped or plain streams."""
  size = max(len(temperatures), len(logits))
  logits = jnp.broadcast_to(logits, (size, logits.shape[-1]))
  temperatures = jnp.broadcast_to(temperatures, (size,))
  laws = jax.vmap(lambda *pair: filters.warp(*pair, sampling))(
    logits, temperatures
  )
  shared = size == 1
  laws = jax.tree.map(
    lambda leaf: jnp.broadcast_to(leaf, (slots.size, leaf.shape[-1])), laws
  )
  if ranks:
    noise = _grouped_noise(key, laws, slots, ranks)
    tokens = jax.vmap(filters.sample)(noise, laws)
  else:
    tokens = jax.vmap(functools.partial(filters.draw, key))(
      laws, slots[:, None]
    )
  if not config.replacement and shared:  # at the root
    tokens = _distinct(key, laws)
  return _Nodes(tokens, laws if config.keep_laws else None)


def _grouped_noise(key, laws, slots, ranks):
  """[K, A] noise of the slots."""
  atoms = laws.logits.shape[-1] if laws.tokens is None else laws.tokens
  return coupling.grouped_streams(
    key, atoms, slots, ranks=ranks[0], group_sizes=ranks[1]
  )


def _distinct(key, laws):
  """The first K arrivals on one law: K draws without replacement."""
  chex.assert_rank(laws.logits, 2)
  law = jax.tree.map(lambda leaf: leaf[0], laws)
  width, atoms = laws.logits.shape
  times, index = coupling.first_arrivals(
    gumbel.arrival_times(filters.noise(key, law), law.logits),
    min(width, atoms),
  )
  tokens = jnp.where(times < jnp.inf, filters.token_at(law, index), -1)
  return jnp.pad(tokens, (0, width - tokens.shape[0]), constant_values=-1)
