"""Measurements that need an accelerator, in one run of a few minutes.

Parity of text with the CPU, the race against the two limits of its hardware,
attention to a long cache (on a TPU by splash attention, too), blocks of a 1B
target with a drafter of its first layers, prefill, a Gaussian repeat, training
steps of the VAE, the fastest of a grid of trees. Times are wall clock of a
second call; `compile_seconds` is what the first call took longer. Weights are
random.

Legend: B batch, P prompt, T capacity of a row, V vocabulary, R rows, S new
tokens, J key heads, G query heads per key head, E head size.
"""

import concurrent.futures
import functools
import pathlib
import time
import traceback
import types
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import files, gumbel, kernels, race_kernel
from listcoupling.compression import poisson_functional
from listcoupling.decoding import analysis, tuning
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import speed
from listcoupling.models import attention as cached
from listcoupling.models import attention_splash, pretrained
from listcoupling.models import vae as vae_model
from listcoupling.models.transformer_config import TransformerConfig
from listcoupling.training import vae as vae_training


class Sizes(NamedTuple):
  """How large everything is."""

  pair: speed.Size
  methods: tuple[str, ...]  # the first and the last on long rows, too
  batches: tuple[int, ...]  # B
  capacities: tuple[int, ...]  # T, the first for all methods
  draft_length: int  # L
  new_tokens: int  # M
  tuned: int  # settings tried by `tuning`, plain sampling the first of them
  prefills: tuple[tuple[int, int], ...]  # (B, P)
  sampler: tuple[int, int]  # (R, V)
  attention: tuple[int, int, int, int, int]  # (B, S, J, G, T), E is 128
  trials: int  # of the Gaussian source
  images: int  # in a batch of the VAE
  vae: vae_model.VAEConfig

  def draw(self) -> tuple:
    """The pair of models."""
    return self.pair.draw(gumbel.seed_key(5))

  def arguments(
    self, pair, method, batch, prompt, capacity, new_tokens=None
  ) -> tuple:
    """Of `generate`: random prompts in rows of T."""
    shape, size = (batch, prompt), self.pair.config.vocab_size
    prompts = jax.random.randint(gumbel.seed_key(3), shape, 0, size, jnp.int32)
    options = GenerateOptions(
      method=method,
      draft_length=self.draft_length,
      max_new_tokens=new_tokens or self.new_tokens,
      cache_length=capacity,
    )
    target, drafter = pair
    lengths = np.full(batch, prompt)
    return gumbel.seed_key(4), target, drafter, prompts, lengths, options


FULL = Sizes(  # a 1B target, a drafter of 120M beside the embeddings
  speed.Size(
    TransformerConfig(
      *(128256, 2048, 16, 32, 8, 64, 8192),
      rope_theta=5e5,
      tie_embeddings=False,
      max_positions=32768,
      dtype='bfloat16',
    ),
    draft_layers=2,
    gain=0.1,
  ),
  methods=('autoregressive', 'single', 'gumbel_tree'),
  batches=(1, 8, 32),
  capacities=(512, 8192),
  draft_length=4,
  new_tokens=128,
  tuned=1 + len(tuning.GRID),
  prefills=((1, 8064), (32, 2048)),
  sampler=(256, 151936),
  attention=(32, 33, 4, 7, 4352),  # of a 7B target
  trials=4096,
  images=64,
  vae=vae_model.VAEConfig(),
)
TOY = Sizes(  # the same run in seconds on a CPU
  speed.Size(TransformerConfig(512, 64, 3, 4, 2, 16, 128), 1, 0.1),
  methods=('gumbel_tree',),
  batches=(2,),
  capacities=(64, 64),
  draft_length=2,
  new_tokens=8,
  tuned=2,
  prefills=((1, 64),),
  sampler=(8, 1000),
  attention=(1, 1, 1, 2, 640),
  trials=8,
  images=4,
  vae=vae_model.VAEConfig(kind='dense', hidden_size=8),
)

_LAYERS = 4  # of attention, which share what is told about a mask
_STEPS = 20  # of training, in one call
_TRAINING = dict(
  estimator_loss='contrastive', num_negatives=15, beta=0.1, side_kind='crop',
  side_noise=0.0, learning_rate=1e-3, final_rate=1.0, steps=_STEPS,
)  # fmt: skip


def _timed(function: Callable, repeats: int = 1):
  """(result, seconds of one call, seconds the first call took longer)."""
  _, first = speed.timed(function)
  out, seconds = speed.timed(function, repeats)
  return out, seconds, max(first - seconds, 0.0)


