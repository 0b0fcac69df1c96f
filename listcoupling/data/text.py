"""Text split for training, and a byte-level tokenizer for it.

Text is read by `listcoupling.data.sources`. It may differ between machines
(this Python's own text does between Python versions), so what was read is
recorded: version, names, SHA-256 digest. Documents are held out by the hash of
their content, so a document stays on its side of the split whatever else is
read.
"""

import hashlib
import os
import platform
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from listcoupling.data import sources
from listcoupling.data.sources import Document

END_OF_TEXT = '<|endoftext|>'


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
  data: Sequence[str | os.PathLike] = (), *, held_out_fraction: float = 0.05
) -> Corpus:
  """The documents of all sources, split.

  Args:
    data: sources, see `listcoupling.data.sources`; empty for ('python',).
    held_out_fraction: expected share of documents held out, in (0, 1). If
      all documents fall on one side, the end of the longest is held out.

  Returns:
    Corpus.

  Raises:
    ValueError: the fraction is not in (0, 1), or a source is unreadable.
    FileNotFoundError: a file or data set is missing.

  Example:
    >>> corpus = load_corpus()
    >>> corpus.record["python"] == platform.python_version()
    True
  """
  if not 0.0 < held_out_fraction < 1.0:
    raise ValueError(
      f'held_out_fraction must be in (0, 1), got {held_out_fraction}.'
    )
  documents = [
    document
    for source in data or ('python',)
    for document in sources.read_source(source)
  ]
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
