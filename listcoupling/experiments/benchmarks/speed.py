"""Speed and memory, as ratios within one run.

Every time is the median of several runs after compilation. Times that are
compared by `milliseconds` are taken in turn, round by round, so that a machine
that slows down slows all of them. The tables of the compiled loop look into
`decoding.loop`, which no user needs.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from listcoupling import coupling, gumbel
from listcoupling.decoding import comparison, generate, loop, text, tree
from listcoupling.decoding.drafters import Text
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import baselines
from listcoupling.experiments.run import environment, open_run
from listcoupling.gumbel import Domain
from listcoupling.models import pretrained, transformer

TABLES = ('sampler', 'decoding', 'overhead', 'memory')
SIZES = ('shipped', '25M')
_PROMPTS = (
  'def main(args):\n    ',
  'The with statement is used to',
  'class Parser(object):\n',
  'import os\nimport sys\n',
)
_DECODING = GenerateOptions(draft_length=4, max_new_tokens=128)


class Case(NamedTuple):
  """One row of a table, yet to be measured."""

  name: str
  measure: Callable[[], dict]


def run(
  table: str, workdir, *, size: str = 'shipped', seed: int = 0
) -> list[dict]:
  """Measures a table row by row; a run that was stopped goes on.

  Args:
    table: of `TABLES`: a GLS draw against its random bits, every method at
      K = 1..8 and batch 1..32, a block against its model calls, or compiled
      memory at 2048 tokens.
    workdir: folder that gets one of the table's name.
    size: of `SIZES`: the shipped pair, or its drafter beside a random target.
    seed: of every draw.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: unknown names, or a folder of another machine or version.
  """
  if table not in TABLES or size not in SIZES:
    raise ValueError(
      f'table must be one of {", ".join(TABLES)} and size one of '
      f'{", ".join(SIZES)}, got {table!r} and {size!r}.'
    )
  key = gumbel.seed_key(seed)
  settings = {'table': table, 'size': size, 'seed': seed}
  settings['environment'] = environment()
  with open_run(pathlib.Path(workdir) / table, settings) as record:
    return record.rows(
      _cases(key, table, size), lambda measure: measure(), key='case'
    )


def _cases(key, table, size) -> Sequence[Case]:
  if table == 'sampler':
    return sampler_cases(key)
  target, drafter = load_pair(key, size)
  if table == 'memory':
    return memory_cases(key, target, drafter)
  prompts, lengths = text.encode_prompts(target.tokenizer, _PROMPTS)
  if table == 'overhead':
    return overhead_cases(key, target, drafter, prompts[:1], lengths[:1])
  return decoding_cases(key, target, drafter, prompts, lengths)


def milliseconds(
  functions: Mapping[str, Callable], *, rounds: int = 20, show: bool = False
) -> dict[str, float]:
  """Median time of each function, interleaved, compilation apart.

  Args:
    functions: by name, without arguments.
    rounds: in which each is called once.
    show: progress.
  """
  times = {name: [] for name in functions}
  for turn in tqdm.trange(rounds + 1, desc='round', disable=not show):
    for name, function in functions.items():
      began = time.perf_counter()
      jax.block_until_ready(function())
      if turn:  # the first one compiles
        times[name].append(time.perf_counter() - began)
  return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


def _samplers(key, vocab_size: int, num_drafts: int) -> dict[str, Callable]:
  """Functions of a key by name, the random bits first."""
  key = gumbel.domain_key(key, Domain.LAWS)
  p, q = 3 * jax.random.normal(key, (2, vocab_size), jnp.float32)
  shape = (num_drafts, vocab_size)
  return {
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


def sampler_cases(
  key, *, vocab_size: int = 151_936, num_drafts: int = 8, rounds: int = 20
) -> list[Case]:
  """One draw of each sampler against its random bits alone."""
  draw_key = gumbel.domain_key(key, Domain.TRIALS)
  functions = {
    name: functools.partial(jax.jit(function), draw_key)
    for name, function in _samplers(key, vocab_size, num_drafts).items()
  }

  @functools.cache  # all are measured in turn
  def times():
    return milliseconds(functions, rounds=rounds, show=True)

  def measure(name):
    return dict(
      vocab_size=vocab_size,
      num_drafts=num_drafts,
      milliseconds=times()[name],
      ratio_to_bits=times()[name] / times()['random bits'],
    )

  return [Case(name, functools.partial(measure, name)) for name in functions]


def load_pair(key, size: str):
  """(target, drafter) of `SIZES`; a random target has the shipped tokenizer."""
  target, drafter = pretrained.shipped_pair()
  if size == 'shipped':
    return target, drafter
  config = baselines.SIZES[size].config
  params = transformer.init_params(
    gumbel.domain_key(key, Domain.MODEL_INIT), config
  )
  model = transformer.make_language_model(config, params, target.tokenizer)
  return model, drafter


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

  def texts(batch):
    tokens = np.resize(prompts, (batch, prompts.shape[1]))
    return tokens, np.resize(lengths, batch)

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

  once = [
    name
    for name, method in METHODS.items()
    if method.propose is None or method.single_draft
  ]
  return [
    Case(
      f'{method}, K = {num_drafts}, batch {batch}',
      functools.partial(measure, batch, num_drafts, method),
    )
    for batch in batches
    for num_drafts in drafts
    for method in methods
    if num_drafts == min(drafts) or method not in once
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

  Returns:
    Milliseconds of both and the share of the block that is not the models.
  """
  call = generate.prepare(key, target, [drafter], prompts, lengths, options)
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


def overhead_cases(key, target, drafter, prompts, lengths) -> list[Case]:
  """`overhead` of every drafting method at K = 4 and 8."""
  return [
    Case(
      f'{method}, K = {num_drafts}',
      functools.partial(
        overhead,
        key,
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
