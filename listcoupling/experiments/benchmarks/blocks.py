"""Blocks of the compiled loop: rates, shares of the models, memory, capacity.

Looks into `decoding.loop`, which no user needs.

Legend: B batch, K drafts, L draft length, N nodes, T capacity of a row.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel
from listcoupling.decoding import comparison, generate, loop, tree
from listcoupling.decoding.drafters import Text
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks.timing import Case, milliseconds
from listcoupling.gumbel import Domain

_DECODING = GenerateOptions(draft_length=4, max_new_tokens=128)
_ROUNDS = 5


class Opened(NamedTuple):
  """A generation at its first block."""

  call: generate.Call
  state: loop.State
  info: loop.Info
  block: Callable  # runs the first block, as often as it is called


def opened(key, target, drafters, prompts, lengths, options) -> Opened:
  """Reads the prompts and makes one block of their generation callable.

  Arguments as for `generate`.
  """
  call = generate.prepare(key, target, drafters, prompts, lengths, options)
  state, info = call.prefill()
  # The loop donates its state; here the same state is used again.
  block = jax.jit(functools.partial(loop.block, sampler=call.sampler))
  return Opened(
    call,
    state,
    info,
    lambda: block(*call.arguments, state, info),
  )


def _repeated(prompts, lengths, batch: int):
  """Prompts [B, P] and lengths [B] of a batch, from fewer of them."""
  return (
    np.resize(prompts, (batch, np.shape(prompts)[1])),
    np.resize(lengths, batch),
  )


def _drafts_several(method) -> bool:
  return method.propose is not None and not method.single_draft


def decoding_cases(
  key,
  target,
  drafter,
  prompts,
  lengths,
  *,
  batches: Sequence[int] = (1, 8, 32),
  drafts: Sequence[int] = (1, 2, 4, 8),
  options: GenerateOptions = _DECODING,
  methods: Sequence[str] = tuple(METHODS),
  rounds: int = 3,
) -> list[Case]:
  """Tokens per second and block efficiency of every method, K and batch.

  Methods of one draft stand once, at the least K.
  """
  key = gumbel.domain_key(key, Domain.TEXTS)

  texts = functools.partial(_repeated, prompts, lengths)

  @functools.cache
  def reference(batch, num_drafts):
    own = dataclasses.replace(options, num_drafts=num_drafts)
    return comparison.plain_text(key, target, *texts(batch), own)

  def measure(batch, num_drafts, method):
    row = comparison.measure_method(
      key,
      target,
      [drafter],
      *texts(batch),
      dataclasses.replace(options, method=method, num_drafts=num_drafts),
      reference=reference(batch, num_drafts),
      repeats=rounds,
    )
    return dict(batch=batch, **row)

  return [
    Case(
      f'{method}, K = {num_drafts}, batch {batch}',
      functools.partial(measure, batch, num_drafts, method),
    )
    for batch in batches
    for num_drafts in drafts
    for method in methods
    if num_drafts == min(drafts) or _drafts_several(METHODS[method])
  ]


def overhead(
  key,
  target,
  drafter,
  prompts,
  lengths,
  options: GenerateOptions,
  rounds: int = 20,
) -> dict:
  """Time of a block against its model calls alone, same shapes.

  A tree that stops drafting early makes fewer calls than are counted here.

  Returns:
    Milliseconds of both and the share of the block that is not the models.
  """
  first = opened(key, target, [drafter], prompts, lengths, options)
  sampler = first.call.sampler
  models = jax.jit(lambda params, state: _model_calls(params, state, sampler))
  times = milliseconds(
    {
      'block': first.block,
      'models': lambda: models(first.call.params, first.state),
    },
    rounds=rounds,
  )
  return dict(
    method=options.method,
    batch=len(prompts),
    num_drafts=options.num_drafts,
    num_nodes=options.tree_nodes(),
    block_ms=times['block'],
    models_ms=times['models'],
    overhead=1 - times['models'] / times['block'],
  )


def _model_calls(params, state, sampler):
  """The forwards of one block and nothing else; returns all they compute."""
  speculation = sampler.speculation
  length, width = speculation.draft_length, speculation.num_drafts
  text = Text(state.tokens, state.lengths - 1)
  batch = text.root.shape[0]
  nodes = jnp.zeros((batch, width), jnp.int32)
  parents = jnp.broadcast_to(jnp.arange(width), nodes.shape)
  drafter, own = speculation.drafters[0], params.drafters[0]
  logits, draft_state = drafter.open_block(own, state.draft.drafters[0], text)

  def extend(carry, depth):
    draft_state, total = carry
    logits, draft_state = drafter.extend(
      own, draft_state, text, depth, nodes, parents
    )
    return (draft_state, total + jnp.sum(logits)), None

  (draft_state, total), _ = jax.lax.scan(
    extend, (draft_state, jnp.sum(logits)), jnp.arange(1, length)
  )
  proposals = tree.fill(tree.empty_tree(batch), 1 + speculation.num_nodes)
  logits, cache = loop.judge(params, state.cache, text, proposals, sampler)
  return draft_state, cache, total + jnp.sum(logits)


def overhead_cases(
  key,
  target,
  drafter,
  prompts,
  lengths,
  *,
  settings: Sequence[GenerateOptions] | None = None,
  rounds: int = 20,
) -> list[Case]:
  """`overhead` of trees of 8 to 32 nodes and of three schemes of K chains.

  Args:
    key: typed key.
    target: LanguageModel.
    drafter: LanguageModel.
    prompts: [B, P].
    lengths: [B].
    settings: others than these.
    rounds: see `milliseconds`.
  """
  if settings is None:
    settings = [GenerateOptions(num_nodes=n) for n in (8, 16, 32)]
    settings += [
      GenerateOptions(method=method, num_drafts=num_drafts)
      for method in ('gumbel_chains', 'gls', 'specinfer')
      for num_drafts in (4, 8)
    ]
  return [
    Case(
      f'{each.method}, K = {each.num_drafts}, N = {each.tree_nodes()}',
      functools.partial(
        overhead, key, target, drafter, prompts, lengths, each, rounds
      ),
    )
    for each in settings
  ]


def memory(
  key, target, drafter, num_drafts: int, capacity: int, batch: int
) -> dict:
  """Compiled memory of the whole loop for rows of `capacity` tokens."""
  options = GenerateOptions(
    num_drafts=num_drafts, max_new_tokens=64, cache_length=capacity
  )
  prompts = np.ones((batch, capacity - 64), np.int32)
  lengths = np.full(batch, prompts.shape[1])
  call = generate.prepare(key, target, [drafter], prompts, lengths, options)
  state, info = jax.eval_shape(call.prefill)
  compiled = call.compiled(loop.run, state, info)
  analysis = compiled.memory_analysis()
  return dict(
    num_drafts=num_drafts,
    capacity=capacity,
    batch=batch,
    cache_entries=target.capacity(state.cache),
    cache_bytes=_bytes(state.cache),
    state_bytes=_bytes(state),
    parameter_bytes=_bytes(call.params),
    temporary_bytes=analysis.temp_size_in_bytes,
    argument_bytes=analysis.argument_size_in_bytes,
  )


def _bytes(pytree) -> int:
  return sum(
    leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pytree)
  )


def memory_cases(
  key, target, drafter, *, capacity: int = 2048, batch: int = 1, drafts=(1, 8)
) -> list[Case]:
  """`memory` at several K."""
  return [
    Case(
      f'K = {num_drafts}',
      functools.partial(
        memory, key, target, drafter, num_drafts, capacity, batch
      ),
    )
    for num_drafts in drafts
  ]


def capacity_cases(
  key,
  target,
  drafter,
  prompts,
  lengths,
  *,
  capacities: tuple[int, int] = (512, 8192),
  batches: Sequence[int] = (1, 8),
  options: GenerateOptions = _DECODING,
  rounds: int = _ROUNDS,
) -> list[Case]:
  """Rates of the same short texts in rows of little and of much capacity.

  Args:
    key: typed key.
    target: LanguageModel.
    drafter: LanguageModel.
    prompts: [B, P], repeated to each batch.
    lengths: [B].
    capacities: T, the smaller one first.
    batches: B.
    options: of the tree; plain sampling stands beside it.
    rounds: in which each is run once; medians count.
  """

  def measure(batch, method):
    rates = {capacity: [] for capacity in capacities}
    for turn in range(rounds + 1):
      for capacity, found in rates.items():
        out = generate.generate(
          key,
          target,
          [] if method == 'autoregressive' else [drafter],
          *_repeated(prompts, lengths, batch),
          dataclasses.replace(options, method=method, cache_length=capacity),
        )
        if turn:  # caches are cold at first
          found.append(out.metrics.tokens_per_second)
    short, long = (float(np.median(found)) for found in rates.values())
    return {
      'batch': batch,
      'method': method,
      f'tokens_per_second_at_{capacities[0]}': short,
      f'tokens_per_second_at_{capacities[1]}': long,
      'ratio': long / short,
    }

  return [
    Case(
      f'{method}, batch {batch}',
      functools.partial(measure, batch, method),
    )
    for batch in batches
    for method in ('autoregressive', options.method)
  ]
