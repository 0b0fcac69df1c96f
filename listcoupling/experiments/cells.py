"""Work in cells: a run that was stopped does the missing ones.

A cell is one row of a table on disk, written as soon as it is done. The
settings of the run stand beside it in results.json, see `resume`.
"""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tqdm

from listcoupling.experiments import results, resume


def fill(
  workdir,
  settings: dict,
  cells: Sequence[tuple[Any, Any]],
  compute: Callable[[Any], dict],
  *,
  table: str = 'cells.csv',
  key: str = 'cell',
) -> list[dict]:
  """Computes the cells that are missing and keeps each as soon as it is done.

  Args:
    workdir: folder of the table and of results.json.
    settings: of the run, see `resume.claim`.
    cells: (name, what `compute` gets), in the order of the work. A name is an
      int or a string that a CSV file does not read back as something else: no
      number, not "True" or "False", not empty.
    compute: gives the columns of a cell.
    table: name of the CSV file.
    key: its column of names.

  Returns:
    One row per cell, in the order of `cells`: the name, then the columns of
    `compute`. results.json tells the machine that computed last; reading a
    finished table elsewhere does not change it.

  Raises:
    ValueError: if the workdir belongs to a run with other settings.
  """
  path, table = (pathlib.Path(workdir) / x for x in ('results.json', table))
  resume.claim(path, settings, work=[table])
  kept = results.read_csv(table) if table.exists() else []
  done = {row[key]: row for row in kept}
  began, left = time.perf_counter(), [c for c in cells if c[0] not in done]
  if left:
    record = {**results.read_json(path), 'environment': results.environment()}
    results.write_json(path, record)
  progress = tqdm.tqdm(left, desc=key, disable=not left)
  for name, cell in progress:
    progress.set_postfix_str(str(name))
    done[name] = {key: name, **compute(cell)}
    rows = [done[name] for name, _ in cells if name in done]
    results.write_csv(table, rows)
  if left:
    record['seconds'] = record.get('seconds', 0) + time.perf_counter() - began
    results.write_json(path, record)
  return [done[name] for name, _ in cells]


def join(values) -> str:
  """Numbers as one cell of a table; `split` reads them back.

  Example:
    >>> split(join([1, 2.5])).tolist()
    [1.0, 2.5]
  """
  return ' '.join(f'{value:.7g}' for value in np.asarray(values).tolist())


def split(text) -> np.ndarray:
  """Numbers of a cell that `join` wrote; a single one may be a number."""
  if text is None:  # an empty cell
    return np.zeros(0)
  return np.array([float(part) for part in str(text).split()])


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
  """Mean over seeds and its standard error, None for one seed."""
  values = np.asarray(values, np.float64)
  if values.size < 2:
    return float(values.mean()), None
  return float(values.mean()), float(values.std(ddof=1) / values.size**0.5)


def cluster_error(influence: np.ndarray) -> float | None:
  """Standard error of a sum over prompts, from its terms [B].

  A ratio of sums has the terms (a_i - ratio b_i) / sum(b); None for one term.
  """
  count = influence.size
  if count < 2:
    return None
  return float(np.sqrt((influence**2).sum() * count / (count - 1)))
