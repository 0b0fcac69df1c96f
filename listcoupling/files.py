"""Files that are whole or absent: written beside their place and renamed.

Also what is asked of every file that is read: a damaged one is refused by
name. Nothing here knows what the files hold.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

_SHORT = 40  # characters of a value that a message repeats
_MAX_JSON = 1 << 30  # bytes; a hub's largest tokenizer has 35 MB
_FULL = 'free space, then give the same command again'
_CLOSED = 'make its folder writable, or choose another place'
_REMEDIES = {
  errno.ENOSPC: _FULL,
  errno.EDQUOT: _FULL,
  errno.EFBIG: 'raise the limit on the size of a file (ulimit -f)',
  errno.EACCES: _CLOSED,
  errno.EPERM: _CLOSED,
  errno.EROFS: _CLOSED,
  errno.EEXIST: 'a part of this path is a file; choose another place',
  errno.ENOTDIR: 'a part of this path is a file; choose another place',
}


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a path to write to; renames it over `path` on success.

  Parent folders are made. On an exception the new file and these are removed
  and what stood at `path` stays. The suffix is kept, for writers that look at
  it. A link is followed: the file it names is replaced, the link stays.

  Args:
    path: a regular file, or absent.

  Raises:
    ValueError: `path` is a folder, a device, a FIFO or a socket.

  Example:
    >>> with replacing('notes.txt') as new:
    ...   _ = new.write_text('all or nothing')
  """
  path = pathlib.Path(path)
  check_regular(path)
  path = pathlib.Path(os.path.realpath(path))
  with naming(path), making_folder(path.parent):
    handle, name = tempfile.mkstemp(
      prefix=f'.{path.stem[:64]}.', suffix=path.suffix, dir=path.parent
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


@contextlib.contextmanager
def making_folder(path: pathlib.Path) -> Iterator[None]:
  """Makes a folder and its parents; on an exception those that are empty go."""
  made = [x for x in (path, *path.parents) if not os.path.exists(x)]
  try:
    path.mkdir(parents=True, exist_ok=True)
    yield
  except BaseException:
    for each in made:
      with contextlib.suppress(OSError):  # another has written there meanwhile
        each.rmdir()
    raise


@contextlib.contextmanager
def folder_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a new folder beside `path`, to be renamed to it; else it goes.

  Example:
    >>> with folder_beside(pathlib.Path('notes')) as new:
    ...   _ = (new / 'first.txt').write_text('all or nothing')
    ...   _ = new.rename('notes')
  """
  with naming(path), making_folder(path.parent):
    name = tempfile.mkdtemp(prefix=f'.{path.name[:64]}.', dir=path.parent)
    try:
      os.chmod(name, 0o755)  # mkdtemp makes private folders
      yield pathlib.Path(name)
    finally:
      shutil.rmtree(name, ignore_errors=True)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Says of which file or folder an error of writing is, and what to do.

  Libraries that write for themselves name a file of their own, or raise errors
  of other types with the system's words in them. What has a name stays.
  """
  try:
    yield
  except Exception as error:
    for number, remedy in _REMEDIES.items():
      words = os.strerror(number)
      of_library = not isinstance(error, OSError) and words in str(error)
      if of_library or getattr(error, 'errno', None) == number:
        if remedy in str(error):
          raise
        raise OSError(number, f'{words}: {remedy}', str(path)) from error
    raise


def check_regular(path: str | os.PathLike) -> None:
  """Raises ValueError unless `path`, links followed, is a file or absent."""
  try:
    mode = os.stat(path).st_mode
  except FileNotFoundError:
    return
  except (OSError, ValueError) as error:
    # A name too long or with a null byte, a loop of links.
    reason = getattr(error, 'strerror', None) or error
    raise ValueError(
      f'{str(path)[:200]!r}: {reason}; name another file.'
    ) from error
  if not stat.S_ISREG(mode):
    raise ValueError(
      f'{path} is no regular file (a folder, device, FIFO or socket); name a '
      'file to write or to read.'
    )


def check_unpacked(path: str | os.PathLike, max_bytes: int = 1 << 30) -> None:
  """Raises ValueError if a zip archive, such as an npz, unpacks to more.

  Raises:
    zipfile.BadZipFile: it is none.
  """
  with zipfile.ZipFile(path) as archive:
    size = sum(entry.file_size for entry in archive.infolist())
  if size > max_bytes:
    raise ValueError(
      f'{path} unpacks to {size} bytes, more than the {max_bytes} that such a '
      'file may have'
    )


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


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value`, made plain, as indented JSON."""
  text = json.dumps(plain(value), indent=2, allow_nan=False)
  with replacing(path) as new:
    new.write_text(text + '\n', encoding='utf-8')


def read_json(
  path: str | os.PathLike, kind: type = dict, *, max_bytes: int = _MAX_JSON
) -> Any:
  """The JSON value in a file.

  Args:
    path: of the file, which messages name.
    kind: type that the value must have: dict or list.
    max_bytes: a larger file is not read.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is too large, holds no JSON or a value of another type.

  Example:
    >>> write_json('record.json', {'a': (1, 2.5)})
    >>> read_json('record.json')
    {'a': [1, 2.5]}
  """
  path = pathlib.Path(path)
  check_regular(path)
  size = path.stat().st_size
  if size > max_bytes:
    raise ValueError(
      f'{path} has {size} bytes; such a file may have at most {max_bytes}.'
    )
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except (ValueError, RecursionError) as error:  # ValueError: UTF-8, too
    raise ValueError(
      f'{path} is damaged: no JSON ({error}); restore it, or remove what it '
      'belongs to and make that again.'
    ) from error
  if not isinstance(value, kind):
    raise ValueError(
      f'{path} is damaged: it must hold a JSON {kind.__name__}, got '
      f'{type(value).__name__}.'
    )
  return value


def differences(old: Mapping, new: Mapping) -> list[str]:
  """Dotted names of the entries that differ, sorted.

  None is a value: an entry that one side lacks differs.

  Example:
    >>> differences({'a': {'b': 1, 'c': 2}}, {'a': {'b': 1, 'c': 3}, 'd': None})
    ['a.c', 'd']
  """
  old, new = _flat(old), _flat(new)
  return [
    name
    for name in sorted(old.keys() | new.keys())
    if name not in old or name not in new or old[name] != new[name]
  ]


def describe(old: Mapping, new: Mapping, names: list[str]) -> str:
  """Names of `differences`, with both values where these are short.

  Example:
    >>> old, new = {'a': {'b': 1}}, {'a': {'b': 3}, 'd': 2}
    >>> describe(old, new, differences(old, new))
    'a.b (1, now 3), d (now 2)'
  """
  old, new = _flat(old), _flat(new)

  def words(name):
    values = [repr(x[name]) for x in (old, new) if name in x]
    if max(map(len, values)) > _SHORT:
      return name
    if name not in new:
      return f'{name} (was {values[0]})'
    return f'{name} ({", ".join((*values[:-1], f"now {values[-1]}"))})'

  return ', '.join(map(words, names))


def _flat(value: Any, name: str = '') -> dict[str, Any]:
  """Nested mappings as one, names joined by dots; an empty one stays."""
  if not isinstance(value, Mapping) or (name and not value):
    return {name: value}
  parts = (_flat(v, f'{name}.{k}' if name else k) for k, v in value.items())
  return {key: leaf for part in parts for key, leaf in part.items()}


def digest(arrays: Any, about: Any = None, fetch=np.asarray) -> str:
  """SHA-256 of arrays and of what is said about them, 64 hex digits.

  Args:
    arrays: pytree; names, types, shapes and bytes count.
    about: anything `plain` can make JSON of, such as sizes of a network.
    fetch: gives the whole of an array, one at a time.

  Example:
    >>> digest({'w': np.zeros(2)}) == digest({'w': np.zeros(3)})
    False
  """
  found = hashlib.sha256(json.dumps(plain(about), sort_keys=True).encode())
  leaves, _ = jax.tree_util.tree_flatten_with_path(arrays)
  for path, leaf in leaves:
    leaf = fetch(leaf)
    name = f'{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};'
    found.update(name.encode())
    found.update(np.ascontiguousarray(leaf).tobytes())
  return found.hexdigest()


def write_arrays(path: str | os.PathLike, arrays: Any, about: Any) -> None:
  """Writes arrays as safetensors, with what is to be known of them.

  Args:
    path: a regular file, or absent.
    arrays: nested dictionaries of arrays, without '/' in their names.
    about: anything `plain` can make JSON of, such as sizes of a network.
  """
  import safetensors.numpy

  leaves, _ = jax.tree_util.tree_flatten_with_path(arrays)
  flat = {
    '/'.join(part.key for part in parts): np.asarray(leaf, order='C')
    for parts, leaf in leaves
  }
  text = json.dumps(plain(about), sort_keys=True)
  metadata = {'about': text, 'sha256': digest(flat, json.loads(text))}
  with replacing(path) as new:
    new.write_bytes(safetensors.numpy.save(flat, metadata))


def read_arrays(path: str | os.PathLike) -> tuple[dict, Any]:
  """Reads a file of `write_arrays`: nested dictionaries of arrays, and JSON.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: some bit is not what was written, or it is another kind of
      file; the message names it.

  Example:
    >>> write_arrays('arrays.safetensors', {'a': {'w': np.ones(2)}}, [3])
    >>> arrays, about = read_arrays('arrays.safetensors')
    >>> arrays['a']['w'].tolist(), about
    ([1.0, 1.0], [3])
  """
  import safetensors

  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'there is no file {path}.')
  check_regular(path)
  try:
    with safetensors.safe_open(path, framework='np') as file:
      flat = {name: file.get_tensor(name) for name in file.keys()}
      metadata = file.metadata() or {}
    about = json.loads(metadata.get('about', 'null'))
    if metadata.get('sha256') != digest(flat, about):
      raise ValueError('its numbers are not those that were written')
  except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
    raise ValueError(
      f'{path} is damaged or of another kind: {error}; restore it, or remove '
      'it and make it again.'
    ) from error
  arrays: dict = {}
  for name, array in flat.items():
    *parents, last = name.split('/')
    place = arrays
    for parent in parents:
      place = place.setdefault(parent, {})
    place[last] = array
  return arrays, about
