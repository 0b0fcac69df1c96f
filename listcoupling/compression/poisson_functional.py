"""The codec on the Gaussian source by the first arrivals of its races.

A race over N candidates is decided by its first arrivals, so a simulation of
`gaussian` need draw those alone: the Poisson functional representation of
Li and El Gamal (2018), arXiv 1701.02827, made finite. Let race k be a Poisson
process of rate N whose arrivals name one of the N candidates each, uniformly
and with replacement. The first arrival of a candidate is then Exp(1),
independent over candidates and races, and later ones cannot beat it: argmin
over arrivals of t / q is the winner of the exponential race, in law and not in
the limit. Candidate i's value and label are functions of (key, i), so that all
races share them.

What is not drawn lies behind the last arrival drawn, at t_M. As no weight
exceeds its supremum q*, a winner with t / q <= t_M / q* is certain. Where it is
not, one more time per candidate, t_M + Exp(1), completes the race: a candidate
not seen by t_M arrives then, one that was seen loses nothing by a later time.

Sources, side information and arrivals of a trial are functions of (key, trial):
they are drawn once and serve every setting. Costs are logarithms,
log t - log q.

Legend: R trials in P batches of B, J settings, K decoders and races, M
arrivals, N candidates, L messages, G groups, n = 1..K decoders in use. Trials
come last, where the machine's vectors are.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from listcoupling import gumbel, validation
from listcoupling.compression import gaussian
from listcoupling.gumbel import Domain, domain_key

__all__ = [
  'Arrivals',
  'BLOCK',
  'NUM_ARRIVALS',
  'Outcomes',
  'Settings',
  'Sources',
  'draw_arrivals',
  'draw_sources',
  'join',
  'make_settings',
  'run',
  'simulate',
]


def __dir__():
  return __all__


BLOCK = 256  # arrivals looked at in one go
NUM_ARRIVALS = 1 << 12  # of each race; the rest only where it can matter
_OFFSET = 64.0  # keeps logarithmic costs positive, so that they order as bits
# Half a step of float32 from 1, where the normal quantile is infinite.
_BELOW_ONE = 1 - 2.0**-24
_STEP = 64  # of the two-level cumulative sum
_BATCHES = 8  # of (trial, setting) pairs in one call


class Settings(NamedTuple):
  """J settings of the codec; one entry per number n of decoders in use.

  Numpy arrays outside. Inside, without J and with a last axis B of trials, or
  1 where all trials share the setting.
  """

  test_variance: np.ndarray  # [J, K] v
  period: np.ndarray  # [J, K] L G times the width of interval labels, else 1
  num_groups: np.ndarray  # [J, K] G, which divides n
  num_messages: np.ndarray  # [J] L
  is_interval: np.ndarray  # [J] bool, interval labels instead of iid ones
  is_shared: np.ndarray  # [J] bool, one race for all decoders


class Outcomes(NamedTuple):
  """Results of R trials; numpy arrays. NaN for decoders k >= n."""

  squared_error: np.ndarray  # [R, J, K, K] by (n, k)
  is_match: np.ndarray  # [R, J, K] bool, one has the encoder's candidate
  is_certain: np.ndarray  # [R, J, K] bool, arrivals not drawn change nothing
  information_density: np.ndarray  # [R, J, K, K] by (n, k), in bits


class Sources(NamedTuple):
  """B sources with what belongs to them."""

  value: jax.Array  # [B] a
  side: jax.Array  # [K, B] t
  dither: jax.Array  # [B] of interval labels, in periods


class Arrivals(NamedTuple):
  """The first M arrivals of K races, in the order of time.

  With `complete`, a time for each of the N candidates follows: M + N.
  """

  log_time: jax.Array  # [K, M, B] log(N t) + a constant
  normal: jax.Array  # [K, M, B] the candidate over sqrt(1 + v)
  uniform: jax.Array  # [K, M, B] on (0, 1): the iid label over L G
  index: jax.Array  # [K, M, B] int32, the candidate


def make_settings(
  test_variance,
  num_messages,
  *,
  period=None,
  is_shared=False,
  num_groups=1,
  num_decoders,
) -> Settings:
  """Settings of one kind, one per entry of the arguments.

  Args:
    test_variance: [J] or [J, K].
    num_messages: [J].
    period: [J] or [J, K] for interval labels, None for iid ones.
    is_shared: bool, one race for all.
    num_groups: G of every n, or "all" for G = n.
    num_decoders: K.

  Returns:
    `Settings`.

  Raises:
    ValueError: for a variance or period that is not positive, L < 1, or G
      that does not divide the number of decoders. With G > 1 settings hold for
      the n that G divides; other n get the largest common divisor.

  Example:
    >>> make_settings([.01, .005], [2, 4], num_decoders=3).period.shape
    (2, 3)
  """
  num_messages = np.asarray(num_messages, np.float32)
  shape = (len(num_messages), num_decoders)

  def spread(x):
    x = np.asarray(x, np.float32)
    return np.broadcast_to(x[:, None] if x.ndim == 1 else x, shape)

  settings = Settings(
    spread(test_variance),
    spread(np.ones(shape) if period is None else period),
    spread(_groups(num_groups, num_decoders)[None]),
    num_messages,
    np.full(shape[0], period is not None),
    np.full(shape[0], is_shared),
  )
  for name in ('test_variance', 'period'):
    value = getattr(settings, name)
    if not np.all((value > 0) & np.isfinite(value)):
      raise ValueError(f'{name} must be positive and finite, got {value}.')
  if not np.all(num_messages >= 1):
    raise ValueError(f'num_messages must be at least 1, got {num_messages}.')
  return settings


def _groups(num_groups, num_decoders) -> np.ndarray:
  """G [K] of n = 1..K decoders in use."""
  counts = np.arange(1, num_decoders + 1)
  if num_groups == 'all':
    return counts
  validation.check_positive_int(num_groups, 'num_groups')
  if num_decoders % num_groups:
    raise ValueError(
      f'num_groups must divide num_decoders = {num_decoders}, got {num_groups}.'
    )
  return np.gcd(counts, num_groups)


def join(*parts: Settings) -> Settings:
  """Settings one after the other."""
  return Settings(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def draw_sources(key, trials, side_variance):
  """`Sources` of the trials [B] and the keys [B] of their races.

  Sources and side information are those of `gaussian.simulate`.

  Args:
    key: typed key.
    trials: [B] integers.
    side_variance: [K].
  """

  def one(trial):
    key_of_trial = gaussian.trial_key(key, trial)
    a, t = gaussian.draw_source(
      key_of_trial, side_variance.shape[0], side_variance
    )
    dither = gumbel.uniform(domain_key(key_of_trial, Domain.DITHER), 1)[0]
    return a, t, dither, key_of_trial

  a, t, dither, keys = jax.vmap(one)(trials)
  return Sources(a, t.T, dither), keys


def _cumulative_sum(x):
  """Along axis -1: [..., M], M a multiple of 64; one product of matrices."""
  parts = x.reshape(-1, _STEP)
  lower = jnp.tril(jnp.ones((_STEP, _STEP), x.dtype))
  exact = jax.lax.Precision.HIGHEST
  sums = jnp.einsum('mj,ij->mi', parts, lower, precision=exact)
  ends = sums[:, -1].reshape(*x.shape[:-1], -1)
  before = jnp.cumsum(ends, -1) - ends
  return (sums + before.reshape(-1, 1)).reshape(x.shape)


def _uniform_of(keys, index, domain: Domain):
  """Uniform numbers of candidates [B, K, M] of B trials."""
  return jax.vmap(lambda key, i: gumbel.uniform(domain_key(key, domain), i))(
    keys, index
  )


def draw_arrivals(
  keys,
  *,
  num_races: int,
  num_arrivals: int,
  num_candidates: int,
  complete: bool = False,
) -> Arrivals:
  """First arrivals of B trials.

  Args:
    keys: [B] typed keys of trials.
    num_races: K.
    num_arrivals: M, a multiple of BLOCK.
    num_candidates: N, with `complete` a multiple of BLOCK.
    complete: append one later time for each candidate, which ends the race.

  Returns:
    `Arrivals` of M, or M + N.
  """
  streams = jnp.arange(num_races, dtype=jnp.int32)

  def by_race(f, part, count):
    return jax.vmap(
      lambda key: jax.vmap(
        lambda stream: f(domain_key(key, Domain.RACES, part), count, stream)
      )(streams)
    )(keys)

  # Stages that are fused into one do not vectorise: keep them apart.
  apart = jax.lax.optimization_barrier
  gaps = apart(by_race(gumbel.exponential, 0, num_arrivals))
  time = apart(_cumulative_sum(gaps))  # [B, K, M] N t
  place = by_race(gumbel.uniform, 1, num_arrivals) * num_candidates
  index = jnp.minimum(place.astype(jnp.int32), num_candidates - 1)
  if complete:
    later = by_race(gumbel.exponential, 2, num_candidates)
    later = time[..., -1:] + num_candidates * later
    time = jnp.concatenate([time, later], -1)
    every = jax.lax.broadcasted_iota(jnp.int32, later.shape, 2)
    index = jnp.concatenate([index, every], -1)
  index = apart(index)
  of_candidate, uniform = (
    apart(_uniform_of(keys, index, domain))
    for domain in (Domain.CODEBOOK, Domain.LABELS)
  )
  quantile = jnp.clip(2 * of_candidate - 1, -_BELOW_ONE, _BELOW_ONE)
  normal = math.sqrt(2) * apart(jax.lax.erf_inv(quantile))
  log_time = jnp.log(time) + _OFFSET
  parts = log_time, normal, jnp.minimum(uniform, _BELOW_ONE), index
  return Arrivals(*(apart(jnp.moveaxis(apart(x), 0, -1)) for x in parts))


def _least(cost):
  """Least cost [B], as ordered integers, and its place: [..., B] -> [B] both.

  Positive floats order like their bits; XLA vectorises the integer minimum.
  """
  flat = cost.reshape(-1, cost.shape[-1])
  order = jax.lax.bitcast_convert_type(flat, jnp.int32)
  best = jnp.min(order, axis=0)
  iota = jax.lax.broadcasted_iota(jnp.int32, flat.shape, 0)
  # Two fusions may round a cost apart by a unit or two: not `order == best`.
  hit = order <= best[None] + 4
  place = jnp.min(jnp.where(hit, iota, flat.shape[0]), axis=0)
  return best, place


def _of_race(x, race, count):
  """Entries of one race per trial: [K, ..., B] and [B] -> [..., B].

  Args:
    x: of all races.
    race: [B] or [1], below `count`.
    count: static.
  """
  race = race.reshape((1,) * (x.ndim - 2) + (-1,))
  chosen = x[0]
  for r in range(1, count):
    chosen = jnp.where(race == r, x[r], chosen)
  return chosen


def _races(setting: Settings, n):
  """Number of races [B] of n decoders, and the race [B] of each of them."""
  groups = setting.num_groups[n - 1].astype(jnp.int32)
  number = jnp.where(setting.is_shared, 1, n // groups)
  race = [jnp.where(setting.is_shared, 0, k // groups) for k in range(n)]
  return number, race


def _labels(u, uniform, dither, setting: Settings, n):
  """[..., B] float labels 0..L G - 1 of candidates, with n decoders."""
  is_interval, period, dither, count = (
    x.reshape((1,) * (u.ndim - 1) + (-1,))
    for x in (
      setting.is_interval,
      setting.period[n - 1],
      dither,
      setting.num_messages * setting.num_groups[n - 1],
    )
  )
  place = jnp.where(is_interval, u / period + dither, uniform)
  return jnp.floor((place - jnp.floor(place)) * count)


def _search(costs, num_blocks, arrivals):
  """Least cost over the first blocks of all races, for several costs.

  Args:
    costs: (log_time, normal, uniform) blocks [K, BLOCK, B] -> list of
      (first race [B] or 0, [k, BLOCK, B]), k races from the first.
    num_blocks: [] traced.
    arrivals: `Arrivals`.

  Returns:
    cost [C, B] and place [C, B] in the [K M, B] arrivals.
  """
  parts = arrivals[:3]
  length, batch = arrivals.log_time.shape[1:]

  def blocks(i):
    start = i * BLOCK
    return (jax.lax.dynamic_slice_in_dim(x, start, BLOCK, 1) for x in parts)

  def body(i, carry):
    least = []
    for first, cost in costs(*blocks(i)):
      best, place = _least(cost)
      race = first + place // BLOCK
      least.append((best, race * length + i * BLOCK + place % BLOCK))
    best, place = (jnp.stack(x) for x in zip(*least))
    earlier = best < carry[0]
    return (
      jnp.where(earlier, best, carry[0]),
      jnp.where(earlier, place, carry[1]),
    )

  count = len(jax.eval_shape(lambda: [x for _, x in costs(*blocks(0))]))
  none = jnp.full((count, batch), jnp.inf, jnp.float32)
  start = (
    jax.lax.bitcast_convert_type(none, jnp.int32),
    jnp.zeros((count, batch), jnp.int32),
  )
  best, place = jax.lax.fori_loop(
    jnp.int32(0), jnp.asarray(num_blocks, jnp.int32), body, start
  )
  return jax.lax.bitcast_convert_type(best, jnp.float32), place


def _take(arrivals, place):
  """Arrivals at places [C, B]: arrays [C, B]."""
  return Arrivals(
    *(
      jnp.take_along_axis(x.reshape(-1, x.shape[-1]), place, axis=0)
      for x in arrivals
    )
  )


def _encode(arrivals, a, setting, num_blocks):
  """Cost and place [K, B] of the encoder's choice with n = 1..K decoders."""
  num_decoders = arrivals.log_time.shape[0]

  def costs(log_time, normal, _):
    found = []
    for n in range(1, num_decoders + 1):
      z, v = normal[:n], setting.test_variance[n - 1][None, None]
      miss = jnp.sqrt(1 + v) * z - a[None, None]
      cost = log_time[:n] + (miss * miss * (0.5 / v) - 0.5 * z * z)
      race = jnp.arange(n, dtype=jnp.int32)[:, None, None]
      runs = race < _races(setting, n)[0][None, None]
      found.append((0, jnp.where(runs, cost, jnp.inf)))
    return found

  return _search(costs, num_blocks, arrivals)


