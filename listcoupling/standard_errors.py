"""Standard errors of means, shares and ratios: numpy alone.

The standard error of column x of a row is column x_se, None where one value
tells nothing about the spread.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def mean_error(numbers) -> tuple[float, float | None]:
  """Mean and its standard error, None for a single number.

  Example:
    >>> mean_error([1.0, 3.0])
    (2.0, 1.0)
  """
  numbers = np.asarray(numbers, np.float64).ravel()
  if numbers.size < 2:
    return float(numbers.mean()), None
  return float(numbers.mean()), float(numbers.std(ddof=1) / numbers.size**0.5)


def means(columns: Mapping[str, Any]) -> dict[str, float | None]:
  """Mean of each column of numbers and, as x_se, its standard error.

  Example:
    >>> means({'x': [1.0, 3.0]})
    {'x': 2.0, 'x_se': 1.0}
  """
  row = {}
  for name, numbers in columns.items():
    row[name], row[f'{name}_se'] = mean_error(numbers)
  return row


def ratios(
  columns: Mapping[str, np.ndarray], below: np.ndarray
) -> dict[str, float | None]:
  """Each column's sum over that of `below` and, as x_se, its standard error.

  Args:
    columns: [B] sums over the members of a cluster, such as a prompt.
    below: [B], likewise.

  Example:
    >>> ratios({'x': np.array([2.0, 4.0])}, np.array([1.0, 2.0]))
    {'x': 2.0, 'x_se': 0.0}
  """
  row = {}
  for name, above in columns.items():
    row[name] = float(above.sum() / below.sum())
    row[f'{name}_se'] = cluster_error(ratio_terms(above, below))
  return row


def binomial_error(rate: float, count: int) -> float:
  """Standard error of a share of `count` independent draws.

  Example:
    >>> binomial_error(0.5, 100)
    0.05
  """
  return math.sqrt(max(rate * (1 - rate), 0.0) / count)


def ratio_terms(above: np.ndarray, below: np.ndarray) -> np.ndarray:
  """Share [B] of each cluster in the error of sum(above) / sum(below).

  Args:
    above: [B] sums over the members of a cluster, such as a prompt.
    below: [B], likewise.
  """
  return (above - above.sum() / below.sum() * below) / below.sum()


def cluster_error(terms: np.ndarray) -> float | None:
  """Standard error of a sum over independent clusters; None for one.

  Args:
    terms: [B] of `ratio_terms`, or the difference of two such.
  """
  count = terms.size
  if count < 2:
    return None
  return float(np.sqrt((terms**2).sum() * count / (count - 1)))


def moment_error(mean: np.ndarray, square: np.ndarray, count: float):
  """Standard error of means of `count` numbers, from the means of squares.

  Args:
    mean: of any shape.
    square: mean of the squares, of that shape.
    count: how many numbers each mean is of.

  Example:
    >>> float(moment_error(2.0, 5.0, 2))
    1.0
  """
  return np.sqrt(np.maximum(square - mean**2, 0) / max(count - 1, 1))
