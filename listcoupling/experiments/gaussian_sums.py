"""Sums over trials that give every figure of the Gaussian tables.

Sums of chunks and of repeats add; a table of 10^6 trials is a few numbers.
Those of one setting: count, matches and the bound of Proposition 4 (NaN where
there is none); then, for the best of the decoders in use, for their mean and
for the worst of them: sum of dB, of its square, of the squared error, of its
square.

Legend: R trials, J settings, K decoders, n = 1..K decoders in use.
"""

import numpy as np

# Which of the n decoders, and the prefix of its columns.
DECODERS = {'best': '', 'mean': 'average_', 'worst': 'worst_'}
_REDUCE = (np.nanmin, np.nanmean, np.nanmax)
SIZE = 3 + 4 * len(DECODERS)


def by_list_size(squared_error) -> np.ndarray:
  """[..., K] of decoders that know no n -> [..., K, K] by (n, k); NaN: none."""
  error = np.asarray(squared_error, np.float64)
  used = np.tri(error.shape[-1], dtype=bool)
  return np.where(used, error[..., None, :], np.nan)


def moments(squared_error, match=None, bound=None) -> np.ndarray:
  """Sums [J, K, SIZE] over R trials: what every figure needs.

  Args:
    squared_error: [R, J, K, K] by (n, k), NaN for k >= n.
    match: [R, J, K].
    bound: [R, J, K].
  """
  error = np.asarray(squared_error, np.float64)
  db = 10 * np.log10(np.maximum(error, 1e-20))
  shape = error.shape[1:-1]
  sums = [
    np.full(shape, float(len(error))),
    *(
      np.full(shape, np.nan) if x is None else np.sum(x, 0, dtype=float)
      for x in (match, bound)
    ),
  ]
  for reduce in _REDUCE:
    for value in (reduce(db, -1), reduce(error, -1)):  # [R, J, K]
      sums += [value.sum(0), (value**2).sum(0)]
  return np.stack(sums, -1)


def _mean_and_error(total, square, count):
  mean = total / count
  variance = max(square / count - mean**2, 0)
  return mean, np.sqrt(variance / max(count - 1, 1))


def figures(sums) -> dict[str, float]:
  """Distortions, error rate and bound from `moments` of one setting [SIZE].

  Returns:
    mean_db: mean of 10 log10 of the squared error of the best decoder (the
    paper's figure); mse_db: 10 log10 of its mean squared error; standard
    errors of both, the latter's by the delta method; the same for the mean and
    the worst decoder, with the prefixes of `DECODERS`; error_rate; error_bound
    (Proposition 4).

  Example:
    >>> round(figures(moments(np.full((2, 1, 1, 1), .1))[0, 0])["mse_db"], 6)
    -10.0
  """
  count, match, bound, *rest = np.asarray(sums, float)
  row = {}
  for prefix, part in zip(DECODERS.values(), np.reshape(rest, (-1, 4))):
    db, db_se = _mean_and_error(*part[:2], count)
    error, error_se = _mean_and_error(*part[2:], count)
    row |= {
      f'{prefix}mean_db': db,
      f'{prefix}mean_db_se': db_se,
      f'{prefix}mse_db': 10 * np.log10(error),
      f'{prefix}mse_db_se': 10 / np.log(10) * error_se / error,
    }
  if not np.isnan(match):
    rate = 1 - match / count
    row['error_rate'] = rate
    row['error_rate_se'] = np.sqrt(rate * (1 - rate) / count)
  if not np.isnan(bound):
    row['error_bound'] = bound / count
  return {name: float(value) for name, value in row.items()}
