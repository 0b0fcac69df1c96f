"""Records of evaluation sets: JSON lines, JSON, Parquet, TFDS, the hub.

A record is a mapping of named fields with a note of where it stood (file and
line), so that whoever needs a field can say what is wrong and where.
"""

import contextlib
import gzip
import itertools
import json
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
# What a small file may unzip to.
_MOST_JSON = 1 << 28  # bytes
_MOST_LINE = 1 << 26
_BATCH = 1024  # rows of Parquet at a time, which may be one long row repeated
_NOT_JSON = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)
# Of records with fields; .txt is read, too, where paragraphs are wanted.
SUFFIXES = ('.jsonl', '.jsonl.gz', '.json', '.json.gz', '.parquet')
_ALL = ', '.join((*SUFFIXES, '.txt'))


class Record(NamedTuple):
  """One record and where it stood."""

  where: str  # 'gsm8k/test.jsonl line 3'
  fields: Mapping[str, Any]


def field(record: Record, *names: str) -> str:
  """The first of the named fields as text; line ends become \\n.

  Raises:
    ValueError: the record has none of them, or it holds no text or number.

  Example:
    >>> field(Record('a.jsonl line 1', {'text': '1+1'}), 'prompt', 'text')
    '1+1'
  """
  for name in names:
    if name in record.fields:
      value = record.fields[name]
      if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
          value = value.decode()
      if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(
          f'{record.where}: field {name!r} must be text, got {value!r:.60}.'
        )
      return str(value).replace('\r\n', '\n')
  wanted = ' or '.join(map(repr, names))
  raise ValueError(
    f'{record.where} has no field {wanted}; it has {sorted(record.fields)}.'
  )


def read(path: str | os.PathLike) -> Iterator[Record]:
  """Records of a file, one at a time.

  Args:
    path: .jsonl, .json (a list, or DROP's mapping of passages), each perhaps
      with .gz, .parquet, or .txt, whose paragraphs (between empty lines)
      become the field text.

  Yields:
    `Record`s in the order of the file.

  Raises:
    FileNotFoundError: the path is no file.
    ValueError: an unknown suffix, or a line or file that is not as announced.

  Example:
    >>> _ = pathlib.Path('records.jsonl').write_text('{"question": "1+1"}')
    >>> next(read('records.jsonl')).fields['question']
    '1+1'
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is not a file; give a file of records ({_ALL}).'
    )
  plain = path.name.removesuffix('.gz')
  if plain.endswith('.jsonl'):
    return _jsonl(path)
  if plain.endswith('.json'):
    return _json(path)
  if plain.endswith('.parquet'):
    return _parquet(path)
  if plain.endswith('.txt'):
    return _paragraphs(path)
  raise ValueError(f'{path} must end in one of {_ALL} to be read as records.')


def _paragraphs(path):
  with _open(path) as file:
    lines = file.read().decode().splitlines(keepends=True)
  number = 1
  for blank, group in itertools.groupby(lines, lambda line: not line.strip()):
    group = list(group)
    if not blank:
      yield Record(f'{path} line {number}', {'text': ''.join(group).strip()})
    number += len(group)


def _open(path):
  return gzip.open(path, 'rb') if path.suffix == '.gz' else path.open('rb')


def _object(value, where) -> Record:
  if not isinstance(value, Mapping):
    raise ValueError(f'{where} must be a JSON object, got {value!r:.60}.')
  return Record(where, value)


def _check_size(text: bytes, most: int, where: str) -> None:
  if len(text) > most:
    raise ValueError(
      f'{where} has more than {most} bytes; give JSON lines, one record each.'
    )


def _jsonl(path):
  number = 0
  try:
    with _open(path) as file:
      lines = iter(lambda: file.readline(_MOST_LINE + 1), b'')
      for number, line in enumerate(lines, 1):
        where = f'{path} line {number}'
        _check_size(line, _MOST_LINE, where)
        if line.strip():
          yield _object(json.loads(line.decode('utf-8')), where)
  except _NOT_JSON as error:
    raise ValueError(f'{path} line {number} is not JSON: {error}.') from error
  except _DAMAGED as error:
    raise ValueError(
      f'{path} is damaged after line {number} ({error}); fetch it again.'
    ) from error


def _json(path):
  try:
    with _open(path) as file:
      text = file.read(_MOST_JSON + 1)
    _check_size(text, _MOST_JSON, str(path))
    value = json.loads(text.decode('utf-8'))
  except _NOT_JSON as error:
    raise ValueError(f'{path} is not JSON: {error}.') from error
  except _DAMAGED as error:
    raise ValueError(f'{path} is damaged ({error}); fetch it again.') from error
  if isinstance(value, Mapping):
    yield from _passages(path, value)
  elif isinstance(value, list):
    for number, entry in enumerate(value):
      yield _object(entry, f'{path}[{number}]')
  else:
    raise ValueError(f'{path} must hold a list or an object of records.')


def _passages(path, passages):
  """DROP's own form: {id: {passage, qa_pairs: [{question, query_id}]}}."""
  for name, entry in passages.items():
    where = f'{path} passage {name!r}'
    passage = _object(entry, where).fields
    pairs = passage.get('qa_pairs')
    if not isinstance(pairs, list) or 'passage' not in passage:
      raise ValueError(
        f'{where} has no field passage or qa_pairs; it has {sorted(passage)}.'
      )
    for number, pair in enumerate(pairs, 1):
      there = f'{where} question {number}'
      question = _object(pair, there).fields
      yield Record(there, {'passage': passage['passage'], **question})


