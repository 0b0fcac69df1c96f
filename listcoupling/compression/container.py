"""One file for coded messages: what encoder and decoders must agree on.

Layout, little-endian: magic (8 bytes); version u16; flags u16 (1: shared race,
2: indices follow the messages); kind of source u8; kind of labels u8; number
of dimensions u8; a zero u8; key data 2 x u32; N u32; K u32; L u32; width of
interval and lattice labels f32; number of messages u64; SHA-256 of the model
(32 bytes); shape u32 each; then the messages, then the indices if any; last 16
bytes of the SHA-256 of all before them.

Messages are the digits of one number to base L, so R of them take exactly
ceil(R log2 L / 8) bytes for every L, a power of two or not. The indices are an
optional field (off by default, R log2 N bits more): with them a decoder can
tell how often it found the encoder's candidate.

Legend: R messages (blocks), N candidates, K decoders, L messages per block.
"""

import hashlib
import json
import math
import os
import pathlib
import struct
import tempfile
from typing import Any, NamedTuple

import jax
import numpy as np

from listcoupling.compression.packing import pack, packed_size, unpack

MAGIC = b'\x89LCMP\r\n\x1a'
VERSION = 1
SOURCES = ('numbers', 'images')
LABELS = ('random', 'balanced', 'interval', 'lattice')
_HEADER = struct.Struct('<8sHHBBBBIIIIIfQ32s')
_CHECKSUM = 16
_SHARED, _INDICES = 1, 2
_MAX_MESSAGES = 1 << 28  # a damaged count must not ask for all the memory


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
    num_candidates: N.
    num_decoders: K.
    num_messages: L.
    shape: of the source, e.g. (R, H, W) of images.
    messages: [R] integers in 0..L-1.
    model_digest: 32 bytes, see `digest`; zeros if there is no model.
    source: one of `SOURCES`.
    labels: one of `LABELS`.
    width: of interval and lattice labels, a float32; 0 for others.
    shared_race: one race for all decoders.
    indices: None, or the encoder's candidates [R] in 0..N-1.
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


def digest(params: Any, config: Any = None) -> bytes:
  """SHA-256 [32 bytes] of parameters and settings.

  Args:
    params: pytree of arrays; names, types, shapes and bytes count.
    config: anything JSON can hold, e.g. a dictionary of sizes.

  Returns:
    32 bytes, the same in every process.

  Example:
    >>> digest({'w': np.zeros(2)}) == digest({'w': np.zeros(3)})
    False
  """
  found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  for path, leaf in leaves:
    leaf = np.asarray(leaf)
    name = f'{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};'
    found.update(name.encode())
    found.update(np.ascontiguousarray(leaf).tobytes())
  return found.digest()


def _check(coded: Coded) -> None:
  """Raises HeaderError for fields that contradict each other."""
  n, k, l = coded.num_candidates, coded.num_decoders, coded.num_messages
  if not 1 <= l <= n < 1 << 32:
    raise HeaderError(
      f'num_messages must lie in 1..num_candidates, got {l} messages for {n} '
      'candidates.'
    )
  if not 1 <= k < 1 << 16:
    raise HeaderError(f'num_decoders must be at least 1, got {k}.')
  if not 1 <= len(coded.shape) < 9 or min(coded.shape) < 1:
    raise HeaderError(f'shape must hold 1 to 8 sizes, got {coded.shape}.')
  if len(coded.messages) > _MAX_MESSAGES:
    raise HeaderError(f'too many messages for one file: {len(coded.messages)}.')
  if coded.shape[0] != len(coded.messages):
    raise HeaderError(
      f'shape {coded.shape} is that of {coded.shape[0]} blocks, not of '
      f'{len(coded.messages)} messages.'
    )
  wide = coded.labels in ('interval', 'lattice')
  if not (0 < coded.width < math.inf if wide else coded.width == 0):
    raise HeaderError(
      'width must be positive for interval and lattice labels and 0 for '
      f'others, got {coded.width} for {coded.labels!r}.'
    )
  if len(coded.model_digest) != 32:
    raise HeaderError(
      f'model_digest must have 32 bytes, got {len(coded.model_digest)}.'
    )
  if coded.source not in SOURCES or coded.labels not in LABELS:
    raise HeaderError(
      f'source must be one of {SOURCES} and labels one of {LABELS}, got '
      f'{coded.source!r} and {coded.labels!r}.'
    )


