"""Tables that need an accelerator, in one run of a few minutes.

Those of `speed` at the size of a 1B target, with a drafter of its first layers,
and what they do not tell: attention to a long cache (on a TPU by splash
attention, too), parity of text with the CPU, prefill, a Gaussian repeat,
training steps of the VAE. Times are wall clock, first calls do not count.
Weights are random.

Legend: B batch, P prompt, T entries of a cache, S new tokens, J key heads, G
query heads per key head.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import inspect
import pathlib
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from listcoupling import files, gumbel, kernels, tables
from listcoupling.compression import poisson_functional
from listcoupling.decoding import invariance, tuning
from listcoupling.decoding.generate import generate
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import speed
from listcoupling.experiments.run import RECORD, Run, environment, open_run
from listcoupling.gumbel import Domain
from listcoupling.models import attention as cached
from listcoupling.models import attention_splash, pretrained
from listcoupling.models import vae as vae_model
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig
from listcoupling.training import vae as vae_training

# 1.5 billion numbers; the drafter has 120 million beside the embeddings.
_TARGET = TransformerConfig(
  vocab_size=128256, hidden_size=2048, num_layers=16, num_heads=32,
  num_kv_heads=8, head_dim=64, intermediate_size=8192, rope_theta=5e5,
  tie_embeddings=False, max_positions=32768, dtype='bfloat16',
)  # fmt: skip
_SHORT = GenerateOptions(cache_length=512)
_LONG = GenerateOptions(cache_length=8192)
_LAYERS = 4  # of attention, which share what is told about a mask
_STEPS = 20  # of training, in one call
_TRAINING = dict(
  estimator_loss='contrastive', num_negatives=15, beta=0.1, side_kind='crop',
  side_noise=0.0, learning_rate=1e-3, final_rate=1.0, steps=_STEPS,
)  # fmt: skip


def _key(domain: Domain) -> jax.Array:
  return gumbel.domain_key(gumbel.seed_key(0), domain)


@functools.cache
def _pair() -> tuple[LanguageModel, LanguageModel]:
  init_key = _key(Domain.MODEL_INIT)
  return random_pair(init_key, _TARGET, draft_layers=2, gain=0.1)


def _workload(batch: int, prompt: int) -> speed.Workload:
  """The pair and random prompts [B, P]."""
  target, drafter = _pair()
  size = target.config.vocab_size
  prompts = np.random.default_rng(0).integers(0, size, (batch, prompt))
  texts = prompts, np.full(batch, prompt)
  return speed.Workload(_key(Domain.TEXTS), target, drafter, *texts)


def _warmed(table: speed.Table, calls: Sequence[Callable]) -> speed.Table:
  """A table before whose first row all programs are compiled, side by side."""

  @functools.cache
  def warm():
    pool, waits = concurrent.futures.ThreadPoolExecutor(6), True
    try:
      list(pool.map(lambda call: call(), calls))
    except KeyboardInterrupt:
      waits = False  # for programs that are being compiled; the process ends
      raise
    finally:
      pool.shutdown(waits, cancel_futures=True)

  def measure(**setting):
    warm()
    return table.measure(**setting)

  return table._replace(measure=measure)


def sampler(*, batch: int = 256, vocab_size: int = 151936) -> speed.Table:
  """`speed.sampler` of a batch."""
  sizes = dict(vocabularies=(vocab_size,), drafts=(1, 4), batch=batch)
  return speed.sampler(gumbel.seed_key(0), **sizes, rounds=3, calls=20)


def attention(
  *, shape: tuple[int, int, int, int, int] = (32, 33, 4, 7, 4352)
) -> speed.Table:
  """Layers that read a full cache, as `kernels` says and on TPUs by splash.

  Args:
    shape: (B, S, J, G, T), of a 7B target; heads have 128 numbers.
  """
  b, s, j, g, t = shape
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

  def measure(what, tokens):
    @jax.jit
    def layers(mixed, *arrays):
      for _ in range(_LAYERS):
        mixed = reads[what](mixed, *arrays).reshape(queries.shape)
      return mixed

    call = functools.partial(layers, queries, *cache, *told)
    found = speed.milliseconds({'all': call}, rounds=1, calls=20)
    return {'milliseconds': found['all'] / _LAYERS}

  return speed.Table(speed.grid(what=reads, tokens=(s,)), measure)


def parity(*, new_tokens: int = 1024) -> speed.Table:
  """The shipped pair here and on the CPU, against plain sampling here."""
  prompts = np.arange(1, 33, dtype=np.int32).reshape(4, 8), np.full(4, 8)
  here = jax.devices()[0]
  devices = {x.platform: x for x in (here, jax.devices('cpu')[0])}
  options = GenerateOptions(num_drafts=2, max_new_tokens=new_tokens)

  def measure(device, method):
    mesh = Mesh(np.array([devices[device]]), ('tp',))
    with jax.default_matmul_precision('highest'):
      (row,) = invariance.count_changes(
        _key(Domain.TEXTS),
        *pretrained.shipped_pair(),
        *prompts,
        options,
        methods=[method],
        meshes={device: mesh},
      )
    return row

  settings = speed.grid(device=devices, method=invariance.ON_MESHES)
  settings.remove(dict(device=here.platform, method='autoregressive'))
  return speed.Table(settings, measure)


def rates(
  *,
  batches: Sequence[int] = (1, 8, 32),
  prompt: int = 32,
  methods: Sequence[str] = ('autoregressive', 'single', 'gumbel_tree'),
  options: GenerateOptions = _SHORT,
) -> speed.Table:
  """`speed.decoding` of prompts of P."""
  workload = _workload(max(batches), prompt)
  table = speed.decoding(
    workload,
    batches=batches,
    drafts=(options.num_drafts,),
    options=options,
    methods=methods,
    rounds=1,
  )
  calls = [functools.partial(table.measure, **x) for x in table.settings]
  return _warmed(table, calls)


def prefill(*, shapes: Sequence = ((1, 8064), (32, 2048))) -> speed.Table:
  """Reading prompts [B, P]: a whole call for one new token."""

  def measure(batch, prompt):
    workload = _workload(batch, prompt)
    options = GenerateOptions(
      'autoregressive', max_new_tokens=1, cache_length=prompt + 1
    )
    call = functools.partial(generate, *workload.arguments(options))
    seconds = speed.milliseconds({'call': call}, rounds=1)['call'] / 1e3
    count = sum(x.size for x in jax.tree.leaves(workload.target.params))
    flop = 2 * count * batch * prompt
    return {'seconds': seconds, 'tflop_per_s': flop / seconds / 1e12}

  return speed.Table([dict(batch=b, prompt=p) for b, p in shapes], measure)


def gaussian(*, trials: int = 4096) -> speed.Table:
  """Trials of the Gaussian source at a few settings."""
  settings = poisson_functional.make_settings(
    [0.01, 0.005], [16, 64], num_decoders=2
  )

  def measure(trials):
    simulate = functools.partial(
      poisson_functional.simulate, _key(Domain.TRIALS), range(trials), settings
    )
    out, _ = speed.timed(simulate)
    _, seconds = speed.timed(simulate)
    return {
      'trials_per_s': trials * len(settings.num_messages) / seconds,
      'squared_error': float(out.squared_error[:, 0, 0, 0].mean()),
    }

  return speed.Table([{'trials': trials}], measure)


def vae(*, images: int = 64, **sizes) -> speed.Table:
  """Steps of training on noise, of a VAE of these sizes."""

  def measure(images):
    model = vae_model.VAEConfig(**sizes)
    config = types.SimpleNamespace(**_TRAINING, batch_size=images)
    shape = 2, images, *model.source_shape
    halves = jax.random.uniform(_key(Domain.SOURCE), shape, jnp.float32)
    steps = vae_training.make_train_steps(config, model)
    key = _key(Domain.TRAINING_STEP)
    state = vae_training.init_state(key, config, model)
    state, _ = speed.timed(lambda: steps(state, key, *halves, _STEPS))
    _, seconds = speed.timed(lambda: steps(state, key, *halves, _STEPS))
    return {'step_ms': 1e3 * seconds / _STEPS}

  return speed.Table([{'images': images}], measure)


def tune(*, batch: int, options: GenerateOptions = _SHORT) -> speed.Table:
  """`speed.tune` at one batch, without its wider grid."""
  workload = _workload(batch, 32)
  table = speed.tune(workload, batch=batch, wider=(), options=options, rounds=3)
  every = map(workload.arguments, tuning.settings(options))
  return _warmed(table, [functools.partial(generate, *x) for x in every])


_TWO = dict(options=_LONG, methods=('autoregressive', 'gumbel_tree'))
SECTIONS = {
  'sampler': sampler,
  'attention': attention,
  'parity': parity,
  'rates': rates,
  'rates_long': functools.partial(rates, **_TWO),
  'rates_full': functools.partial(rates, **_TWO, prompt=8064),
  'prefill': prefill,
  'gaussian': gaussian,
  'vae': vae,
  'tune_1': functools.partial(tune, batch=1),
  'tune_8': functools.partial(tune, batch=8),
  'tune_32': functools.partial(tune, batch=32),
}


def run(
  workdir, *, seconds: float, only: Sequence[str] = tuple(SECTIONS)
) -> Iterator[tuple[str, list[dict], str]]:
  """Fills the table of each section, row by row; a stopped run goes on.

  Args:
    workdir: gets a folder of `open_run` for each, whose results.json tells what
      ended the section and the seconds its programs took to compile.
    seconds: no row is begun after them.
    only: sections.

  Yields:
    A section, its rows, and what ended it before it was whole, or ''.

  Raises:
    ValueError: the folder of a section is another process's, is damaged, or is
      of another machine, version or size.
  """
  workdir, end = pathlib.Path(workdir), time.perf_counter() + seconds
  for name in only:
    section, rows = SECTIONS[name], workdir / name / 'results.csv'
    with open_run(workdir / name, _settings(section)) as record:
      ended = _fill(section, record, end)
    yield name, tables.read_csv(rows) if rows.exists() else [], ended


def _settings(section: Callable) -> dict[str, Any]:
  """All that the rows of a section depend on."""
  parts = inspect.signature(section).parameters.values()
  defaults = {x.name: x.default for x in parts if x.default is not x.empty}
  return dict(
    arguments=defaults | getattr(section, 'keywords', {}),
    target=dataclasses.asdict(_TARGET),
    training=_TRAINING,
    environment=environment(),
  )


def _fill(section: Callable, record: Run, until: float) -> str:
  """Fills the table of a section; returns what ended it too early, or ''."""
  record.rows({}, dict, key='case')  # refuses a table that was changed
  before = files.read_json(record.workdir / RECORD).get('compile_seconds', 0.0)
  ended = 'stopped'
  with _compiling() as spent:
    try:
      section().fill(record, until=until)
      ended = ''
    except Exception as error:  # the other sections have something to tell
      where = traceback.extract_tb(error.__traceback__)[-1]
      place = f'{where.filename}, line {where.lineno}'
      ended = f'{type(error).__name__}: {error} ({place})'
    finally:
      record.note(ended=ended, compile_seconds=before + sum(spent))
  return ended


@contextlib.contextmanager
def _compiling() -> Iterator[list[float]]:
  """Seconds of each program that is compiled meanwhile."""
  found = []

  def listen(event, seconds, **_):
    if event.endswith('backend_compile_duration'):
      found.append(seconds)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
