"""Baselines and limits of the Gaussian source.

None of it is in Rowan, Phan, Khisti (2025), arXiv 2506.05632, but for the
limit of Wyner and Ziv (1976). A ~ N(0, 1), T_k = A + N(0, s_k), one message out
of L to K decoders.

*   `modulo_quantiser`: the message is the interval of a dithered uniform
    quantiser modulo L; each decoder takes the interval nearest to its own
    posterior mean and answers with its conditional mean. No candidates, no
    races.
*   `seed_aware`: the paper's encoder and iid labels. Given the seed the
    encoder is a function a -> candidate whose level sets are intervals; a
    decoder rebuilds them on a grid and ranks those that carry the message by
    their probability given T_k. Decoder k takes the k-th and answers with its
    conditional mean.
*   Limits on the mean squared error of the best decoder.

Decoder k does not depend on how many there are: the first n of K are the
decoders of a smaller list.

Legend: B trials, K decoders, L messages, P points of the grid, M arrivals.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from listcoupling import validation
from listcoupling.compression import gaussian, poisson_functional

__all__ = [
  'list_mse_limit',
  'lloyd_max_mse',
  'log_quantiser_db',
  'modulo_quantiser',
  'seed_aware',
  'wyner_ziv_mse',
]


def __dir__():
  return __all__


_POINTS, _REACH = 1024, 4.25  # the grid covers [-_REACH, _REACH]
_STEP = 2 * _REACH / _POINTS
_TAIL = 9.0  # standard deviations: beyond lies a mass of 1e-19
_NODES, _WEIGHTS = (x / 2 for x in np.polynomial.legendre.leggauss(40))
_NODES = _NODES + 0.5  # of integrals from 0 to 1
_ARRIVALS = 1 << 12


def wyner_ziv_mse(num_messages, side_variance=0.5):
  """Least MSE of one decoder at log2 L bits, in the limit of long blocks.

  s / (1 + s) / L^2: at s = 1/2, -4.77 - 6.02 R dB.

  Example:
    >>> float(wyner_ziv_mse(1, 1.0))
    0.5
  """
  num_messages = validation.as_numbers(num_messages, 'num_messages')
  return (
    side_variance / (1 + side_variance) / np.square(num_messages, dtype=float)
  )


def list_mse_limit(num_messages, num_decoders, side_variance=0.5):
  """MSE of the best of K decoders is at least (L K)^-2 / (1 + K / s).

  A genie tells which decoder is best: log2(L K) bits about A, whose variance
  given all T_k is 1 / (1 + K / s).

  Example:
    >>> round(float(list_mse_limit(2, 1)), 4)
    0.0833
  """
  num_messages = validation.as_numbers(num_messages, 'num_messages')
  known = 1 / (1 + num_decoders / side_variance)
  return known / np.square(num_messages * num_decoders, dtype=float)


def lloyd_max_mse(num_levels: int, variance: float = 1.0) -> float:
  """MSE of the best scalar quantiser of N(0, variance) with so many levels.

  Lloyd (1982), Max (1960), by their fixed point. With L K levels and the
  variance 1 / (1 + K / s) of A given all T_k it is what a scalar scheme for K
  decoders could have if the best decoder were known: `list_mse_limit`'s limit
  of long blocks, at block length 1.

  Raises:
    ValueError: for fewer than one level or a variance that is not positive.

  Example:
    >>> round(lloyd_max_mse(2), 4)  # 1 - 2 / pi
    0.3634
  """
  validation.check_positive_int(num_levels, 'num_levels')
  validation.check_positive(variance=variance)
  levels = stats.norm.ppf((np.arange(num_levels) + 0.5) / num_levels)
  for _ in range(20_000):
    ends = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    mass = np.diff(stats.norm.cdf(ends))
    new = -np.diff(stats.norm.pdf(ends)) / mass
    if np.max(np.abs(new - levels)) < 1e-9:
      break
    levels = new
  return float(variance * (1 - np.sum(mass * new**2)))


def log_quantiser_db(num_levels: int, variance: float = 1.0) -> float:
  """Least mean of decibels of a scalar quantiser of N(0, variance).

  As `lloyd_max_mse`, with 10 log10 of the squared error in place of the squared
  error: what a scalar scheme for K decoders could have in the paper's measure
  if the best decoder were known. A fixed point of Lloyd's two steps, from
  levels of equal mass, which are best where levels are many.

  Raises:
    ValueError: for fewer than one level or a variance that is not positive.

  Example:
    >>> round(log_quantiser_db(1), 2)  # of the Gaussian itself
    -5.52
  """
  validation.check_positive_int(num_levels, 'num_levels')
  validation.check_positive(variance=variance)
  levels = stats.norm.ppf((np.arange(num_levels) + 0.5) / num_levels)
  for _ in range(500):
    left, right = _gaps(levels)
    width = np.minimum(left + right, 1.0)
    # A Newton step, were the density even over the cell.
    step = _pull(levels, left, right) * width / (4 * stats.norm.pdf(levels))
    step = np.clip(step, -width / 4, width / 4)
    levels = levels + step
    if np.max(np.abs(step) / width) < 1e-6:
      break
  mean = sum(_log_error(levels, gap, side) for gap, side in zip(
    _gaps(levels), (-1, 1)
  ))  # fmt: skip
  return float(10 * np.log10(variance) + 10 / np.log(10) * mean)


def _gaps(levels):
  """From each level to both ends of its cell: [N], [N]."""
  ends = (levels[1:] + levels[:-1]) / 2
  ends = np.concatenate([[-_TAIL], ends, [_TAIL]])
  return levels - ends[:-1], ends[1:] - levels


def _pull(levels, left, right):
  """Principal value of the integral of density / (x - level) over a cell."""
  near, far = np.minimum(left, right), np.maximum(left, right)
  u, level = near[:, None] * _NODES, levels[:, None]
  density = stats.norm.pdf
  even = (density(level + u) - density(level - u)) / _NODES  # out to `near`
  side = np.sign(right - left)  # that reaches further
  ratio = far / near
  u = near[:, None] * ratio[:, None] ** _NODES
  rest = density(level + side[:, None] * u) * np.log(ratio)[:, None]
  return np.sum(_WEIGHTS * (even + side[:, None] * rest), 1)


def _log_error(levels, gap, side):
  """Integral of density times log (x - level)^2 on one side of all levels."""
  u = gap[:, None] * _NODES**3  # smooth at the level
  density = stats.norm.pdf(levels[:, None] + side * u)
  slope = 3 * gap[:, None] * _NODES**2
  return np.sum(_WEIGHTS * slope * density * 2 * np.log(u))


def _truncated_mean(mean, deviation, low, high):
  """Mean of N(mean, deviation^2) within [low, high]."""
  alpha, beta = (low - mean) / deviation, (high - mean) / deviation
  # Far out in a tail the masses vanish: there it is the near end.
  flip = alpha > 0
  alpha, beta = jnp.where(flip, -beta, alpha), jnp.where(flip, -alpha, beta)
  cdf, pdf = jax.scipy.stats.norm.cdf, jax.scipy.stats.norm.pdf
  mass = cdf(beta) - cdf(alpha)
  shift = (pdf(alpha) - pdf(beta)) / jnp.maximum(mass, 1e-30)
  shift = jnp.where(mass > 1e-12, shift, beta)
  shift = jnp.clip(shift, alpha, beta)
  return mean + deviation * jnp.where(flip, -shift, shift)


def modulo_quantiser(
  key, trials, num_messages, width, side_variance=0.5, *, num_decoders
):
  """Squared errors of the decoders of a dithered modulo quantiser.

  Args:
    key: typed key, e.g. that of `poisson_functional.simulate`: then sources
      and side information are the same.
    trials: [B] integers.
    num_messages: [] L.
    width: [] length of an interval.
    side_variance: [] or [K] s; inf for no side information.
    num_decoders: K.

  Returns:
    [B, K].

  Raises:
    ValueError: for a width that is not positive and finite.

  Example:
    >>> error = modulo_quantiser(jax.random.key(0), jnp.arange(9), 4, .5,
    ...                          num_decoders=2)
    >>> error.shape
    (9, 2)
  """
  validation.check_positive(width=width)
  return _modulo_quantiser(
    key,
    jnp.asarray(trials, jnp.int32),
    jnp.asarray(num_messages, jnp.float32),
    jnp.asarray(width, jnp.float32),
    gaussian.check_side_variance(side_variance, num_decoders),
  )


@jax.jit
def _modulo_quantiser(key, trials, num_messages, width, s):
  (a, t, dither), _ = poisson_functional.draw_sources(key, trials, s)
  period = num_messages * width
  shift = dither * period
  message = jnp.mod(jnp.floor((a + shift) / width), num_messages)  # [B]
  mean = gaussian.posterior_mean(t, s[:, None])  # [K, B]
  deviation = jnp.sqrt(gaussian.posterior_variance(s))[:, None]
  centre = ((message + 0.5) * width - shift)[None]
  centre = centre + period * jnp.round((mean - centre) / period)
  answer = _truncated_mean(
    mean, deviation, centre - width / 2, centre + width / 2
  )
  return ((answer - a[None]) ** 2).T


def _grid():
  return -_REACH + _STEP * (jnp.arange(_POINTS, dtype=jnp.float32) + 0.5)


def _rebuild(cost, normal, v, reach):
  """The encoder at the points of the grid: which candidate it would choose.

  Args:
    cost: [M] log t - log prior weight of the arrivals.
    normal: [M] candidates over sqrt(1 + v).
    v: [] variance of the test channel.
    reach: points to look at on either side, static.

  Returns:
    winner [P] int, the point next to the winning candidate, and arrival [P]
    int, the earliest candidate next to each point.
  """
  u = jnp.sqrt(1 + v) * normal
  grid = _grid()
  point = jnp.clip((u + _REACH) / _STEP, 0, _POINTS - 1).astype(jnp.int32)
  infinite = jnp.full(_POINTS, jnp.inf, jnp.float32)
  best = infinite.at[point].min(cost)  # one arrival per point
  count = cost.shape[0]
  index = jnp.arange(count, dtype=jnp.int32)
  place = jnp.where(cost == best[point], index, count)
  arrival = jnp.full(_POINTS, count, jnp.int32).at[point].min(place)
  arrival = jnp.minimum(arrival, count - 1)
  position = jnp.where(best < jnp.inf, u[arrival], 0.0)
  pad = functools.partial(jnp.pad, pad_width=reach)
  best = pad(best, constant_values=jnp.float32(jnp.inf))
  position = pad(position)
  here = jnp.arange(_POINTS, dtype=jnp.int32)

  def body(shift, carry):
    least, winner = carry
    take = functools.partial(
      jax.lax.dynamic_slice_in_dim, start_index=shift, slice_size=_POINTS
    )
    miss = take(position) - grid
    total = take(best) + miss * miss * (0.5 / v)
    earlier = total < least
    return (
      jnp.where(earlier, total, least),
      jnp.where(earlier, here + shift - reach, winner),
    )

  start = infinite, jnp.zeros(_POINTS, jnp.int32)
  _, winner = jax.lax.fori_loop(
    jnp.int32(0), jnp.int32(2 * reach + 1), body, start
  )
  return winner, arrival


def _rank(winner, labels, message, mean, deviation, count):
  """Conditional means [count] of the most probable level sets, in order."""
  grid = _grid()
  density = jnp.exp(-0.5 * ((grid - mean) / deviation) ** 2)
  density = jnp.where(labels[winner] == message, density, 0.0)
  none = jnp.zeros(_POINTS, jnp.float32)
  mass = none.at[winner].add(density)
  moment = none.at[winner].add(density * grid)
  top, sets = jax.lax.top_k(mass, count)
  return jnp.where(top > 0, moment[sets] / jnp.maximum(top, 1e-30), mean)


def seed_aware(
  key,
  trials,
  v,
  side_variance=0.5,
  *,
  num_messages: tuple[int, ...],
  num_decoders: int,
  num_candidates: int = 2**15,
):
  """Squared errors of decoders that know the seed.

  The encoder needs one race: it chooses alike with K. Its first 4096 arrivals
  are drawn; a decoder's grid has 1024 points, one candidate next to each, and
  reaches 4.25 standard deviations of A.

  Args:
    key: typed key.
    trials: [B] integers.
    v: [] variance of the test channel. Right from about 5e-4 (the grid's
      step) to .01 (its reach of 64 points). Beyond, the decoders' map has
      errors and they answer worse than they could; nothing is refused.
    side_variance: [] or [K] s.
    num_messages: the L's, static.
    num_decoders: K, static.
    num_candidates: N, static.

  Returns:
    [B, len(num_messages), K].

  Example:
    >>> error = seed_aware(jax.random.key(0), jnp.arange(2), .01,
    ...                    num_messages=(2, 4), num_decoders=3)
    >>> error.shape
    (2, 2, 3)
  """
  return _seed_aware(
    key,
    jnp.asarray(trials, jnp.int32),
    jnp.asarray(v, jnp.float32),
    gaussian.check_side_variance(side_variance, num_decoders),
    num_messages=tuple(num_messages),
    num_candidates=num_candidates,
  )


@functools.partial(jax.jit, static_argnames=('num_messages', 'num_candidates'))
def _seed_aware(key, trials, v, s, *, num_messages, num_candidates):
  sources, keys = poisson_functional.draw_sources(key, trials, s)
  arrivals = poisson_functional.draw_arrivals(
    keys, num_races=1, num_arrivals=_ARRIVALS, num_candidates=num_candidates
  )
  deviation = jnp.sqrt(gaussian.posterior_variance(s))
  reach = 64  # .53: at least five standard deviations of every v up to .01

  def one(x):
    a, t, cost, normal, uniform = x
    cost = cost - 0.5 * normal**2
    winner, arrival = _rebuild(cost, normal, v, reach)
    u = jnp.sqrt(1 + v) * normal
    sent = jnp.argmin(cost + (u - a) ** 2 * (0.5 / v))
    mean = gaussian.posterior_mean(t, s)
    errors = []
    for count in num_messages:
      labels = jnp.floor(uniform[arrival] * count)
      message = jnp.floor(uniform[sent] * count)
      answers = [
        _rank(winner, labels, message, mean[k], deviation[k], k + 1)[k]
        for k in range(s.size)
      ]
      errors.append((jnp.stack(answers) - a) ** 2)
    return jnp.stack(errors)

  batch = (sources.value, sources.side.T, *(x[0].T for x in arrivals[:3]))
  return jax.lax.map(one, batch)
