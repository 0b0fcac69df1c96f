"""The Gaussian source: formulas, the encoder's law and Proposition 4."""

import contextlib
import functools
import io
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from listcoupling import bounds, gumbel
from listcoupling.compression import (
  codec,
  gaussian,
  gaussian_baselines,
  lattices,
)
from listcoupling.gumbel import Domain, domain_key
from tests import statistics
from tests.compression import roundings

S, V, N, R = 0.5, 0.05, 512, 5000
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
    # A difference of five roundings, doubled by its square; the square, the
    # variance and their quotient; a logarithm's two; the sum.
    rtol=0,
    atol=statistics.rounding(16, np.abs(law.logpdf(w[:9])).max()),
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


def _trial_by_hand(r, kind, shared_race, groups):
  """Errors, match and densities of trial r, from its domains."""
  key = gaussian.trial_key(KEY, r)
  a, t = (np.asarray(x, float) for x in gaussian.draw_source(key, 4, S))
  z = jax.random.normal(domain_key(key, Domain.CODEBOOK), (40,))
  u = np.sqrt(1 + V) * np.asarray(z, float)
  if kind == 'interval':
    dither = gumbel.uniform(domain_key(key, Domain.DITHER), 1)[0]
    offset = float(dither) * 3 * groups * 0.4
    named = np.floor((u + offset) / 0.4) % (3 * groups)
  else:
    label_key = domain_key(key, Domain.LABELS)
    named = np.asarray(codec.random_labels(label_key, 40, 3 * groups))
  race_key = domain_key(key, Domain.RACES)
  noise = np.stack(
    [gumbel.exponential(race_key, 40, k * (not shared_race)) for k in range(4)]
  )
  prior, channel = stats.norm(0, np.sqrt(1 + V)), stats.norm(a, np.sqrt(V))
  heard = noise[: 4 // groups].min(0)
  sent = np.argmin(heard / channel.pdf(u) * prior.pdf(u))
  errors, match, density = [], False, []
  for k in range(4):
    law = stats.norm(t[k] / (1 + S), np.sqrt(1 + V - 1 / (1 + S)))
    times = noise[k // groups] / law.pdf(u) * prior.pdf(u)
    own = named[sent] // groups * groups + k % groups
    if not np.any(named == own):  # no candidate of this group
      return None
    found = np.where(named == own, times, np.inf).argmin()
    match |= found == sent
    answer = (S * u[found] + V * t[k]) / (S + V + S * V)
    errors.append((answer - a) ** 2)
    density.append(np.log2(channel.pdf(u[sent]) / law.pdf(u[sent])))
  return errors, match, density


@pytest.mark.parametrize(
  'kind, shared_race, groups',
  [
    ('random', False, 1),
    ('interval', False, 1),
    ('random', True, 1),
    ('random', False, 2),
    ('interval', False, 4),
  ],
)
def test_trials_by_hand(kind, shared_race, groups):
  out = gaussian.simulate(
    KEY, V, 3, num_trials=25, num_decoders=4, num_candidates=40,
    shared_race=shared_race, label_kind=kind, width=0.4, num_groups=groups,
  )  # fmt: skip
  error, density_error = roundings.of_trials(V, S)
  checked = 0
  for r in range(25):
    wanted = _trial_by_hand(r, kind, shared_race, groups)
    if wanted is None:
      continue
    checked += 1
    errors, match, density = wanted
    np.testing.assert_allclose(
      np.sqrt(out.squared_error[r]),
      np.sqrt(errors),
      rtol=0,
      atol=error,
    )
    assert out.is_match[r] == match
    np.testing.assert_allclose(
      out.information_density[r],
      density,
      rtol=0,
      atol=density_error,
    )
  assert checked > 12


def test_errors_obey_proposition_4():
  out = _simulated()
  bound = np.asarray(
    bounds.compression_error_bound(out.information_density, 4), np.float64
  )  # [R]
  excess = 1 - np.asarray(out.is_match) - bound  # <= 0 on average
  error = excess.std() / np.sqrt(R)
  assert excess.mean() < statistics.SIGMAS * error
  # Control: the bound for 16 times the messages does not hold at this one.
  loose = np.asarray(
    bounds.compression_error_bound(out.information_density, 64)
  )
  excess = 1 - np.asarray(out.is_match) - loose
  assert excess.mean() > statistics.SIGMAS * error


def test_more_decoders_races_and_intervals_help_as_published():
  log_error = {
    name: 10 * np.log10(np.min(out.squared_error, -1))
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
    error = gain.std() / np.sqrt(R)
    assert gain.mean() > statistics.SIGMAS * error, (better, worse)


def test_no_message_has_the_mse_of_the_side_information():
  error = gaussian.simulate_no_message(KEY, num_trials=20_000, num_decoders=2)
  for k in (0, 1):
    statistics.assert_mean(error[:, k], S / (1 + S))
  decibel = 10 * np.log10(np.min(np.asarray(error, np.float64), -1))
  statistics.assert_mean(decibel - -15.19, 0)  # the paper's figure
  blind = gaussian.simulate_no_message(
    KEY, num_trials=20_000, num_decoders=2, side_variance=[S, np.inf]
  )
  np.testing.assert_array_equal(blind[:, 0], error[:, 0])
  statistics.assert_mean(blind[:, 1], 1)  # the variance of the source


def test_a_blind_decoder_has_the_laws_of_the_prior():
  w = jnp.linspace(-3, 3, 7)
  np.testing.assert_array_equal(
    gaussian.log_decoder(w, 0.0, np.inf, V), gaussian.log_prior(w, V)
  )
  np.testing.assert_array_equal(
    gaussian.estimate(w, 0.0, np.inf, V), w / (1 + V)
  )


def _lattice_by_hand(r, period, believed):
  """Errors of trial r, one dimension, L = 4 and K = 2 of a group each."""
  key = gaussian.trial_key(KEY, r)
  a, t = (np.asarray(x, float) for x in gaussian.draw_source(key, 2, S))
  code = lattices.make_code('Z', 4, num_groups=2)
  dither_key = domain_key(key, Domain.DITHER)
  offset = float(lattices.dither(dither_key, (), code)[0])
  delta = period / 8
  message = int(np.round(a / delta - offset)) % 8 // 2
  errors = []
  for k in (0, 1):
    mean, spread = t[k] / (1 + S), np.sqrt(S / (1 + S))
    words = (2 * message + k + 8 * np.arange(-20, 21) + offset) * delta
    guess = t[k] * believed / (believed + S)
    word = words[np.abs(words - guess).argmin()]
    x = word + delta * (np.arange(2000) + 0.5 - 1000) / 2000
    density = stats.norm(mean, spread).pdf(x)
    errors.append((np.sum(x * density) / density.sum() - a) ** 2)
  return errors


@pytest.mark.parametrize('believed', [1.0, 3.0])
def test_lattice_trials_by_hand(believed):
  code = lattices.make_code('Z', 4, num_groups=2)
  error, weight = gaussian.simulate_lattice(
    KEY, np.arange(40), code, 2.0, num_decoders=2, believed_variance=believed
  )
  np.testing.assert_array_equal(weight, 1)
  wanted = np.array([_lattice_by_hand(r, 2.0, believed) for r in range(40)])
  # Midpoints: the step squared over 12 for each unit by which the logarithm of
  # the density grows, at most 4 over its variance of 1/3. Sums of weights and
  # of points over a cell.
  step = 2.0 / 8 / len(code.cell)
  np.testing.assert_allclose(
    np.sqrt(error),
    np.sqrt(wanted),
    rtol=0,
    atol=step**2 + statistics.rounding(2 * len(code.cell), 4),
  )


def test_importance_sampling_keeps_the_mean():
  """At a short period, where failures are frequent enough to compare."""
  code = lattices.make_code('Z', 4, num_groups=2)
  run = functools.partial(
    gaussian.simulate_lattice, KEY, code=code, period=1.6, num_decoders=2
  )
  plain = np.min(np.asarray(run(np.arange(20_000))[0], np.float64), -1)
  error, weight = run(np.arange(20_000, 40_000), spread=(1.6, 1.25))
  weight = np.asarray(weight, np.float64)
  statistics.assert_mean(weight, 1)
  wide = np.min(np.asarray(error, np.float64), -1)
  miss = np.hypot(plain.std(), (wide * weight).std()) / np.sqrt(plain.size)
  assert abs(plain.mean() - (wide * weight).mean()) < statistics.SIGMAS * miss
  # Failures are more frequent.
  assert wide.mean() - plain.mean() > statistics.SIGMAS * miss


def test_a_wider_prior_makes_failures_of_all_decoders_rarer():
  """K = 4, L = 64: a shorter period becomes possible, and pays."""
  code = lattices.make_code('Z', 64, num_groups=4)

  def error(believed, period):
    error, weight = gaussian.simulate_lattice(
      KEY, np.arange(20_000), code, period, num_decoders=4,
      believed_variance=believed, spread=(1.6, 1.25),
    )  # fmt: skip
    return np.min(np.asarray(error, np.float64), -1) * np.asarray(weight)

  wide, true, long = error(2.0, 3.0), error(1.0, 3.0), error(1.0, 3.8)
  bound = statistics.SIGMAS * wide.std() / wide.size**0.5
  assert true.mean() > wide.mean() + bound
  assert long.mean() > wide.mean() + bound  # best period of the true prior
  level = gaussian_baselines.lloyd_max_mse(256, 1 / (1 + 4 / S))
  assert wide.mean() + bound < 10**0.55 * level  # 5.5 dB
  assert true.mean() > 10**0.55 * level


def test_lattice_beats_the_modulo_quantiser_and_interval_labels():
  """K = 2, L = 8, mean squared error, periods of the full table."""
  trials = np.arange(4000)
  code = lattices.make_code('Z', 8, num_groups=2)
  lattice, modulo = (
    np.min(np.asarray(x, np.float64), -1)
    for x in (
      gaussian.simulate_lattice(KEY, trials, code, 3.6, num_decoders=2)[0],
      gaussian_baselines.modulo_quantiser(
        KEY, trials, 8, 4.0 / 8, num_decoders=2
      ),
    )
  )
  gain = modulo - lattice
  assert gain.mean() > statistics.SIGMAS * gain.std() / np.sqrt(trials.size)
  level = gaussian_baselines.lloyd_max_mse(16, 1 / (1 + 2 / S))
  assert 10 * np.log10(lattice.mean() / level) < 5.5
  with pytest.raises(ValueError, match='num_groups must divide'):
    gaussian.simulate_lattice(KEY, trials, code, 3.6, num_decoders=3)
  with pytest.raises(ValueError, match='period must be positive'):
    gaussian.simulate_lattice(KEY, trials, code, 0.0, num_decoders=2)


_OTHER_MACHINE = {
  'JAX_ENABLE_X64': '1',
  'JAX_DEFAULT_PRNG_IMPL': 'rbg',
}
_BITS = """
import numpy as np
from listcoupling import compression, gumbel
from listcoupling.compression import codec, gaussian, lattices
key = gumbel.seed_key(5)
out = gaussian.simulate(
  key, .05, 3, num_trials=3, num_decoders=2, num_candidates=64,
  label_kind='interval', width=.3, num_groups=2)
for x in out:
  print(np.asarray(x).dtype, np.asarray(x).tobytes().hex())
code = lattices.make_code('D4', 2, num_groups=2)
out = gaussian.simulate_lattice(key, range(3), code, 3., num_decoders=2)
print(np.asarray(out[0]).dtype, np.asarray(out[0]).tobytes().hex())
weights = np.linspace(-2, 0, 64, dtype=np.float32)
for named in (
  codec.random_labels(key, 64, 3, num_groups=2),
  codec.balanced_labels(key, 64, 3, num_groups=2),
  codec.lattice_labels(
    np.outer(weights, [1, 2]).astype(np.float32), .3, 3,
    codec.lattice_dither(key, .3, 3, 2, num_groups=2), num_groups=2),
  codec.kmeans_labels(weights[:, None], weights[:6, None], num_groups=2),
):
  sent = compression.encode(key, weights, named, num_decoders=2, num_groups=2)
  print(np.asarray(named).dtype, np.asarray(named).tolist(), sent)
  print(compression.decode(key, weights, named, sent.message, decoder=1,
    num_decoders=2, num_groups=2))
"""


def test_bits_do_not_depend_on_the_settings_of_the_machine():
  here = io.StringIO()
  with contextlib.redirect_stdout(here):
    exec(_BITS, {})
  other = subprocess.run(
    [sys.executable, '-c', _BITS],
    env=os.environ | _OTHER_MACHINE,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert here.getvalue() == other
  assert other.startswith('float32') and other.count('int32') >= 4


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
    (dict(num_groups=2), 'num_groups must divide num_decoders = 1, got 2'),
  ],
)
def test_bad_input_is_refused(change, message):
  good = dict(v=V, num_messages=4, num_trials=2, num_decoders=1)
  with pytest.raises(ValueError, match=message):
    gaussian.simulate(KEY, **{**good, **change})
