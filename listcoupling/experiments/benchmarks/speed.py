"""Tables of speed: a pair of models, and a large vocabulary.

What is compared is called in turn, so that a machine that slows down slows all
of it; the first calls, which compile, do not count. Tables of a pair tell
rates, shares of the models and queues, those of a vocabulary races and filters.
Looks into `decoding.loop`, which no user needs.

Legend: B batch, P prompt, K drafts or beam width, L draft length, N nodes, T
capacity of a row, R requests, V vocabulary.
"""

import dataclasses
import functools
import itertools
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from listcoupling import coupling, gumbel, race_kernel, standard_errors
from listcoupling.decoding import (
  comparison,
  generate,
  loop,
  programs,
  tree,
  tuning,
)
from listcoupling.decoding.drafters import Text
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.serving import generate_many
from listcoupling.decoding.text import encode_prompts
from listcoupling.experiments.run import Run, environment, open_run
from listcoupling.gumbel import Domain
from listcoupling.models import pretrained
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig

K, T = TypeVar('K'), TypeVar('T')


def in_turn(
  functions: Mapping[K, Callable[[], T]], rounds: int, *, show: bool = False
) -> dict[K, list[T]]:
  """Results of each function in every round but a first one.

  Args:
    functions: by name, without arguments.
    rounds: in which each is called once.
    show: progress.
  """
  found = {name: [] for name in functions}
  progress = tqdm.trange(rounds + 1, desc='round', disable=not show)
  for turn in progress:
    for name, function in functions.items():
      progress.set_postfix_str(str(name))
      result = function()
      if turn:
        found[name].append(result)
  return found


def timed(function: Callable[[], T], calls: int = 1) -> tuple[T, float]:
  """The result of a function and its seconds, over calls in a row."""
  began = time.perf_counter()
  for _ in range(calls):
    result = function()
  jax.block_until_ready(result)
  return result, (time.perf_counter() - began) / calls


def milliseconds(
  functions: Mapping[K, Callable], *, rounds: int, calls: int = 1
) -> dict[K, float]:
  """Median time of a call of each function, `in_turn`, `calls` in a row."""
  clocks = {
    name: functools.partial(lambda own: timed(own, calls)[1], function)
    for name, function in functions.items()
  }
  times = in_turn(clocks, rounds)
  return {name: 1e3 * float(np.median(own)) for name, own in times.items()}


class Table(NamedTuple):
  """Settings of the rows, and the function that measures one."""

  settings: Sequence[Mapping[str, Any]]  # first columns of the rows
  measure: Callable[..., dict]  # of a setting by name, the other columns

  def row(self, setting: Mapping[str, Any]) -> dict:
    """One row of the table."""
    return {**setting, **self.measure(**setting)}

  def fill(self, record: Run, *, until: float = math.inf) -> list[dict]:
    """All rows, those measured that an open run does not hold.

    Args:
      record: of the table's own folder.
      until: no row is begun when `time.perf_counter` says more.

    Raises:
      TimeoutError: it is past `until`, and rows are missing.
    """

    def row(setting):
      if time.perf_counter() > until:
        raise TimeoutError(f'no time is left for {_in_words(setting)}')
      return self.row(setting)

    jobs = {_in_words(setting): setting for setting in self.settings}
    return record.rows(jobs, row, key='case', timed=True)


def grid(**columns: Sequence) -> list[dict]:
  """Settings with every value of every column.

  Example:
    >>> grid(a=(1, 2), b='x')
    [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'x'}]
  """
  rows = itertools.product(*columns.values())
  return [dict(zip(columns, row)) for row in rows]


def run(
  table: Callable[[], Table], workdir, settings: Mapping[str, Any]
) -> list[dict]:
  """Measures a table row by row; a run that was stopped goes on.

  Args:
    table: makes it, once the folder is known to be its own.
    workdir: folder of results.csv and results.json.
    settings: that the table depends on.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: the folder is another table's, machine's or version's.
  """
  settings = {**settings, 'environment': environment()}
  with open_run(pathlib.Path(workdir), settings) as record:
    return table().fill(record)


def _in_words(setting) -> str:
  return ', '.join(
    value if isinstance(value, str) else f'{name} {value}'
    for name, value in setting.items()
  )


