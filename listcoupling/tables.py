"""Tables: rows of named columns as CSV and as text.

A row is a mapping; the standard error of column x is column x_se.
"""

import csv
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from listcoupling import files


def texts(row: Mapping[str, Any]) -> dict[str, str]:
  """A row as a CSV file holds it: every digit of a number, no empty entries.

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
  """A row of `texts` in Python's types; an empty entry is None."""
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
      appearance, a missing value is an empty entry.

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
          raise csv.Error('more entries than columns')
        rows.append({name: text or '' for name, text in row.items()})
    except (csv.Error, UnicodeDecodeError) as error:
      raise ValueError(
        f'{path} is damaged at line {reader.line_num}: {error}; restore it, or '
        'remove the row and run again.'
      ) from error
  return rows


def read_csv(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Rows that `write_csv` wrote, empty entries as None; errors of `read_texts`.

  Example:
    >>> write_csv('rows.csv', [{'a': 1}, {'a': 2, 'b': 'x'}])
    >>> read_csv('rows.csv')
    [{'a': 1, 'b': None}, {'a': 2, 'b': 'x'}]
  """
  return [values(row) for row in read_texts(path)]


def join(numbers: Iterable) -> str:
  """Numbers as one entry of a table; `split` reads them back.

  Example:
    >>> split(join([1, 2.5])).tolist()
    [1.0, 2.5]
  """
  return ' '.join(f'{value:.7g}' for value in np.asarray(numbers).tolist())


def split(text) -> np.ndarray:
  """Numbers of an entry that `join` wrote; a single one may be a number."""
  if text is None:  # an empty entry
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
  return '\n'.join('  '.join(entries).rstrip() for entries in lines)


def _lines(rows, column: Column) -> list[str]:
  """Title and entries of a column, all of one width."""
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
  entries = [align(a, width) + b for a, b in zip(shown, errors)]
  title = align(column.title, width)
  return [entry.ljust(width + beside) for entry in (title, *entries)]


def _shown(value, spec: str) -> str:
  if value is None:
    return ''
  if isinstance(value, (float, np.floating)):
    return format(value, spec or '.3f')
  return str(value)
