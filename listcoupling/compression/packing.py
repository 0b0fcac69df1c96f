"""Messages as bytes: the digits of one number to base L, nothing wasted.

R digits take ceil(R log2 L / 8) bytes for every L. For powers of two they are
the bits in their order; for others one long number is halved until it is
short, which costs what a few long multiplications do.

Legend: R digits.
"""

import math

import numpy as np


def packed_size(count: int, base: int) -> int:
  """Bytes of `count` digits to `base`: ceil(count log2 base / 8).

  Example:
    >>> packed_size(10, 3), packed_size(3, 64), packed_size(5, 1)
    (2, 3, 0)
  """
  if base & (base - 1) == 0:
    return -(-count * (base.bit_length() - 1) // 8)
  bits = count * math.log2(base)
  if abs(bits - 8 * round(bits / 8)) > 1e-12 * max(bits, 1):
    return math.ceil(bits / 8)
  return ((base**count - 1).bit_length() + 7) // 8  # too near to round


def _join(digits, base, powers) -> int:
  """sum_i digits[i] base^(n-1-i), halving: fast for long ones."""
  if len(digits) <= 32:
    number = 0
    for digit in digits:
      number = number * base + digit
    return number
  low = len(digits) // 2
  if low not in powers:
    powers[low] = base**low
  high = _join(digits[:-low], base, powers)
  return high * powers[low] + _join(digits[-low:], base, powers)


def _split(number, count, base, powers) -> list[int]:
  """Inverse of `_join`."""
  if count <= 32:
    digits = []
    for _ in range(count):
      number, digit = divmod(number, base)
      digits.append(digit)
    return digits[::-1]
  low = count // 2
  if low not in powers:
    powers[low] = base**low
  high, rest = divmod(number, powers[low])
  return _split(high, count - low, base, powers) + _split(
    rest, low, base, powers
  )


def pack(digits, base: int) -> bytes:
  """Digits [R] in 0..base-1 as `packed_size(R, base)` bytes.

  Raises:
    ValueError: for a digit out of range or a base below 1.

  Example:
    >>> pack([1, 0, 1], 2).hex(), unpack(pack([2, 1, 0], 3), 3, 3).tolist()
    ('a0', [2, 1, 0])
  """
  digits = np.asarray(digits)
  if (
    base < 1
    or digits.ndim != 1
    or (digits.size and not np.issubdtype(digits.dtype, np.integer))
  ):
    raise ValueError(
      f'digits must be a list of integers to a base of at least 1, got '
      f'{digits.dtype} of shape {digits.shape} to base {base}.'
    )
  if digits.size and not 0 <= digits.min() <= digits.max() < base:
    raise ValueError(
      f'digits must lie in 0..{base - 1}, got {digits.min()}..{digits.max()}.'
    )
  if base & (base - 1) == 0:
    bits = base.bit_length() - 1
    shifts = np.arange(bits)[::-1]
    return np.packbits(
      (digits[:, None] >> shifts & 1).astype(np.uint8)
    ).tobytes()
  number = _join(digits.tolist(), base, {})
  return number.to_bytes(packed_size(digits.size, base), 'big')


def unpack(data: bytes, count: int, base: int) -> np.ndarray:
  """The digits [R] of `pack`.

  Raises:
    ValueError: if no digits pack to these bytes.
  """
  if len(data) != packed_size(count, base):
    raise ValueError(
      f'{len(data)} bytes cannot hold {count} messages of base {base}.'
    )
  if base & (base - 1) == 0:
    bits = base.bit_length() - 1
    flat = np.unpackbits(np.frombuffer(data, np.uint8))
    if flat[count * bits :].any():
      raise ValueError('the bits that fill the last byte are not zero.')
    flat = flat[: count * bits].reshape(count, bits).astype(np.int64)
    return flat @ (1 << np.arange(bits)[::-1])
  number = int.from_bytes(data, 'big')
  powers = {}
  if number >= base**count:
    raise ValueError(f'the number is too large for {count} digits.')
  return np.array(_split(number, count, base, powers), np.int64)
