"""The Gaussian source: formulas, the encoder's law and Proposition 4."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from listcoupling import bounds, gumbel
from listcoupling.compression import codec, gaussian, labels
from tests import statistics

S, V, N, R = 0.5, 0.05, 512, 3000
KEY = jax.random.key(21)


def test_densities_agree_with_a_joint_sample():
  rng = np.random.default_rng(0)
  a = rng.normal(size=200_000)
  t = a + np.sqrt(S) * rng.normal(size=a.size)
  w = a + np.sqrt(V) * rng.normal(size=a.size)
  statistics.assert_mean(w**2, 1 + V)
  # Within a thin slice of T the law of W is the one of the formula.
  thin = np.abs(t - 0.7) < 0.02
  variance = 1 + V - 1 / (1 + S)
  law = stats.norm(0.7 / (1 + S), np.sqrt(variance))
  assert stats.kstest(w[thin], law.cdf).pvalue > statistics.LEVEL
  np.testing.assert_allclose(
    np.asarray(gaussian.log_decoder(w[:9], 0.7, S, V)),
    law.logpdf(w[:9]),
    atol=1e-4,
  )
  # The estimate is the conditional mean: its error is orthogonal to W and T.
  error = np.asarray(gaussian.estimate(w, t, S, V)) - a
  statistics.assert_mean(error * w, 0)
  statistics.assert_mean(error * t, 0)
  with pytest.raises(AssertionError):
    statistics.assert_mean(
      (np.asarray(gaussian.estimate(w, t, S, 2 * V)) - a) * w, 0
    )


def test_information_density_averages_to_the_information():
  rng = np.random.default_rng(1)
  a = rng.normal(size=100_000)
  t = a + np.sqrt(S) * rng.normal(size=a.size)
  w = a + np.sqrt(V) * rng.normal(size=a.size)
  conditional = S / (1 + S)  # variance of A given T
  statistics.assert_mean(
    np.asarray(gaussian.information_density(w, a, t, S, V)),
    0.5 * np.log2(1 + conditional / V),
  )


@functools.cache
def _simulated(shared_race=False, label_kind='random', num_decoders=2):
  return gaussian.simulate(
    KEY, V, 4, num_trials=R, num_decoders=num_decoders, num_candidates=N,
    shared_race=shared_race, label_kind=label_kind, width=0.5,
  )  # fmt: skip


def test_the_encoder_draws_from_the_test_channel():
  a = 0.8

  @jax.jit
  @jax.vmap
  def choose(key):
    prior_key, race_key = jax.random.split(key)
    u = jnp.sqrt(1 + V) * jax.random.normal(prior_key, (N,))
    weights = gaussian.log_encoder(u, a, V) - gaussian.log_prior(u, V)
    index, _ = codec.encode(
      race_key, weights, jnp.zeros(N, int), num_decoders=2
    )
    return u[index]

  w = np.asarray(choose(jax.random.split(KEY, R)))
  law = stats.norm(a, np.sqrt(V))
  assert stats.kstest(w, law.cdf).pvalue > statistics.LEVEL
  shifted = stats.norm(a + np.sqrt(V) / 4, np.sqrt(V))
  assert stats.kstest(w, shifted.cdf).pvalue < statistics.LEVEL


def _trial_by_hand(r, kind, shared_race):
  """Error, match and densities of trial r, from its four keys."""
  keys = jax.random.split(jax.random.fold_in(KEY, r), 4)
  a, t = (np.asarray(x, float) for x in gaussian.draw_source(keys[0], 3, S))
  z = np.asarray(jax.random.normal(keys[1], (40,)), float)
  u = np.sqrt(1 + V) * z
  if kind == 'interval':
    offset = float(jax.random.uniform(keys[2])) * 3 * 0.4
    tags = np.floor((u + offset) / 0.4) % 3
  else:
    tags = np.asarray(labels.random_labels(keys[2], 40, 3))
  noise = np.stack(
    [gumbel.exponential(keys[3], 40, k * (not shared_race)) for k in range(3)]
  )
  prior, channel = stats.norm(0, np.sqrt(1 + V)), stats.norm(a, np.sqrt(V))
  sent = np.argmin(noise.min(0) / channel.pdf(u) * prior.pdf(u))
  errors, match, density = [], False, []
  for k in range(3):
    law = stats.norm(t[k] / (1 + S), np.sqrt(1 + V - 1 / (1 + S)))
    times = noise[k] / law.pdf(u) * prior.pdf(u)
    found = np.where(tags == tags[sent], times, np.inf).argmin()
    match |= found == sent
    answer = (S * u[found] + V * t[k]) / (S + V + S * V)
    errors.append((answer - a) ** 2)
    density.append(np.log2(channel.pdf(u[sent]) / law.pdf(u[sent])))
  return min(errors), match, density


@pytest.mark.parametrize(
  'kind, shared_race',
  [('random', False), ('interval', False), ('random', True)],
)
def test_trials_by_hand(kind, shared_race):
  out = gaussian.simulate(
    KEY, V, 3, num_trials=25, num_decoders=3, num_candidates=40,
    shared_race=shared_race, label_kind=kind, width=0.4,
  )  # fmt: skip
  for r in range(25):
    error, match, density = _trial_by_hand(r, kind, shared_race)
    assert out.squared_error[r] == pytest.approx(error, rel=1e-3, abs=1e-6)
    assert out.is_match[r] == match
    np.testing.assert_allclose(
      out.information_density[r], density, rtol=1e-3, atol=1e-3
    )


def test_errors_obey_proposition_4():
  out = _simulated()
  bound = np.asarray(
    bounds.compression_error_bound(out.information_density, 4), np.float64
  )  # [R]
  excess = 1 - np.asarray(out.is_match) - bound  # <= 0 on average
  error = excess.std() / np.sqrt(R)
  assert excess.mean() < 5 * error
  assert excess.mean() > -0.2  # near enough to mean something
  # Control: the bound for 16 times the messages does not hold at this one.
  loose = np.asarray(
    bounds.compression_error_bound(out.information_density, 64)
  )
  assert (1 - np.asarray(out.is_match) - loose).mean() > 5 * error


def test_more_decoders_races_and_intervals_help_as_published():
  log_error = {
    name: 10 * np.log10(np.asarray(out.squared_error))
    for name, out in {
      'one': _simulated(num_decoders=1),
      'two': _simulated(),
      'shared': _simulated(shared_race=True),
      'interval': _simulated(label_kind='interval'),
    }.items()
  }
  for better, worse in (
    ('two', 'one'),
    ('shared', 'one'),
    ('two', 'shared'),
    ('interval', 'two'),
  ):
    gain = log_error[worse] - log_error[better]
    assert gain.mean() > 5 * gain.std() / np.sqrt(R), (better, worse)


def test_no_message_has_the_mse_of_the_side_information():
  error = gaussian.simulate_no_message(KEY, num_trials=20_000, num_decoders=1)
  statistics.assert_mean(error, S / (1 + S))
  two = gaussian.simulate_no_message(KEY, num_trials=20_000, num_decoders=2)
  # Common random numbers; compilations round differently.
  assert (np.asarray(two) <= np.asarray(error) * 1.0001 + 1e-6).all()
  decibel = 10 * np.log10(np.asarray(two, np.float64))
  statistics.assert_mean(decibel - -15.19, 0)  # the paper's figure


def test_settings_of_one_kind_share_a_compilation():
  gaussian._simulate.clear_cache()
  for v, num_messages in ((0.05, 4), (0.02, 8)):
    gaussian.simulate(
      KEY, v, num_messages, num_trials=2, num_decoders=1, num_candidates=32
    )
  assert gaussian._simulate._cache_size() == 1


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(label_kind='lattice'), "'lattice'"),
    (dict(v=0.0), 'v must be positive and finite, got 0.0'),
    (dict(side_variance=-1), 'side_variance must be positive'),
    (dict(width=np.nan), 'width must be positive and finite, got nan'),
    (dict(num_messages=0), 'num_messages must be at least 1, got 0'),
    (dict(num_trials=0), 'num_trials'),
    (dict(num_candidates=0), 'num_candidates'),
  ],
)
def test_bad_input_is_refused(change, message):
  good = dict(v=V, num_messages=4, num_trials=2, num_decoders=1)
  with pytest.raises(ValueError, match=message):
    gaussian.simulate(KEY, **{**good, **change})
