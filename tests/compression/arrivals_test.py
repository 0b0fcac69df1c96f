"""First arrivals: the exponential race itself, and the codec's law."""

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
  gaussian_grid,
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


_R, _L = 1500, 4


def _settings():
  make = functools.partial(gaussian_grid.make_settings, [V], [_L])
  return gaussian_grid.join(
    make(num_decoders=K),
    make(num_decoders=K, is_shared=True),
    make(num_decoders=K, period=[1.6]),
  )


def test_settings_have_the_law_of_the_codec():
  out = gaussian_grid.simulate(
    jax.random.key(6), np.arange(_R), _settings(), num_candidates=N
  )
  assert out.is_certain.all()
  for j, options in enumerate(
    (
      {},
      {'shared_race': True},
      {'label_kind': 'interval', 'width': 1.6 / _L},
    )
  ):
    exact = gaussian.simulate(
      jax.random.key(7), V, _L, num_trials=_R, num_decoders=K,
      num_candidates=N, **options,
    )  # fmt: skip
    for x, y in (
      (np.log(out.squared_error[:, j, 1]), np.log(exact.squared_error)),
      (out.is_match[:, j, 1], exact.is_match),
      (
        out.information_density[:, j, 1].mean(-1),
        np.asarray(exact.information_density).mean(-1),
      ),
    ):
      x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
      error = np.sqrt((x.var() + y.var()) / _R)
      assert abs(x.mean() - y.mean()) < 5 * error, options
  log_error = np.log(out.squared_error[:, :, 1])
  gain = log_error[:, 0] - log_error[:, 2]  # control: kinds do differ
  assert gain.mean() > 5 * gain.std() / np.sqrt(_R)


def test_trials_do_not_depend_on_their_batch():
  run = functools.partial(
    gaussian_grid.simulate, jax.random.key(6), num_candidates=N
  )
  many = run(np.arange(40), _settings())
  few = run(np.array([33, 5]), _settings(), lanes=2)
  np.testing.assert_allclose(
    few.squared_error, many.squared_error[[33, 5]], rtol=1e-4
  )


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(trials=[]), 'trials'),
    (dict(num_candidates=100), 'multiple of 256'),
    (dict(key=jax.random.PRNGKey(0)), 'key'),
  ],
)
def test_bad_input_is_refused(change, message):
  good = dict(
    key=jax.random.key(0), trials=[0], settings=_settings(), num_candidates=N
  )
  with pytest.raises(ValueError, match=message):
    gaussian_grid.simulate(**{**good, **change})
  with pytest.raises(ValueError, match='test_variance'):
    gaussian_grid.make_settings([0.0], [4], num_decoders=1)
  with pytest.raises(ValueError, match='num_messages'):
    gaussian_grid.make_settings([0.1], [0], num_decoders=1)
