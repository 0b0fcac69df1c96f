"""Folders to work in: each belongs to one run and, at a time, to one process.

Tables and trainings keep their results in such folders. Results of two settings
never stand side by side, and two processes never write in one place.
"""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from listcoupling import files, together

_SHOWN = 8  # settings that a refusal names; another script's are many


def as_folder(path: str | os.PathLike) -> pathlib.Path:
  """The path of a folder to work in, which need not exist yet.

  Raises:
    ValueError: no path, an empty one (a variable of the shell that is not set),
      or that of a file.
  """
  if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
    raise ValueError(f'a workdir must be named, got {path!r}; "." is here.')
  path = pathlib.Path(path)
  for place in (path, *path.parents):
    if os.path.exists(place) and not os.path.isdir(place):
      raise ValueError(
        f'{place} is no folder, which a workdir must be; name another.'
      )
  return path


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Makes a folder and holds it; of several processes the first does.

  On an exception a folder that is still empty goes again.

  Raises:
    ValueError: a run of another process holds it; nothing is written then.

  Example:
    >>> with held(pathlib.Path('runs')):
    ...   sorted(x.name for x in pathlib.Path('runs').iterdir())
    ['.lock']
  """
  with contextlib.ExitStack() as own:
    together.of_leader(lambda: own.enter_context(_locked(folder)))
    yield


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Holds the folder's lock; the system frees it when a process dies."""
  path = folder / '.lock'
  with contextlib.ExitStack() as opened:
    with files.naming(folder):
      opened.enter_context(files.making_folder(folder))
      file = opened.enter_context(path.open('a'))
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      # Its last holder may have removed the file since it was opened.
      taken = not _is_open(path, file)
    except BlockingIOError:
      taken = True
    except OSError as error:  # some network file systems
      logging.warning('%s cannot be locked (%s).', folder, error)
      taken = False
    if taken:
      raise ValueError(
        f'{folder} is in use by another process; wait until it ends or choose '
        'another workdir.'
      )
    try:
      yield
    finally:
      path.unlink(missing_ok=True)


def _is_open(path: pathlib.Path, file) -> bool:
  """Whether the file at `path` is the open one."""
  try:
    return os.path.samestat(path.stat(), os.fstat(file.fileno()))
  except FileNotFoundError:
    return False


def check_settings(
  folder: pathlib.Path,
  kept: Mapping[str, Any],
  wanted: Mapping[str, Any],
  may_change: Sequence[str] = (),
) -> None:
  """Refuses to go on in a folder with settings that are not its own.

  Args:
    folder: of the run.
    kept: its settings, as read from there.
    wanted: those of now.
    may_change: dotted names of settings, or of groups of them, that may differ.

  Raises:
    ValueError: others differ; the message has both values.

  Example:
    >>> check_settings(pathlib.Path('runs'), {'seed': 1}, {'seed': 2})
    Traceback (most recent call last):
    ...
    ValueError: runs holds a run with other settings of seed (1, now 2); \
resume with the same settings or choose another workdir.
  """
  changed = [
    name
    for name in files.differences(kept, wanted)
    if not any(f'{name}.'.startswith(f'{free}.') for free in may_change)
  ]
  if not changed:
    return
  words = files.describe(kept, wanted, changed[:_SHOWN])
  if len(changed) > _SHOWN:
    words += f' and {len(changed) - _SHOWN} more'
  raise ValueError(
    f'{folder} holds a run with other settings of {words}; resume '
    'with the same settings or choose another workdir.'
  )
