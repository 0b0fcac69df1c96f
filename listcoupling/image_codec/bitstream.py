"""The file of the image codec: its fields, their rules, and the bytes.

`_HEADER` lists the fields, little-endian. After it come the messages, the
indices if there are any, the names joined by NUL, and the last 16 bytes of the
SHA-256 of all before them. Messages are digits to base L and indices to base N,
some hundred of them to one number: R messages take ceil(R log2 L / 8) bytes, or
one more for every 500,000, and time and memory linear in R.

Legend: R blocks, N candidates, K decoders, L messages, G groups of decoders.
"""

import functools
import hashlib
import io
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from listcoupling import files

__all__ = [
  'Container',
  'ContainerError',
  'DEFAULT_LABELS',
  'LABELS',
  'MAGIC',
  'MAX_CANDIDATES',
  'MAX_DECODERS',
  'MAX_IMAGES',
  'ModelError',
  'OVERHEAD',
  'SCHEME_NAMES',
  'VERSION',
  'check',
  'from_bytes',
  'pack',
  'packed_size',
  'read',
  'to_bytes',
  'unpack',
  'write',
]


def __dir__():
  return __all__


_LABELS = {
  'gls': ('random', 'balanced', 'lattice'),
  'gls_kmeans': ('kmeans',),
  'list_quantiser': ('kmeans',),
  'lattice': ('cosets',),
}
SCHEME_NAMES = tuple(_LABELS)
LABELS = (*_LABELS['gls'], 'kmeans', 'cosets')
DEFAULT_LABELS = {name: labels[0] for name, labels in _LABELS.items()}
MAX_IMAGES, MAX_CANDIDATES, MAX_DECODERS = 1 << 22, 1 << 18, 256
MAGIC, VERSION, _CHECKSUM = b'\x89LCMP\r\n\x1a', 4, 16  # bytes of the last
_HEADER = np.dtype([
  ('magic', 'V8'), ('version', '<u2'),
  ('flags', '<u2'),  # 1 shared race, 2 with indices
  ('scheme', 'u1'), ('labels', 'u1'),  # places in SCHEME_NAMES and LABELS
  ('num_decoders', '<u2'), ('key_data', '<u4', 2), ('num_candidates', '<u4'),
  ('num_messages', '<u4'), ('num_groups', '<u4'), ('width', '<f4'),
  ('shape', '<u4', 4),  # the last is 0 for grey
  ('picture', '<u4', 2), ('name_bytes', '<u4'), ('model_digest', 'V32'),
])  # fmt: skip
_TINY, _HUGE = map(float, (np.finfo('f4').tiny, np.finfo('f4').max))
OVERHEAD = _HEADER.itemsize + _CHECKSUM  # neither messages, indices nor names


class ContainerError(ValueError):
  """The file cannot be used; its words say why."""


class ModelError(ContainerError):
  """Made with another model."""


