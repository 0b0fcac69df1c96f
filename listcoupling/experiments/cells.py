"""Work in cells: a run that was stopped does the missing ones.

A cell is one row of cells.csv, written as soon as it is done. The settings of
a run stand in results.json; other settings are refused, so that a table never
mixes two.
"""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tqdm

from listcoupling.experiments import results


def resume(workdir, settings: dict) -> list[dict]:
  """Rows of cells.csv that an earlier run with these settings left.

  Writes the settings of a fresh run to results.json.

  Raises:
    ValueError: if the workdir belongs to a run with other settings.
  """
  workdir = pathlib.Path(workdir)
  record, table = workdir / 'results.json', workdir / 'cells.csv'
  settings = results.plain(settings)
  if record.exists():
    old = results.read_json(record).get('settings')
    if old != settings:
      raise ValueError(
        f'{workdir} holds a run with other settings '
        f'({", ".join(sorted(_differences(old, settings)))}); choose another '
        'workdir, or remove it to start afresh.'
      )
    return results.read_csv(table) if table.exists() else []
  if table.exists():
    raise ValueError(f'{table} has no results.json beside it; remove it.')
  results.write_json(record, {'settings': settings})
  return []


def _differences(old: Any, new: Any, path: str = '') -> list[str]:
  """Dotted names of the entries that differ."""
  if isinstance(old, dict) and isinstance(new, dict):
    return [
      name
      for key in old.keys() | new.keys()
      for name in _differences(
        old.get(key), new.get(key), f'{path}.{key}' if path else key
      )
    ]
  return [] if old == new else [path or 'all']


def fill(
  workdir,
  settings: dict,
  cells: Sequence[tuple[str, Any]],
  compute: Callable[[Any], dict],
) -> list[dict]:
  """Computes the cells that are missing and keeps each as soon as it is done.

  Args:
    workdir: folder of cells.csv and results.json.
    settings: see `resume`.
    cells: (name, what `compute` gets), in the order of the work.
    compute: gives the columns of a cell.

  Returns:
    One row per cell, in the order of `cells`: column `cell`, then the columns
    of `compute`. results.json tells the machine that computed last; reading a
    finished table elsewhere does not change it.
  """
  done = {row['cell']: row for row in resume(workdir, settings)}
  began, left = time.perf_counter(), [c for c in cells if c[0] not in done]
  path = pathlib.Path(workdir) / 'results.json'
  if left:
    record = {**results.read_json(path), 'environment': results.environment()}
    results.write_json(path, record)
  progress = tqdm.tqdm(left, desc='cells', disable=not left)
  for name, cell in progress:
    progress.set_postfix_str(name)
    done[name] = {'cell': name, **compute(cell)}
    rows = [done[name] for name, _ in cells if name in done]
    results.write_csv(pathlib.Path(workdir) / 'cells.csv', rows)
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
