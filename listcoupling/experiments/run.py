"""One run: the settings it was asked for, its folder, what is done of it.

    results.json   settings, machine, digests of the rows
    NAME.csv       rows, written as they come
    NAME.npz       arrays, with their digest

A folder belongs to one run and, while that works, to one process. Results of
two settings never stand side by side and nothing finished is overwritten: a
folder of other settings, or files that changed since they were written, are
refused by name. A run that was stopped does what is missing.

Several devices fill one table together, those of one process or of several
(`jax.distributed`): all processes make the same calls and see the same folder,
`Run.rows` and `Run.deal` share the work, process 0 holds the folder and writes
the table. It has the bytes that one device alone writes, but for columns of
times, for which each process keeps to one device. Devices of a mesh do every
row together.
"""

import contextlib
import functools
import os
import pathlib
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from importlib import metadata
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import tqdm
from jax.sharding import Mesh

from listcoupling import files, tables, workdirs
from listcoupling.config_fields import check_config
from listcoupling.together import (
  agreed,
  all_or_none,
  everyone,
  later_stop,
  leads,
  of_leader,
  together,
)

RECORD = 'results.json'
_DIGEST = 'sha256'
T = TypeVar('T')
_PACKAGES = ('jax', 'jaxlib', 'numpy', 'flax', 'optax')


@contextlib.contextmanager
def open_run(
  workdir: str | os.PathLike,
  settings: Mapping[str, Any],
  *,
  may_change: Sequence[str] = (),
) -> Iterator['Run']:
  """Takes a folder for a run, or goes on with the run of these settings there.

  Args:
    workdir: made if absent.
    settings: all that the results depend on, with digests of data and models
      that stand under a name alone.
    may_change: dotted names of settings that may differ from those kept, such
      as 'config.repeats'.

  Yields:
    `Run`. On Ctrl-C the exception says what is kept in the folder.

  Raises:
    ValueError: the folder is another process's or another run's, or its files
      are damaged; nothing is written then.

  Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   with open_run(folder, {'seed': 0}) as run:
    ...     run.rows({'a': 1, 'b': 2}, lambda x: {'x': x}, key='name')
    [{'name': 'a', 'x': 1}, {'name': 'b', 'x': 2}]
  """
  with agreed() as agree:
    workdir, settings = workdirs.as_folder(workdir), files.plain(settings)
    agree(settings=settings)
  with workdirs.held(workdir):
    record = of_leader(lambda: _checked_record(workdir, settings, may_change))
    run = Run(workdir, record)
    try:
      with all_or_none():
        yield run
    except KeyboardInterrupt as stop:
      if run.has_kept:
        stop.add_note(
          f'What is done is kept in {workdir}; the same command goes on from '
          'there.'
        )
      elif not getattr(stop, '__notes__', ()):
        stop.add_note('No row was done yet; the same command begins again.')
      raise


def _checked_record(workdir, settings, may_change) -> dict[str, Any]:
  """The record of the folder, with these settings."""
  path = workdir / RECORD
  if not path.exists():
    for other in sorted((*workdir.glob('*.csv'), *workdir.glob('*.npz'))):
      raise ValueError(
        f'{other} has no {RECORD} beside it, so its settings are unknown; '
        'remove it or choose another workdir.'
      )
    record = {'settings': settings, 'rows': {}}
    _write(path, record)
    return record
  record = _read(path)
  workdirs.check_settings(workdir, record['settings'], settings, may_change)
  record['settings'] = settings
  return record


def _read(path) -> dict[str, Any]:
  record = files.read_json(path)
  if record.pop(_DIGEST, None) != files.digest((), record):
    raise ValueError(
      f'{path} is damaged or of another version: it does not match its digest, '
      'so the settings of the run are unknown; restore it or choose another '
      'workdir.'
    )
  return record


def _write(path, record) -> None:
  if not leads():
    return
  record = files.plain(record)
  files.write_json(path, record | {_DIGEST: files.digest((), record)})


