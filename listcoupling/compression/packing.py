"""Messages as bytes: digits to base L, some hundred of them to one number.

R messages take ceil(R log2 L / 8) bytes, or a byte more for every 500,000.
Time and memory are linear in R.
"""

import functools
import io
import math

import numpy as np


@functools.cache
def _block(base: int) -> int:
  """Digits of one number: what leaves least of its last byte unused."""
  bits = math.log2(base)
  return max(range(512, 1025), key=lambda count: (count * bits - 1e-6) % 8)


@functools.lru_cache(64)
def packed_size(count: int, base: int) -> int:
  """Bytes of `count` digits to `base`.

  Example:
    >>> packed_size(10, 3), packed_size(3, 64), packed_size(5, 1)
    (2, 3, 0)
  """
  whole, rest = divmod(count, _block(base))
  if count > _block(base):
    return whole * packed_size(_block(base), base) + packed_size(rest, base)
  return ((base**count - 1).bit_length() + 7) // 8


def pack(digits, base: int) -> bytes:
  """Digits [R] in 0..base-1 as `packed_size(R, base)` bytes.

  Raises:
    ValueError: for what are no such digits.

  Example:
    >>> pack([1, 0, 1], 2).hex(), unpack(pack([2, 1, 0], 3), 3, 3).tolist()
    ('05', [2, 1, 0])
  """
  digits, parts = np.asarray(digits), []
  is_list = digits.ndim == 1 and digits.dtype.kind in 'iu'
  if not is_list or np.any((digits < 0) | (digits >= base)):
    raise ValueError(
      f'messages must be a list of integers in 0..{base - 1}, got {digits}.'
    )
  for start in range(0, len(digits), _block(base)):
    part = digits[start : start + _block(base)].tolist()
    number = functools.reduce(lambda total, digit: total * base + digit, part)
    parts.append(number.to_bytes(packed_size(len(part), base), 'big'))
  return b''.join(parts)


def unpack(data: bytes, count: int, base: int) -> np.ndarray:
  """The digits [R] of `pack`, int32.

  Raises:
    ValueError: if no digits pack to these bytes.
  """
  if len(data) != packed_size(count, base):
    raise ValueError(f'{len(data)} bytes, not those of {count} messages.')
  digits, data = np.zeros(count, np.int32), io.BytesIO(data)
  for start in range(0, count if base > 1 else 0, _block(base)):
    part = digits[start : start + _block(base)]
    number = int.from_bytes(data.read(packed_size(len(part), base)), 'big')
    for i in reversed(range(len(part))):
      number, part[i] = divmod(number, base)
    if number:
      raise ValueError(f'a number is too large for {len(part)} messages.')
  return digits