_config = functools.partial(TransformerConfig, tie_embeddings=False)
SIZES = {  # arguments of `random_pair`
  '1M': dict(
    config=_config(1024, 128, 4, 4, 2, 32, 448), draft_layers=1, gain=0.2
  ),
  '25M': dict(
    config=_config(1024, 512, 8, 8, 4, 64, 1408), draft_layers=1, gain=0.13
  ),
  '100M': dict(
    config=_config(8192, 768, 12, 12, 4, 64, 2560), draft_layers=2, gain=0.1
  ),
}
# (K, L, N) beside those that `tune` tries and plain sampling.
WIDER = (
  (1, 1, 1), (1, 3, 3), (1, 6, 6), (2, 2, 4), (2, 8, 16), (4, 4, 8),
  (4, 12, 32), (8, 4, 32),
)  # fmt: skip
_SHORT = GenerateOptions(max_new_tokens=64)
_LONG = GenerateOptions(draft_length=4, max_new_tokens=128)
_REQUESTED = GenerateOptions(max_new_tokens=256)
_PROMPTS = (
  'def main(args):\n    ',
  'The with statement is used to',
  'class Parser(object):\n',
  'import os\nimport sys\n',
)


class Workload(NamedTuple):
  """A pair of models and prompts to continue."""

  key: jax.Array  # of the texts
  target: LanguageModel
  drafter: LanguageModel
  prompts: np.ndarray  # [B, P]
  lengths: np.ndarray  # [B]

  def resized(self, batch: int) -> 'Workload':
    """The same prompts, repeated or cut to B."""
    prompts = np.resize(self.prompts, (batch, np.shape(self.prompts)[1]))
    lengths = np.resize(self.lengths, batch)
    return self._replace(prompts=prompts, lengths=lengths)

  def arguments(self, options: GenerateOptions) -> tuple:
    """Of `generate`."""
    drafters = [self.drafter] if METHODS[options.method].drafts else []
    return self.key, self.target, drafters, self.prompts, self.lengths, options

  def rates(
    self, settings: Mapping[K, GenerateOptions], rounds: int
  ) -> dict[K, np.ndarray]:
    """Tokens per second of each setting, round by round."""
    runs = {
      name: functools.partial(generate.generate, *self.arguments(options))
      for name, options in settings.items()
    }
    return {
      name: np.array([out.metrics.tokens_per_second for out in outs])
      for name, outs in in_turn(runs, rounds).items()
    }


def load_workload(key: jax.Array, size: str) -> Workload:
  """A few prompts for a pair that knows the shipped vocabulary.

  Args:
    key: typed key.
    size: 'shipped', or '25M' of `SIZES`.
  """
  pair = shipped = pretrained.shipped_pair()
  if size != 'shipped':
    init_key = gumbel.domain_key(key, Domain.MODEL_INIT)
    pair = random_pair(init_key, **SIZES[size])
  prompts = encode_prompts(shipped[0].tokenizer, _PROMPTS)
  return Workload(gumbel.domain_key(key, Domain.TEXTS), *pair, *prompts)


def decoding(
  workload: Workload,
  *,
  batches: Sequence[int] = (1, 8, 32),
  drafts: Sequence[int] = (1, 2, 4, 8),
  options: GenerateOptions = _LONG,
  methods: Sequence[str] = tuple(METHODS),
  rounds: int = 3,
) -> Table:
  """Tokens per second and block efficiency of every method, K and B.

  Methods of one draft stand once, at the least K.
  """

  @functools.cache
  def plain_text(batch):
    key, target, _, *prompts = workload.resized(batch)
    return comparison.plain_text(key, target, *prompts, options)

  def measure(batch, num_drafts, method):
    key, target, drafter, *prompts = workload.resized(batch)
    return comparison.measure_method(
      key,
      target,
      [drafter],
      *prompts,
      dataclasses.replace(options, method=method, num_drafts=num_drafts),
      reference=plain_text(batch),
      repeats=rounds,
    )

  settings = grid(batch=batches, num_drafts=drafts, method=methods)
  least = min(drafts)
  return Table(
    [x for x in settings if x['num_drafts'] == least or _many(x['method'])],
    measure,
  )


def _many(method: str) -> bool:
  """Whether a method takes several drafts."""
  return METHODS[method].drafts and not METHODS[method].single_draft


def third_block(
  workload: Workload, options: GenerateOptions
) -> tuple[generate.Call, loop.State, Callable]:
  """A generation after two blocks: there is something to learn from.

  Returns:
    The call, its state, and a function that runs the third block as often as
    it is called.
  """
  call = generate.prepare(*workload.arguments(options))
  state, info = call.prefill()
  # The loop donates its state; here the same state is used again.
  block = programs.get(
    loop.block, *call.arguments, state, info, sampler=call.sampler
  )
  for _ in range(2):
    state, info = block(*call.arguments, state, info)
  return call, state, lambda: block(*call.arguments, state, info)


