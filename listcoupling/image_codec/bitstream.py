"""The file of the image codec: fields, messages and checksum as bytes.

Little-endian: magic (8 bytes); version u16; flags u16 (1 shared race, 2 with
indices); scheme u8; labels u8; K u16; key 2 x u32; N, L, G u32; width of
lattice labels f32; shape R, H, W, colours u32 (0 colours: grey); bytes of the
names u32; SHA-256 of the model (32 bytes); messages; indices; names, joined by
NUL; the last 16 bytes of the SHA-256 of all before them.

Messages are digits to base L, some hundred of them to one number: R take
ceil(R log2 L / 8) bytes, or a byte more for every 500,000. Time and memory are
linear in the length of the file.

Legend: R images, N candidates, K decoders, L messages, G groups of decoders.
"""

import functools
import hashlib
import math
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from listcoupling import files

MAGIC = b'\x89LCMP\r\n\x1a'
VERSION = 3
SCHEMES = ('gls', 'gls_kmeans', 'list_quantiser')
LABELS = ('random', 'balanced', 'lattice', 'kmeans')
MAX_IMAGES, MAX_CANDIDATES, MAX_DECODERS = 1 << 22, 1 << 18, 256
_WORD = 1 << 32  # above what a 32-bit field holds
_HEADER = struct.Struct('<8sHHBBH2I3If4II32s')
_CHECKSUM = 16
_SHARED, _INDICES = 1, 2
OVERHEAD = _HEADER.size + _CHECKSUM  # neither messages, indices nor names


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
  """The fields contradict each other, or ask for more than is allowed."""


class ModelError(ContainerError):
  """Made with another model."""


class Container(NamedTuple):
  """Contents of a file."""

  scheme: str  # of SCHEMES
  key_data: tuple[int, int]  # 32-bit words of the shared threefry key
  num_candidates: int  # N; of a list quantiser its L K M codewords
  num_decoders: int  # K
  num_messages: int  # L
  shape: tuple[int, ...]  # (R, H, W) of the sources, or (R, H, W, C)
  messages: np.ndarray  # [R] integers in 0..L-1
  model_digest: bytes  # 32, of all networks that a decoder needs
  num_groups: int = 1  # G, divides K
  labels: str = 'random'  # of LABELS; kmeans but for gls
  width: float = 0.0  # of lattice labels, a float32
  shared_race: bool = False  # one race for all decoders; gls alone
  indices: np.ndarray | None = None  # [R] in 0..N-1, the encoder's candidates
  names: tuple[str, ...] = ()  # of the R images, or none

  @property
  def bin_size(self) -> int:
    """M, codewords of each message and decoder of a list quantiser, else 1."""
    if self.scheme != 'list_quantiser':
      return 1
    return self.num_candidates // (self.num_messages * self.num_decoders)


def _sizes(c: Container) -> Iterator[str]:
  """Faults of sizes and key, in words."""
  n, k, l, g = c.num_candidates, c.num_decoders, c.num_messages, c.num_groups
  if not 1 <= l <= l * max(g, 1) <= n <= MAX_CANDIDATES:
    yield (
      'num_messages (times num_groups) must lie in 1..num_candidates and '
      f'num_candidates be at most {MAX_CANDIDATES}, got {l} (times {g}) '
      f'messages for {n} candidates.'
    )
  if not 1 <= k <= MAX_DECODERS:
    yield f'num_decoders must lie in 1..{MAX_DECODERS}, got {k}.'
  if g < 1 or k % g:
    yield f'num_groups must divide the {k} decoders, got {g}.'
  if (
    len(c.shape) not in (3, 4)
    or not all(1 <= size < _WORD for size in c.shape)
    or c.shape[0] > MAX_IMAGES
  ):
    yield (
      'shape must be (R, H, W) or (R, H, W, C), each from 1 and R at most '
      f'{MAX_IMAGES}, got {c.shape}.'
    )
  words = c.key_data
  if len(words) != 2 or not all(0 <= word < _WORD for word in words):
    yield f'key_data must be two 32-bit words, got {words}.'
  if len(c.model_digest) != 32:
    yield f'model_digest must have 32 bytes, got {len(c.model_digest)}.'