def to_bytes(coded: Coded) -> bytes:
  """The file as bytes.

  Raises:
    HeaderError: for fields that contradict each other.
    ValueError: for a message or index out of range.
  """
  _check(coded)
  flags = _SHARED * bool(coded.shared_race)
  flags |= _INDICES * (coded.indices is not None)
  parts = [
    _HEADER.pack(
      MAGIC,
      VERSION,
      flags,
      SOURCES.index(coded.source),
      LABELS.index(coded.labels),
      len(coded.shape),
      0,
      *(int(word) for word in coded.key_data),
      coded.num_candidates,
      coded.num_decoders,
      coded.num_messages,
      coded.width,
      len(coded.messages),
      coded.model_digest,
    ),
    struct.pack(f'<{len(coded.shape)}I', *coded.shape),
    pack(coded.messages, coded.num_messages),
  ]
  if coded.indices is not None:
    if len(coded.indices) != len(coded.messages):
      raise HeaderError(
        f'{len(coded.indices)} indices for {len(coded.messages)} messages.'
      )
    parts.append(pack(coded.indices, coded.num_candidates))
  data = b''.join(parts)
  return data + hashlib.sha256(data).digest()[-_CHECKSUM:]


def overhead(coded: Coded) -> int:
  """Bytes of a file that are neither messages nor indices."""
  return _HEADER.size + 4 * len(coded.shape) + _CHECKSUM


def from_bytes(data: bytes, *, model_digest: bytes | None = None) -> Coded:
  """Reads what `to_bytes` wrote.

  Args:
    data: the whole file.
    model_digest: of the model at hand; None accepts any.

  Returns:
    `Coded`, messages and indices int64.

  Raises:
    MagicError, VersionError, LengthError, ChecksumError, HeaderError,
    ModelError: all `ContainerError`, hence ValueError.
  """
  if data[: len(MAGIC)] != MAGIC:
    raise MagicError(
      f'not a file of coded messages: it begins with {data[:8]!r}, not '
      f'{MAGIC!r}.'
    )
  if len(data) < _HEADER.size + _CHECKSUM:
    raise LengthError(f'the file is cut short: {len(data)} bytes.')
  fields = _HEADER.unpack_from(data)
  _, version, flags, source, labels, ndim, zero, *rest = fields
  word0, word1, n, k, l, width, count, model = rest
  if version != VERSION:
    raise VersionError(
      f'the file is of version {version}, this reads version {VERSION}.'
    )
  body, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
  whole = hashlib.sha256(body).digest()[-_CHECKSUM:] == checksum
  bad_header = bool(zero) or bool(flags & ~3) or not 1 <= l <= n
  # A damaged count must not ask for all the time there is.
  if not bad_header:
    digits = count * (math.log2(l) + (flags & _INDICES > 0) * math.log2(n))
    bad_header = count > _MAX_MESSAGES
    if not bad_header and digits > 8 * len(data):
      raise LengthError(
        f'the file has {len(data)} bytes, its header asks for more than '
        f'{int(digits / 8)}: it is cut short.'
      )
  if not bad_header:
    start = _HEADER.size + 4 * ndim
    middle = start + packed_size(count, l)
    end = middle + (packed_size(count, n) if flags & _INDICES else 0)
    if not whole and end != len(body):
      raise LengthError(
        f'the file has {len(data)} bytes, its header asks for '
        f'{end + _CHECKSUM}: it is cut short, or something follows.'
      )
  if not whole:
    raise ChecksumError('the checksum is wrong: the file is damaged.')
  if bad_header or end != len(body):
    raise HeaderError('the header is not one this version writes.')
  if source >= len(SOURCES) or labels >= len(LABELS):
    raise HeaderError(f'unknown kind of source {source} or labels {labels}.')
  try:
    messages = unpack(body[start:middle], count, l)
    indices = unpack(body[middle:end], count, n) if flags & _INDICES else None
  except ValueError as error:
    raise HeaderError(str(error)) from error
  coded = Coded(
    (word0, word1),
    n,
    k,
    l,
    struct.unpack_from(f'<{ndim}I', data, _HEADER.size),
    messages,
    model,
    SOURCES[source],
    LABELS[labels],
    width,
    bool(flags & _SHARED),
    indices,
  )
  _check(coded)
  if model_digest is not None and model_digest != model:
    raise ModelError(
      f'the file was made with model {model.hex()[:12]}, this one is '
      f'{model_digest.hex()[:12]}; decode with the model that encoded.'
    )
  return coded


def write(path: str | os.PathLike, coded: Coded) -> int:
  """Writes a file beside `path` and renames it; returns its size in bytes."""
  data = to_bytes(coded)
  path = pathlib.Path(path)
  handle, name = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(data)
    os.chmod(name, 0o644)
    os.replace(name, path)
  finally:
    pathlib.Path(name).unlink(missing_ok=True)
  return len(data)


def read(path, *, model_digest: bytes | None = None) -> Coded:
  """Reads a file; errors of `from_bytes` name it.

  Raises:
    FileNotFoundError: if there is no such file.
  """
  try:
    return from_bytes(
      pathlib.Path(path).read_bytes(), model_digest=model_digest
    )
  except ContainerError as error:
    raise type(error)(f'{path}: {error}') from error
