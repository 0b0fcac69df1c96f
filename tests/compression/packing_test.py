"""Packing of messages: exact for every base."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listcoupling.compression import packing


@settings(max_examples=50, deadline=None)
@given(
  base=st.integers(1, 2**20),
  data=st.data(),
  count=st.integers(0, 90),
)
def test_packing_is_exact(base, data, count):
  digits = data.draw(
    st.lists(st.integers(0, base - 1), min_size=count, max_size=count)
  )
  packed = packing.pack(np.array(digits, int), base)
  assert len(packed) == -(-(base**count - 1).bit_length() // 8)
  assert packing.unpack(packed, count, base).tolist() == digits


def test_long_ones_too():
  digits = np.random.default_rng(0).integers(0, 6, 30_000)
  packed = packing.pack(digits, 6)
  assert len(packed) == int(np.ceil(30_000 * np.log2(6) / 8))
  np.testing.assert_array_equal(packing.unpack(packed, 30_000, 6), digits)


def test_sizes_too_near_to_a_whole_byte_to_round():
  base = 2**60 + 8  # its logarithm rounds to 60, two of them pass 120 bits
  assert packing.packed_size(2, base) == 16
  packed = packing.pack([base - 1, 0], base)
  assert packing.unpack(packed, 2, base).tolist() == [base - 1, 0]


def test_powers_of_two_are_bits_in_order():
  assert packing.pack([3, 0, 1, 2], 4) == bytes([0b11000110])
  assert packing.pack([1], 2) == b'\x80'


@pytest.mark.parametrize(
  'digits, base, message',
  [
    ([0, 3], 3, r'0\.\.2'),
    ([-1], 3, r'0\.\.2'),
    ([0.5], 3, 'integers'),
    ([0], 0, 'base 0'),
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
    (b'\x81', 1, 2, 'not zero'),
    (b'\xc0', 1, 2, 'not zero'),
    (b'\x81\x00', 1, 2, '2 bytes'),
  ],
)
def test_bytes_that_nothing_packs_to_are_refused(data, count, base, message):
  with pytest.raises(ValueError, match=message):
    packing.unpack(data, count, base)
