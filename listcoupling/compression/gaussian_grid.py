"""Many settings of the Gaussian codec on the same trials.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5. Sources, side
information and arrivals (`arrivals`) of a trial are functions of (key, trial):
they are drawn once and serve every variance, number of messages, kind of label
and number of decoders. Trials are spread over the devices.

Legend: R trials in P batches of B lanes, J settings, K decoders, n = 1..K
decoders in use.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from listcoupling import validation
from listcoupling.compression import arrival_codec, arrivals
from listcoupling.compression.gaussian_settings import (
  Settings,
  join,
  make_settings,
)

__all__ = ['Outcomes', 'Settings', 'join', 'make_settings', 'simulate']

NUM_ARRIVALS = 1 << 12  # of each race; the rest only where it can matter
_BATCHES = 8  # of (trial, setting) pairs in one call
_compiled = functools.partial(
  jax.jit, static_argnames=('num_decoders', 'num_candidates', 'num_devices')
)


class Outcomes(NamedTuple):
  """What became of R trials; numpy arrays."""

  squared_error: np.ndarray  # [R, J, K] of the best of n decoders
  is_match: np.ndarray  # [R, J, K] bool
  is_certain: np.ndarray  # [R, J, K] bool, see `arrivals`
  information_density: np.ndarray  # [R, J, K, K] by (n, k), in bits


def _first_blocks(settings: Settings):
  """Blocks [J] for encoder and decoders that certify nearly every trial."""
  # The winner is the first of about q* = 1/sqrt(v) e^(a^2/2) arrivals, and
  # of L p* for a decoder.
  encoder = 128 / np.sqrt(settings.test_variance.min(1))
  decoder = 128 * settings.num_messages
  return tuple(
    np.clip(
      np.ceil(x / arrivals.BLOCK), 1, NUM_ARRIVALS // arrivals.BLOCK
    ).astype(np.int32)
    for x in (encoder, decoder)
  )


def _lanes(settings: Settings) -> arrival_codec.Setting:
  """As `arrival_codec.Setting` with a last axis of one lane for all."""
  return arrival_codec.Setting(
    *(jnp.asarray(x)[..., None] for x in settings[:4])
  )


def _on_devices(batch, num_devices):
  """Maps `batch` over the leading axis of its first argument, on all devices.

  Args:
    batch: (entry, *whole) -> pytree.
    num_devices: which share the entries equally.
  """
  mesh = Mesh(np.array(jax.devices()[:num_devices]), ('trials',))
  split, whole = PartitionSpec('trials'), PartitionSpec()

  def local(parts, *rest):
    return jax.lax.map(lambda x: batch(x, *rest), parts)

  return lambda parts, *rest: jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(split, *(whole for _ in rest)),
    out_specs=split,
    check_vma=False,
  )(parts, *rest)


def _draw(key, trials, s, num_decoders, num_candidates, complete=False):
  """Sources and `Arrivals` of the trials [B]."""
  source, keys = arrival_codec.draw_sources(key, trials, num_decoders, s)
  drawn = arrivals.draw(
    keys,
    num_races=num_decoders,
    num_arrivals=NUM_ARRIVALS,
    num_candidates=num_candidates,
    complete=complete,
  )
  return source, drawn


@_compiled
def _grid(
  trials, key, plain, shared, s, *, num_decoders, num_candidates, num_devices
):
  """Trials [P, B] at all settings (with blocks) -> Outcome [P, J, K, B]."""

  def batch(trials, key, plain, shared, s):
    source, drawn = _draw(key, trials, s, num_decoders, num_candidates)

    def many(drawn, settings):
      return jax.lax.map(
        lambda x: arrival_codec.run(drawn, source, x[0], s, x[1]), settings
      )

    one = many(drawn, plain), many(arrivals.share(drawn), shared)
    return jax.tree.map(lambda *x: jnp.concatenate(x), *one)

  return _on_devices(batch, num_devices)(trials, key, plain, shared, s)


@_compiled
def _pairs(pairs, key, s, *, num_decoders, num_candidates, num_devices):
  """Complete races of (trial, setting) pairs [P, B] -> Outcome [P, K, B]."""
  blocks = ((NUM_ARRIVALS + num_candidates) // arrivals.BLOCK,) * 2

  def batch(pair, key, s):
    trials, setting, is_shared = pair
    source, drawn = _draw(
      key, trials, s, num_decoders, num_candidates, complete=True
    )
    drawn = jax.tree.map(lambda x: jnp.where(is_shared, x[:1], x), drawn)
    return arrival_codec.run(drawn, source, setting, s, blocks)

  return _on_devices(batch, num_devices)(pairs, key, s)


def _batches(x, lanes, num_devices):
  """[R, ...] -> [P, B, ...], filled up with the first entry."""
  size = lanes * num_devices
  fill = -len(x) % size
  x = np.concatenate([x, np.broadcast_to(x[:1], (fill, *x.shape[1:]))])
  return x.reshape(-1, lanes, *x.shape[1:])


def _first_pass(key, trials, settings, s, options, lanes) -> Outcomes:
  """Every setting on every trial, by the first arrivals alone."""
  order = np.argsort(settings.is_shared, kind='stable')
  blocks = _first_blocks(settings)
  count = int((~settings.is_shared).sum())
  lists = [
    (_lanes(Settings(*(x[rows] for x in settings))), [b[rows] for b in blocks])
    for rows in (order[:count], order[count:])
  ]
  out = _grid(
    _batches(trials, lanes, options['num_devices']), key, *lists, s, **options
  )
  back = np.argsort(order)

  def unpack(x):  # [P, J, K, ..., B] -> [R, J, K, ...]
    x = np.moveaxis(np.asarray(x), -1, 1)
    return x.reshape(-1, *x.shape[2:])[: trials.size][:, back]

  return Outcomes(*(unpack(x) for x in out))


def _complete(out, key, trials, settings, s, options, lanes):
  """Runs what is not certain again as complete races, in place."""
  rows, columns = np.nonzero(~out.is_certain.all(-1))
  lanes = max(1, lanes // 4)  # longer races, the same memory
  size = lanes * options['num_devices'] * _BATCHES
  for start in range(0, rows.size, size):
    row, column = (x[start : start + size] for x in (rows, columns))
    padded = np.resize(column, size)

    def pack(x, axis=None):
      x = x.reshape(-1, lanes, *x.shape[1:])
      return x if axis is None else np.moveaxis(x, -1, axis)

    setting = arrival_codec.Setting(
      pack(settings.test_variance[padded], 1),
      pack(settings.num_messages[padded]),
      pack(settings.period[padded], 1),
      pack(settings.is_interval[padded]),
    )
    pairs = (
      pack(trials[np.resize(row, size)]),
      setting,
      pack(settings.is_shared[padded]),
    )
    found = _pairs(pairs, key, s, **options)
    for old, new in zip(out, found, strict=True):
      new = np.moveaxis(np.asarray(new), -1, 1)  # [P, B, ...]
      old[row, column] = new.reshape(-1, *new.shape[2:])[: row.size]
    out.is_certain[row, column] = True


def _check(key, trials, settings, num_candidates, complete) -> None:
  validation.check_key(key)
  validation.check_positive_int(num_candidates, 'num_candidates')
  if complete and num_candidates % arrivals.BLOCK:
    raise ValueError(
      f'num_candidates must be a multiple of {arrivals.BLOCK}, got '
      f'{num_candidates}.'
    )
  if trials.ndim != 1 or not trials.size or not len(settings.num_messages):
    raise ValueError(
      f'trials and settings must not be empty, got shape {trials.shape} and '
      f'{len(settings.num_messages)} settings.'
    )


def simulate(
  key: jax.Array,
  trials,
  settings: Settings,
  *,
  num_candidates: int = 2**15,
  side_variance=0.5,
  complete: bool = True,
  lanes: int | None = None,
) -> Outcomes:
  """Runs every setting on every trial, with n = 1..K decoders.

  Args:
    key: typed key.
    trials: [R] integers; trial r depends on (key, r) alone.
    settings: of K decoders.
    num_candidates: N.
    side_variance: s.
    complete: run what is not certain again as complete races: exact in law
      (for N a multiple of 256); otherwise it is kept as it is, about one
      result in a hundred, most of them right.
    lanes: trials in one batch of a device; default 32 on CPU, 1024 elsewhere.

  Returns:
    `Outcomes`.

  Raises:
    ValueError: for a bad key, no trials, no settings, N < 1, s <= 0, or
      `complete` and N no multiple of 256.

  Example:
    >>> settings = make_settings([.05], [4], num_decoders=2)
    >>> out = simulate(jax.random.key(0), range(8), settings, lanes=8)
    >>> out.squared_error.shape
    (8, 1, 2)
  """
  trials = np.asarray(trials, np.int32)
  _check(key, trials, settings, num_candidates, complete)
  validation.check_positive(side_variance=side_variance)
  lanes = lanes or (32 if jax.default_backend() == 'cpu' else 1024)
  options = {
    'num_decoders': settings.test_variance.shape[1],
    'num_candidates': num_candidates,
    'num_devices': len(jax.devices()),
  }
  s = np.float32(side_variance)
  out = _first_pass(key, trials, settings, s, options, lanes)
  if complete:
    _complete(out, key, trials, settings, s, options, lanes)
  return out