def _kinds(c: Container) -> Iterator[str]:
  """Faults of scheme, labels and race, in words."""
  if c.scheme not in SCHEMES or c.labels not in LABELS:
    yield (
      f'scheme must be one of {SCHEMES} and labels one of {LABELS}, got '
      f'{c.scheme!r} and {c.labels!r}.'
    )
  if (c.labels == 'kmeans') != (c.scheme != 'gls'):
    yield (
      'labels must be "kmeans" for gls_kmeans and list_quantiser and others '
      f'for gls, got {c.labels!r} for {c.scheme!r}.'
    )
  if c.num_groups > 1 and c.scheme == 'list_quantiser':
    yield f'num_groups of a list quantiser must be 1, got {c.num_groups}.'
  if c.shared_race and c.scheme != 'gls':
    yield f'shared_race belongs to gls, not to {c.scheme!r}.'
  count = c.num_messages * c.num_decoders
  if c.scheme == 'list_quantiser' and c.num_candidates % count:
    yield (
      'num_candidates of a list quantiser must be a multiple of num_messages '
      f'times num_decoders, {count}, got {c.num_candidates}.'
    )
  with np.errstate(over='ignore'):
    width = np.float32(c.width)
  if not (0 < width < np.inf if c.labels == 'lattice' else c.width == 0):
    yield (
      'width must be positive and finite as a float32 for lattice labels and 0 '
      f'for others, got {c.width} for {c.labels!r}.'
    )


def _rows(c: Container) -> Iterator[str]:
  """Faults of the fields that hold one entry for each image."""
  for name in ('messages', 'indices', 'names'):
    value = getattr(c, name)
    count = c.shape[0] if value is None else len(value)
    if count != c.shape[0] and (count or name != 'names'):
      yield f'{count} {name} for images of shape {c.shape}.'
  for name in c.names:  # none may lead out of the folder of the output
    plain = '' != pathlib.PurePath(name).name == name != '..'
    if not plain or not name.isprintable() or len(name) > 255:
      yield (
        'names must be printable ones of files in one folder, got '
        f'{name[:300]!r}.'
      )
  if len(set(c.names)) < len(c.names):
    yield 'names must differ from each other.'


def check(container: Container) -> None:
  """Raises HeaderError for fields that contradict each other.

  The range of messages and indices is left to `to_bytes`.
  """
  for part in (_sizes, _kinds, _rows):
    for fault in part(container):
      raise HeaderError(fault)


@functools.cache
def _block(base: int) -> int:
  """Digits of one number: what leaves least of its last byte unused."""
  bits = math.log2(base)
  return max(range(512, 1025), key=lambda count: (count * bits - 1e-6) % 8)


@functools.lru_cache(64)
def _number_size(count: int, base: int) -> int:
  """Bytes of a number of `count` digits."""
  return ((base**count - 1).bit_length() + 7) // 8


def packed_size(count: int, base: int) -> int:
  """Bytes of `count` digits to `base`.

  Example:
    >>> packed_size(10, 3), packed_size(3, 64), packed_size(5, 1)
    (2, 3, 0)
  """
  whole, rest = divmod(count, _block(base))
  return whole * _number_size(_block(base), base) + _number_size(rest, base)


def pack(digits, base: int) -> bytes:
  """Digits [R] in 0..base-1 as `packed_size(R, base)` bytes.

  Raises:
    ValueError: for a digit out of range or a base below 1.

  Example:
    >>> pack([1, 0, 1], 2).hex(), unpack(pack([2, 1, 0], 3), 3, 3).tolist()
    ('05', [2, 1, 0])
  """
  digits, parts = np.asarray(digits), []
  if base < 1 or digits.ndim != 1 or digits.dtype.kind not in 'iu':
    raise ValueError(
      'messages must be a list of integers to a base of at least 1, got '
      f'{digits.dtype} of shape {digits.shape} to base {base}.'
    )
  if digits.size and not 0 <= digits.min() <= digits.max() < base:
    raise ValueError(
      f'messages must lie in 0..{base - 1}, got {digits.min()}..{digits.max()}.'
    )
  for start in range(0, digits.size, _block(base)):
    part, number = digits[start : start + _block(base)].tolist(), 0
    for digit in part:
      number = number * base + digit
    parts.append(number.to_bytes(_number_size(len(part), base), 'big'))
  return b''.join(parts)


def unpack(data: bytes, count: int, base: int) -> np.ndarray:
  """The digits [R] of `pack`, int32.

  Raises:
    ValueError: if no digits pack to these bytes.
  """
  if len(data) != packed_size(count, base):
    raise ValueError(
      f'{len(data)} bytes cannot hold {count} messages of base {base}.'
    )
  digits, place = np.zeros(count, np.int32), 0
  for start in range(0, count if base > 1 else 0, _block(base)):
    end = min(start + _block(base), count)
    size = _number_size(end - start, base)
    number = int.from_bytes(data[place : place + size], 'big')
    place += size
    for i in range(end - 1, start - 1, -1):
      number, digits[i] = divmod(number, base)
    if number:
      raise ValueError(f'a number is too large for {end - start} messages.')
  return digits


def _checksum(data: bytes) -> bytes:
  return hashlib.sha256(data).digest()[-_CHECKSUM:]


