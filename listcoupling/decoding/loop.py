"""The engine: prefill, then one compiled loop over blocks for a whole batch.

A block drafts a tree, runs the target once on its 1 + K L nodes against the
prefix cache, walks the tree, and commits the accepted path. Rows advance by
their own lengths inside one `lax.while_loop`; nothing returns to the host per
token.

Legend: B batch, P padded prompt, M new tokens, T row capacity, K drafts, L
draft length, S = 1 + K L nodes, V vocabulary.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import gumbel
from listcoupling.decoding import draft, tree, verify
from listcoupling.decoding.drafters import Text
from listcoupling.decoding.language_model import Cache, LanguageModel
from listcoupling.decoding.options import GenerateOptions

# How each method proposes. Rejection schemes need draft noise independent of
# their own; sharing it is not expressible here.
PROPOSALS = {
  'gumbel_tree': 'beam',
  'gumbel_chains': 'grouped',
  'gls': 'streams',
  'gls_strong': 'streams',
  'specinfer': 'streams',
  'spectr': 'streams',
  'single': 'streams',
  'block': 'streams',
}
REJECTION = ('specinfer', 'spectr', 'single', 'block')


class Engine(NamedTuple):
  """Everything static about a generation; hashable."""

  target: LanguageModel  # without parameters
  vocab_size: int
  drafters: tuple
  options: GenerateOptions
  capacity: int  # T, tokens a row may hold

  @property
  def shape(self) -> tuple[int, int]:
    """(L, K) of the draft tree; (0, 1) without one."""
    if not self.drafters:
      return 0, 1
    return self.options.draft_length, self.options.num_drafts

  @property
  def plan(self) -> draft.Plan:
    """How blocks are drafted."""
    method = self.options.method
    return draft.Plan(
      self.drafters,
      PROPOSALS[method],
      self.vocab_size,
      method in REJECTION,
      self.options,
    )


class Counters(NamedTuple):
  """What happened, per row."""

  target_calls: jax.Array  # [B]
  drafted: jax.Array  # [B] proposals judged
  invalid: jax.Array  # [B] slots without a possible token
  accepted_per_position: jax.Array  # [B, L]


class State(NamedTuple):
  """What the next block needs."""

  tokens: jax.Array  # [B, T + L + 1] int32, prompt and text
  lengths: jax.Array  # [B] int32, tokens known; the last one is the root
  num_new: jax.Array  # [B] int32, of them generated
  done: jax.Array  # [B] bool
  cache: Cache  # target's, T + K L entries
  draft_states: tuple
  seen: jax.Array | None  # [B, V] bool
  counters: Counters


class Params(NamedTuple):
  """Parameters of the models, traced."""

  target: Any
  drafters: tuple


@functools.partial(jax.jit, static_argnames='engine')
def prefill(params: Params, prompts, lengths, *, engine: Engine) -> State:
  """Reads the prompts: [B, P] right-padded, [B] lengths."""
  batch, size = prompts.shape
  length, width = engine.shape
  row = engine.capacity + length + 1
  tokens = jnp.pad(prompts, ((0, 0), (0, row - size)))
  cache = engine.target.init_cache(batch, engine.capacity + width * length)
  start = jnp.zeros(batch, jnp.int32)
  mask = tree.cache_mask(
    tree.causal(size, batch), start, engine.target.capacity(cache)
  )
  positions = jnp.broadcast_to(jnp.arange(size), (batch, size))
  _, cache = engine.target.apply(
    params.target, prompts, positions, mask, cache, start
  )
  text = Text(prompts, lengths - 1)
  states = tuple(
    drafter.prefill(own, text, _slots(engine, d), row)
    for d, (drafter, own) in enumerate(zip(engine.drafters, params.drafters))
  )
  seen = None
  if engine.options.repetition_penalty != 1:
    valid = jnp.arange(size) < lengths[:, None]
    seen = jnp.zeros((batch, engine.vocab_size), bool)
    seen = jax.vmap(lambda s, t, v: s.at[t].max(v))(seen, prompts, valid)
  counters = Counters(start, start, start, jnp.zeros((batch, length), int))
  return State(tokens, lengths, start, start > 0, cache, states, seen, counters)


def _slots(engine, drafter):
  return engine.shape[0], len(engine.plan.slots(drafter))


@functools.partial(jax.jit, static_argnames='engine', donate_argnames='state')
def run(keys, params: Params, state: State, *, engine: Engine) -> State:
  """Blocks until every row is done; `keys` [B]; `state` is given up."""
  return jax.lax.while_loop(
    lambda state: ~jnp.all(state.done),
    lambda state: block(keys, params, state, engine=engine),
    state,
  )


@functools.partial(jax.jit, static_argnames='engine', donate_argnames='state')
def block(keys, params: Params, state: State, *, engine: Engine) -> State:
  """One block: draft, judge, commit. Rows that are done stay as they are.

  The buffers of `state` are given up to the new one.
  """
  options = engine.options
  text = Text(state.tokens, state.lengths - 1)
  if options.method in REJECTION:
    # A verifier that looks ahead is biased by draft noise it met before.
    keys = jax.vmap(gumbel.position_key)(keys, text.root)
  states = state.draft_states
  proposals = tree.empty_tree(state.done.shape[0])
  if engine.drafters:
    proposals, states = draft.draft_tree(
      keys, params.drafters, states, text, engine.plan
    )
  logits, cache = _judge(params, state.cache, text, proposals, engine)
  rows = verify.Row(keys, text.root, state.num_new, state.seen, logits)
  verdict = jax.vmap(lambda row, tree: verify.verify(row, tree, options))(
    rows, proposals
  )
  cache = engine.target.commit(cache, text.root, verdict.path)
  count = jnp.minimum(verdict.count, options.max_new_tokens - state.num_new)
  count = jnp.where(state.done, 0, count)
  state = state._replace(
    cache=cache,
    draft_states=states,
    counters=_count(state, proposals, verdict, count),
  )
  return _append(state, verdict.tokens, count, options)


def _judge(params, cache, text, proposals, engine):
  """The target's logits at every node, [B, S, V]."""
  length, width = engine.shape
  root = jnp.take_along_axis(text.tokens, text.root[:, None], axis=1)[:, 0]
  tokens = tree.node_tokens(root, proposals)
  depths = tree.node_depths(width, length)
  visible = tree.ancestors(proposals.parents)
  entries = engine.target.capacity(cache)
  mask = tree.cache_mask(visible, text.root, entries)
  logits, cache = engine.target.apply(
    params.target, tokens, text.root[:, None] + depths, mask, cache, text.root
  )
  missing = engine.vocab_size - logits.shape[-1]
  logits = jnp.pad(
    logits, ((0, 0), (0, 0), (0, missing)), constant_values=-jnp.inf
  )
  return logits.astype(jnp.float32), cache