def _devices_each() -> int:
  """Devices of each process, the same number in all."""
  return max(1, jax.device_count() // jax.process_count())


def on_devices(function: Callable[[Any], T], items: Sequence) -> list[T]:
  """`function` of items at the same time, each on a device of this process.

  Args:
    function: computes on JAX's default device, whatever thread calls it.
    items: no more than devices.

  Example:
    >>> on_devices(lambda x: 2 * x, [3])
    [6]
  """
  if len(items) < 2:
    return [function(item) for item in items]

  def one(device, item):
    with jax.default_device(device):
      return function(item)

  pool, waits = futures.ThreadPoolExecutor(len(items)), True
  try:
    return list(pool.map(one, jax.local_devices(), items))
  except KeyboardInterrupt:
    waits = False  # for the end of a row; the process ends
    raise
  finally:
    pool.shutdown(waits, cancel_futures=True)


class Run:
  """The folder of a run; see `open_run`.

  Attributes:
    workdir: the folder.
    has_kept: whether anything was finished, now or before.
  """

  def __init__(self, workdir: pathlib.Path, record: dict[str, Any]):
    self.workdir = workdir
    self._record = record
    self._lock = threading.Lock()  # of the record
    self._began = time.perf_counter()
    self.has_kept = any(record['rows'].values())

  def rows(
    self,
    jobs: Mapping[int | str, Any],
    compute: Callable[[Any], Mapping[str, Any]],
    *,
    key: str,
    table: str = 'results.csv',
    timed: bool = False,
    shared: bool = False,
  ) -> list[dict[str, Any]]:
    """Computes the missing rows of a table; each is kept as soon as it is done.

    Args:
      jobs: argument of `compute` for each row, by name.
      compute: gives the columns of a row.
      key: column of the names.
      table: name of the CSV file. It may hold rows of earlier jobs, too.
      timed: rows hold times; a process has one device at work then.
      shared: every row is made by all processes, on a mesh of their devices;
        that of process 0 is kept.

    Returns:
      One row per job: its name, then its columns, as `tables.values`.

    Raises:
      ValueError: the table was changed since it was written.
    """
    done = of_leader(lambda: self._kept(table, key))
    left = [(name, job) for name, job in jobs.items() if str(name) not in done]
    order = dict.fromkeys(map(str, jobs))
    each = 1 if timed else _devices_each()
    count = 1 if shared else jax.process_count() * each
    with tqdm.tqdm(total=len(left), desc=key, disable=not left) as progress:
      for first in range(0, len(left), count):
        turn = left[first : first + count]
        progress.set_postfix_str(str(turn[0][0]))
        done |= self._turn(turn, compute, key, table, shared)
        self.write([done[name] for name in order | done if name in done], table)
        progress.update(len(turn))
    together(lambda: None)  # the table is whole
    columns = dict.fromkeys(name for row in done.values() for name in row)
    return [columns | tables.values(done[name]) for name in order]

  def _turn(
    self, turn, compute, key, table, shared
  ) -> dict[str, dict[str, str]]:
    """The next rows by name, one from each device or, if shared, from all."""
    count, place = jax.process_count(), jax.process_index()
    if shared:
      count, place = 1, 0

    def own():
      named = turn[place::count]
      # Who leaves a program that others run keeps them waiting.
      with later_stop() if shared else contextlib.nullcontext():
        found = on_devices(compute, [job for _, job in named])
      return [
        tables.texts({key: name, **row}) for (name, _), row in zip(named, found)
      ]

    found = everyone(own)
    rows = {
      str(name): found[place % count][place // count]
      for place, (name, _) in enumerate(turn)
    }
    digests = self._record['rows'].setdefault(table, {})
    # First its digest: a row without one would pass for damage.
    digests |= {name: _digest(row) for name, row in rows.items()}
    self._worked()
    return rows

  def write(
    self, rows: Sequence[Mapping[str, Any]], table: str = 'results.csv'
  ) -> None:
    """Writes a table of rows that all processes have."""
    if leads():
      tables.write_csv(self.workdir / table, rows)
    self.has_kept = True

  def deal(self, items: Sequence[Any], function: Callable[[Any], Any]) -> None:
    """Shares work out over devices and processes, if there are several.

    Call `function` for every item afterwards: it does what is left, which on
    one device is all, and reads the rest.

    Args:
      items: i goes to process i mod P, and there to one device after the other.
      function: of an item; keeps its result in the folder, under the item's
        own name, and reads it the next time.
    """
    count, devices = jax.process_count(), _devices_each()
    if count * devices > 1:
      own = items[jax.process_index() :: count]
      turns = [own[i : i + devices] for i in range(0, len(own), devices)]
      together(lambda: [on_devices(function, turn) for turn in turns] and None)

  def _kept(self, table: str, key: str) -> dict[str, dict[str, str]]:
    """Rows of a table by name."""
    path = self.workdir / table
    if not path.exists():
      return {}
    digests = self._record['rows'].get(table, {})
    rows = {}
    for number, row in enumerate(tables.read_texts(path), 1):
      name = row.get(key)
      if digests.get(name) != _digest(row):
        raise ValueError(
          f'{path} is damaged or was changed: row {number} ({name}) is not '
          'what was written; restore it, or remove the row and run again.'
        )
      rows[name] = row
    return rows

  def load(self, name: str) -> dict[str, np.ndarray] | None:
    """The arrays of `save`, or None if there are none.

    Raises:
      ValueError: they were damaged.
    """
    path = self.workdir / f'{name}.npz'
    if not path.exists():
      return None
    try:
      files.check_unpacked(path)
      with np.load(path) as kept:
        arrays = dict(kept)
      if str(arrays.pop(_DIGEST)) != files.digest(arrays):
        raise ValueError('it does not match its digest')
    except Exception as error:  # zip and npy raise many kinds
      raise ValueError(
        f'{path} is damaged ({error}); remove it and run again.'
      ) from error
    self.has_kept = True
    return arrays

  def save(self, name: str, arrays: Mapping[str, Any]) -> None:
    """Keeps arrays by name in NAME.npz, which may lie in a folder within."""
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    with files.replacing(self.workdir / f'{name}.npz') as new:
      np.savez(new, **arrays, **{_DIGEST: files.digest(arrays)})
    self.has_kept = True
    self._worked()

  def note(self, **entries: Any) -> None:
    """Adds entries to the record, where they are not in it yet."""
    entries = files.plain(entries)
    with self._lock:
      if entries != {name: self._record.get(name) for name in entries}:
        self._record |= entries
        _write(self.workdir / RECORD, self._record)

  def _worked(self) -> None:
    """Writes the record with this machine and the time so far."""
    with self._lock:
      now = time.perf_counter()
      seconds = self._record.get('seconds', 0.0) + now - self._began
      self._record |= {'environment': self._environment, 'seconds': seconds}
      self._began = now
      _write(self.workdir / RECORD, self._record)

  @functools.cached_property
  def _environment(self) -> dict[str, Any]:
    return environment()


class Experiment(NamedTuple):
  """A table: how a config becomes rows, and rows text and figures.

  Called with a config it fills the table; each stands as `run` in its module.

  Attributes:
    fields: what the config may hold, see `check_config`.
    prepare: (config, seed) -> what the results depend on beside these two, by
      name, and a function that fills the table in an open `Run`. Whatever is
      wrong with the config, or missing, it says by raising.
    as_text: the rows for a terminal.
    figures: functions of the rows and a path, by the name of their file.
    may_change: see `open_run`.
  """

  fields: Mapping[str, Any]
  prepare: Callable[[Any, int], tuple[Mapping, Callable[[Run], list[dict]]]]
  as_text: Callable[[Sequence[Mapping]], str]
  figures: Mapping[str, Callable[[list[dict], pathlib.Path], None]]
  may_change: Sequence[str] = ()

  def on(self, mesh: Mesh) -> 'Experiment':
    """The same with every row made on a mesh, which `prepare` must take."""
    return self._replace(prepare=functools.partial(self.prepare, mesh=mesh))

  def __call__(
    self, config: Any, workdir: str | os.PathLike, seed: int = 0
  ) -> list[dict[str, Any]]:
    """Fills the table and draws it; goes on with what the folder holds.

    Args:
      config: a ConfigDict; each experiment names a file of configs/.
      workdir: folder of results.csv, results.json and the figures.
      seed: of every random number.

    Returns:
      One dictionary per row, the columns of results.csv: the standard error of
      x is x_se.

    Raises:
      ValueError: for settings that make no sense, or a folder of another run.
      FileNotFoundError: models, text or images are missing.
    """

    def prepare():
      check_config(config, self.fields)
      return self.prepare(config, seed)

    origin, fill = together(prepare)
    settings = {'config': config, 'seed': seed, **origin}
    with open_run(workdir, settings, may_change=self.may_change) as run:
      rows = fill(run)
      if leads():
        for name, draw in self.figures.items():
          draw(rows, run.workdir / name)
    return rows


def _digest(row: Mapping[str, str]) -> str:
  kept = {name: text for name, text in row.items() if text}
  return files.digest((), kept)[:16]


def environment() -> dict[str, Any]:
  """Versions, device and machine of this run."""
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
