"""One file for coded messages: `Coded` as bytes and back.

`header` has the layout and names the damages; a header, then the messages,
then the indices if any, then a checksum.

Messages are the digits of one number to base L, so R of them take exactly
ceil(R log2 L / 8) bytes for every L, a power of two or not. The indices are an
optional field (off by default, R log2 N bits more): with them a decoder can
tell how often it found the encoder's candidate.

Legend: R messages (blocks), N candidates, K decoders, L messages per block.
"""

import hashlib
import json
import os
import pathlib
import struct
import tempfile
from typing import Any

import jax
import numpy as np

from listcoupling.compression.coded import (
  LABELS,
  SCHEMES,
  SOURCES,
  ChecksumError,
  Coded,
  ContainerError,
  HeaderError,
  LengthError,
  MagicError,
  ModelError,
  VersionError,
  check,
)
from listcoupling.compression.header import (
  CHECKSUM,
  INDICES,
  LAYOUT,
  MAGIC,
  SHARED,
  VERSION,
  Header,
  check_whole,
  checksum,
  read_header,
)
from listcoupling.compression.packing import pack, packed_size, unpack

__all__ = [
  'LABELS', 'MAGIC', 'SCHEMES', 'SOURCES', 'VERSION', 'ChecksumError', 'Coded',
  'ContainerError', 'HeaderError', 'LengthError', 'MagicError', 'ModelError',
  'VersionError', 'check', 'check_model', 'digest', 'from_bytes', 'overhead',
  'packed_size', 'read', 'to_bytes', 'write',
]  # fmt: skip


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


def to_bytes(coded: Coded) -> bytes:
  """The file as bytes.

  Raises:
    HeaderError: for fields that contradict each other.
    ValueError: for a message or index out of range.
  """
  check(coded)
  flags = SHARED * bool(coded.shared_race)
  flags |= INDICES * (coded.indices is not None)
  header = Header(
    MAGIC, VERSION, flags, SOURCES.index(coded.source),
    LABELS.index(coded.labels), len(coded.shape),
    SCHEMES.index(coded.scheme), *(int(word) for word in coded.key_data),
    coded.num_candidates, coded.num_decoders, coded.num_messages,
    coded.width, len(coded.messages), coded.model_digest,
  )  # fmt: skip
  data = LAYOUT.pack(*header)
  data += struct.pack(f'<{len(coded.shape)}I', *coded.shape)
  data += pack(coded.messages, coded.num_messages)
  if coded.indices is not None:
    data += pack(coded.indices, coded.num_candidates)
  return data + checksum(data)


def overhead(coded: Coded) -> int:
  """Bytes of a file that are neither messages nor indices."""
  return LAYOUT.size + 4 * len(coded.shape) + CHECKSUM


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
  header = read_header(data)
  check_whole(data, header)
  begin, middle, end = header.parts()
  count, n, l = header.count, header.num_candidates, header.num_messages
  has_indices = header.flags & INDICES
  try:
    messages = unpack(data[begin:middle], count, l)
    indices = unpack(data[middle:end], count, n) if has_indices else None
  except ValueError as error:
    raise HeaderError(str(error)) from error
  coded = Coded(
    (header.word0, header.word1), n, header.num_decoders, l,
    struct.unpack_from(f'<{header.num_dimensions}I', data, LAYOUT.size),
    messages, header.model, SOURCES[header.source], LABELS[header.labels],
    header.width, bool(header.flags & SHARED), indices,
    SCHEMES[header.scheme],
  )  # fmt: skip
  check(coded)
  if model_digest is not None:
    check_model(coded, model_digest)
  return coded


def check_model(coded: Coded, model_digest: bytes) -> None:
  """Raises ModelError unless `model_digest` is that of the file."""
  if model_digest != coded.model_digest:
    raise ModelError(
      f'the file was made with model {coded.model_digest.hex()[:12]}, this one '
      f'is {model_digest.hex()[:12]}; decode with the model that encoded.'
    )


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
