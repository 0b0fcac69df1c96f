"""Where training text comes from: files, records, TFDS, or this Python.

A source is one string, so that a list of them fits a command line:

  python                                  the text of this Python
  plays.txt                               a UTF-8 text file, one document
  train.jsonl?fields=question+answer      records (JSON lines, JSON, Parquet,
                                          .gz too): fields joined by newlines
  mbpp.jsonl?fields=text+code&skip=task_id:11-510   but not those records
  tfds:gsm8k?split=train&fields=question+answer     a prepared TFDS data set

$NAME in a path is an environment variable. The text of this Python is what
`help()` prints and the sources of the standard library, both part of any
CPython installation: no download, code and English mixed.
"""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib import parse

from listcoupling.data import records

# Tests and tables would outweigh the rest; _sysconfigdata* names local paths.
_SKIPPED_FOLDERS = frozenset(
  '__pycache__ site-packages dist-packages test tests idlelib lib2to3 '
  'encodings pydoc_data ensurepip turtledemo distutils'.split()
)
_TFDS = 'tfds:'


class Document(NamedTuple):
  """One text with the name it is recorded under."""

  name: str
  text: str


class Skip(NamedTuple):
  """Records left out: those with `low <= int(field) <= high`."""

  field: str
  low: int
  high: int


def read_python_text() -> list[Document]:
  """Documentation topics and standard-library sources of this Python.

  Returns:
    Documents sorted by name; names are 'topic:<name>' or relative paths.

  Raises:
    FileNotFoundError: the installation ships neither.
  """
  documents = []
  try:
    from pydoc_data import topics

    for name, text in topics.topics.items():
      documents.append(Document(f'topic:{name}', text))
  except ImportError:  # some distributions leave it out
    pass
  root = pathlib.Path(os.__file__).parent
  for folder, subfolders, files in os.walk(root):
    subfolders[:] = [
      name
      for name in subfolders
      if name not in _SKIPPED_FOLDERS and not name.startswith('config-')
    ]
    for name in files:
      if name.endswith('.py') and not name.startswith('_sysconfigdata'):
        path = pathlib.Path(folder, name)
        text = path.read_text(encoding='utf-8', errors='replace')
        if text:
          documents.append(Document(path.relative_to(root).as_posix(), text))
  if not documents:
    raise FileNotFoundError(
      f'No Python sources under {root} and no pydoc_data; give text files '
      'with --data.'
    )
  return sorted(documents)


def read_file(path: str | os.PathLike) -> Document:
  """A text file as one document, named by its file name.

  Raises:
    FileNotFoundError: the path is no file.
    ValueError: the file is empty or not UTF-8.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is not a file; give paths of UTF-8 text files.'
    )
  try:
    text = path.read_bytes().decode('utf-8').replace('\r\n', '\n')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not UTF-8 text: {error}.') from error
  if not text.strip():
    raise ValueError(f'{path} is empty; give files that hold text.')
  return Document(path.name, text)


def _documents(
  rows: Iterable[records.Record],
  folder: str,
  fields: Sequence[str] = (),
  skip: Skip | None = None,
) -> list[Document]:
  """Documents of records, without the skipped ones and the blank ones."""
  documents = []
  for row in rows:
    if not fields:
      raise ValueError(
        f'{row.where}: name the fields to read with ?fields=A+B; there are '
        f'{sorted(row.fields)}.'
      )
    text = '\n'.join(records.field(row, name) for name in fields)
    if skip is not None:
      number = records.field(row, skip.field)
      if not number.isdecimal():
        raise ValueError(
          f'{row.where}: field {skip.field!r} must be a number, got {number!r}.'
        )
      if skip.low <= int(number) <= skip.high:
        continue
    if text.strip():
      documents.append(Document(row.where.removeprefix(folder), text))
  return documents


def read_records(
  path: str | os.PathLike, fields: Sequence[str], skip: Skip | None = None
) -> list[Document]:
  """One document per record of a file, named by file and line.

  Args:
    path: as `records.read` takes it.
    fields: names of the fields to join, in this order.
    skip: records to leave out.

  Returns:
    Documents in the order of the file.

  Raises:
    FileNotFoundError: the path is no file.
    ValueError: a record is damaged or lacks a field; nothing is left.

  Example:
    >>> _ = pathlib.Path('records.jsonl').write_text('{"q": "1+1", "a": 2}')
    >>> read_records('records.jsonl', ['q', 'a'])
    [Document(name='records.jsonl line 1', text='1+1\\n2')]
  """
  path = pathlib.Path(path)
  folder = os.path.join(path.parent, '')
  documents = _documents(records.read(path), folder, fields, skip)
  if not documents:
    raise ValueError(f'{path} holds no text after skipping {skip}.')
  return documents


def _options(source: str, query: str, names: Sequence[str]) -> dict[str, Any]:
  """Keyword arguments out of `fields=A+B&skip=F:1-2&split=S`."""
  given = dict(parse.parse_qsl(query, keep_blank_values=True))
  unknown = sorted(given.keys() - set(names))
  if unknown:
    raise ValueError(
      f'{source!r} has unknown options {unknown}; it takes '
      f'{", ".join(names) or "none"}.'
    )
  if 'fields' in names:
    given['fields'] = given.get('fields', '').split()
  if 'skip' in given:
    field, _, bounds = given['skip'].partition(':')
    low, _, high = bounds.partition('-')
    try:
      given['skip'] = Skip(field, int(low), int(high or low))
    except ValueError as error:
      raise ValueError(
        f'{source!r}: skip is FIELD:LOW-HIGH, got {given["skip"]!r}.'
      ) from error
  return given


def read_source(source: str | os.PathLike) -> list[Document]:
  """Documents of one source; its syntax is in the module docstring.

  Raises:
    FileNotFoundError: a file or data set is missing, or the path holds an
      environment variable that is not set.
    ValueError: what was read is not as announced; unknown options.

  Example:
    >>> any(d.name == 'os.py' for d in read_source('python'))
    True
  """
  source = os.fspath(source)
  path, _, query = source.partition('?')
  if path == 'python':
    _options(source, query, ())
    return read_python_text()
  if path.startswith(_TFDS):
    options = _options(source, query, ('fields', 'skip', 'split'))
    split = options.pop('split', 'train')
    rows = records.read_tfds(path.removeprefix(_TFDS), split)
    return _documents(rows, '', **options)
  path = os.path.expanduser(os.path.expandvars(path))
  if '$' in path:
    raise FileNotFoundError(
      f'{path}: the environment variable is not set; set it to the folder '
      'that holds the data.'
    )
  if path.endswith(records.SUFFIXES):
    options = _options(source, query, ('fields', 'skip'))
    return read_records(path, **options)
  _options(source, query, ())
  return [read_file(path)]
