"""Result files of the experiments: CSV tables and JSON records on disk.

Every file is written beside its target and renamed over it, so that a reader
(or a run that resumes) sees an old file or a new one, never half of one.
"""

import contextlib
import csv
import json
import math
import os
import pathlib
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np

_PACKAGES = ('jax', 'jaxlib', 'numpy', 'flax', 'optax')


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a path to write to; renames it over `path` on success.

  Parent directories are made. On an exception the new file is removed and
  what stood at `path` stays. The suffix is kept, for writers that look at it.

  Example:
    >>> with replacing("/tmp/listcoupling_doc.txt") as new:
    ...   _ = new.write_text("all or nothing")
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, name = tempfile.mkstemp(
    prefix=f'.{path.stem}.', suffix=path.suffix, dir=path.parent
  )
  os.close(handle)
  new = pathlib.Path(name)
  try:
    yield new
    mask = os.umask(0)  # mkstemp makes private files; give the usual mode
    os.umask(mask)
    new.chmod(0o666 & ~mask)
    new.replace(path)
  finally:
    new.unlink(missing_ok=True)


def plain(value: Any) -> Any:
  """`value` with arrays, numpy scalars, tuples and configs made plain.

  Non-finite floats become the strings "nan", "inf", "-inf": bare NaN is not
  JSON. `float` reads them back.
  """
  if hasattr(value, 'to_dict'):  # ml_collections.ConfigDict
    value = value.to_dict()
  if hasattr(value, '_asdict'):
    value = value._asdict()
  if isinstance(value, Mapping):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if isinstance(value, (jax.Array, np.ndarray, np.generic)):
    return plain(np.asarray(value).tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  return str(value)


def write_json(path: str | os.PathLike, obj: Any) -> None:
  """Writes `obj`, made plain, as indented JSON."""
  text = json.dumps(plain(obj), indent=2, allow_nan=False)
  with replacing(path) as new:
    new.write_text(text + '\n', encoding='utf-8')


def read_json(path: str | os.PathLike) -> Any:
  """What `write_json` wrote, in plain types; FileNotFoundError if absent."""
  return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))


def write_csv(
  path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]
) -> None:
  """Writes rows of named columns.

  Args:
    path: the file.
    rows: mappings; the columns are the union of their names in order of first
      appearance, a missing value is an empty cell. Numbers keep every digit.

  Raises:
    ValueError: if there is no row to take the columns from.
  """
  if not rows:
    raise ValueError(f'rows must not be empty: no columns to name in {path}.')
  columns = list(dict.fromkeys(name for row in rows for name in row))
  with replacing(path) as new:
    with new.open('w', newline='', encoding='utf-8') as file:
      writer = csv.DictWriter(file, columns, lineterminator='\n')
      writer.writeheader()
      writer.writerows(plain(row) for row in rows)


def _cell(text: str) -> Any:
  if text == '' or text is None:
    return None
  if text in ('True', 'False'):
    return text == 'True'
  for kind in (int, float):
    try:
      return kind(text)
    except ValueError:
      pass
  return text


def read_csv(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Rows of a CSV file; numbers as int or float, empty cells as None.

  Raises:
    FileNotFoundError: if there is no such file.
  """
  with pathlib.Path(path).open(newline='', encoding='utf-8') as file:
    return [
      {name: _cell(text) for name, text in row.items()}
      for row in csv.DictReader(file)
    ]


def environment() -> dict[str, Any]:
  """Versions, device and machine of this run, for results.json."""
  versions = {}
  for name in _PACKAGES:
    with contextlib.suppress(metadata.PackageNotFoundError):
      versions[name] = metadata.version(name)
  devices = jax.devices()
  return {
    'python': platform.python_version(),
    'versions': versions,
    'backend': jax.default_backend(),
    'device': devices[0].device_kind,
    'num_devices': len(devices),
    'cpu_count': os.cpu_count(),
    'system': platform.system(),
    'machine': platform.machine(),
    'x64': bool(jax.config.jax_enable_x64),
  }
