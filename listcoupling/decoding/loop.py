"""The compiled loop: prompts are read, then blocks for a whole batch.

A block drafts a tree, runs the target once on its nodes against the prefix
cache, walks the tree, and commits the accepted path. Rows advance by their own
lengths inside one `lax.while_loop`; nothing returns to the host per token.

Legend: B batch, T row capacity, N nodes besides the root, L draft length, S =
1 + N, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling import gumbel
from listcoupling.decoding import calibration, draft, tree, verify
from listcoupling.decoding.drafters import Text
from listcoupling.decoding.language_model import (
  Cache,
  LanguageModel,
  read_tokens,
)
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions


class Sampler(NamedTuple):
  """Everything static about a generation; hashable."""

  target: LanguageModel  # without parameters
  method: str
  speculation: draft.SpeculativeConfig
  capacity: int  # T, tokens a row may hold
  forward_nodes: int | None = None  # of every forward of the target


def make_sampler(
  target: LanguageModel,
  drafters: Sequence,
  options: GenerateOptions,
  *,
  vocab_size: int,
  capacity: int,
) -> Sampler:
  """The static part of a generation.

  Args:
    target: the target model; its parameters are left out.
    drafters: hashable, as `drafters.as_drafter` gives them.
    options: checked.
    vocab_size: V, the largest of all models'.
    capacity: T.
  """
  method = METHODS[options.method]
  drafts = method.drafts
  speculation = draft.SpeculativeConfig(
    drafters=tuple(drafters) if drafts else (),
    vocab_size=vocab_size,
    num_drafts=options.num_drafts if drafts else 1,
    draft_length=options.draft_length if drafts else 0,
    num_nodes=options.tree_nodes() if drafts else 0,
    keep_laws=method.rejection,
    replacement=options.replacement,
  )
  if options.forward_nodes is not None and target.ordered is not None:
    target = target._replace(apply=target.ordered)
  return Sampler(
    target.static, options.method, speculation, capacity, options.forward_nodes
  )


class State(NamedTuple):
  """Carried from block to block."""

  tokens: jax.Array  # [B, T + L + 1] int32, prompt and text
  lengths: jax.Array  # [B] int32, tokens known; the last one is the root
  num_new: jax.Array  # [B] int32, of them generated
  done: jax.Array  # [B] bool
  cache: Cache  # target's, T + max(N, L, forward_nodes - 1) entries
  draft: draft.DraftState
  seen: jax.Array | None  # [B, V] bool


class Info(NamedTuple):
  """Counts for a reader, per row; blocks add up."""

  target_calls: jax.Array  # [B]
  drafted: jax.Array  # [B] proposals judged
  invalid: jax.Array  # [B] nodes without a possible token
  accepted_per_position: jax.Array  # [B, L]
  predicted_per_position: jax.Array  # [B, L] float32, NaN where untold


class Params(NamedTuple):
  """Parameters of the models, traced."""

  target: Any
  drafters: tuple


def prefill(
  params: Params, tokens, lengths, done, sampling, *, sampler: Sampler
) -> tuple[State, Info]:
  """Reads the prompts.

  Args:
    params: of the models.
    tokens: [B, T] int32, right-padded.
    lengths: [B] int32, of the prompts.
    done: [B] bool, rows that write nothing.
    sampling: see `SamplingParams`.
    sampler: static.
  """
  batch, speculation = tokens.shape[0], sampler.speculation
  length = speculation.draft_length
  chex.assert_shape(tokens, (batch, sampler.capacity))
  nodes = sampler.forward_nodes
  scratch = max(speculation.num_nodes, length, (nodes or 1) - 1)
  cache = sampler.target.init_cache(batch, sampler.capacity + scratch)
  cache = read_tokens(
    sampler.target, params.target, tokens, lengths, cache, nodes
  )
  tokens = jnp.pad(tokens, ((0, 0), (0, length + 1)))
  text = Text(tokens, lengths - 1)
  states = tuple(
    drafter.prefill(own, text, (length, len(slots)), tokens.shape[1])
    for drafter, own, slots in zip(
      speculation.drafters,
      params.drafters,
      map(speculation.slots, range(len(speculation.drafters))),
    )
  )
  calibrations = ()
  if METHODS[sampler.method].best_first:
    calibrations = tuple(calibration.start(text.root) for _ in states)
  seen = None
  if sampling.repetition_penalty is not None:
    valid = jnp.arange(tokens.shape[1])[None] < lengths[:, None]
    seen = jnp.zeros((batch, speculation.vocab_size), bool)
    seen = _mark(seen, tokens, valid)
  start = jnp.zeros(batch, jnp.int32)
  depths = jnp.zeros((batch, length), jnp.int32)
  state = draft.DraftState(states, calibrations)
  return (
    State(tokens, lengths, start, done, cache, state, seen),
    Info(start, start, start, depths, depths.astype(jnp.float32)),
  )


def _mark(seen, tokens, valid):
  """`seen` [B, V] with the valid ones of `tokens` [B, n]."""
  return jax.vmap(lambda s, t, v: s.at[t].max(v))(seen, tokens, valid)


def run(
  keys, params: Params, sampling, state: State, info: Info, *, sampler: Sampler
) -> tuple[State, Info]:
  """Blocks until every row is done; `keys` [B]."""
  return jax.lax.while_loop(
    lambda carry: ~jnp.all(carry[0].done),
    lambda carry: block(keys, params, sampling, *carry, sampler=sampler),
    (state, info),
  )


def span(
  keys,
  params: Params,
  sampling,
  state: State,
  info: Info,
  *,
  sampler: Sampler,
  blocks: int,
  enough: int,
) -> tuple[State, Info]:
  """`run` for at most so many blocks, or until `enough` more rows are done."""
  ended = jnp.sum(state.done, dtype=jnp.int32) + enough

  def step(carry):
    state, info, left = carry
    state, info = block(keys, params, sampling, state, info, sampler=sampler)
    return state, info, left - 1

  def goes_on(carry):
    done = carry[0].done
    few = jnp.sum(done, dtype=jnp.int32) < jnp.minimum(ended, done.size)
    return (carry[2] > 0) & few

  return jax.lax.while_loop(goes_on, step, (state, info, jnp.int32(blocks)))[:2]


def block(
  keys, params: Params, sampling, state: State, info: Info, *, sampler: Sampler
) -> tuple[State, Info]:
  """One block: draft, judge, commit. Rows that are done stay as they are."""
  method, speculation = METHODS[sampler.method], sampler.speculation
  text = Text(state.tokens, state.lengths - 1)
  if method.rejection:
    # A verifier that looks ahead is biased by draft noise it met before.
    keys = jax.vmap(gumbel.position_key)(keys, text.root)
  proposals, drafts = tree.empty_tree(state.done.shape[0]), state.draft
  if method.drafts:
    proposals, drafts = method.propose(
      keys,
      params.drafters,
      drafts,
      text,
      ~state.done,
      speculation,
      sampling,
    )
  logits, cache = judge(params, state.cache, text, proposals, sampler)
  context = verify.Context(keys, text.root, state.num_new, state.seen, logits)
  found = method.verify(context, proposals, speculation, sampling)
  left = sampling.max_new_tokens - state.num_new
  count = jnp.where(state.done, 0, jnp.minimum(found.count, left))
  info = _report(info, ~state.done, proposals, found, count)
  state = state._replace(
    cache=sampler.target.commit(cache, text.root, found.path), draft=drafts
  )
  return _append(state, found.tokens, count, sampling), info


def judge(params, cache, text, proposals, sampler):
  """The target's logits at every node, [B, S, V]."""
  num_nodes = 1 + proposals.tokens.shape[1]
  if sampler.forward_nodes is not None:
    proposals = tree.fill(proposals, sampler.forward_nodes)
  root = jnp.take_along_axis(text.tokens, text.root[:, None], axis=1)[:, 0]
  visible = tree.ancestors(proposals.parents, sampler.speculation.draft_length)
  mask = tree.cache_mask(visible, text.root, sampler.target.capacity(cache))
  logits, cache = sampler.target.apply(
    params.target,
    tree.node_tokens(root, proposals),
    text.root[:, None] + tree.node_depths(proposals),
    mask,
    cache,
    text.root,
  )
  logits = draft.widen(logits[:, :num_nodes], sampler.speculation.vocab_size)
  return logits.astype(jnp.float32), cache