_TREES = grid(method=('gumbel_tree',), num_drafts=(4,), num_nodes=(8, 16, 32))
_CHAINS = grid(method=('gumbel_chains', 'gls', 'specinfer'), num_drafts=(4, 8))


def overhead(
  workload: Workload,
  *,
  settings: Sequence[Mapping[str, Any]] = (*_TREES, *_CHAINS),
  rounds: int = 20,
) -> Table:
  """Time of a block at batch 1 against its model calls alone, same shapes.

  Settings are fields of `GenerateOptions`. A tree that stops drafting early
  makes fewer calls than are counted.
  """

  def measure(**setting):
    options = GenerateOptions(**setting)
    call, state, block = third_block(workload.resized(1), options)
    own = call.params, state
    models = programs.get(_model_calls, *own, sampler=call.sampler)
    times = milliseconds(
      {'block': block, 'models': lambda: models(*own)},
      rounds=rounds,
    )
    return dict(
      num_nodes=options.tree_nodes(),
      block_ms=times['block'],
      models_ms=times['models'],
      overhead=1 - times['models'] / times['block'],
    )

  return Table(settings, measure)


def _model_calls(params, state, sampler):
  """The forwards of one block and nothing else; returns all they compute.

  No token is that of another node, and the target waits for the drafter: else
  a compiler saves products that a block cannot.
  """
  speculation = sampler.speculation
  length, width = speculation.draft_length, speculation.num_drafts
  text = Text(state.tokens, state.lengths - 1)
  batch = text.root.shape[0]
  parents = jnp.broadcast_to(jnp.arange(width), (batch, width))
  drafter, own = speculation.drafters[0], params.drafters[0]
  opened, draft_state = drafter.open_block(own, state.draft.drafters[0], text)

  def extend(carry, depth):
    logits, draft_state = drafter.extend(
      own, carry[1], text, depth, depth + parents, parents
    )
    return (logits, draft_state), None

  drafted = jnp.zeros((batch, width, drafter.vocab_size))
  (drafted, draft_state), _ = jax.lax.scan(
    extend, (drafted, draft_state), jnp.arange(1, length)
  )
  proposals = tree.fill(tree.empty_tree(batch), 1 + speculation.num_nodes)
  waited = (drafted[:, :1, 0] == jnp.inf).astype(jnp.int32)  # 0
  proposals = proposals._replace(
    tokens=waited + jnp.arange(speculation.num_nodes)[None]
  )
  logits, cache = loop.judge(params, state.cache, text, proposals, sampler)
  return opened, drafted, logits, draft_state, cache


def capacity(
  workload: Workload,
  *,
  capacities: tuple[int, int] = (512, 8192),
  batches: Sequence[int] = (1, 8),
  options: GenerateOptions = _LONG,
  rounds: int = 5,
) -> Table:
  """Rates of the same short texts in rows of little and of much capacity.

  Plain sampling stands beside the method of `options`.
  """
  column = 'tokens_per_second_at_{}'.format

  def measure(batch, method):
    own = dataclasses.replace(options, method=method)
    settings = {
      column(size): dataclasses.replace(own, cache_length=size)
      for size in capacities
    }
    rates = workload.resized(batch).rates(settings, rounds)
    row = {name: float(np.median(found)) for name, found in rates.items()}
    short, long = (row[column(size)] for size in capacities)
    return {**row, 'ratio': long / short}

  methods = 'autoregressive', options.method
  return Table(grid(batch=batches, method=methods), measure)


def serving(
  workload: Workload,
  *,
  requests: int = 256,
  batch_size: int = 32,
  options: GenerateOptions = _REQUESTED,
  rounds: int = 3,
) -> Table:
  """Row-blocks that wait, and rates: a queue against batch after batch.

  Both write the same texts, which end at different lengths.
  """
  key, target, drafter, *prompts = workload.resized(requests)
  keys = gumbel.row_keys(key, np.arange(requests))
  call = keys, target, drafter, *prompts, options
  ways = {'fixed batches': _batches, 'queue': _queue}
  clocks = {
    name: functools.partial(timed, functools.partial(way, *call, batch_size))
    for name, way in ways.items()
  }
  measured = functools.cache(lambda: in_turn(clocks, rounds))

  def measure(way):
    own, batches = (
      np.median([seconds for _, seconds in measured()[name]])
      for name in (way, 'fixed batches')
    )
    lengths, occupancy = measured()[way][0][0]
    return dict(
      requests=requests,
      batch_size=batch_size,
      tokens=int(lengths.sum()),
      longest=int(lengths.max()),
      waiting=1 - occupancy,
      tokens_per_second=float(lengths.sum() / own),
      ratio_to_batches=float(batches / own),
    )

  return Table(grid(way=ways), measure)


