"""Tables: rows of named columns as CSV, as text, and their standard errors.

A row is a mapping; the standard error of column x is column x_se, None where
one value tells nothing about the spread.
"""

import csv
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from listcoupling import files


def texts(row: Mapping[str, Any]) -> dict[str, str]:
  """A row as a CSV file holds it: every digit of a number, no empty cells.

  Example:
    >>> texts({'a': np.float32(0.5), 'b': None})
    {'a': '0.5'}
  """
  return {
    name: str(value)
    for name, value in files.plain(row).items()
    if value is not None and value != ''
  }


def values(row: Mapping[str, str]) -> dict[str, Any]:
  """A row of `texts` in Python's types; an empty cell is None."""
  return {name: _value(text) for name, text in row.items()}


def _value(text: str) -> Any:
  if not text:
    return None
  if text in ('True', 'False'):
    return text == 'True'
  for kind in (int, float):
    try:
      return kind(text)
    except ValueError:
      pass
  return text


def write_csv(
  path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]
) -> None:
  """Writes rows in one step.

  Args:
    path: the file.
    rows: the columns are the union of their names in order of first
      appearance, a missing value is an empty cell.

  Raises:
    ValueError: there is no row to take the columns from.
  """
  if not rows:
    raise ValueError(f'rows must not be empty: no columns to name in {path}.')
  columns = list(dict.fromkeys(name for row in rows for name in row))
  with files.replacing(path) as new:
    with new.open('w', newline='', encoding='utf-8') as file:
      writer = csv.DictWriter(file, columns, lineterminator='\n')
      writer.writeheader()
      writer.writerows(texts(row) for row in rows)


def read_texts(path: str | os.PathLike) -> list[dict[str, str]]:
  """Rows of a CSV file as text, every column in every row.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no table; the message names file and line.
  """
  rows = []
  with pathlib.Path(path).open(newline='', encoding='utf-8') as file:
    reader = csv.DictReader(file)
    try:
      for row in reader:
        if None in row:
          raise csv.Error('more cells than columns')
        rows.append({name: text or '' for name, text in row.items()})
    except (csv.Error, UnicodeDecodeError) as error:
      raise ValueError(
        f'{path} is damaged at line {reader.line_num}: {error}; restore it, or '
        'remove the row and run again.'
      ) from error
  return rows


def read_csv(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Rows that `write_csv` wrote, empty cells as None; errors of `read_texts`.

  Example:
    >>> write_csv('rows.csv', [{'a': 1}, {'a': 2, 'b': 'x'}])
    >>> read_csv('rows.csv')
    [{'a': 1, 'b': None}, {'a': 2, 'b': 'x'}]
  """
  return [values(row) for row in read_texts(path)]


def join(numbers: Iterable) -> str:
  """Numbers as one cell of a table; `split` reads them back.

  Example:
    >>> split(join([1, 2.5])).tolist()
    [1.0, 2.5]
  """
  return ' '.join(f'{value:.7g}' for value in np.asarray(numbers).tolist())


def split(text) -> np.ndarray:
  """Numbers of a cell that `join` wrote; a single one may be a number."""
  if text is None:  # an empty cell
    return np.zeros(0)
  return np.array([float(part) for part in str(text).split()])


class Column(NamedTuple):
  """One column of `as_text`."""

  title: str
  name: str  # in the rows
  spec: str = ''  # format of numbers, such as '.3f'
  error: bool = True  # show name_se after ±, where the row has it


def as_text(
  rows: Sequence[Mapping[str, Any]], columns: Sequence[Column] = ()
) -> str:
  """Rows as aligned text, numbers to the right.

  Args:
    rows: of the table; absent values stay blank.
    columns: what is shown, less those that no row has; every column, floats to
      three digits, if left out.

  Example:
    >>> rows = [{'K': 1, 'rate': 0.5, 'rate_se': 0.01}, {'K': 20, 'rate': 0.25}]
    >>> print(as_text(rows, [Column('K', 'K'), Column('rate', 'rate', '.2f')]))
     K  rate
     1  0.50 ± 0.01
    20  0.25
  """
  if not columns:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [Column(name, name, error=False) for name in names]
  told = {name for row in rows for name in texts(row)}
  columns = [column for column in columns if column.name in told]
  lines = zip(*(_lines(rows, column) for column in columns))
  return '\n'.join('  '.join(cells).rstrip() for cells in lines)


def _lines(rows, column: Column) -> list[str]:
  """Title and cells of a column, all of one width."""
  kept = [row.get(column.name) for row in rows]
  shown = [_shown(value, column.spec) for value in kept]
  errors = [''] * len(rows)
  if column.error:
    spec = column.spec.lstrip('+')
    found = [row.get(f'{column.name}_se') for row in rows]
    errors = ['' if x is None else f' ± {_shown(x, spec)}' for x in found]
  beside = max(map(len, errors))
  # The title may reach over the errors.
  width = max(*map(len, shown), len(column.title) - beside)
  align = str.ljust if any(isinstance(x, str) for x in kept) else str.rjust
  cells = [align(a, width) + b for a, b in zip(shown, errors)]
  title = align(column.title, width)
  return [cell.ljust(width + beside) for cell in (title, *cells)]


def _shown(value, spec: str) -> str:
  if value is None:
    return ''
  if isinstance(value, (float, np.floating)):
    return format(value, spec or '.3f')
  return str(value)


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
