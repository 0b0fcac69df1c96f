"""Digits as bytes: exact, as short as they can be, and nothing else is read."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listcoupling.compression import packing


@settings(max_examples=50, deadline=None)
@given(base=st.integers(1, 2**18), data=st.data(), count=st.integers(0, 90))
def test_packing_is_exact(base, data, count):
  digits = data.draw(
    st.lists(st.integers(0, base - 1), min_size=count, max_size=count)
  )
  packed = packing.pack(np.array(digits, int), base)
  assert len(packed) == -(-(base**count - 1).bit_length() // 8)
  assert packing.unpack(packed, count, base).tolist() == digits


@pytest.mark.parametrize('base', [2, 3, 6, 8, 100, 999])
def test_long_ones_take_hardly_a_byte_more(base):
  count = 100_000
  digits = np.random.default_rng(0).integers(0, base, count)
  packed = packing.pack(digits, base)
  ideal = math.ceil(count * math.log2(base) / 8)
  assert ideal <= len(packed) <= ideal + (base & (base - 1) > 0)
  assert len(packed) == packing.packed_size(count, base)
  np.testing.assert_array_equal(packing.unpack(packed, count, base), digits)


def test_numbers_do_not_grow_with_the_file():
  """Cost per digit is that of one bounded number: linear in the file."""
  for base in (3, 100, 2**18 - 1):
    assert 512 <= packing._block(base) <= 1024
  size = packing.packed_size(10**6, 100)
  assert size <= math.ceil(10**6 * math.log2(100) / 8) + 2


@pytest.mark.parametrize(
  'digits, base, message',
  [
    ([0, 3], 3, r'0\.\.2'),
    ([-1], 3, r'0\.\.2'),
    ([0.5], 3, 'integers'),
    ([0], 0, r'0\.\.-1'),
  ],
)
def test_digits_out_of_range_are_refused(digits, base, message):
  with pytest.raises(ValueError, match=message):
    packing.pack(digits, base)


@pytest.mark.parametrize(
  'data, count, base, message',
  [
    (b'\xff', 2, 3, 'too large'),
    (b'\x09', 2, 3, 'too large'),  # 8 is the largest
    (b'\x08', 2, 3, None),
    (b'\x02', 1, 2, 'too large'),
    (b'\x81\x00', 1, 2, '2 bytes'),
  ],
)
def test_bytes_that_nothing_packs_to_are_refused(data, count, base, message):
  if message is None:
    assert packing.unpack(data, count, base).tolist() == [2, 2]
    return
  with pytest.raises(ValueError, match=message):
    packing.unpack(data, count, base)
