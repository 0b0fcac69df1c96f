"""Tests of laws with computed tolerances.

Every check works at `SIGMAS` standard errors of the statistic itself on a
fixed key, so that a right implementation passes by construction and the power
is known.
"""

import functools

import jax
import numpy as np
from scipy import stats

SIGMAS = 5.0
LEVEL = 2 * stats.norm.sf(SIGMAS)  # two-sided, 5.7e-7


def rounding(terms, size=1.0, dtype=np.float32):
  """Most that so many roundings of numbers up to `size` add up to."""
  return float(terms * size * np.finfo(dtype).eps)


@functools.cache
def _mapped(function, num_arguments, options):
  bound = functools.partial(function, **dict(options))
  return jax.jit(jax.vmap(bound, (0, *[None] * num_arguments)))


def draw(function, *arguments, trials, seed=0, **options):
  """numpy samples of `function(key, *arguments, **options)` for many keys.

  Compiled once for one function, shape and options.
  """
  keys = jax.random.split(jax.random.key(seed), trials)
  mapped = _mapped(function, len(arguments), tuple(options.items()))
  return jax.tree.map(np.asarray, mapped(keys, *arguments))


def proportion_z(successes, trials, probability):
  """Standard scores of binomial counts; 0 where the law allows no error."""
  successes, probability = np.broadcast_arrays(
    np.asarray(successes, np.float64), np.asarray(probability, np.float64)
  )
  variance = trials * probability * (1 - probability)
  miss = successes - trials * probability
  z = miss / np.sqrt(np.where(variance == 0, 1.0, variance))
  certain = np.where(miss == 0, 0.0, np.inf)
  return np.where(variance == 0, certain, z)


def assert_proportion(successes, trials, probability):
  """Each count is within SIGMAS standard errors of its binomial mean."""
  z = proportion_z(successes, trials, probability)
  assert np.all(np.abs(z) < SIGMAS), (
    f'off by {np.abs(z).max():.1f} standard errors: {successes} of {trials}, '
    f'expected {probability}'
  )


def assert_mean(samples, expected):
  """The sample mean is within SIGMAS standard errors of `expected`."""
  samples = np.asarray(samples, np.float64)
  error = samples.std(ddof=1) / np.sqrt(samples.size)
  z = (samples.mean() - expected) / error
  assert abs(z) < SIGMAS, (
    f'mean {samples.mean():.6g} +- {error:.2g} is {z:.1f} standard errors '
    f'from {expected:.6g}'
  )


def law_p_value(samples, law) -> float:
  """Chi-square p-value of integer samples; rare atoms are pooled.

  Returns 0 if any sample lies on an atom of probability 0 or out of range.
  """
  law = np.asarray(law, np.float64)
  law = law / law.sum()
  samples = np.asarray(samples).ravel()
  if samples.min() < 0 or samples.max() >= law.size:
    return 0.0
  counts = np.bincount(samples, minlength=law.size)
  if counts[law == 0].any():
    return 0.0
  expected = law * samples.size
  common = expected >= 10
  observed = np.append(counts[common], counts[~common].sum())
  wanted = np.append(expected[common], expected[~common].sum())
  if wanted[-1] < 5:  # too rare to stand alone: into the most likely atom
    best = wanted[:-1].argmax()
    observed[best] += observed[-1]
    wanted[best] += wanted[-1]
    observed, wanted = observed[:-1], wanted[:-1]
  if observed.size < 2:
    return 1.0
  return float(stats.chisquare(observed, wanted).pvalue)


def assert_law(samples, law):
  """Integer samples follow `law` at the fixed LEVEL."""
  p_value = law_p_value(samples, law)
  assert p_value > LEVEL, f'chi-square p-value {p_value:.3g} <= {LEVEL:.2g}'


def assert_not_law(samples, law):
  """Negative control: the same check rejects samples of another law."""
  p_value = law_p_value(samples, law)
  assert p_value <= LEVEL, f'the control passed with p-value {p_value:.3g}'
