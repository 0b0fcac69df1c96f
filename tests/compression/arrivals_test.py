"""First arrivals: the exponential race itself, and its winners by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from listcoupling.compression import (
  arrival_codec,
  arrivals,
  gaussian,
)
from tests import statistics

K, N, M, B, S = 2, 256, 512, 64, 0.5
V, L = 0.05, 32


@functools.cache
def _drawn(complete=True):
  key = jax.random.key(5)
  source, keys = arrival_codec.draw_sources(key, jnp.arange(B), K, S)
  return source, arrivals.draw(
    keys, num_races=K, num_arrivals=M, num_candidates=N, complete=complete
  )


@functools.cache
def _dense():
  """First arrival time [K, N, B] of every candidate, and its value and tag."""
  drawn = _drawn()[1]
  time = np.exp(np.asarray(drawn.log_time, np.float64) - 64) / N
  index = np.asarray(drawn.index)
  first = np.full((K, N, B), np.inf)
  normal, tag = np.zeros((N, B)), np.zeros((N, B))
  for k in range(K):
    for b in range(B):
      np.minimum.at(first[k, :, b], index[k, :, b], time[k, :, b])
      normal[index[k, :, b], b] = drawn.normal[k, :, b]
      tag[index[k, :, b], b] = drawn.tag[k, :, b]
  return first, normal, tag


def test_first_arrivals_are_exponential_and_candidates_normal():
  _, drawn = _drawn()
  assert drawn.log_time.shape == (K, M + N, B)
  first, normal, tag = _dense()
  for values, law in (
    (first, stats.expon()),
    (normal, stats.norm()),
    (tag, stats.uniform()),
  ):
    p_value = stats.kstest(values.ravel(), law.cdf).pvalue
    assert p_value > statistics.LEVEL
  wrong = stats.kstest(first.ravel(), stats.expon(scale=1.05).cdf)
  assert wrong.pvalue < statistics.LEVEL
  x, y = (first[k].ravel() for k in (0, 1))
  statistics.assert_mean((x - 1) * (y - 1), 0)  # races are independent
  statistics.assert_mean((x - 1) * normal.ravel(), 0)


def test_fewer_arrivals_are_the_beginning_of_more():
  short, full = _drawn(complete=False)[1], _drawn()[1]
  for a, b in zip(short, full):
    np.testing.assert_array_equal(a, b[:, :M])
  assert np.all(np.diff(short.log_time, axis=1) >= 0)


def _setting(is_interval, v=V):
  return arrival_codec.Setting(
    jnp.full((K, 1), v), jnp.full(1, float(L)), jnp.full((K, 1), 1.6),
    jnp.full(1, is_interval),
  )  # fmt: skip


def _by_hand(n, is_interval, b):
  """Squared error and match of the dense races of one lane."""
  source = _drawn()[0]
  first, normal, tag = (x[..., b] for x in _dense())
  a, t = float(source.value[b]), np.asarray(source.side[:, b], np.float64)
  u = np.sqrt(1 + V) * normal
  place = u / 1.6 + float(source.offset[b]) if is_interval else tag
  label = np.floor((place % 1) * L)
  prior = stats.norm(0, np.sqrt(1 + V)).pdf(u)
  q = stats.norm(a, np.sqrt(V)).pdf(u) / prior
  sent = np.argmin(first[:n].min(0) / q)
  errors, match = [], False
  for k in range(n):
    law = stats.norm(t[k] / (1 + S), np.sqrt(1 + V - 1 / (1 + S)))
    p = np.where(label == label[sent], law.pdf(u) / prior, 1e-300)
    found = np.argmin(first[k] / p)
    match |= found == sent
    errors.append((gaussian.estimate(u[found], t[k], S, V) - a) ** 2)
  return min(errors), match


@pytest.mark.parametrize('is_interval', [False, True])
def test_the_winners_are_those_of_the_dense_races(is_interval):
  run = jax.jit(arrival_codec.run)
  source, drawn = _drawn()
  blocks = ((M + N) // arrivals.BLOCK,) * 2
  out = run(drawn, source, _setting(is_interval), S, blocks)
  for n in (1, 2):
    hand = [_by_hand(n, is_interval, b) for b in range(B)]
    error, match = (np.array(x) for x in zip(*hand))
    close = np.abs(out.squared_error[n - 1] - error) < 1e-4 * (1 + error)
    assert close.sum() >= B - 1  # one may tie in float32
    assert (np.asarray(out.is_match[n - 1]) == match).sum() >= B - 1
  short = run(_drawn(False)[1], source, _setting(is_interval), S, (1, 1))
  certain = np.asarray(short.is_certain)
  assert 0.2 < certain.mean() < 1  # the certificate says something
  np.testing.assert_allclose(
    np.asarray(short.squared_error)[certain],
    np.asarray(out.squared_error)[certain],
    rtol=1e-5,
  )
  # Control: at a tiny v the winner may come late, and that is not certain.
  tiny = _setting(is_interval, 2e-4)
  out = run(drawn, source, tiny, S, blocks)
  short = run(_drawn(False)[1], source, tiny, S, (1, 1))
  missed = np.abs(short.squared_error - out.squared_error) > 1e-4
  assert missed.any() and not (missed & np.asarray(short.is_certain)).any()


def _made_up():
  """Arrivals of no law at all: every race and every n has its own numbers."""
  rng = np.random.default_rng(4)
  races, length, lanes = 3, 2 * arrivals.BLOCK, 6
  shape = races, length, lanes
  pace = np.array([0.9, 0.3, 0.6])[:, None, None]
  drawn = arrivals.Arrivals(
    np.sort(rng.normal(64, pace, shape), axis=1).astype(np.float32),
    rng.normal(size=shape).astype(np.float32),
    rng.uniform(size=shape).astype(np.float32),
    rng.integers(0, 40, shape),
  )
  source = arrival_codec.Source(
    np.array([0.1, -1.5, 0.7, 3.0, 0.0, -2.5]),
    rng.normal(0, 1.5, (races, lanes)),
    rng.uniform(size=lanes),
  )
  setting = arrival_codec.Setting(
    rng.uniform(0.02, 0.4, (races, lanes)),
    np.array([2.0, 3, 4, 2, 3, 4]),
    rng.uniform(1, 3, (races, lanes)),
    np.arange(lanes) % 2 == 0,
  )
  return drawn, source, setting


def _made_up_by_hand(drawn, source, setting, blocks, n, b):
  """Error, match, certainty and densities of one lane with n decoders."""
  heard = [x[:n, : blocks[0] * arrivals.BLOCK, b] for x in drawn]
  v, period = setting.test_variance[n - 1, b], setting.period[n - 1, b]
  a, wide = source.value[b], np.linspace(-12, 12, 4001)

  def cost(z, mean, variance):  # - log of weight over prior
    return (np.sqrt(1 + v) * z - mean) ** 2 / (2 * variance) - z * z / 2

  def label(z, tag):
    u = np.sqrt(1 + v) * z
    place = u / period + source.offset[b] if setting.is_interval[b] else tag
    return np.floor(place % 1 * setting.num_messages[b])

  total = heard[0] + cost(heard[1], a, v)
  place = np.unravel_index(total.argmin(), total.shape)
  # Nothing is certain that an arrival after the last could overtake.
  certain = np.all(total.min() <= heard[0][:, -1] + cost(wide, a, v).min())
  z, tag, index = (x[place] for x in heard[1:])
  w, message = np.sqrt(1 + v) * z, label(z, tag)
  errors, match, densities = [], False, []
  for k in range(n):
    times, *rest = (x[k, : blocks[1] * arrivals.BLOCK, b] for x in drawn)
    t, spread = source.side[k, b], 1 + v - 1 / (1 + S)
    rise = cost(rest[0], t / (1 + S), spread)
    mine = np.where(label(*rest[:2]) == message, times + rise, np.inf)
    best = mine.argmin()
    lowest = cost(wide, t / (1 + S), spread).min()
    certain &= mine[best] <= times[-1] + lowest
    found = np.sqrt(1 + v) * rest[0][best]
    errors.append(((S * found + v * t) / (S + v + S * v) - a) ** 2)
    match |= rest[2][best] == index
    law = stats.norm(t / (1 + S), np.sqrt(spread))
    densities.append(
      (stats.norm(a, np.sqrt(v)).logpdf(w) - law.logpdf(w)) / np.log(2)
    )
  return min(errors), match, certain, densities


@pytest.mark.parametrize('blocks', [(2, 1), (1, 2)])
def test_each_number_of_decoders_has_its_own_setting(blocks):
  drawn, source, setting = _made_up()
  out = jax.jit(arrival_codec.run)(
    *jax.tree.map(jnp.asarray, (drawn, source, setting)), S, blocks
  )
  seen = []
  for n in (1, 2, 3):
    for b in range(len(source.value)):
      error, match, certain, densities = _made_up_by_hand(
        drawn, source, setting, blocks, n, b
      )
      here = tuple(np.asarray(x[n - 1, ..., b]) for x in out)
      assert here[0] == pytest.approx(error, rel=1e-3, abs=1e-5), (n, b)
      assert here[1] == match and here[2] == certain, (n, b)
      np.testing.assert_allclose(here[3][:n], densities, rtol=1e-3, atol=1e-3)
      seen.append((bool(match), bool(certain)))
  assert len({x for x, _ in seen}) == len({x for _, x in seen}) == 2


def test_a_shared_race_is_the_first():
  drawn = _made_up()[0]
  for one, all_of_them in zip(drawn, arrivals.share(drawn), strict=True):
    for race in all_of_them:
      np.testing.assert_array_equal(race, one[0])