def to_bytes(container: Container) -> bytes:
  """The file as bytes.

  Raises:
    HeaderError: for fields that contradict each other.
    ValueError: for a message or index out of range.

  Example:
    >>> held = Container('gls', (0, 1), 8, 1, 4, (3, 2, 2), np.array([3, 0, 1]),
    ...                  bytes(32))
    >>> from_bytes(to_bytes(held)).messages.tolist()
    [3, 0, 1]
  """
  check(container)
  c, names = container, '\0'.join(container.names).encode()
  flags = _SHARED * bool(c.shared_race) | _INDICES * (c.indices is not None)
  data = _HEADER.pack(
    MAGIC, VERSION, flags, SCHEMES.index(c.scheme), LABELS.index(c.labels),
    c.num_decoders, *c.key_data, c.num_candidates, c.num_messages,
    c.num_groups, c.width, *c.shape, *[0] * (4 - len(c.shape)), len(names),
    c.model_digest,
  )  # fmt: skip
  data += pack(c.messages, c.num_messages)
  if c.indices is not None:
    data += pack(c.indices, c.num_candidates)
  data += names
  return data + _checksum(data)


def _read_header(data: bytes) -> tuple[Container, list[int]]:
  """Contents but for the rows, and where header and each of them end."""
  (
    _, _, flags, scheme, labels, k, word0, word1, n, l, g, width, rows, height,
    columns, colours, names, digest,
  ) = _HEADER.unpack_from(data)  # fmt: skip
  if scheme >= len(SCHEMES) or labels >= len(LABELS) or flags >> 2:
    raise HeaderError(
      f'unknown kind of scheme {scheme}, labels {labels} or flags {flags}.'
    )
  container = Container(
    SCHEMES[scheme], (word0, word1), n, k, l,
    (rows, height, columns, colours)[: 4 if colours else 3],
    np.broadcast_to(np.int32(0), rows),  # takes no memory
    digest, g, LABELS[labels], width, bool(flags & _SHARED),
  )  # fmt: skip
  check(container)
  sizes = [_HEADER.size, packed_size(rows, l)]
  sizes += [packed_size(rows, n) if flags & _INDICES else 0, names]
  return container, np.cumsum(sizes).tolist()


def _read_rows(data: bytes, container: Container, ends: list[int]) -> Container:
  """Adds messages, indices and names to what `_read_header` found."""
  rows, indices = container.shape[0], None
  messages = unpack(data[ends[0] : ends[1]], rows, container.num_messages)
  if int.from_bytes(data[10:12], 'little') & _INDICES:
    indices = unpack(data[ends[1] : ends[2]], rows, container.num_candidates)
  text = data[ends[2] : ends[3]].decode()
  container = container._replace(
    messages=messages,
    indices=indices,
    names=tuple(text.split('\0') * bool(text)),
  )
  check(container)
  return container


def from_bytes(data: bytes) -> Container:
  """Reads what `to_bytes` wrote.

  Args:
    data: the whole file.

  Returns:
    `Container`, messages and indices int32.

  Raises:
    MagicError, VersionError, LengthError, ChecksumError, HeaderError: all
      `ContainerError`, hence ValueError. Nothing of a size that the header
      claims is made before that is compared with the length of `data`.
  """
  if data[: len(MAGIC)] != MAGIC:
    raise MagicError(
      f'not a file of the image codec: it begins with {data[:8]!r}, not '
      f'{MAGIC!r}.'
    )
  version = int.from_bytes(data[8:10], 'little')
  if len(data) >= 10 and version != VERSION:
    raise VersionError(
      f'the file is of version {version}, this reads version {VERSION}: '
      'encode the images again, or decode with the release that encoded them.'
    )
  if len(data) < OVERHEAD:
    raise LengthError(f'the file is cut short: {len(data)} bytes.')
  is_whole = _checksum(data[:-_CHECKSUM]) == data[-_CHECKSUM:]
  try:
    container, ends = _read_header(data)
  except HeaderError:
    if is_whole:
      raise
    raise ChecksumError('the checksum is wrong: the file is damaged.') from None
  if ends[-1] + _CHECKSUM != len(data):
    raise (HeaderError if is_whole else LengthError)(
      f'the file has {len(data)} bytes, its header asks for '
      f'{ends[-1] + _CHECKSUM}: it is cut short, or something follows.'
    )
  if not is_whole:
    raise ChecksumError('the checksum is wrong: the file is damaged.')
  try:
    return _read_rows(data, container, ends)
  except ValueError as error:  # UTF-8, too
    raise HeaderError(str(error)) from error


def write(path: str | os.PathLike, container: Container) -> int:
  """Writes a file, whole or not at all; returns its size in bytes."""
  data = to_bytes(container)
  with files.replacing(path) as new:
    new.write_bytes(data)
  return len(data)


def read(path: str | os.PathLike) -> Container:
  """Reads a file; errors of `from_bytes` name it.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is a folder, a device or a FIFO.
  """
  files.check_regular(path)
  try:
    return from_bytes(pathlib.Path(path).read_bytes())
  except ContainerError as error:
    raise type(error)(f'{path}: {error}') from error
