"""The header of a file of coded messages, and what damages say.

Layout, little-endian: magic (8 bytes); version u16; flags u16 (1: shared race,
2: indices follow the messages); kind of source u8; kind of labels u8; number
of dimensions u8; scheme u8; key data 2 x u32; N u32; K u32; L u32; width of
interval and lattice labels f32; number of messages u64; SHA-256 of the model
(32 bytes); shape u32 each; then the messages, then the indices if any; last 16
bytes of the SHA-256 of all before them.

Legend: N candidates, K decoders, L messages per block.
"""

import hashlib
import math
import struct
from typing import NamedTuple

from listcoupling.compression.coded import (
  LABELS,
  MAX_MESSAGES,
  SCHEMES,
  SOURCES,
  ChecksumError,
  HeaderError,
  LengthError,
  MagicError,
  VersionError,
)
from listcoupling.compression.packing import packed_size

MAGIC = b'\x89LCMP\r\n\x1a'
VERSION = 2
LAYOUT = struct.Struct('<8sHHBBBBIIIIIfQ32s')
CHECKSUM = 16
SHARED, INDICES = 1, 2


class Header(NamedTuple):
  """The fixed fields, in the order of `LAYOUT`."""

  magic: bytes
  version: int
  flags: int
  source: int
  labels: int
  num_dimensions: int
  scheme: int
  word0: int
  word1: int
  num_candidates: int
  num_decoders: int
  num_messages: int
  width: float
  count: int
  model: bytes

  @property
  def is_plausible(self) -> bool:
    """Whether the sizes of what follows can be computed from it."""
    return (
      not self.flags & ~(SHARED | INDICES)
      and 1 <= self.num_messages <= self.num_candidates
      and self.count <= MAX_MESSAGES
    )

  @property
  def least_bytes(self) -> float:
    """What messages and indices take at least: found without packing."""
    bits = math.log2(self.num_messages)
    if self.flags & INDICES:
      bits += math.log2(self.num_candidates)
    return self.count * bits / 8

  def parts(self) -> tuple[int, int, int]:
    """Where the messages begin and end and where the indices end."""
    begin = LAYOUT.size + 4 * self.num_dimensions
    middle = begin + packed_size(self.count, self.num_messages)
    if not self.flags & INDICES:
      return begin, middle, middle
    return begin, middle, middle + packed_size(self.count, self.num_candidates)


def checksum(data: bytes) -> bytes:
  """The last 16 bytes of the SHA-256 of `data`."""
  return hashlib.sha256(data).digest()[-CHECKSUM:]


def read_header(data: bytes) -> Header:
  """The fixed fields, if this is such a file and of this version.

  Args:
    data: the whole file.

  Raises:
    MagicError, LengthError, VersionError: in this order.
  """
  if data[: len(MAGIC)] != MAGIC:
    raise MagicError(
      f'not a file of coded messages: it begins with {data[:8]!r}, not '
      f'{MAGIC!r}.'
    )
  if len(data) < LAYOUT.size + CHECKSUM:
    raise LengthError(f'the file is cut short: {len(data)} bytes.')
  header = Header(*LAYOUT.unpack_from(data))
  if header.version != VERSION:
    raise VersionError(
      f'the file is of version {header.version}, this reads version {VERSION}.'
    )
  return header


def check_whole(data: bytes, header: Header) -> None:
  """Refuses bytes that `container.to_bytes` did not write.

  Args:
    data: the whole file.
    header: its own.

  Raises:
    LengthError: if the header asks for another length.
    ChecksumError: if the length is right and the bytes are not.
    HeaderError: if they are whole but no writer of this version made them.
  """
  # A damaged count must not ask for all the time there is.
  if header.is_plausible and header.least_bytes > len(data):
    raise LengthError(
      f'the file has {len(data)} bytes, its header asks for more than '
      f'{int(header.least_bytes)}: it is cut short.'
    )
  is_whole = checksum(data[:-CHECKSUM]) == data[-CHECKSUM:]
  wanted = header.parts()[-1] + CHECKSUM if header.is_plausible else None
  if not is_whole and wanted not in (None, len(data)):
    raise LengthError(
      f'the file has {len(data)} bytes, its header asks for {wanted}: it is '
      'cut short, or something follows.'
    )
  if not is_whole:
    raise ChecksumError('the checksum is wrong: the file is damaged.')
  if wanted != len(data):
    raise HeaderError('the header is not one this version writes.')
  kinds = (
    (header.source, SOURCES), (header.labels, LABELS), (header.scheme, SCHEMES)
  )  # fmt: skip
  if any(kind >= len(known) for kind, known in kinds):
    raise HeaderError(
      f'unknown kind of source {header.source}, labels {header.labels} or '
      f'scheme {header.scheme}.'
    )