def _decode(arrivals, sources, message, setting, s, num_blocks):
  """Cost and place [K (K + 1) / 2, B] of decoder k of n, by (n, k)."""
  num_decoders = arrivals.log_time.shape[0]

  def cost_of(n, k, log_time, normal, uniform):
    race = _races(setting, n)[1][k]
    log_time, z, uniform = (
      _of_race(x, race, k + 1)[None] for x in (log_time, normal, uniform)
    )
    v = setting.test_variance[n - 1][None, None]
    u = jnp.sqrt(1 + v) * z
    miss = u - gaussian.posterior_mean(sources.side[k], s[k])[None, None]
    precision = 0.5 / (v + gaussian.posterior_variance(s[k])[None, None])
    cost = log_time + miss * miss * precision - 0.5 * z * z
    groups = setting.num_groups[n - 1]
    label = _labels(u, uniform, sources.dither, setting, n)
    own = message[n - 1] * groups + jnp.mod(jnp.float32(k), groups)
    return race, jnp.where(label == own[None, None], cost, jnp.inf)

  def costs(*blocks):
    return [
      cost_of(n, k, *blocks)
      for n in range(1, num_decoders + 1)
      for k in range(n)
    ]

  return _search(costs, num_blocks, arrivals)


def _horizons(arrivals, sources, s, blocks):
  """Costs [K, B] that nothing not drawn falls below: encoder, decoders.

  No weight over prior exceeds e^(a^2 / 2) at the encoder and
  e^(t^2 / (2 (1 + s))) at a decoder.
  """
  last = [arrivals.log_time[:, b * BLOCK - 1] for b in blocks]  # [K, B]
  a = sources.value[None]
  # mean^2 / (2 (1 - posterior variance)) in a form that holds for s = inf.
  rise = 0.5 * gaussian.posterior_mean(sources.side, s) * sources.side
  return last[0] - 0.5 * a * a, last[1], rise


