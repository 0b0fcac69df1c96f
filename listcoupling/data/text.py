"""Text that every machine with Python has, and a byte-level tokenizer for it.

The text is the documentation topics that `help()` prints and the source files
of the standard library, both part of any CPython installation: no download,
code and English mixed. It differs between Python versions, so what was read is
recorded: version, names, SHA-256 digest. Other text comes from files given by
path. Documents are held out by the hash of their content, so a document stays
on its side of the split whatever else is read.
"""

import hashlib
import os
import pathlib
import platform
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

END_OF_TEXT = '<|endoftext|>'

# Tests and tables would outweigh the rest; _sysconfigdata* names local paths.
_SKIPPED_FOLDERS = frozenset(
  '__pycache__ site-packages dist-packages test tests idlelib lib2to3 '
  'encodings pydoc_data ensurepip turtledemo distutils'.split()
)


class Document(NamedTuple):
  """One text with the name it is recorded under."""

  name: str
  text: str


class Corpus(NamedTuple):
  """Documents split for training, and the record of what they were.

  Attributes:
    train: documents to learn from.
    held_out: documents to evaluate on.
    record: dict of python version, number of documents and of bytes, SHA-256
      digest over names and contents, and the names on either side.
  """

  train: tuple[Document, ...]
  held_out: tuple[Document, ...]
  record: dict


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


def read_files(paths: Sequence[str | os.PathLike]) -> list[Document]:
  """Text files as documents, named by their file names.

  Raises:
    FileNotFoundError: a path is no file.
    ValueError: a file is empty or not UTF-8.
  """
  documents = []
  for path in map(pathlib.Path, paths):
    if not path.is_file():
      raise FileNotFoundError(
        f'{path} is not a file; give paths of UTF-8 text files.'
      )
    try:
      text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
      raise ValueError(f'{path} is not UTF-8 text: {error}.') from error
    if not text:
      raise ValueError(f'{path} is empty; give files that hold text.')
    documents.append(Document(path.name, text))
  return documents


def _is_held_out(text: str, fraction: float) -> bool:
  digest = hashlib.sha256(text.encode()).digest()
  return int.from_bytes(digest[:4], 'big') < fraction * 2**32


def _cut_last(documents, fraction):
  """Splits the longest document at a character; the rest is for training."""
  longest = max(documents, key=lambda document: len(document.text))
  cut = max(1, int(len(longest.text) * (1 - fraction)))
  rest = [document for document in documents if document is not longest]
  head = Document(longest.name, longest.text[:cut])
  tail = Document(longest.name + ' (end)', longest.text[cut:])
  return [*rest, head], [tail]


def load_corpus(
  paths: Sequence[str | os.PathLike] = (), *, held_out_fraction: float = 0.05
) -> Corpus:
  """Text files, or this Python's own text where none are given, split.

  Args:
    paths: UTF-8 text files; empty for `read_python_text`.
    held_out_fraction: expected share of documents held out, in (0, 1). If
      all documents fall on one side, the end of the longest is held out.

  Returns:
    Corpus.

  Raises:
    ValueError: the fraction is not in (0, 1), or a file is unreadable text.
    FileNotFoundError: a path is missing.

  Example:
    >>> corpus = load_corpus()
    >>> corpus.record["python"] == platform.python_version()
    True
  """
  if not 0.0 < held_out_fraction < 1.0:
    raise ValueError(
      f'held_out_fraction must be in (0, 1), got {held_out_fraction}.'
    )
  documents = read_files(paths) if paths else read_python_text()
  train, held_out = [], []
  for document in documents:
    side = held_out if _is_held_out(document.text, held_out_fraction) else train
    side.append(document)
  if not train or not held_out:
    train, held_out = _cut_last(documents, held_out_fraction)
  digest = hashlib.sha256()
  for name, text in documents:
    digest.update(hashlib.sha256(name.encode()).digest())
    digest.update(hashlib.sha256(text.encode()).digest())
  record = {
    'python': platform.python_version(),
    'documents': len(documents),
    'bytes': sum(len(document.text.encode()) for document in documents),
    'sha256': digest.hexdigest(),
    'train': [document.name for document in train],
    'held_out': [document.name for document in held_out],
  }
  return Corpus(tuple(train), tuple(held_out), record)


def train_tokenizer(
  texts: Iterable[str], vocab_size: int = 1024
) -> tokenizers.Tokenizer:
  """Byte-level byte-pair encoding: any text encodes, and decodes to itself.

  Args:
    texts: what to learn the merges from.
    vocab_size: at least 257: all bytes and the end-of-text token (id 0).

  Returns:
    A tokenizer; fewer tokens if the texts allow fewer merges.

  Raises:
    ValueError: vocab_size is below 257.
  """
  if vocab_size < 257:
    raise ValueError(
      f'vocab_size must be at least 257 (256 bytes and {END_OF_TEXT}), got '
      f'{vocab_size}.'
    )
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=[END_OF_TEXT],
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  tokenizer.train_from_iterator(texts, trainer)
  return tokenizer


def encode_documents(
  tokenizer: tokenizers.Tokenizer, documents: Iterable[Document]
) -> np.ndarray:
  """All documents in one row, each followed by the end-of-text token.

  Returns:
    [T] int32 token ids.

  Raises:
    ValueError: the tokenizer has no end-of-text token.
  """
  end = tokenizer.token_to_id(END_OF_TEXT)
  if end is None:
    raise ValueError(
      f'The tokenizer has no {END_OF_TEXT} token; train it with '
      'train_tokenizer.'
    )
  texts = [document.text for document in documents]
  rows = []
  for encoding in tokenizer.encode_batch(texts):
    rows.append(np.asarray([*encoding.ids, end], np.int32))
  return np.concatenate(rows)
