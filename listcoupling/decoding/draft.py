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
  keep_laws: bool
  options: GenerateOptions

  def slots(self, drafter: int) -> range:
    """Slots of one drafter."""
    return range(drafter, self.options.num_drafts, len(self.drafters))


class _Nodes(NamedTuple):
  """The nodes of one depth, in slot order."""

  tokens: jax.Array  # [B, K]
  parents: jax.Array  # [B, K]
  gaps: jax.Array | None  # [B, K] summed gaps (beam)
  laws: filters.Law | None  # [B, K, A]


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
  batch, width = text.root.shape[0], plan.options.num_drafts
  depths = jnp.arange(1, plan.options.draft_length + 1)
  keys = jax.vmap(jax.vmap(gumbel.position_key), (None, 0))(
    keys, text.root + depths[:, None]
  )  # [L, B]
  logits, states = _open(params, states, text, plan)
  # At the root all slots stand at one node, and every beam starts from it.
  gaps = jnp.zeros((batch, len(plan.drafters)))
  groups = jnp.zeros((batch, width), jnp.int32)
  first = _propose(keys[0], logits, gaps, groups, plan)

  def step(carry, place):
    nodes, groups, states = carry
    depth, keys = place
    logits, states = _extend(params, states, nodes, text, depth, plan)
    groups = _regroup(groups, nodes.tokens)
    children = _propose(keys, logits, nodes.gaps, groups, plan)
    children = _end_dead_paths(children, nodes.tokens)
    return (children._replace(laws=None), groups, states), children

  start = (first._replace(laws=None), groups, states)
  (_, _, states), rest = jax.lax.scan(step, start, (depths[:-1], keys[1:]))
  nodes = jax.tree.map(
    lambda head, tail: jnp.moveaxis(jnp.concatenate([head[None], tail]), 0, 1),
    first,
    rest,
  )
  return DraftTree(nodes.tokens, nodes.parents, nodes.laws), states


def _end_dead_paths(children, tokens):
  """Nothing follows a slot without a token, whatever a model says of it."""
  above = jnp.take_along_axis(tokens, children.parents, axis=1)
  return children._replace(tokens=jnp.where(above < 0, -1, children.tokens))


def _open(params, states, text, plan):
  """Logits after the root, per drafter [B, 1, V], and states."""
  logits, opened = [], []
  for drafter, own, state in zip(plan.drafters, params, states):
    root, state = drafter.open_block(own, state, text)
    logits.append(_widen(root, plan.vocab_size)[:, None])
    opened.append(state)
  return logits, tuple(opened)


def _extend(params, states, nodes, text, depth, plan):
  """Lets every drafter look at its new nodes: logits [B, K_d, V], states."""
  count = len(plan.drafters)
  logits, extended = [], []
  for d, drafter in enumerate(plan.drafters):
    new, state = drafter.extend(
      params[d],
      states[d],
      text,
      depth,
      nodes.tokens[:, d::count],
      nodes.parents[:, d::count] // count,
    )
    logits.append(_widen(new, plan.vocab_size))
    extended.append(state)
  return logits, tuple(extended)


def _regroup(groups, tokens):
  """Slots [B, K] that share their path, by the lowest slot among them."""
  same = (groups[:, :, None] == groups[:, None, :]) & (
    tokens[:, :, None] == tokens[:, None, :]
  )
  return gumbel.argmax(same).astype(jnp.int32)


def _widen(logits, vocab_size):
  """Fills a shorter vocabulary with -inf and leaves nothing undefined."""
  missing = vocab_size - logits.shape[-1]
  widths = [(0, 0)] * (logits.ndim - 1) + [(0, missing)]
  return jnp.pad(logits, widths, constant_values=-jnp.inf)