def _messages(w, uniform, dither, setting):
  """Messages to n = 1..K decoders: [K, B]."""

  def of(n):
    own = slice(n - 1, n)
    label = _labels(w[own], uniform[own], dither, setting, n)[0]
    return jnp.floor(label / setting.num_groups[n - 1])

  return jnp.stack([of(n) for n in range(1, len(w) + 1)])


def run(
  arrivals: Arrivals, sources: Sources, setting: Settings, s, blocks
) -> Outcomes:
  """Sends B sources at one setting each, to n = 1..K decoders.

  Args:
    arrivals: of B trials.
    sources: of B trials.
    setting: with a last axis of B or 1 and no J.
    s: [K] variances of the side information.
    blocks: ([], []) blocks of arrivals to look at, of encoder and decoders.

  Returns:
    `Outcomes` of [K, ..., B] instead of [R, J, K, ...].
  """
  a, t, dither = sources
  num_decoders = t.shape[0]
  s = s[:, None]
  best, place = _encode(arrivals, a, setting, blocks[0])  # [K, B]
  sent = _take(arrivals, place)
  w = jnp.sqrt(1 + setting.test_variance) * sent.normal  # [K, B]
  message = _messages(w, sent.uniform, dither, setting)
  cost, place = _decode(arrivals, sources, message, setting, s, blocks[1])
  answers = _take(arrivals, place)
  horizons = _horizons(arrivals, sources, s, blocks)
  outcomes = []
  for n in range(1, num_decoders + 1):
    rows = slice(n * (n - 1) // 2, n * (n + 1) // 2)
    v = setting.test_variance[n - 1][None]
    answer = gaussian.estimate(
      jnp.sqrt(1 + v) * answers.normal[rows], t[:n], s[:n], v
    )
    absent = ((0, num_decoders - n), (0, 0))
    pad = functools.partial(
      jnp.pad, pad_width=absent, constant_values=jnp.float32(jnp.nan)
    )
    density = gaussian.information_density(w[None, n - 1], a[None], t, s, v)
    outcomes.append(
      Outcomes(
        pad((answer - a[None]) ** 2),
        (answers.index[rows] == sent.index[None, n - 1]).any(0),
        _is_certain(best[n - 1], cost[rows], horizons, setting, n),
        pad(density[:n]),
      )
    )
  return jax.tree.map(lambda *x: jnp.stack(x), *outcomes)


def _is_certain(encoder_cost, decoder_cost, horizons, setting, n):
  """[B] bool: no arrival that was not drawn could overtake a winner."""
  number, race = _races(setting, n)
  encoder, last, rise = horizons
  runs = jnp.arange(n, dtype=jnp.int32)[:, None] < number[None]
  certain = ((encoder_cost[None] <= encoder[:n]) | ~runs).all(0)
  for k in range(n):
    certain &= decoder_cost[k] <= _of_race(last, race[k], k + 1) - rise[k]
  return certain


def _first_blocks(settings: Settings):
  """Blocks [J] for encoder and decoders that certify nearly every trial."""
  # The winner is the first of about q* = 1/sqrt(v) e^(a^2/2) arrivals, and
  # of L G p* for a decoder.
  encoder = 128 / np.sqrt(settings.test_variance.min(1))
  decoder = 128 * settings.num_messages * settings.num_groups.max(1)
  return tuple(
    np.clip(np.ceil(x / BLOCK), 1, NUM_ARRIVALS // BLOCK).astype(np.int32)
    for x in (encoder, decoder)
  )


def _on_devices(batch, num_devices):
  """Maps `batch` over the leading axis of its first argument, on all devices.

  Args:
    batch: (entry, *whole) -> pytree.
    num_devices: which share the entries equally.
  """
  mesh = Mesh(np.array(jax.local_devices()[:num_devices]), ('trials',))
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


def _draw(key, trials, s, num_candidates, complete=False):
  """`Sources` and `Arrivals` of the trials [B]."""
  sources, keys = draw_sources(key, trials, s)
  arrivals = draw_arrivals(
    keys,
    num_races=s.size,
    num_arrivals=NUM_ARRIVALS,
    num_candidates=num_candidates,
    complete=complete,
  )
  return sources, arrivals


_compiled = functools.partial(
  jax.jit, static_argnames=('num_candidates', 'num_devices')
)


@_compiled
def _grid(trials, key, settings, s, *, num_candidates, num_devices):
  """Trials [P, B] at all settings (with blocks) -> [P, J, K, ..., B]."""

  def batch(trials, key, settings, s):
    sources, arrivals = _draw(key, trials, s, num_candidates)
    return jax.lax.map(
      lambda x: run(arrivals, sources, x[0], s, x[1]), settings
    )

  return _on_devices(batch, num_devices)(trials, key, settings, s)


@_compiled
def _pairs(pairs, key, s, *, num_candidates, num_devices):
  """Complete races of (trial, setting) pairs [P, B] -> [P, K, ..., B]."""
  blocks = ((NUM_ARRIVALS + num_candidates) // BLOCK,) * 2

  def batch(pair, key, s):
    trials, setting = pair
    sources, arrivals = _draw(key, trials, s, num_candidates, complete=True)
    return run(arrivals, sources, setting, s, blocks)

  return _on_devices(batch, num_devices)(pairs, key, s)


def _first_pass(key, trials, settings, s, options, batch_size) -> Outcomes:
  """Every setting on every trial, by the first arrivals alone."""
  size = batch_size * options['num_devices']
  padded = np.resize(trials, -(-trials.size // size) * size)
  shared = Settings(*(x[..., None] for x in settings))
  out = _grid(
    padded.reshape(-1, batch_size),
    key,
    (shared, _first_blocks(settings)),
    s,
    **options,
  )

  def unpack(x):  # [P, J, K, ..., B] -> [R, J, K, ...]
    x = np.moveaxis(np.asarray(x), -1, 1)
    return x.reshape(-1, *x.shape[2:])[: trials.size].copy()

  return Outcomes(*(unpack(x) for x in out))


def _complete(out, key, trials, settings, s, options, batch_size):
  """Runs what is not certain again as complete races, in place."""
  rows, columns = np.nonzero(~out.is_certain.all(-1))
  batch_size = max(1, batch_size // 4)  # longer races, the same memory
  size = batch_size * options['num_devices'] * _BATCHES

  def pack(x):  # [., ...] -> [P, ..., B]
    return np.moveaxis(x.reshape(-1, batch_size, *x.shape[1:]), 1, -1)

  for start in range(0, rows.size, size):
    row, column = (x[start : start + size] for x in (rows, columns))
    each = Settings(*(pack(x[np.resize(column, size)]) for x in settings))
    pairs = pack(trials[np.resize(row, size)]), each
    for old, new in zip(out, _pairs(pairs, key, s, **options), strict=True):
      new = np.moveaxis(np.asarray(new), -1, 1)  # [P, B, ...]
      old[row, column] = new.reshape(-1, *new.shape[2:])[: row.size]
    out.is_certain[row, column] = True


def _check(key, trials, settings, num_candidates, complete) -> None:
  validation.check_key(key)
  validation.check_positive_int(num_candidates, 'num_candidates')
  if complete and num_candidates % BLOCK:
    raise ValueError(
      f'num_candidates must be a multiple of {BLOCK}, got {num_candidates}.'
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
  batch_size: int | None = None,
) -> Outcomes:
  """Runs every setting on every trial, with n = 1..K decoders.

  Args:
    key: typed key.
    trials: [R] integers; trial r depends on (key, r) alone.
    settings: of K decoders.
    num_candidates: N.
    side_variance: [] or [K] s; inf for a decoder without side information.
    complete: run what is not certain again as complete races: exact in law
      (for N a multiple of 256); otherwise it is kept as it is, about one
      result in a hundred, most of them right.
    batch_size: trials in one batch of a device; default 32 on CPU, 1024
      elsewhere.

  Returns:
    `Outcomes`.

  Raises:
    ValueError: for a bad key, no trials, no settings, N < 1, s <= 0, or
      `complete` and N no multiple of 256.

  Example:
    >>> settings = make_settings([.05], [4], num_decoders=2)
    >>> out = simulate(jax.random.key(0), range(8), settings, batch_size=8)
    >>> out.squared_error.shape
    (8, 1, 2, 2)
  """
  trials = np.asarray(trials, np.int32)
  _check(key, trials, settings, num_candidates, complete)
  s = gaussian.check_side_variance(
    side_variance, settings.test_variance.shape[1]
  )
  batch_size = batch_size or (32 if jax.default_backend() == 'cpu' else 1024)
  options = {
    'num_candidates': num_candidates,
    'num_devices': len(jax.local_devices()),
  }
  out = _first_pass(key, trials, settings, s, options, batch_size)
  if complete:
    _complete(out, key, trials, settings, s, options, batch_size)
  return out
