"""Sums over trials that give every figure of the Gaussian tables.

Sums of chunks and of repeats add; a table of 10^6 trials is a few numbers.
The seven of one setting: count, sum of dB, of its square, of the squared
error, of its square, of matches and of the bound of Proposition 4 (NaN where
there is none).

Legend: R trials, J settings, K decoders.
"""

import numpy as np


def moments(squared_error, match=None, bound=None) -> np.ndarray:
  """Sums [J, K, 7] over the trials of [R, J, K]: what every figure needs."""
  error = np.asarray(squared_error, np.float64)
  db = 10 * np.log10(np.maximum(error, 1e-20))
  nan = np.full(error.shape[1:], np.nan)
  return np.stack(
    [
      np.full(error.shape[1:], float(len(error))),
      db.sum(0),
      (db**2).sum(0),
      error.sum(0),
      (error**2).sum(0),
      nan if match is None else np.sum(match, 0, dtype=float),
      nan if bound is None else np.sum(bound, 0, dtype=float),
    ],
    -1,
  )


def figures(sums) -> dict[str, float]:
  """Distortions, error rate and bound from `moments` of one setting [7].

  Returns:
    mean_db: mean of 10 log10 of the squared error (the paper's figure);
    mse_db: 10 log10 of the mean squared error; and standard errors, that of
    mse_db by the delta method; error_rate; error_bound (Proposition 4).

  Example:
    >>> round(figures(moments(np.full((2, 1, 1), .1))[0, 0])["mse_db"], 6)
    -10.0
  """
  count, db, db2, error, error2, match, bound = (
    np.asarray(sums, float) / sums[0]
  )
  count = sums[0]
  scale = np.sqrt(1 / max(count - 1, 1))
  rate = 1 - match
  found = {
    'mean_db': db,
    'mean_db_se': np.sqrt(max(db2 - db**2, 0)) * scale,
    'mse_db': 10 * np.log10(error),
    'mse_db_se': 10
    / np.log(10)
    * np.sqrt(max(error2 - error**2, 0))
    * scale
    / error,
  }
  if not np.isnan(match):
    found['error_rate'] = rate
    found['error_rate_se'] = np.sqrt(rate * match / count)
  if not np.isnan(bound):
    found['error_bound'] = bound
  return {name: float(value) for name, value in found.items()}
