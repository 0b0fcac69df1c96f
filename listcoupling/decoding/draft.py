"""Drafting: fills a tree of L depths under `lax.scan`.

Three ways to propose the K nodes of a depth:

*   beam: the Gumbel beam tree. Canonical noise perturbs the draft scores; a
    child's gap behind its best sibling is the log ratio of their arrival
    times, and the K paths of the smallest summed gaps are kept.
*   grouped: K chains; chains that share their drafted prefix race on grouped
    streams rebuilt from the canonical race, so each step matches like GLS.
*   streams: K chains, chain k on stream k of the position (Algorithm 2).

Slot k belongs to drafter k mod D. Legend: B batch, K slots, L draft length,
A atoms of a law, V vocabulary, D drafters.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import coupling, gumbel
from listcoupling.decoding import filters
from listcoupling.decoding.drafters import Drafter, Text
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.tree import DraftTree


class Plan(NamedTuple):
  """Static description of how blocks are drafted."""

  drafters: tuple[Drafter, ...]
  proposal: str  # 'beam', 'grouped' or 'streams'
  vocab_size: int
  keep_probs: bool
  options: GenerateOptions

  def slots(self, drafter: int) -> range:
    """Slots of one drafter."""
    return range(drafter, self.options.num_drafts, len(self.drafters))


class _Frontier(NamedTuple):
  """The nodes whose children are proposed next, in slot order."""

  logits: tuple[jax.Array, ...]  # per drafter [B, K_d, V]
  gaps: jax.Array  # [B, K] summed gaps (beam)
  groups: jax.Array  # [B, K] equal where the drafted prefix is (chains)
  states: tuple


def draft_tree(keys, params, states, text: Text, plan: Plan):
  """Drafts one block.

  Args:
    keys: [B] keys of the block's noise.
    params: per drafter.
    states: per drafter.
    text: the rows.
    plan: see `Plan`.

  Returns:
    The `DraftTree` and the drafters' states.
  """
  length = plan.options.draft_length
  frontier = _open(params, states, text, plan)

  depths = jnp.arange(1, length + 1)
  keys = jax.vmap(jax.vmap(gumbel.position_key), (None, 0))(
    keys, text.root + depths[:, None]
  )  # [L, B]

  def step(frontier, place):
    depth, keys = place
    nodes = _propose(keys, frontier, depth, plan)
    return _extend(params, frontier, nodes, text, depth, plan), nodes

  frontier, inner = jax.lax.scan(step, frontier, (depths[:-1], keys[:-1]))
  last = _propose(keys[-1], frontier, depths[-1], plan)
  nodes = jax.tree.map(
    lambda head, tail: jnp.moveaxis(jnp.concatenate([head, tail[None]]), 0, 1),
    inner,
    last,
  )
  return DraftTree(nodes.tokens, nodes.parents, nodes.probs), frontier.states


class _Nodes(NamedTuple):
  tokens: jax.Array  # [B, K]
  parents: jax.Array  # [B, K]
  probs: jax.Array | None  # [B, K, V]
  gaps: jax.Array  # [B, K]


def _open(params, states, text, plan):
  """The frontier at the root: every slot stands at the same node."""
  batch, width = text.root.shape[0], plan.options.num_drafts
  logits, opened = [], []
  for d, drafter in enumerate(plan.drafters):
    slots = len(plan.slots(d))
    root, state = drafter.open_block(params[d], states[d], text)
    root = _widen(root, plan.vocab_size)
    logits.append(jnp.repeat(root[:, None], slots, axis=1))
    opened.append(state)
  # One beam per drafter starts from its first slot.
  first = jnp.arange(width) < len(plan.drafters)
  gaps = jnp.where(first, 0.0, jnp.inf)
  return _Frontier(
    tuple(logits),
    jnp.broadcast_to(gaps, (batch, width)),
    jnp.zeros((batch, width), jnp.int32),
    tuple(opened),
  )


def _extend(params, frontier, nodes, text, depth, plan):
  """Lets every drafter look at its new nodes."""
  count = len(plan.drafters)
  logits, states = [], []
  for d, drafter in enumerate(plan.drafters):
    new, state = drafter.extend(
      params[d],
      frontier.states[d],
      text,
      depth,
      nodes.tokens[:, d::count],
      nodes.parents[:, d::count] // count,
    )
    logits.append(_widen(new, plan.vocab_size))
    states.append(state)
  same = (frontier.groups[:, :, None] == frontier.groups[:, None, :]) & (
    nodes.tokens[:, :, None] == nodes.tokens[:, None, :]
  )
  groups = gumbel.argmax(same).astype(jnp.int32)  # lowest slot of the group
  return _Frontier(tuple(logits), nodes.gaps, groups, tuple(states))


def _widen(logits, vocab_size):
  """Fills a shorter vocabulary with -inf and leaves nothing undefined."""
  missing = vocab_size - logits.shape[-1]
  widths = [(0, 0)] * (logits.ndim - 1) + [(0, missing)]
  return jnp.pad(logits, widths, constant_values=-jnp.inf)


def _propose(keys, frontier, depth, plan):
  """Proposes K children; see the module docstring for the three ways."""
  count, width = len(plan.drafters), plan.options.num_drafts
  ranks, sizes = jax.vmap(coupling.group_ranks)(frontier.groups)
  temperatures = jnp.array(plan.options.slot_temperatures())
  parts = []
  for d in range(count):
    own = slice(d, None, count)
    row = functools.partial(
      _beam if plan.proposal == 'beam' else _chains,
      plan=plan,
      slots=jnp.arange(d, width, count),
      temperatures=temperatures[own],
    )
    parts.append(
      jax.vmap(row, in_axes=(0, None, 0, 0, 0, 0))(
        keys,
        depth,
        frontier.logits[d],
        frontier.gaps[:, own],
        ranks[:, own],
        sizes[:, own],
      )
    )
  # Interleave: slot k is slot k // D of drafter k mod D.
  order = [k // count + _offset(k % count, width, count) for k in range(width)]
  return jax.tree.map(
    lambda *leaves: jnp.concatenate(leaves, axis=1)[:, jnp.array(order)], *parts
  )


def _offset(drafter, width, count):
  """Slots of the drafters before this one."""
  return sum(len(range(d, width, count)) for d in range(drafter))


def _laws(logits, temperatures, options):
  return jax.vmap(
    lambda logits, temperature: filters.warp(logits, temperature, options)
  )(logits, temperatures)


def _distinct(key, laws):
  """The first K arrivals on one law: K draws without replacement."""
  law = jax.tree.map(lambda leaf: leaf[0], laws)
  width, atoms = laws.logits.shape
  times, index = coupling.first_arrivals(
    gumbel.arrival_times(filters.noise(key, law), law.logits),
    min(width, atoms),
  )
  tokens = jnp.where(times < jnp.inf, filters.token_at(law, index), -1)
  return jnp.pad(tokens, (0, width - tokens.shape[0]), constant_values=-1)


def _chains(
  key, depth, logits, gaps, ranks, sizes, *, plan, slots, temperatures
):
  """One child per chain, on grouped or plain streams."""
  laws = _laws(logits, temperatures, plan.options)

  def one(law, slot, rank, size):
    if plan.proposal == 'grouped':
      noise = coupling.grouped_stream(
        key, filters.atoms(law), slot, rank=rank, group_size=size
      )
    else:
      noise = filters.noise(key, law, slot)
    return filters.sample(noise, law)

  tokens = jax.vmap(one)(laws, slots, ranks, sizes)
  if not plan.options.replacement:
    tokens = jnp.where(depth == 1, _distinct(key, laws), tokens)
  probs = None
  if plan.keep_probs:
    probs = jax.vmap(lambda law: filters.probabilities(law, plan.vocab_size))(
      laws
    )
  return _Nodes(tokens, slots, probs, gaps)


def _beam(key, depth, logits, gaps, ranks, sizes, *, plan, slots, temperatures):
  """The children of the K smallest summed gaps, within one drafter."""
  del depth, ranks, sizes
  width = logits.shape[0]
  # Greedy drafts are the noise-free limit: gaps in log-probability.
  greedy = temperatures == 0
  laws = _laws(logits, jnp.where(greedy, 1.0, temperatures), plan.options)

  def children(law, greedy):
    noise = jnp.where(greedy, 1.0, filters.noise(key, law))
    times = gumbel.arrival_times(noise, law.logits)
    count = min(width, times.shape[-1])
    times, index = coupling.first_arrivals(times, count)
    behind = jnp.log(times) - jnp.log(times[0])
    behind = jnp.where(times < jnp.inf, behind, jnp.inf)  # NaN, too
    return behind, filters.token_at(law, index)

  behind, tokens = jax.vmap(children)(laws, greedy)  # [K, K]
  total = (gaps[:, None] + behind).ravel()
  gaps, best = coupling.first_arrivals(total, width)
  tokens = jnp.where(gaps < jnp.inf, tokens.ravel()[best], -1)
  return _Nodes(tokens, slots[best // behind.shape[1]], None, gaps)