def _append(state, new, count, sampling):
  """Writes tokens [B, L + 1] behind the text, as far as they count."""
  valid = jnp.arange(new.shape[1])[None] < count[:, None]

  places = (
    state.lengths[:, None] + jnp.arange(new.shape[1], dtype=jnp.int32)[None]
  )
  old = jnp.take_along_axis(state.tokens, places, axis=1)
  # Indices spelt out: a TPU makes a serial loop of updates by row.
  rows = jnp.arange(new.shape[0], dtype=jnp.int32)[:, None]
  tokens = state.tokens.at[rows, places].set(
    jnp.where(valid, new, old), mode='promise_in_bounds', unique_indices=True
  )
  num_new = state.num_new + count
  stopped = jnp.any(verify.is_stop(new, sampling) & valid, axis=1)
  return state._replace(
    tokens=tokens,
    lengths=state.lengths + count,
    num_new=num_new,
    done=state.done | stopped | (num_new >= sampling.max_new_tokens),
    seen=None if state.seen is None else _mark(state.seen, new, valid),
  )


def _report(info, running, proposals, found, count):
  """Adds one block of the running rows."""
  length = info.accepted_per_position.shape[1]
  accepted = jnp.minimum(found.num_accepted, count)[:, None]
  proposed = jnp.sum(proposals.tokens >= 0, axis=1)
  size = proposals.tokens.shape[1]
  predicted = jnp.full((count.shape[0], length), jnp.nan)
  if proposals.log_worths is not None:
    worths = jnp.exp(proposals.log_worths)[:, :, None]
    own = jax.nn.one_hot(proposals.depths - 1, length, dtype=bool)
    predicted = jnp.sum(jnp.where(own, worths, 0.0), axis=1)
  block = Info(
    jnp.ones_like(count),
    proposed,
    size - proposed,
    jnp.arange(length)[None] < accepted,
    predicted,
  )

  def add(old, new):
    mask = running.reshape(-1, *[1] * (new.ndim - 1))
    return old + jnp.where(mask, new.astype(old.dtype), 0)

  return jax.tree.map(add, info, block)
