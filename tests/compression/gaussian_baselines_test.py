"""Modulo quantiser, seed-aware decoder and limits of the Gaussian source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from listcoupling.compression import gaussian_baselines as baselines
from listcoupling.compression import poisson_functional
from tests import floats, statistics

S = 0.5


def test_limits_by_hand():
  # Of either side a sum, two quotients, a logarithm and a factor, in float64.
  error = statistics.rounding(10, 30, np.float64)
  for bits in (0, 1, 3):
    decibel = 10 * np.log10(baselines.wyner_ziv_mse(2**bits))
    wanted = 10 * np.log10(S / (1 + S) / 4**bits)
    assert decibel == pytest.approx(wanted, rel=0, abs=error)
  # Powers of two round nothing.
  assert baselines.list_mse_limit(8, 2) == 1 / 16**2 / 5
  assert baselines.list_mse_limit(8, 1) == baselines.wyner_ziv_mse(8)


@pytest.mark.parametrize(
  'levels, mse',
  [(1, '1.0000'), (2, '0.3634'), (4, '0.1175'), (8, '0.03454')],
)
def test_lloyd_max_is_that_of_max_1960(levels, mse):
  found = baselines.lloyd_max_mse(levels)
  # One of his last digit: he cut what he left out, and did not round it.
  last = 10.0 ** (2 - len(mse))
  assert found == pytest.approx(float(mse), rel=0, abs=last)
  assert baselines.lloyd_max_mse(levels, 0.2) == 0.2 * found


def test_log_quantiser_is_found_by_search():
  """Over all levels, each judged by a fine sum over the density."""
  x = np.linspace(-9, 9, 200_001)
  density = stats.norm.pdf(x) * (x[1] - x[0])

  def measure(levels):
    least = np.abs(x[:, None] - levels).min(1)
    return np.sum(density * 20 * np.log10(np.maximum(least, 1e-9)))

  for levels in ([0.3], [-0.71, 0.71], [-1.26, -0.36, 0.36, 1.26]):
    found = optimize.minimize(measure, levels, method='Nelder-Mead')
    # A point of the sum that hits a level counts 180 dB.
    error = 180 * density.max() * len(levels)
    assert abs(baselines.log_quantiser_db(len(levels)) - found.fun) < error
    assert measure(levels) - found.fun > error  # control: other levels
  # A logarithm, a factor and a sum, each up to 20.
  assert baselines.log_quantiser_db(2, 0.1) == pytest.approx(
    baselines.log_quantiser_db(2) - 10,
    rel=0,
    abs=statistics.rounding(4, 20, np.float64),
  )


def _assert_approached(values, limit):
  """Each value is less than half as far off as the one before."""
  miss = np.abs(values - limit)
  assert np.all(miss[1:] < miss[:-1] / 2)


def test_log_quantiser_approaches_equal_masses():
  """Of many levels: 20 log10 of e^h / N, cells even."""
  numbers = 4 ** np.arange(1, 5)
  high = 20 * np.log10((np.pi * np.e / 2) ** 0.5 / numbers) - 20 / np.log(10)
  _assert_approached([baselines.log_quantiser_db(n) for n in numbers], high)
  with pytest.raises(ValueError, match='num_levels'):
    baselines.log_quantiser_db(0)


def test_lloyd_max_approaches_panter_and_dite():
  scaled = [baselines.lloyd_max_mse(n) * n**2 for n in (4, 16, 64, 256)]
  _assert_approached(scaled, np.sqrt(3) * np.pi / 2)
  with pytest.raises(ValueError, match='num_levels'):
    baselines.lloyd_max_mse(0)
  with pytest.raises(ValueError, match='variance must be positive'):
    baselines.lloyd_max_mse(4, -1.0)


@pytest.mark.parametrize('low', [-9.0, -1.0, 0.0, 0.3, 2.0, 12.0])
def test_truncated_mean(low):
  mean, deviation, high = 0.2, 0.6, low + 0.5
  law = stats.truncnorm(
    (low - mean) / deviation, (high - mean) / deviation, mean, deviation
  )
  found = baselines._truncated_mean(mean, deviation, low, high)
  # Far out in a tail the answer is the near end of the cell; beyond z the mean
  # of a standard normal is less than 1 / z away from it.
  near = min(abs(low - mean), abs(high - mean)) / deviation
  error = deviation / near
  if abs(low) < 5:  # elsewhere a ratio of tails at places up to `far`
    far = max(abs(low - mean), abs(high - mean)) / deviation
    # Two densities: a place's two roundings, doubled by the square, the square
    # and an exponential; two masses: a place's two; all move by up to `far`
    # squared over 2, and the ratio is up to `far`.
    error = deviation * statistics.rounding(2 * 8, far * (1 + far**2 / 2))
  assert float(found) == pytest.approx(law.mean(), rel=0, abs=error)
  assert low <= found <= high


def test_modulo_quantiser_by_hand():
  key, trials, count, width = jax.random.key(1), jnp.arange(200), 4, 0.45
  error = baselines.modulo_quantiser(key, trials, count, width, num_decoders=2)
  (a, t, dither), _ = poisson_functional.draw_sources(
    key, trials, jnp.full(2, S)
  )
  shift = np.asarray(dither) * count * width
  cells = np.arange(-60, 61)
  for r in range(200):
    ends = cells * width - shift[r]
    sent = np.searchsorted(ends, a[r]) - 1
    same = (cells - cells[sent]) % count == 0
    best = []
    for k in (0, 1):
      law = stats.norm(t[k, r] / (1 + S), np.sqrt(S / (1 + S)))
      mass = np.where(same, law.cdf(ends + width) - law.cdf(ends), -1)
      cell = np.argmax(mass)
      x = np.linspace(ends[cell], ends[cell] + width, 2001)
      answer = np.sum(x * law.pdf(x)) / np.sum(law.pdf(x))
      best.append((answer - a[r]) ** 2)
    # The ends of the sum over 2001 points weigh twice what they should.
    root = np.sqrt(best)
    assert np.abs(np.sqrt(error[r]) - root).max() < width / 2000


@pytest.mark.parametrize('width', [0.0, -0.5, np.nan, np.inf])
def test_an_interval_has_a_length(width):
  with pytest.raises(ValueError, match='width must be positive'):
    baselines.modulo_quantiser(
      jax.random.key(1), jnp.arange(2), 4, width, num_decoders=1
    )


def _point(u):
  """The point of the grid next to each candidate."""
  return np.clip((u + 4.25) / (8.5 / 1024), 0, 1023).astype(int)


def test_the_encoder_is_rebuilt():
  rng = np.random.default_rng(0)
  v, count = 0.01, 400
  normal = rng.normal(size=count)
  cost = np.log(np.cumsum(rng.exponential(size=count)))
  winner, arrival = baselines._rebuild(
    jnp.asarray(cost, jnp.float32), jnp.asarray(normal, jnp.float32), v, 64
  )
  grid = -4.25 + 8.5 / 1024 * (np.arange(1024) + 0.5)
  u = np.sqrt(1 + v) * normal
  total = cost + (grid[:, None] - u) ** 2 / (2 * v)  # [P, M]
  far = np.abs(_point(u) - np.arange(1024)[:, None]) > 64
  reached = ~far.all(1)
  found = np.asarray(arrival)[np.asarray(winner)][reached]
  best = np.where(far, np.inf, total).argmin(1)[reached]
  np.testing.assert_array_equal(found, best)
  moved = cost + (grid[:, None] - u - 8.5 / 1024) ** 2 / (2 * v)  # by a point
  assert np.any(found != np.where(far, np.inf, moved).argmin(1)[reached])


def _apart(points, mean=0.3, deviation=0.6):
  """Most by which roundings move the conditional mean of a level set."""

  def answer(points):
    density = jnp.exp(-0.5 * ((points - mean) / deviation) ** 2)
    return jnp.sum(density * points) / jnp.sum(density)

  return floats.apart(answer, jnp.asarray(points, jnp.float32))


def test_level_sets_are_ranked_by_their_mass():
  winner = jnp.asarray(np.repeat(np.arange(8), 128))
  labels = jnp.asarray(np.r_[np.tile([0.0, 1.0], 4), np.zeros(1016)])
  grid = -4.25 + 8.5 / 1024 * (np.arange(1024) + 0.5)
  found = baselines._rank(winner, labels, 1.0, 0.3, 0.6, 3)
  ends = -4.25 + 8.5 / 8 * np.arange(9)
  law = stats.norm(0.3, 0.6)
  cells = np.array([1, 3, 5, 7])
  mass = law.cdf(ends[cells + 1]) - law.cdf(ends[cells])
  for rank, cell in enumerate(cells[np.argsort(-mass)][:3]):
    inside = grid[cell * 128 : cell * 128 + 128]
    mean = np.sum(inside * law.pdf(inside)) / np.sum(law.pdf(inside))
    assert abs(float(found[rank]) - mean) < _apart(inside)


def _seed_aware_by_hand(drawn, r, a, t, v, count):
  """Squared errors [K]: at every point of a grid all arrivals, near and far."""
  log_time, normal, uniform = (np.asarray(x[0, :, r], float) for x in drawn[:3])
  u, cost = np.sqrt(1 + v) * normal, log_time - normal**2 / 2
  grid = -4.25 + 8.5 / 1024 * (np.arange(1024) + 0.5)
  order = np.argsort(cost)  # of candidates next to a point the earliest is kept
  kept = order[np.unique(_point(u[order]), return_index=True)[1]]
  winner = kept[(cost + (grid[:, None] - u) ** 2 / (2 * v))[:, kept].argmin(1)]
  sent = (cost + (a - u) ** 2 / (2 * v)).argmin()
  same = np.floor(uniform[winner] * count) == np.floor(uniform[sent] * count)
  errors = []
  for rank, side in enumerate(t):
    density = stats.norm(side / (1 + S), np.sqrt(S / (1 + S))).pdf(grid) * same
    mass = np.bincount(winner, density)
    cell = np.argsort(-mass)[rank]
    mean = side / (1 + S)  # where there is no such set
    if mass[cell] > 0:
      mean = np.bincount(winner, density * grid)[cell] / mass[cell]
    errors.append((mean - a) ** 2)
  return np.array(errors)


def test_decoder_k_takes_the_level_set_of_rank_k():
  key, v, trials = jax.random.key(8), 0.01, jnp.arange(24)
  (a, t, _), keys = poisson_functional.draw_sources(key, trials, jnp.full(3, S))
  drawn = poisson_functional.draw_arrivals(
    keys, num_races=1, num_arrivals=1 << 12, num_candidates=2**15
  )
  found = baselines.seed_aware(
    key, trials, v, num_messages=(2, 8), num_decoders=3
  )
  wanted = np.stack(
    [
      [
        _seed_aware_by_hand(drawn, r, a[r], t[:, r], v, count)
        for count in (2, 8)
      ]
      for r in range(24)
    ]
  )
  # Of a set as large as the grid; the difference from the source and its root.
  error = _apart(baselines._grid()) + statistics.rounding(2, 4.25)
  off = np.abs(np.sqrt(found) - np.sqrt(wanted))
  assert off.max() < error
  # Controls: the other number of labels, the next rank.
  assert np.all(
    np.abs(np.sqrt(found) - np.sqrt(wanted[:, ::-1])).max(0) > error
  )
  assert np.all(np.abs(np.diff(np.sqrt(found))).max(0) > error)


def test_knowing_the_seed_helps_as_published():
  error = baselines.seed_aware(
    jax.random.key(2), jnp.arange(2000), 0.01, num_messages=(8,), num_decoders=2
  )
  settings = poisson_functional.make_settings([0.01], [8], num_decoders=2)
  out = poisson_functional.simulate(
    jax.random.key(2), np.arange(2000), settings, complete=False
  )
  best = np.minimum.accumulate(np.asarray(error)[:, 0], -1)  # [R, K]
  gain = 10 * np.log10(np.nanmin(out.squared_error[:, 0], -1) / best)
  assert np.all(gain.mean(0) > statistics.SIGMAS * gain.std(0) / np.sqrt(2000))