class Container(NamedTuple):
  """Contents of a file."""

  scheme: str  # of SCHEME_NAMES
  key_data: tuple[int, int]  # 32-bit words of the shared threefry key
  num_candidates: int  # N; codewords of a list quantiser, numbers of a lattice
  num_decoders: int  # K
  num_messages: int  # L
  shape: tuple[int, ...]  # (R, H, W) of the sources, or (R, H, W, C)
  messages: np.ndarray  # [R] integers in 0..L-1
  model_digest: bytes  # 32, of all networks that a decoder needs
  num_groups: int = 1  # G, divides K
  labels: str = 'random'  # of LABELS; only gls has a choice
  width: float = 0.0  # of lattice labels, a float32
  shared_race: bool = False  # one race for all decoders; gls alone
  indices: np.ndarray | None = None  # [R] in 0..N-1, the encoder's candidates
  names: tuple[str, ...] = ()  # of the pictures, or none
  picture: tuple[int, int] = (0, 0)  # height, width; 0: the blocks are all

  @property
  def bin_size(self) -> int:
    """M, codewords of each message and decoder of a list quantiser, else 1."""
    is_list = self.scheme == 'list_quantiser'
    words = self.num_messages * self.num_decoders
    return self.num_candidates // words if is_list else 1

  @property
  def num_tiles(self) -> int:
    """Blocks of a picture: the right halves of the tiles that it is cut in."""
    height, width = self.picture
    return max(-(-height // self.shape[1]) * -(-width // self.shape[2] // 2), 1)


def _is_name(name: str) -> bool:
  """Whether it can be shown and stays in its folder."""
  plain = '' != pathlib.PurePath(name).name == name != '..'
  return plain and name.isprintable() and len(name) <= 255


def _are_words(values, count, low: int = 0) -> bool:
  return len(values) in count and all(low <= x < 1 << 32 for x in values)


# (field, what it must do, whether it does); a rule relies on those before.
_RULES: tuple[tuple[str, str, Callable[[Container], bool]], ...] = (
  ('scheme', f'be one of {SCHEME_NAMES}', lambda c: c.scheme in SCHEME_NAMES),
  ('labels', f'be one of {_LABELS["gls"]} for gls, "cosets" for lattice, else '
   '"kmeans"', lambda c: c.labels in _LABELS[c.scheme]),
  ('shared_race', 'be off but for gls',
   lambda c: not c.shared_race or c.scheme == 'gls'),
  ('width', 'be positive, of 32 bits, for lattice labels and 0 for others',
   lambda c: (_TINY <= c.width <= _HUGE) if c.labels == 'lattice'
   else c.width == 0),
  ('num_decoders', f'lie in 1..{MAX_DECODERS}',
   lambda c: 1 <= c.num_decoders <= MAX_DECODERS),
  ('num_groups', 'divide the {c.num_decoders} decoders, 1 for a list quantiser',
   lambda c: c.num_groups == 1 or c.scheme != 'list_quantiser'
   and c.num_groups > 1 and c.num_decoders % c.num_groups == 0),
  ('num_candidates', f'be at most {MAX_CANDIDATES}',
   lambda c: c.num_candidates <= MAX_CANDIDATES),
  ('num_messages', 'lie in 1..num_candidates / num_groups, '
   '{c.num_candidates} / {c.num_groups}',
   lambda c: 1 <= c.num_messages <= c.num_candidates // c.num_groups),
  ('num_candidates', 'be a multiple of {c.num_messages} messages * '
   '{c.num_decoders} decoders', lambda c: c.scheme != 'list_quantiser'
   or c.num_candidates % (c.num_messages * c.num_decoders) == 0),
  ('num_candidates', 'be a multiple of {c.num_messages} messages * '
   '{c.num_groups} groups', lambda c: c.scheme != 'lattice'
   or c.num_candidates % (c.num_messages * c.num_groups) == 0),
  ('key_data', 'be two 32-bit words', lambda c: _are_words(c.key_data, (2,))),
  ('model_digest', 'have 32 bytes', lambda c: len(c.model_digest) == 32),
  ('shape', f'be (R, H, W) or (R, H, W, C), from 1, R at most {MAX_IMAGES}',
   lambda c: _are_words(c.shape, (3, 4), 1) and c.shape[0] <= MAX_IMAGES),
  ('picture', 'be a size whose tiles are the blocks {c.shape}, or (0, 0)',
   lambda c: _are_words(c.picture, (2,), any(c.picture))
   and c.shape[0] % c.num_tiles == 0),
  ('messages', 'be those of {c.shape[0]} blocks',
   lambda c: len(c.messages) == c.shape[0]),
  ('indices', 'be those of {c.shape[0]} blocks',
   lambda c: c.indices is None or len(c.indices) == c.shape[0]),
  ('names', 'be those of pictures of {c.num_tiles} of {c.shape[0]} blocks',
   lambda c: len(c.names) * c.num_tiles in (0, c.shape[0])),
  ('names', 'differ, and be printable ones of files in one folder',
   lambda c: len(set(c.names)) == len(c.names) and all(map(_is_name, c.names))),
)  # fmt: skip


def check(container: Container) -> None:
  """Raises ContainerError for a field that does not fit those before it."""
  for name, words, holds in _RULES:
    if not holds(container):
      words, got = words.format(c=container), repr(getattr(container, name))
      raise ContainerError(f'{name} must {words}, got {got:.300}.')


def _numbers(count: int, base: int) -> Iterator[tuple[slice, int]]:
  """Which digits make each number, and its bytes: most of the bits are used."""
  bits = math.log2(base)
  most = max(range(512, 1025), key=lambda size: (size * bits - 1e-6) % 8)
  for start in range(0, count, most):
    stop = min(start + most, count)
    largest = base ** (stop - start) - 1
    yield slice(start, stop), (largest.bit_length() + 7) // 8


def packed_size(count: int, base: int) -> int:
  """Bytes of `count` digits to `base`."""
  return sum(size for _, size in _numbers(count, base))


def pack(digits, base: int) -> bytes:
  """Digits [R] as `packed_size(R, base)` bytes; ValueError for others.

  Example:
    >>> pack([1, 0, 1], 2).hex(), unpack(pack([2, 1, 0], 3), 3, 3).tolist()
    ('05', [2, 1, 0])
  """
  digits, data = np.asarray(digits), io.BytesIO()
  is_list = digits.ndim == 1 and digits.dtype.kind in 'iu'
  if not is_list or np.any((digits < 0) | (digits >= base)):
    raise ValueError(
      f'messages must be a list of integers in 0..{base - 1}, got {digits}.'
    )
  for part, size in _numbers(len(digits), base):
    own = digits[part].tolist()
    number = functools.reduce(lambda total, digit: total * base + digit, own)
    data.write(number.to_bytes(size, 'big'))
  return data.getvalue()


def unpack(data: bytes, count: int, base: int) -> np.ndarray:
  """The digits [R] of `pack`, int32; ValueError for bytes of none."""
  if len(data) != packed_size(count, base):
    raise ValueError(f'{len(data)} bytes, not those of {count} messages.')
  digits, body = np.zeros(count, np.int32), io.BytesIO(data)
  for part, size in _numbers(count, base) if base > 1 else ():
    number = int.from_bytes(body.read(size), 'big')
    for i in reversed(range(part.start, part.stop)):
      number, digits[i] = divmod(number, base)
    if number:
      raise ValueError('a number is too large for its messages.')
  return digits


def to_bytes(container: Container) -> bytes:
  """The file as `write` writes it; ValueError for fields of no sense."""
  check(container)
  c, names = container, '\0'.join(container.names).encode()
  header = (
    MAGIC, VERSION, bool(c.shared_race) | 2 * (c.indices is not None),
    SCHEME_NAMES.index(c.scheme), LABELS.index(c.labels), c.num_decoders,
    c.key_data, c.num_candidates, c.num_messages, c.num_groups, c.width,
    (*c.shape, 0)[:4], c.picture, len(names), c.model_digest,
  )  # fmt: skip
  data = np.array(header, _HEADER).tobytes() + pack(c.messages, c.num_messages)
  if c.indices is not None:
    data += pack(c.indices, c.num_candidates)
  return data + names + _checksum(data + names)


def _checksum(data: bytes) -> bytes:
  return hashlib.sha256(data).digest()[-_CHECKSUM:]


def _read(data: bytes) -> Container:
  """Contents, whatever the checksum says; else some ValueError."""
  (
    _, _, flags, scheme, labels, k, key, n, l, g, width, shape, picture,
    name_bytes, digest,
  ) = np.frombuffer(data, _HEADER, 1)[0].item()  # fmt: skip
  if flags > 3 or scheme >= len(SCHEME_NAMES) or labels >= len(LABELS):
    raise ValueError(f'flags {flags}, scheme {scheme} or labels {labels}: none')
  rows, has_indices = int(shape[0]), flags >> 1
  c = Container(
    SCHEME_NAMES[scheme], tuple(key.tolist()), n, k, l,
    tuple(shape.tolist())[: 4 if shape[3] else 3],
    np.broadcast_to(np.int32(0), rows),  # takes no memory
    digest, g, LABELS[labels], width, bool(flags & 1),
    picture=tuple(picture.tolist()),
  )  # fmt: skip
  check(c)
  sizes = packed_size(rows, l), has_indices * packed_size(rows, n), name_bytes
  if OVERHEAD + sum(sizes) != len(data):
    raise ValueError(
      f'the file has {len(data)} bytes, its header asks for '
      f'{OVERHEAD + sum(sizes)}: it is cut short, or something follows.'
    )
  body = io.BytesIO(data[_HEADER.itemsize :])
  messages, indices, names = map(body.read, sizes)
  c = c._replace(
    messages=unpack(messages, rows, l),
    indices=unpack(indices, rows, n) if has_indices else None,
    names=tuple(names.decode().split('\0')) if names else (),
  )
  check(c)
  return c


def from_bytes(data: bytes) -> Container:
  """Reads all bytes of a file; messages and indices are int32 [R].

  Raises:
    ContainerError: it cannot be used. Nothing of a size that the header claims
      is made before that is compared with the length of `data`.
  """
  if data[: len(MAGIC)] != MAGIC:
    raise ContainerError(f'not of the image codec: begins with {data[:8]!r}.')
  version = int.from_bytes(data[8:10], 'little')
  if len(data) >= 10 and version != VERSION:
    raise ContainerError(
      f'the file is of version {version}, this reads version {VERSION}: '
      'encode the images again, or decode with the release that encoded them.'
    )
  if len(data) < OVERHEAD:
    raise ContainerError(f'the file is cut short: {len(data)} bytes.')
  is_whole = _checksum(data[:-_CHECKSUM]) == data[-_CHECKSUM:]
  try:
    container = _read(data)
  except ValueError as error:  # of UTF-8, too
    damage = '' if is_whole else 'damaged, its checksum is wrong: '
    raise ContainerError(f'{damage}{error}') from error
  if not is_whole:
    raise ContainerError('damaged: its checksum is wrong.')
  return container


def write(path: str | os.PathLike, container: Container) -> int:
  """Writes a file, whole or not at all; returns its size in bytes.

  Raises:
    ValueError: as `to_bytes`, or if `path` is a folder, a device or a FIFO.
    OSError: it could not be written; the message names it and the remedy.

  Example:
    >>> import tempfile
    >>> held = Container('gls', (0, 1), 8, 1, 4, (3, 2, 2), np.array([3, 0, 1]),
    ...                  bytes(32))
    >>> with tempfile.NamedTemporaryFile() as file:  # 3 messages of 2 bits
    ...   write(file.name, held) - OVERHEAD, read(file.name).messages.tolist()
    (1, [3, 0, 1])
  """
  data = to_bytes(container)
  with files.replacing(path) as new:
    return new.write_bytes(data)


def read(path: str | os.PathLike) -> Container:
  """Reads a file; errors of `from_bytes` name it. No folder, device or FIFO."""
  files.check_regular(path)
  try:
    return from_bytes(pathlib.Path(path).read_bytes())
  except ContainerError as error:
    raise ContainerError(f'{path}: {error}') from error
