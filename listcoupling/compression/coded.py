"""What a file of coded messages holds, and what is wrong with one.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, as fields: what
encoder and decoders must agree on, and the messages. `container` turns them
into bytes.

Legend: R messages (blocks), N candidates, K decoders, L messages per block.
"""

from typing import NamedTuple

import numpy as np

SCHEMES = ('gls', 'cells', 'list_quantiser')
SOURCES = ('numbers', 'images')
LABELS = ('random', 'balanced', 'interval', 'lattice', 'cells')
MAX_MESSAGES = 1 << 28  # a damaged count must not ask for all the memory
_WORD = 1 << 32  # above what a 32-bit field holds


class ContainerError(ValueError):
  """The file cannot be used; subclasses say why."""


class MagicError(ContainerError):
  """Not a file of this kind."""


class VersionError(ContainerError):
  """Written by another version of the format."""


class LengthError(ContainerError):
  """Cut short, or something follows."""


class ChecksumError(ContainerError):
  """Some byte is not what was written."""


class HeaderError(ContainerError):
  """The fields contradict each other."""


class ModelError(ContainerError):
  """Made with another model."""


class Coded(NamedTuple):
  """Contents of a file.

  Attributes:
    key_data: the two 32-bit words of the shared key.
    num_candidates: N; of a list quantiser its L K codewords.
    num_decoders: K.
    num_messages: L.
    shape: of the source, e.g. (R, H, W) of images.
    messages: [R] integers in 0..L-1.
    model_digest: 32 bytes, see `container.digest`; zeros if there is no model.
    source: one of `SOURCES`.
    labels: one of `LABELS`; "cells" for the schemes that have a quantiser.
    width: of interval and lattice labels, a float32; 0 for others.
    shared_race: one race for all decoders; "gls" alone has it.
    indices: None, or the encoder's candidates [R] in 0..N-1.
    scheme: one of `SCHEMES`.
  """

  key_data: tuple[int, int]
  num_candidates: int
  num_decoders: int
  num_messages: int
  shape: tuple[int, ...]
  messages: np.ndarray
  model_digest: bytes = bytes(32)
  source: str = 'numbers'
  labels: str = 'random'
  width: float = 0.0
  shared_race: bool = False
  indices: np.ndarray | None = None
  scheme: str = 'gls'


def _check_sizes(coded: Coded) -> None:
  n, k, l = coded.num_candidates, coded.num_decoders, coded.num_messages
  if not 1 <= l <= n < _WORD:
    raise HeaderError(
      f'num_messages must lie in 1..num_candidates, got {l} messages for {n} '
      'candidates.'
    )
  if not 1 <= k < 1 << 16:
    raise HeaderError(f'num_decoders must be at least 1, got {k}.')
  if not 1 <= len(coded.shape) < 9 or not all(
    1 <= size < _WORD for size in coded.shape
  ):
    raise HeaderError(
      f'shape must hold 1 to 8 sizes from 1 to 2^32 - 1, got {coded.shape}.'
    )
  if len(coded.messages) > MAX_MESSAGES:
    raise HeaderError(f'too many messages for one file: {len(coded.messages)}.')
  if coded.shape[0] != len(coded.messages):
    raise HeaderError(
      f'shape {coded.shape} is that of {coded.shape[0]} blocks, not of '
      f'{len(coded.messages)} messages.'
    )
  if coded.indices is not None and len(coded.indices) != len(coded.messages):
    raise HeaderError(
      f'{len(coded.indices)} indices for {len(coded.messages)} messages.'
    )


def _check_scheme(coded: Coded) -> None:
  """The scheme is known, and labels, race and candidates are its own."""
  if coded.scheme not in SCHEMES:
    raise HeaderError(f'scheme must be one of {SCHEMES}, got {coded.scheme!r}.')
  if (coded.labels == 'cells') != (coded.scheme != 'gls'):
    raise HeaderError(
      'labels must be "cells" for cells and list_quantiser and others for gls, '
      f'got {coded.labels!r} for {coded.scheme!r}.'
    )
  if coded.shared_race and coded.scheme != 'gls':
    raise HeaderError(f'shared_race belongs to gls, not to {coded.scheme!r}.')
  cells = coded.num_messages * coded.num_decoders
  if coded.scheme == 'list_quantiser' and coded.num_candidates != cells:
    raise HeaderError(
      'num_candidates of a list quantiser must be num_messages times '
      f'num_decoders, {cells}, got {coded.num_candidates}.'
    )


def _check_words(coded: Coded) -> None:
  """Key and width fit their fields: a file must not say another number."""
  words = coded.key_data
  if len(words) != 2 or not all(0 <= word < _WORD for word in words):
    raise HeaderError(f'key_data must be two 32-bit words, got {words}.')
  with np.errstate(over='ignore'):
    width = np.float32(coded.width)
  wide = coded.labels in ('interval', 'lattice')
  if not (0 < width < np.inf if wide else coded.width == 0):
    raise HeaderError(
      'width must be positive and finite as a float32 for interval and lattice '
      f'labels and 0 for others, got {coded.width} for {coded.labels!r}.'
    )


def check(coded: Coded) -> None:
  """Raises HeaderError for fields that contradict each other.

  Args:
    coded: the fields; messages and indices are checked for number alone.

  Raises:
    HeaderError: naming the field and its value.

  Example:
    >>> check(Coded((0, 1), 8, 1, 4, (3,), np.zeros(3, int)))
  """
  _check_sizes(coded)
  _check_words(coded)
  if len(coded.model_digest) != 32:
    raise HeaderError(
      f'model_digest must have 32 bytes, got {len(coded.model_digest)}.'
    )
  if coded.source not in SOURCES or coded.labels not in LABELS:
    raise HeaderError(
      f'source must be one of {SOURCES} and labels one of {LABELS}, got '
      f'{coded.source!r} and {coded.labels!r}.'
    )
  _check_scheme(coded)
