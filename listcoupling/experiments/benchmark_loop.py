"""The compiled loop of decoding: its overhead and its memory.

It looks into the loop (`decoding.loop`) which no user needs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.decoding import generate, loop, tree
from listcoupling.decoding.drafters import Text
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmark import Case, milliseconds


def overhead(
  target, drafter, prompts, lengths, options: GenerateOptions, rounds: int = 20
) -> dict:
  """Time of a block against its model calls alone, same shapes.

  Returns:
    Milliseconds of both and the share of the block that is not the models.
  """
  call = generate.prepare(
    jax.random.key(0), target, [drafter], prompts, lengths, options
  )
  state, info = call.prefill()
  models = jax.jit(
    lambda params, state: _model_calls(params, state, call.sampler)
  )
  # The loop donates its state; here the same state is used again.
  block = jax.jit(functools.partial(loop.block, sampler=call.sampler))
  times = milliseconds(
    {
      'block': lambda: block(*call.arguments, state, info),
      'models': lambda: models(call.params, state),
    },
    rounds=rounds,
  )
  return dict(
    method=options.method,
    batch=len(prompts),
    num_drafts=options.num_drafts,
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
  proposals = tree.chains(jnp.zeros((batch, length, width), jnp.int32))
  logits, cache = loop.judge(params, state.cache, text, proposals, sampler)
  return draft_state, cache, total + jnp.sum(logits)


def overhead_cases(target, drafter, prompts, lengths) -> list[Case]:
  """`overhead` of every drafting method at K = 4 and 8."""
  return [
    Case(
      f'{method}, K = {num_drafts}',
      functools.partial(
        overhead,
        target,
        drafter,
        prompts,
        lengths,
        GenerateOptions(method=method, num_drafts=num_drafts),
      ),
    )
    for num_drafts in (4, 8)
    for method in ('gumbel_tree', 'gumbel_chains', 'gls', 'specinfer')
  ]


def memory(target, drafter, num_drafts: int, capacity: int, batch: int) -> dict:
  """Compiled memory of the whole loop for rows of `capacity` tokens."""
  options = GenerateOptions(
    num_drafts=num_drafts, max_new_tokens=64, cache_length=capacity
  )
  prompts = np.ones((batch, capacity - 64), np.int32)
  lengths = np.full(batch, prompts.shape[1])
  call = generate.prepare(
    jax.random.key(0), target, [drafter], prompts, lengths, options
  )
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
  target, drafter, *, capacity: int = 2048, batch: int = 1, drafts=(1, 8)
) -> list[Case]:
  """`memory` at several K."""
  return [
    Case(
      f'K = {num_drafts}',
      functools.partial(memory, target, drafter, num_drafts, capacity, batch),
    )
    for num_drafts in drafts
  ]