def sampler(sizes: Sizes) -> Iterator[dict]:
  """The race against copying its logits and against its bare random bits."""
  rows, size = sizes.sampler
  keys = gumbel.row_keys(gumbel.seed_key(0), np.arange(rows))
  logits = jax.random.normal(gumbel.seed_key(1), (rows, size), jnp.float32)

  def race(key, logits, streams):
    return race_kernel.race(key, logits, None, jnp.arange(streams))

  def bits(key):
    return jnp.max(jax.random.bits(key, (size,), jnp.uint32))

  copy, bare = jax.jit(lambda x: x + 1), jax.jit(jax.vmap(bits))
  _, copied, _ = _timed(lambda: copy(logits), 20)
  _, drawn, _ = _timed(lambda: bare(keys), 20)
  yield {
    'what': 'limits',
    'copy_gb_per_s': 8 * logits.size / copied / 1e9,
    'threefry_gwords_per_s': logits.size / drawn / 1e9,
  }
  for streams in (1, 4):
    draw = jax.jit(jax.vmap(functools.partial(race, streams=streams)))
    _, seconds, compiling = _timed(functools.partial(draw, keys, logits), 20)
    yield {
      'what': f'race of {streams} streams',
      'ms': 1e3 * seconds,
      # A race reads what a copy reads and writes.
      'share_of_limit': max(copied / 2, streams * drawn) / seconds,
      'compile_seconds': compiling,
    }


def attention(sizes: Sizes) -> Iterator[dict]:
  """Layers that read a full cache, as `kernels` says and on TPUs by splash."""
  b, s, j, g, t = sizes.attention
  draw = functools.partial(jax.random.normal, dtype=jnp.bfloat16)
  queries = draw(gumbel.seed_key(9), (b, s, j, g, 128))
  cache = draw(gumbel.seed_key(10), (2, b, j, t, 128))
  mask = jnp.arange(t)[None] <= jnp.arange(t - s, t)[:, None]
  told = jnp.broadcast_to(mask, (b, s, t)), jnp.full(b, t, jnp.int32)

  def by_splash(queries, *arrays):
    rows = queries.swapaxes(1, 2).reshape(b, j, s * g, 128)
    mixed = attention_splash.attend(rows, *arrays)
    return mixed.reshape(b, j, s, g, 128).swapaxes(1, 2)

  reads = {'attention': cached.attend}
  if kernels.at_hand('tpu'):
    reads['splash attention'] = by_splash
  for what, read in reads.items():

    @jax.jit
    def layers(mixed, keys, values, mask, used, read=read):
      for _ in range(_LAYERS):
        mixed = read(mixed, keys, values, mask, used).reshape(queries.shape)
      return mixed

    call = functools.partial(layers, queries, *cache, *told)
    _, seconds, compiling = _timed(call, 20)
    yield {
      'what': f'{what} of {s} tokens',
      'ms': 1e3 * seconds / _LAYERS,
      'compile_seconds': compiling,
    }


def parity(sizes: Sizes) -> Iterator[dict]:
  """The shipped pair in float32, here and on the CPU."""
  prompts = np.arange(1, 33, dtype=np.int32).reshape(4, 8), np.full(4, 8)
  key, length, written = gumbel.seed_key(2), 8 * sizes.new_tokens, {}
  for device in (jax.devices('cpu')[0], jax.devices()[0]):
    with jax.default_device(device), jax.default_matmul_precision('highest'):
      target, drafter = (
        model._replace(params=jax.device_put(model.params, device))
        for model in pretrained.shipped_pair()
      )
      for method in ('autoregressive', 'gumbel_tree'):
        options = GenerateOptions(
          method=method,
          num_drafts=2,
          draft_length=sizes.draft_length,
          max_new_tokens=length,
        )
        out = generate(key, target, [drafter], *prompts, options)
        if not written:
          margins = analysis.canonical_margins(
            key, target, *prompts, out, options
          )
        written[f'{method} on {device.platform}'] = out.tokens
  reference = written.pop('autoregressive on cpu')
  for what, tokens in written.items():
    yield {'what': what, **analysis.differences(tokens, reference, margins)}


def _side_by_side(functions):
  """Compilers do not disturb each other; their programs run again alone."""
  with concurrent.futures.ThreadPoolExecutor(6) as pool:
    return list(pool.map(speed.timed, functions))


def blocks(sizes: Sizes) -> Iterator[dict]:
  """Rates of every method on short rows, of two on long and full ones, too."""
  pair, (short, *longer) = sizes.draw(), sizes.capacities
  settings = speed.grid(
    capacity=(short,), prompt=(32,), batch=sizes.batches, method=sizes.methods
  )
  for capacity in longer:
    settings += speed.grid(
      capacity=(capacity,),
      prompt=(32, capacity - sizes.new_tokens),
      batch=sizes.batches,
      method=sorted({sizes.methods[0], sizes.methods[-1]}),
    )
  calls = [
    functools.partial(generate, *sizes.arguments(pair, **setting))
    for setting in settings
  ]
  first = _side_by_side(calls)
  for setting, call, (_, compiling) in zip(settings, calls, first):
    out, seconds = speed.timed(call)
    per_second = out.metrics.tokens_per_second
    per_block = float(out.lengths.sum()) / int(out.metrics.target_calls.max())
    yield {
      **setting,
      'tokens_per_s': per_second,
      'ms_per_block': 1e3 * per_block / per_second,
      'tokens_per_block': float(out.metrics.block_efficiency.mean()),
      'compile_seconds': max(compiling - seconds, 0.0),
    }


