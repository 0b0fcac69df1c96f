"""Figures of squared errors: decibels, their errors, and which is best."""

import functools

import numpy as np
import pytest

from listcoupling import standard_errors
from listcoupling.compression import distortion
from tests import statistics

# A mean's sum of up to four and quotient, a logarithm and a factor, in decibels
# between -30 and -1.
_near = functools.partial(
  pytest.approx, rel=0, abs=statistics.rounding(10, 30, np.float64)
)


def _figures(error, **more):
  return distortion.figures(distortion.moments(error, **more))


def test_decibels_by_hand():
  figures = _figures(np.array([[0.1], [0.001]]))
  assert figures['mean_db'] == _near(-20)
  # A difference of squares up to 30 ** 2, and its root of 10.
  error = statistics.rounding(10, 30**2 / 10, np.float64)
  assert figures['mean_db_se'] == pytest.approx(10, rel=0, abs=error)
  assert figures['mse_db'] == _near(10 * np.log10(0.0505))
  # Delta method: to first order the change of dB by one standard error of the
  # mean, 1 + x times it with x of 3 % here: log(1 + x) = x - x^2/2 + x^3/3 - ..
  error = np.random.default_rng(0).exponential(size=(1000, 1))
  out = _figures(error)
  step = standard_errors.mean_error(error)[1]
  moved = 10 * np.log10(error.mean() + step) - out['mse_db']
  x = step / error.mean()
  assert x / 2 - x**2 / 3 < 1 - moved / out['mse_db_se'] < x / 2


def test_every_decoder_of_a_list_counts_and_no_other():
  error = np.array([[0.4, 0.1, np.nan], [0.2, 0.6, np.nan]])
  figures = _figures(error, match=[True, False], bound=[0.25, 0.5])
  for prefix, values in (
    ('', (0.1, 0.2)), ('average_', (0.25, 0.4)), ('worst_', (0.4, 0.6)),
  ):  # fmt: skip
    mse = 10 * np.log10(np.mean(values))
    assert figures[f'{prefix}mse_db'] == _near(mse)
  assert figures['error_rate'] == 0.5 and figures['error_bound'] == 0.375
  assert 'error_rate' not in _figures(error)


def test_sums_add_over_trials_and_settings_stand_side_by_side():
  error = np.random.default_rng(0).uniform(size=(6, 2, 3, 4))
  whole = distortion.moments(error)
  assert whole.shape == (2, 3, distortion.NUM_SUMS)
  parts = distortion.moments(error[:2]) + distortion.moments(error[2:])
  # Each a sum of six numbers of one sign, in another order.
  close = functools.partial(
    np.testing.assert_allclose, rtol=statistics.rounding(6, dtype=np.float64)
  )
  close(parts, whole)
  close(distortion.moments(error[:, 1, 2]), whole[1, 2])


def test_weights_undo_how_trials_were_drawn():
  """A failure of one trial in four, seen in every second one."""
  often = np.array([[1.0], [0.1], [1.0], [0.1]])
  found = _figures(often, weight=np.array([0.5, 1.5, 0.5, 1.5]))
  even = _figures(np.array([[1.0], [0.1], [0.1], [0.1]]))
  for name in ('mean_db', 'mse_db'):
    assert found[name] == _near(even[name])


def test_the_best_setting_is_not_the_luckiest():
  rows = [
    {'mse_db': -9.0, 'mse_db_se': 3.0},
    {'mse_db': np.nan, 'mse_db_se': np.nan},
    {'mse_db': -8.0, 'mse_db_se': 0.1},
  ]
  assert distortion.choose(rows, 'mse_db') == 2
  for none in (rows[1:2], []):
    with pytest.raises(ValueError, match='a setting with mse_db and mse_db_se'):
      distortion.choose(none, 'mse_db')


def test_an_exact_answer_counts_as_200_decibels():
  figures = _figures(np.array([[0.0], [1.0]]))
  assert figures['mean_db'] == -100
  assert figures['mse_db'] == _near(10 * np.log10(0.5))
  exact = distortion.of_trials(np.zeros((2, 1)))  # raises no warning either
  assert {x: exact[x] for x in ('mean_db', 'mse_db')} == {
    'mean_db': -200,
    'mse_db': -200,
  }
  assert exact['mse_db_se'] == exact['mean_db_se'] == 0


def test_pairs_count_what_two_errors_share():
  rng = np.random.default_rng(0)
  common = rng.exponential(size=4000)
  noise = rng.exponential(size=(2, 4000)) / 20
  ahead, error = distortion.gain(2 * common + noise[0], common + noise[1])
  assert abs(ahead - 10 * np.log10(2.05 / 1.05)) < statistics.SIGMAS * error
  apart = distortion.gain(2 * common, rng.permutation(common))[1]
  assert error < apart / 5  # control: trials that share nothing


@pytest.mark.parametrize(
  ('error', 'words'),
  [
    (
      [0.1, 0.3],
      r'squared_error must be \[R, K\] of at least.*shape \(2,\).*\[R, 1\]',
    ),
    ([[0.1, 0.3]], r'at least two trials, got shape \(1, 2\)'),
    (np.ones((2, 0)), r'got shape \(2, 0\)'),
    ([[0.1, -0.3], [0.1, 0.2]], 'at least 0, got -0.3; square'),
    ([[0.1, np.inf], [0.1, 0.2]], 'finite and at least 0, got inf'),
    ([[0.1], [np.nan]], r'squared_error\[1\] must hold the error of a decoder'),
  ],
)
def test_errors_that_are_none_are_refused_by_name(error, words):
  with pytest.raises(ValueError, match=words):
    distortion.of_trials(error)


def test_weights_are_of_trials():
  error = [[0.1, np.nan], [0.2, 0.3]]
  even = distortion.of_trials(error)
  assert distortion.of_trials(error, [1.0, 1.0]) == even
  for weight, words in (
    ([[1.0], [1.0]], r'\[2\], got shape \(2, 1\)'),
    ([2.0, -1.0], r'finite and at least 0, got \[2.0, -1.0\]'),
  ):
    with pytest.raises(ValueError, match=words):
      distortion.of_trials(error, weight)


def test_a_score_is_one_that_the_rows_have():
  rows = [distortion.of_trials([[0.1], [0.2]])]
  with pytest.raises(ValueError, match="'worst_mse_db'], got 'mse'"):
    distortion.choose(rows, 'mse')
  with pytest.raises(ValueError, match=r"one of \[\], got 'mse_db'"):
    distortion.choose([*rows, {'mse_db': -9.0}], 'mse_db')


@pytest.mark.parametrize(
  ('plain', 'error', 'words'),
  [
    ([1], [2], r'plain must be \[R\] of at least two trials'),
    ([1, 2], [1, 2, 3], 'same trials, got 2 and 3'),
    ([1, 2], [0, 0], 'error must have a positive mean, got 0.0'),
    ([1, np.nan], [1, 2], 'plain must have a positive mean, got nan'),
  ],
)
def test_a_gain_is_of_two_codes_on_the_same_trials(plain, error, words):
  with pytest.raises(ValueError, match=words):
    distortion.gain(plain, error)