def _propose(keys, logits, gaps, groups, plan):
  """K children of nodes with logits [B, 1 or K_d, V] per drafter.

  See the module docstring for the three ways.
  """
  count, width = len(plan.drafters), plan.options.num_drafts
  temperatures = plan.options.slot_temperatures()
  propose, needed = _chains, ()
  if plan.proposal == 'beam':
    propose, needed = _beam, gaps
  elif plan.proposal == 'grouped':
    needed = jax.vmap(coupling.group_ranks)(groups)
  parts = []
  for d in range(count):
    own = slice(d, None, count)
    row = functools.partial(
      propose,
      plan=plan,
      slots=jnp.arange(d, width, count),
      temperatures=temperatures[own],
    )
    mine = jax.tree.map(lambda leaf, own=own: leaf[:, own], needed)
    parts.append(jax.vmap(row)(keys, logits[d], mine))
  # Interleave: slot k is slot k // D of drafter k mod D.
  order = [k // count + _offset(k % count, width, count) for k in range(width)]
  return jax.tree.map(
    lambda *leaves: jnp.concatenate(leaves, axis=1)[:, jnp.array(order)], *parts
  )


def _offset(drafter, width, count):
  """Slots of the drafters before this one."""
  return sum(len(range(d, width, count)) for d in range(drafter))


def _laws(logits, temperatures, options):
  """One law per temperature; logits [1, V] serve them all.

  Equal temperatures at one node are one law: leading axis 1.
  """
  if len(set(temperatures)) == 1:
    one = functools.partial(
      filters.warp, temperature=temperatures[0], options=options
    )
    return jax.vmap(one)(logits)
  logits = jnp.broadcast_to(logits, (len(temperatures), logits.shape[-1]))
  return jax.vmap(lambda *pair: filters.warp(*pair, options))(
    logits, jnp.array(temperatures)
  )


def _chains(key, logits, groups, *, plan, slots, temperatures):
  """One child per chain, on grouped or plain streams."""
  laws = _laws(logits, temperatures, plan.options)
  laws = jax.tree.map(
    lambda leaf: jnp.broadcast_to(leaf, (slots.size, leaf.shape[-1])), laws
  )
  if plan.proposal == 'grouped':
    ranks, sizes = groups
    atoms = laws.logits.shape[-1] if laws.tokens is None else laws.tokens
    noise = coupling.grouped_streams(
      key, atoms, slots, ranks=ranks, group_sizes=sizes
    )
  else:
    noise = jax.vmap(functools.partial(filters.noise, key))(laws, slots)
  tokens = jax.vmap(filters.sample)(noise, laws)
  if not plan.options.replacement and logits.shape[0] == 1:  # at the root
    tokens = _distinct(key, laws)
  return _Nodes(tokens, slots, None, laws if plan.keep_laws else None)


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


def _beam(key, logits, gaps, *, plan, slots, temperatures):
  """The children of the K smallest summed gaps, within one drafter."""
  width = slots.size
  # At the root there is one node to start from, and its temperature.
  temperatures = temperatures[: logits.shape[0]]
  # Greedy drafts are the noise-free limit: gaps in log-probability.
  greedy = jnp.array([t < filters.COLDEST for t in temperatures])
  warm = tuple(1.0 if t < filters.COLDEST else t for t in temperatures)
  laws = _laws(logits, warm, plan.options)

  def children(law, greedy):
    noise = jnp.where(greedy, 1.0, filters.noise(key, law))
    times = gumbel.arrival_times(noise, law.logits)
    count = min(width, times.shape[-1])
    times, index = coupling.first_arrivals(times, count)
    behind = jnp.log(times) - jnp.log(times[0])
    behind = jnp.where(times < jnp.inf, behind, jnp.inf)  # NaN, too
    return behind, filters.token_at(law, index)

  behind, tokens = jax.vmap(children)(laws, greedy)  # [K, A]
  total = (gaps[:, None] + behind).ravel()
  short = (0, max(0, width - total.size))  # fewer tokens than slots
  gaps, best = coupling.first_arrivals(
    jnp.pad(total, short, constant_values=jnp.inf), width
  )
  tokens = jnp.where(gaps < jnp.inf, jnp.pad(tokens.ravel(), short)[best], -1)
  parent = jnp.minimum(best // behind.shape[1], behind.shape[0] - 1)
  return _Nodes(tokens, slots[parent], gaps, None)