def prefill(sizes: Sizes) -> Iterator[dict]:
  """Reading prompts: a whole call for one new token."""
  pair = sizes.draw()
  count = sum(x.size for x in jax.tree.leaves(pair[0].params))
  for batch, prompt in sizes.prefills:
    own = sizes.arguments(pair, 'autoregressive', batch, prompt, prompt + 1, 1)
    _, seconds, compiling = _timed(functools.partial(generate, *own))
    yield {
      'batch': batch,
      'prompt': prompt,
      'seconds': seconds,
      'tflop_per_s': 2 * count * batch * prompt / seconds / 1e12,
      'compile_seconds': compiling,
    }


def gaussian(sizes: Sizes) -> Iterator[dict]:
  """Trials of the Gaussian source at a few settings."""
  settings = poisson_functional.make_settings(
    [0.01, 0.005], [16, 64], num_decoders=2
  )
  key, trials = gumbel.seed_key(6), range(sizes.trials)
  out, seconds, compiling = _timed(
    lambda: poisson_functional.simulate(key, trials, settings)
  )
  yield {
    'trials_per_s': sizes.trials * len(settings.num_messages) / seconds,
    'squared_error': float(out.squared_error[:, 0, 0, 0].mean()),
    'compile_seconds': compiling,
  }


def vae(sizes: Sizes) -> Iterator[dict]:
  """Steps of training on noise."""
  config = types.SimpleNamespace(**_TRAINING, batch_size=sizes.images)
  key, shape = gumbel.seed_key(7), (2, sizes.images, *sizes.vae.source_shape)
  halves = jax.random.uniform(gumbel.seed_key(8), shape, jnp.float32)
  steps = vae_training.make_train_steps(config, sizes.vae)
  state = vae_training.init_state(key, config, sizes.vae)
  state, first = speed.timed(lambda: steps(state, key, *halves, _STEPS))
  _, seconds = speed.timed(lambda: steps(state, key, *halves, _STEPS))
  yield {
    'step_ms': 1e3 * seconds / _STEPS,
    'compile_seconds': max(first - seconds, 0.0),
  }


def tuned(sizes: Sizes) -> Iterator[dict]:
  """The fastest of plain sampling and a grid of trees, at every batch."""
  pair = sizes.draw()
  for batch in sizes.batches:
    *arguments, options = sizes.arguments(
      pair, 'gumbel_tree', batch, 32, sizes.capacities[0]
    )
    tried = tuning.settings(options)[: sizes.tuned]
    began = time.perf_counter()
    _side_by_side(functools.partial(generate, *arguments, x) for x in tried)
    compiling = time.perf_counter() - began
    rates = {
      each: float(np.median(found))
      for each, found in tuning.measure(*arguments, tried).items()
    }
    best = max(rates, key=rates.get)
    drafts = best.method != 'autoregressive'
    yield {
      'batch': batch,
      'method': best.method,
      'nodes': best.tree_nodes() if drafts else 0,
      'depths': best.draft_length if drafts else 0,
      'tokens_per_s': rates[best],
      'to_plain': rates[best] / rates[tried[0]],
      'compile_seconds': compiling,
    }


SECTIONS = {
  section.__name__: section
  for section in (
    *(sampler, attention, parity, blocks),
    *(prefill, gaussian, vae, tuned),
  )
}


def run(
  sizes: Sizes, path: pathlib.Path, *, seconds: float, only=tuple(SECTIONS)
) -> Iterator[tuple[str, dict]]:
  """Measures section by section and keeps every row as soon as it is known.

  Args:
    sizes: see `Sizes`.
    path: of the JSON file.
    seconds: no row is begun after them.
    only: sections.

  Yields:
    (section, row). A section that fails has a row with `error`, one that was
    cut short a row with `cut`.
  """
  began, device = time.perf_counter(), jax.devices()[0]
  report = {
    'device': device.device_kind,
    'platform': device.platform,
    'jax': jax.__version__,
    'sections': {name: [] for name in only},
  }

  def keep(name, row):
    report['sections'][name].append(row)
    report['seconds'] = time.perf_counter() - began
    files.write_json(path, report)
    return name, row

  for name in only:
    for row in _guarded(SECTIONS[name](sizes)):
      yield keep(name, row)
      if report['seconds'] > seconds:
        yield keep(name, {'cut': f'after {seconds:.0f} s'})
        return


def _guarded(rows):
  """One failure must not cost what the other sections would tell."""
  try:
    yield from rows
  except Exception as error:
    where = traceback.extract_tb(error.__traceback__)[-1]
    yield {'error': f'{type(error).__name__}: {error}', 'at': str(where)}


def as_text(name: str, row: dict) -> str:
  """One row as a line."""
  shown = (
    f'{key} {value:.4g}' if isinstance(value, float) else f'{key} {value}'
    for key, value in row.items()
  )
  return f'{name:8s}  ' + '  '.join(shown)
