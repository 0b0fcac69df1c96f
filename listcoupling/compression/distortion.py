"""How far the answers of K decoders lie from the source, over many trials.

The paper's "distortion (dB)" (Rowan, Phan, Khisti, 2025, arXiv 2506.05632,
section 5) is the mean over trials of 10 log10 of the squared error of the best
decoder. Beside it stand the decibels of its mean squared error, and both for
the mean and the worst decoder.

Everything follows from sums over trials, which add over chunks and repeats.

Legend: R trials, K decoders, n = 1..K decoders in use; ... are settings.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from listcoupling import standard_errors, validation

__all__ = [
  'DECODERS',
  'NUM_SUMS',
  'by_list_size',
  'choose',
  'figures',
  'gain',
  'moments',
  'of_trials',
]


def __dir__():
  return __all__


# By the prefix of its figures, what makes one error of those of K decoders: the
# best, the mean and the worst.
DECODERS = {'': np.nanmin, 'average_': np.nanmean, 'worst_': np.nanmax}
NUM_SUMS = 3 + 4 * len(DECODERS)
_LEAST = 1e-20  # squared error, -200 dB: an exact answer has no decibels


def by_list_size(squared_error) -> np.ndarray:
  """Errors of decoders that know no n, for each n: [..., K] -> [..., K, K].

  Example:
    >>> by_list_size([1.0, 2.0]).tolist()
    [[1.0, nan], [1.0, 2.0]]
  """
  error = np.asarray(squared_error, np.float64)
  used = np.tri(error.shape[-1], dtype=bool)
  return np.where(used, error[..., None, :], np.nan)


def moments(squared_error, match=None, bound=None, weight=1.0) -> np.ndarray:
  """Sums [..., NUM_SUMS] over R trials: what every figure needs.

  They are count, matches, the bound of Proposition 4 (NaN where there is none);
  then, for each of `DECODERS`, of dB, its square, the squared error and its. In
  decibels a squared error below 1e-20 counts as -200.

  Args:
    squared_error: [R, ..., K], NaN where there is no such decoder.
    match: [R, ...] whether some decoder has the encoder's choice.
    bound: [R, ...] on the chance that none has.
    weight: [R, ...], of mean 1, for trials of importance sampling.
  """
  error = np.asarray(squared_error, np.float64)
  db = 10 * np.log10(np.maximum(error, _LEAST))
  weight, shape = np.asarray(weight, np.float64), error.shape[1:-1]
  sums = [np.full(shape, float(len(error)))]
  for x in (match, bound):
    none = np.full(shape, np.nan)
    sums.append(none if x is None else np.sum(x, 0, dtype=float))
  for reduce in DECODERS.values():
    for value in (reduce(db, -1), reduce(error, -1)):  # [R, ...]
      value = value * weight
      sums += [value.sum(0), (value**2).sum(0)]
  return np.stack(sums, -1)


def figures(sums) -> dict[str, float]:
  """Distortions, error rate and bound from `moments` of one setting [NUM_SUMS].

  Returns:
    mean_db: mean of 10 log10 of the squared error of the best decoder (the
    paper's figure); mse_db: 10 log10 of its mean squared error; standard
    errors of both, the latter's by the delta method; the same for the mean and
    the worst decoder, with the prefixes of `DECODERS`; error_rate; error_bound
    (Proposition 4).
  """
  count, match, bound, *rest = np.asarray(sums, float)
  # [decoders, dB or error, sum or sum of squares]
  total, square = np.moveaxis(np.reshape(rest, (-1, 2, 2)) / count, -1, 0)
  spread = standard_errors.moment_error(total, square, count)
  row = {}
  for prefix, (db, error), (db_se, error_se) in zip(DECODERS, total, spread):
    error = np.maximum(error, _LEAST)
    row |= {
      f'{prefix}mean_db': db,
      f'{prefix}mean_db_se': db_se,
      f'{prefix}mse_db': 10 * np.log10(error),
      f'{prefix}mse_db_se': 10 / np.log(10) * error_se / error,
    }
  if not np.isnan(match):
    rate = 1 - match / count
    row['error_rate'] = rate
    row['error_rate_se'] = standard_errors.binomial_error(rate, count)
  if not np.isnan(bound):
    row['error_bound'] = bound / count
  return {name: float(value) for name, value in row.items()}


def of_trials(squared_error, weight=1.0) -> dict[str, float]:
  """`figures` of errors [R, K] at once, `weight` as for `moments`.

  Raises:
    ValueError: for fewer than two trials, which have no standard error, another
      shape, errors below zero or infinite, a trial without a decoder, weights
      that are neither one number nor [R].

  Example:
    >>> out = of_trials([[.1, .3], [.001, .3]])  # two trials, two decoders
    >>> round(out['mean_db'], 3), round(out['mse_db'], 3)
    (-20.0, -12.967)
  """
  error = _as_errors(squared_error, 'squared_error', '[R, K]')
  if (alone := np.isnan(error).all(1)).any():
    raise ValueError(
      f'squared_error[{alone.argmax()}] must hold the error of a decoder, got '
      'NaN alone: leave such trials out.'
    )
  weights = np.asarray(validation.as_numbers(weight, 'weight'), np.float64)
  if weights.shape not in ((), error.shape[:1]):
    raise ValueError(
      f'weight must be one number or one of each trial, [{len(error)}], got '
      f'shape {weights.shape}.'
    )
  if not np.all((weights >= 0) & (weights < np.inf)):
    raise ValueError(
      f'weight must be finite and at least 0, got {validation.shown(weight)}.'
    )
  return figures(moments(error, weight=weights))


def _as_errors(values, name: str, axes: str) -> np.ndarray:
  """Squared errors [R] or [R, K] of at least two trials; NaN is none."""
  error = np.asarray(validation.as_numbers(values, name), np.float64)
  if error.ndim != 1 + axes.count(',') or len(error) < 2 or not error.size:
    raise ValueError(
      f'{name} must be {axes} of at least two trials, got shape {error.shape}; '
      'one trial has no standard error, give one decoder as [R, 1].'
    )
  if (bad := (error < 0) | np.isinf(error)).any():
    raise ValueError(
      f'{name} must hold squared errors, finite and at least 0, got '
      f'{error[bad][0]}; square differences first.'
    )
  return error


def choose(rows: Sequence[Mapping[str, float]], score: str) -> int:
  """Place of the best setting, by its figure and the standard error of that.

  The mean squared error hangs on failures that few trials see; the setting
  that happened to see none would be chosen by the figure alone.

  Args:
    rows: `figures` of each setting, on trials that do not judge it afterwards.
    score: 'mean_db' or 'mse_db', with a prefix of `DECODERS` or without.

  Raises:
    ValueError: for a score that a row lacks, or one that is NaN in all.

  Example:
    >>> rows = [{'mse_db': -9.0, 'mse_db_se': 3.0},
    ...         {'mse_db': -8.0, 'mse_db_se': 0.1}]
    >>> choose(rows, 'mse_db')
    1
  """
  for row in rows:
    known = [name for name in row if f'{name}_se' in row]
    if score not in known:
      raise ValueError(
        f'score must be a figure of every setting, one of {known}, got '
        f'{score!r}.'
      )
  scores = [row[score] + row[f'{score}_se'] for row in rows]
  if np.all(np.isnan(scores)):
    raise ValueError(
      f'rows must hold a setting with {score} and {score}_se, got none among '
      f'{len(rows)}: too few trials, or errors that are NaN.'
    )
  return int(np.nanargmin(scores))


def gain(plain, error) -> tuple[float, float]:
  """Decibels by which one code is ahead of another on the same trials.

  Args:
    plain: [R] squared errors of the other.
    error: [R] of the one.

  Returns:
    10 log10 of the ratio of their means, and its standard error by the delta
    method, which counts what the trials share.

  Raises:
    ValueError: for fewer than two trials, two lengths, errors that are NaN,
      infinite, below zero, or zero in every trial.

  Example:
    >>> round(gain([2., 4.], [1., 2.])[0], 2)
    3.01
  """
  plain, error = (
    _as_errors(plain, 'plain', '[R]'),
    _as_errors(error, 'error', '[R]'),
  )
  if len(plain) != len(error):
    raise ValueError(
      'plain and error must be of the same trials, got '
      f'{len(plain)} and {len(error)} of them.'
    )
  for name, each in (('plain', plain), ('error', error)):
    if not each.mean() > 0:  # nor NaN
      raise ValueError(
        f'{name} must have a positive mean, got {each.mean()}: a ratio of '
        'means needs trials without NaN, some of them with an error.'
      )
  each = plain / plain.mean() - error / error.mean()
  decibels = 10 * np.log10(plain.mean() / error.mean())
  return (
    float(decibels),
    float(10 / np.log(10) * standard_errors.mean_error(each)[1]),
  )