def _parquet(path):
  import pyarrow
  from pyarrow import parquet

  number = 0
  try:
    file = parquet.ParquetFile(path, page_checksum_verification=True)
    for batch in file.iter_batches(_BATCH):
      for row in batch.to_pylist():
        number += 1
        yield Record(f'{path} row {number} (from 1)', row)
  except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
    raise ValueError(
      f'{path} is not a Parquet file, or damaged after {number} rows '
      f'({error}); fetch it again.'
    ) from error


def read_tfds(name: str, split: str) -> Iterator[Record]:
  """Records of a TensorFlow data set that is prepared on this machine.

  Args:
    name: such as 'gsm8k' or 'drop', in array_record format.
    split: such as 'test' or 'dev'.

  Raises:
    FileNotFoundError: it is not prepared; nothing is downloaded, for without
      a network that takes minutes to fail.
  """
  import tensorflow_datasets as tfds

  try:
    builder = tfds.core.load.read_only_builder.builder_from_files(name)
  except tfds.core.registered.DatasetNotFoundError as error:
    raise FileNotFoundError(
      f'TFDS data set {name!r} is not prepared here; run `tfds build {name} '
      '--file_format=array_record` where there is network, and set '
      'TFDS_DATA_DIR to the folder.'
    ) from error
  rows = builder.as_data_source(split)
  for number in range(len(rows)):
    yield Record(f'TFDS {name}/{split}[{number}]', rows[number])


def read_hub(name: str, file: str) -> Iterator[Record]:
  """Records of a file of a data set on the Hugging Face hub.

  JSON lines are streamed, so that taking the first records of a large file
  moves no more than those; other files are downloaded to the hub's cache.

  Args:
    name: such as 'openai/gsm8k'.
    file: its path in the repository.

  Raises:
    FileNotFoundError: the hub cannot be reached or has no such file.
  """
  import huggingface_hub

  try:
    if not file.endswith('.jsonl'):
      path = huggingface_hub.hf_hub_download(name, file, repo_type='dataset')
      stream = None
    else:
      system = huggingface_hub.HfFileSystem()
      stream = system.open(f'datasets/{name}/{file}', 'rb')
  except Exception as error:  # one remedy for every way the hub can fail
    raise FileNotFoundError(
      f'{file} of the data set {name!r} is not reachable on the Hugging Face '
      f'hub ({type(error).__name__}). Where there is network, download it from '
      f'https://huggingface.co/datasets/{name}, bring it here and give its '
      'path with --prompts.'
    ) from error
  if stream is None:
    yield from read(path)
    return
  with stream:
    for number, line in enumerate(stream, 1):
      where = f'hub {name}/{file} line {number}'
      try:
        yield _object(json.loads(line), where)
      except _NOT_JSON as error:
        raise ValueError(f'{where} is not JSON: {error}.') from error