def _append(state, new, count, options):
  """Writes the verdict's tokens behind the text."""
  valid = jnp.arange(new.shape[1]) < count[:, None]  # [B, L + 1]

  def row(tokens, new, valid, length):
    old = jax.lax.dynamic_slice_in_dim(tokens, length, new.shape[0])
    return jax.lax.dynamic_update_slice_in_dim(
      tokens, jnp.where(valid, new, old), length, axis=0
    )

  num_new = state.num_new + count
  stopped = jnp.any(verify.is_stop(new, options) & valid, axis=1)
  seen = state.seen
  if seen is not None:
    seen = jax.vmap(lambda s, t, v: s.at[t].max(v))(seen, new, valid)
  return state._replace(
    tokens=jax.vmap(row)(state.tokens, new, valid, state.lengths),
    lengths=state.lengths + count,
    num_new=num_new,
    done=state.done | stopped | (num_new >= options.max_new_tokens),
    seen=seen,
  )


def _count(state, proposals, verdict, count):
  """Adds one block to the counters of the rows that are not done."""
  running = ~state.done
  accepted = jnp.minimum(verdict.num_accepted, count)[:, None]
  depths = jnp.arange(proposals.tokens.shape[1])
  proposed = jnp.sum(proposals.tokens >= 0, axis=(1, 2))
  slots = proposals.tokens[0].size
  old = state.counters
  return Counters(
    old.target_calls + running,
    old.drafted + jnp.where(running, proposed, 0),
    old.invalid + jnp.where(running, slots - proposed, 0),
    old.accepted_per_position + (running[:, None] & (depths < accepted)),
  )
