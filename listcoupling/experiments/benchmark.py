"""Speed and memory: ratios against a physical limit or a peer, in one run.

Every figure is the median of several runs after compilation. Times of one
table are taken in turn, round by round, so that a machine that slows down
slows all of them.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import coupling, gumbel
from listcoupling.decoding import generate, loop, tree
from listcoupling.decoding.drafters import Text
from listcoupling.decoding.options import (
  METHODS,
  SINGLE_DRAFT,
  GenerateOptions,
)
from listcoupling.experiments import decoding


def milliseconds(
  functions: Mapping[str, Callable], *, rounds: int = 20
) -> dict[str, float]:
  """Median time of each function, interleaved, compilation apart."""
  for function in functions.values():
    jax.block_until_ready(function())
  times = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      began = time.perf_counter()
      jax.block_until_ready(function())
      times[name].append(time.perf_counter() - began)
  return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


def sampler_table(
  *, vocab_size: int = 151_936, num_drafts: int = 8, rounds: int = 20
) -> list[dict]:
  """One draw of each sampler against its random bits alone."""
  key = jax.random.key(0)
  p, q = 3 * jax.random.normal(key, (2, vocab_size))
  shape = (num_drafts, vocab_size)
  jitted = {
    'random bits': lambda key: jax.random.bits(key, shape),
    'exponential noise': lambda key: gumbel.exponential_streams(
      key, vocab_size, num_drafts
    ),
    'jax.random.gumbel, low': lambda key: jax.random.gumbel(key, shape),
    'jax.random.gumbel, high': lambda key: jax.random.gumbel(
      key, shape, mode='high'
    ),
    'GLS draw': lambda key: coupling.gumbel_list_sampling(
      key, p, q, num_drafts=num_drafts
    ),
    'K categorical draws': lambda key: jax.random.categorical(
      key, p, shape=(num_drafts,)
    ),
    'shared-race draw (one race)': lambda key: (
      coupling.shared_race_list_sampling(key, p, q, num_drafts=num_drafts)
    ),
  }
  functions = {}
  for name, function in jitted.items():
    compiled = jax.jit(function)
    functions[name] = lambda compiled=compiled: compiled(key)
  times = milliseconds(functions, rounds=rounds)
  bits = times['random bits']
  return [
    dict(
      what=name,
      vocab_size=vocab_size,
      num_drafts=num_drafts,
      milliseconds=ms,
      ratio_to_bits=ms / bits,
    )
    for name, ms in times.items()
  ]


def decoding_table(
  target,
  drafter,
  prompts,
  lengths,
  *,
  batches: Sequence[int] = (1, 8, 32),
  drafts: Sequence[int] = (1, 2, 4, 8),
  draft_length: int = 4,
  max_new_tokens: int = 128,
  methods: Sequence[str] = METHODS,
  rounds: int = 3,
) -> list[dict]:
  """Tokens per second and block efficiency of every method, K and batch."""
  rows = []
  for batch in batches:
    repeated = np.resize(prompts, (batch, prompts.shape[1]))
    for num_drafts in drafts:
      options = GenerateOptions(
        num_drafts=num_drafts,
        draft_length=draft_length,
        max_new_tokens=max_new_tokens,
      )
      some = [
        method
        for method in methods
        if num_drafts == min(drafts)
        or method not in ('autoregressive', *SINGLE_DRAFT)
      ]
      table = decoding.compare_methods(
        jax.random.key(0),
        target,
        [drafter],
        repeated,
        np.resize(lengths, batch),
        options,
        methods=some,
        repeats=rounds,
      )
      rows += [dict(batch=batch, **row) for row in table]
  return rows


def overhead(
  target, drafter, prompts, lengths, options: GenerateOptions, rounds: int = 20
) -> dict:
  """Time of a block against its model calls alone, same shapes.

  Returns:
    Milliseconds of both and the share of the block that is not the models.
  """
  prompts, lengths = generate._check_prompts(
    prompts, lengths, target.config.vocab_size
  )
  engine, params = generate._engine(
    target, [drafter], options, target.config.vocab_size, prompts
  )
  state = loop.prefill(params, prompts, lengths, engine=engine)
  keys = generate._row_keys(jax.random.key(0), prompts.shape[0])
  models = jax.jit(lambda params, state: _model_calls(params, state, engine))
  # The loop donates its state; here the same state is used again.
  block = jax.jit(
    lambda keys, params, state: loop.block(keys, params, state, engine=engine)
  )
  times = milliseconds(
    {
      'block': lambda: block(keys, params, state),
      'models': lambda: models(params, state),
    },
    rounds=rounds,
  )
  return dict(
    method=options.method,
    batch=prompts.shape[0],
    num_drafts=options.num_drafts,
    block_ms=times['block'],
    models_ms=times['models'],
    overhead=1 - times['models'] / times['block'],
  )


def _model_calls(params, state, engine):
  """The forwards of one block and nothing else; returns all they compute."""
  length, width = engine.shape
  text = Text(state.tokens, state.lengths - 1)
  nodes = jnp.zeros((text.root.shape[0], width), jnp.int32)
  parents = jnp.broadcast_to(jnp.arange(width), nodes.shape)
  drafter, own = engine.drafters[0], params.drafters[0]
  logits, draft_state = drafter.open_block(own, state.draft_states[0], text)

  def extend(carry, depth):
    draft_state, total = carry
    logits, draft_state = drafter.extend(
      own, draft_state, text, depth, nodes, parents
    )
    return (draft_state, total + jnp.sum(logits)), None

  (draft_state, total), _ = jax.lax.scan(
    extend, (draft_state, jnp.sum(logits)), jnp.arange(1, length)
  )
  chains = jnp.broadcast_to(
    jnp.arange(width), (text.root.shape[0], length, width)
  )
  proposals = tree.DraftTree(jnp.zeros_like(chains), chains, None)
  logits, cache = loop._judge(params, state.cache, text, proposals, engine)
  return draft_state, cache, total + jnp.sum(logits)


def memory_table(
  target, drafter, *, capacity: int = 2048, batch: int = 1, drafts=(1, 8)
) -> list[dict]:
  """Compiled memory of the whole loop for a row of `capacity` tokens."""
  rows = []
  for num_drafts in drafts:
    options = GenerateOptions(
      num_drafts=num_drafts, max_new_tokens=64, cache_length=capacity
    )
    prompts = np.ones((batch, capacity - 64), np.int32)
    engine, params = generate._engine(
      target, [drafter], options, target.config.vocab_size, prompts
    )
    state = jax.eval_shape(
      lambda params, engine=engine, prompts=prompts: loop.prefill(
        params,
        jnp.asarray(prompts),
        jnp.full(batch, prompts.shape[1]),
        engine=engine,
      ),
      params,
    )
    keys = jax.random.split(jax.random.key(0), batch)
    compiled = loop.run.lower(keys, params, state, engine=engine).compile()
    analysis = compiled.memory_analysis()
    rows.append(
      dict(
        num_drafts=num_drafts,
        capacity=capacity,
        batch=batch,
        cache_entries=jax.tree.leaves(state.cache)[0].shape[1],
        cache_bytes=_bytes(state.cache),
        state_bytes=_bytes(state),
        parameter_bytes=_bytes(params),
        temporary_bytes=analysis.temp_size_in_bytes,
        argument_bytes=analysis.argument_size_in_bytes,
      )
    )
  return rows


def _bytes(pytree) -> int:
  return sum(
    leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pytree)
  )


def overhead_table(target, drafter, prompts, lengths) -> list[dict]:
  """`overhead` of every drafting method at K = 4 and 8."""
  rows = []
  for num_drafts in (4, 8):
    options = GenerateOptions(num_drafts=num_drafts)
    for method in ('gumbel_tree', 'gumbel_chains', 'gls', 'specinfer'):
      changed = dataclasses.replace(options, method=method)
      rows.append(overhead(target, drafter, prompts, lengths, changed))
  return rows


def format_rows(rows: Sequence[dict]) -> str:
  """Rows of one table as aligned text."""
  names = list(rows[0])
  cells = [names] + [
    [f'{v:.3f}' if isinstance(v, float) else str(v) for v in row.values()]
    for row in rows
  ]
  widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
  return '\n'.join(
    '  '.join(cell.rjust(width) for cell, width in zip(line, widths))
    for line in cells
  )