def _queue(*arguments) -> tuple[np.ndarray, float]:
  """Lengths of the texts, and the occupancy."""
  *call, size = arguments
  out = generate_many(*call, batch_size=size)
  return out.lengths, out.metrics.occupancy


def _batches(keys, target, drafter, prompts, lengths, options, size):
  """The same, batch after batch."""
  outs = [
    generate.generate(
      keys[own], target, drafter, prompts[own], lengths[own], options
    )
    for own in (slice(i, i + size) for i in range(0, len(prompts), size))
  ]
  calls = [out.metrics.target_calls for out in outs]
  turned = sum(each.size * each.max() for each in calls)
  used = sum(each.sum() for each in calls)
  return np.concatenate([out.lengths for out in outs]), float(used / turned)


def tune(
  workload: Workload,
  *,
  batch: int = 1,
  wider: Sequence[tuple[int, int, int]] = WIDER,
  options: GenerateOptions = _SHORT,
  rounds: int = 7,
) -> Table:
  """The choice of `tune` at one batch against every setting of a wider grid.

  Rows have tokens_per_second with its standard error and of_best, the rate as
  a share of the fastest setting's; `chosen` is the last.
  """
  workload = workload.resized(batch)
  key, target, drafter, *prompts = workload
  plain, *trees = tuning.settings(options)
  tried = [plain, *trees] + [
    dataclasses.replace(
      trees[0], num_drafts=width, draft_length=length, num_nodes=nodes
    )
    for width, length, nodes in wider
  ]
  shapes = [_shape(each) for each in tried]

  @functools.cache
  def measured():
    choice = tuning.tune(key, target, [drafter], *prompts, options)
    every = {each: each for each in (*tried, choice)}
    return choice, workload.rates(every, rounds)

  def measure(chosen, **shape):
    choice, rates = measured()
    own = choice if chosen else tried[shapes.index(shape)]
    best = max(each.mean() for each in rates.values())
    return dict(
      **_shape(own),
      draft_cost=own.draft_cost,
      **standard_errors.means({'tokens_per_second': rates[own]}),
      of_best=float(rates[own].mean() / best),
    )

  settings = [{'chosen': False, **shape} for shape in shapes]
  return Table([*settings, {'chosen': True}], measure)


def _shape(options) -> dict:
  return dict(
    method=options.method,
    beam=options.num_drafts,
    depths=options.draft_length,
    num_nodes=options.num_nodes or 0,
  )


FILTERS = {'none': {}, 'top_p': {'top_p': 0.9}, 'top_k': {'top_k': 50}}
_BLOCK = GenerateOptions(max_new_tokens=64)
_SCHEMES = tuple(x for x in METHODS if METHODS[x].drafts and x != 'single')
_ROWS = 4  # of blocks of models that cost nothing
# Qwen2.5 .5B, whose vocabulary this is, with the first two of its layers.
LARGE = TransformerConfig(151_936, 896, 2, 14, 2, 64, 4864, qkv_bias=True)


_DRAWS = {  # of (key, p, q, K)
  # The race that decoding runs: one law, K streams.
  'race': lambda key, p, q, count: race_kernel.race(
    key, p, None, jnp.arange(count, dtype=jnp.int32)
  ),
  'GLS draw': lambda key, p, q, count: coupling.gumbel_list_sampling(
    key, p, q, num_drafts=count
  ),
  'K categorical draws': lambda key, p, q, count: jax.random.categorical(
    key, p, shape=(count,)
  ),
}


@functools.partial(jax.jit, static_argnames=('name', 'num_drafts'))
def _draw(keys, laws, name, num_drafts):
  # The laws are arguments: XLA would work out in advance what it knows of them.
  return jax.vmap(functools.partial(_DRAWS[name], count=num_drafts))(
    keys, *laws
  )


