"""Cost of a large vocabulary: races, filters, verification.

Legend: V vocabulary, K drafts, L draft length, N proposals, A atoms of a law.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import coupling, gumbel, race_kernel
from listcoupling.decoding import draft, filters, tree, verify
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.sampling_params import sampling_params
from listcoupling.experiments.benchmarks import generation, speed
from listcoupling.experiments.benchmarks.speed import Case
from listcoupling.gumbel import Domain
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig

VOCABULARIES = (1000, 32_000, 151_936, 262_144)
DRAFTS = (1, 8, 64)
SCHEMES = (
  *('gumbel_chains', 'gls', 'gls_strong'),
  *('specinfer', 'spectr', 'block', 'traversal'),
)
FILTERS = {'none': {}, 'top_p': {'top_p': 0.9}, 'top_k': {'top_k': 50}}
_BLOCK = GenerateOptions(max_new_tokens=64)
# Qwen2.5 .5B, whose vocabulary this is, with the first two of its layers.
LARGE = TransformerConfig(151_936, 896, 2, 14, 2, 64, 4864, qkv_bias=True)


def _samplers(p, q, num_drafts: int) -> dict[str, Callable]:
  """Functions of a key by name; JAX's own draws are timed beside ours."""
  shape = num_drafts, p.size
  return {
    'exponential noise': lambda key: gumbel.exponential_streams(
      key, p.size, num_drafts
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


def _races(p, q, num_drafts: int) -> dict[str, Callable]:
  """The race that decoding runs: one law, K streams."""
  del q
  streams = jnp.arange(num_drafts, dtype=jnp.int32)
  return {
    f'race of {num_drafts} streams': lambda key: race_kernel.race(
      key, p, None, streams
    )
  }


def sampler_cases(
  key,
  *,
  vocabularies: Sequence[int] = VOCABULARIES,
  drafts: Sequence[int] = DRAFTS,
  compared: tuple[int, int] = (151_936, 8),
  rounds: int = 20,
) -> list[Case]:
  """Draws against the two limits of the machine: random bits and a copy.

  Args:
    key: typed key.
    vocabularies: V of the races.
    drafts: K of the races.
    compared: V and K of all samplers that stand side by side.
    rounds: see `speed.in_turn`.
  """
  shapes = [(v, k, _races) for v in vocabularies for k in drafts]
  cases = []
  for vocab_size, num_drafts, make in [*shapes, (*compared, _samplers)]:
    cases += _against_limits(key, vocab_size, num_drafts, make, rounds)
  return cases


def _against_limits(key, vocab_size, num_drafts, make, rounds):
  """A case per function; all of one shape are timed in turn, once."""
  laws_key = gumbel.domain_key(key, Domain.LAWS)
  laws = 3 * jax.random.normal(laws_key, (2, vocab_size), jnp.float32)
  draw_key = gumbel.domain_key(key, Domain.TRIALS)

  # The laws are arguments: XLA would work out in advance what it knows of them.
  def draw(key, laws, name):
    return make(*laws, num_drafts)[name](key)

  draw = jax.jit(draw, static_argnames='name')
  functions = {
    name: functools.partial(draw, draw_key, laws, name)
    for name in make(*laws, num_drafts)
  }
  shape = (num_drafts, vocab_size)
  bits = jax.jit(lambda key: jnp.max(jax.random.bits(key, shape), axis=1))
  copy = jax.jit(lambda x: x + 1)
  functions['bits'] = functools.partial(bits, draw_key)
  functions['copy'] = functools.partial(copy, jnp.zeros(vocab_size))

  @functools.cache
  def times():
    return speed.milliseconds(functions, rounds=rounds)

  def measure(name):
    own, drawn, copied = (times()[each] for each in (name, 'bits', 'copy'))
    return dict(
      vocab_size=vocab_size,
      num_drafts=num_drafts,
      milliseconds=own,
      ratio_to_bits=own / drawn,
      ratio_to_copy=own / copied,
      # A draw reads what a copy reads and writes.
      share_of_limit=max(drawn, copied / 2) / own,
    )

  return [
    Case(f'{name}, V = {vocab_size}', functools.partial(measure, name))
    for name in functions
    if name not in ('bits', 'copy')
  ]


def vocabulary_cases(
  key,
  *,
  config: TransformerConfig = LARGE,
  options: GenerateOptions = _BLOCK,
  methods: Sequence[str] = SCHEMES,
  rounds: int = 7,
) -> list[Case]:
  """A block and each scheme's verification, under every one of `FILTERS`.

  Args:
    key: typed key.
    config: of the target; the drafter has its first layer.
    options: of the block, a tree at batch 1.
    methods: whose verification is timed, over K chains of L tokens.
    rounds: see `speed.in_turn`.
  """

  @functools.cache  # all are timed in turn
  def verified():
    functions = {
      (method, name): _verification(
        key, config.vocab_size, method, dataclasses.replace(options, **filter_)
      )
      for method in dict.fromkeys([*methods, 'gls'])
      for name, filter_ in FILTERS.items()
    }
    return speed.milliseconds(functions, rounds=rounds)

  def verification(method):
    own = {name: verified()[method, name] for name in FILTERS}
    return _row(own) | dict(
      top_k_to_gls=own['top_k'] / verified()['gls', 'top_k']
    )

  block = functools.partial(_block, key, config, options, rounds)
  return [
    Case(f'block of {options.method}', block),
    *(
      Case(f'verification by {name}', functools.partial(verification, name))
      for name in methods
    ),
  ]


def _block(key, config, options, rounds) -> dict:
  """The row of a whole block."""
  init_key = gumbel.domain_key(key, Domain.MODEL_INIT)
  pair = random_pair(init_key, config, draft_layers=1, gain=0.1)
  prompts = np.array([[1, 2, 3]]), np.array([3])
  workload = generation.Workload(key, *pair, *prompts)
  functions = {}
  for name, filter_ in FILTERS.items():
    own = dataclasses.replace(options, **filter_)
    functions[name] = generation.third_block(workload, own)[-1]
  return _row(speed.milliseconds(functions, rounds=rounds))


def _row(times) -> dict:
  """Milliseconds under each filter, and their ratios to those of none."""
  row = {f'{name}_ms': own for name, own in times.items()}
  ratios = {f'{name}_ratio': own / times['none'] for name, own in times.items()}
  del ratios['none_ratio']
  return row | ratios


def _verification(key, vocab_size, name, options):
  """One row's verification of chains drafted from a law near the target's."""
  method, sampling = METHODS[name], sampling_params(options)
  width = 1 if method.single_draft else options.num_drafts
  length = 0 if method.propose is None else options.draft_length
  config = draft.SpeculativeConfig(
    (), vocab_size, width, length, width * length, method.rejection, True
  )
  laws_key, drafts_key, row_key = (
    gumbel.domain_key(key, domain)
    for domain in (Domain.LAWS, Domain.TRIALS, Domain.TEXTS)
  )
  target, other = jax.random.normal(laws_key, (2, vocab_size), jnp.float32)
  target = 3 * target
  law = filters.warp(target + other, 1.0, options)
  proposals = tree.empty_tree(1)
  if length:
    keys = jax.random.split(drafts_key, (1, length, width))
    each = jax.vmap(jax.vmap(jax.vmap(lambda key: filters.draw(key, law))))
    laws = jax.tree.map(
      lambda leaf: jnp.broadcast_to(leaf, (*keys.shape, leaf.size)), law
    )
    proposals = tree.chains(each(keys), laws if method.rejection else None)
  nodes = 1 + proposals.tokens.shape[1]
  root = jnp.full(1, 9, jnp.int32)
  context = verify.Context(
    row_key[None],
    root,
    jnp.zeros_like(root),
    None,
    jnp.broadcast_to(target, (1, nodes, vocab_size)),
  )

  @jax.jit
  def run(context, proposals, sampling):
    return method.verify(context, proposals, config, sampling)

  return functools.partial(run, context, proposals, sampling)