def sampler(
  key,
  *,
  vocabularies: Sequence[int] = (1000, 32_000, 151_936, 262_144),
  drafts: Sequence[int] = (1, 8, 64),
  batch: int = 1,
  rounds: int = 20,
  calls: int = 1,
) -> Table:
  """Draws of B laws against the limits of the machine: random bits, a copy.

  Of `calls` in a row an accelerator computes one while the next is on its way.
  """

  @functools.cache
  def times(vocab_size, num_drafts):
    functions = _draws_and_limits(key, batch, vocab_size, num_drafts)
    return milliseconds(functions, rounds=rounds, calls=calls)

  def measure(draw, vocab_size, num_drafts):
    found, size = times(vocab_size, num_drafts), batch * vocab_size
    own, drawn, copied = (found[each] for each in (draw, 'bits', 'copy'))
    return dict(
      batch=batch,
      milliseconds=own,
      ratio_to_bits=own / drawn,
      ratio_to_copy=own / copied,
      # A draw reads what a copy reads and writes.
      share_of_limit=max(drawn, copied / 2) / own,
      copy_gb_per_s=8 * size / copied / 1e6,
      bits_gwords_per_s=num_drafts * size / drawn / 1e6,
    )

  settings = grid(vocab_size=vocabularies, num_drafts=drafts, draw=_DRAWS)
  return Table(settings, measure)


def _draws_and_limits(key, batch, vocab_size, num_drafts) -> dict:
  """Functions to time: `_DRAWS` of B laws, as many bits, a copy of the laws."""
  laws_key = gumbel.domain_key(key, Domain.LAWS)
  laws = 3 * jax.random.normal(laws_key, (2, batch, vocab_size), jnp.float32)
  keys = jax.random.split(gumbel.domain_key(key, Domain.TRIALS), batch)

  @jax.jit
  @jax.vmap
  def bits(key):
    return jnp.max(jax.random.bits(key, (num_drafts, vocab_size)), axis=1)

  draws = {
    name: functools.partial(_draw, keys, laws, name, num_drafts)
    for name in _DRAWS
  }
  copy = functools.partial(jax.jit(lambda x: x + 1), laws[0])
  return draws | {'bits': functools.partial(bits, keys), 'copy': copy}


class _Config(NamedTuple):
  """Of a model that computes nothing."""

  vocab_size: int


def constant_model(logits: jax.Array) -> LanguageModel:
  """The same law [V] after every text: what is timed is all else.

  Logits are raised by their position, which changes no law: were they the same
  at every depth, a compiler might filter them once before the loop over depths.
  """

  def apply(params, tokens, positions, mask, cache, start):
    del tokens, mask, start
    raised = positions[..., None].astype(params.dtype)
    return params[None, None] + raised, cache

  return LanguageModel(apply, logits, _Config(logits.size))


def vocabulary(
  key,
  *,
  config: TransformerConfig = LARGE,
  options: GenerateOptions = _BLOCK,
  methods: Sequence[str] = _SCHEMES,
  rounds: int = 7,
) -> Table:
  """Blocks of the schemes under every one of `FILTERS`, beside gls with top-k.

  A 'block' is one row, whose drafter is the first layer of its target; the
  'own' time of a scheme is a block of a few rows, whose walks differ in
  length, of two near laws that cost nothing.
  """
  prompts = np.array([[1, 2, 3]]), np.array([3])

  @functools.cache
  def workload(what):
    if what == 'block':
      init_key = gumbel.domain_key(key, Domain.MODEL_INIT)
      pair = random_pair(init_key, config, draft_layers=1, gain=0.1)
      return Workload(key, *pair, *prompts)
    laws_key = gumbel.domain_key(key, Domain.LAWS)
    shape = 2, config.vocab_size
    target, other = jax.random.normal(laws_key, shape, jnp.float32)
    pair = map(constant_model, (3 * target, 3 * target + other))
    return Workload(key, *pair, *prompts).resized(_ROWS)

  def measure(what, method):
    settings = {name: (method, own) for name, own in FILTERS.items()}
    settings['gls'] = 'gls', FILTERS['top_k']
    functions = {
      name: third_block(
        workload(what), dataclasses.replace(options, method=method, **own)
      )[-1]
      for name, (method, own) in settings.items()
    }
    times = milliseconds(functions, rounds=rounds)
    row = {f'{name}_ms': times[name] for name in FILTERS}
    for name in FILTERS.keys() - {'none'}:
      row[f'{name}_ratio'] = times[name] / times['none']
    return row | {'top_k_to_gls': times['top_k'] / times['gls']}

  return Table(grid(what=('block', 'own'), method=methods), measure)
