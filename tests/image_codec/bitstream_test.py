"""The file of the image codec: round trips, sizes, and what is refused."""

import collections
import errno
import hashlib
import math
import os
import pathlib
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listcoupling.image_codec import bitstream

RNG = np.random.default_rng(0)
DIGEST = hashlib.sha256(b'model').digest()


def _gls(count=50, base=6, **changes):
  fields = dict(
    scheme='gls', key_data=(7, 2**32 - 1), num_candidates=1000, num_decoders=4,
    num_messages=base, shape=(count, 28, 14),
    messages=RNG.integers(0, base, count), model_digest=DIGEST,
    labels='lattice', width=0.25,
  )  # fmt: skip
  return bitstream.Container(**{**fields, **changes})


def _kmeans(**changes):
  fixed = dict(labels='kmeans', width=0.0, scheme='gls_kmeans', num_groups=2)
  return _gls(**{**fixed, **changes})


def _list(count=50, base=6, **changes):
  return _kmeans(
    count=count, base=base, scheme='list_quantiser', num_candidates=4 * base,
    num_groups=1, **changes,
  )  # fmt: skip


def _lattice(count=50, base=6, **changes):
  return _kmeans(
    count=count, base=base, scheme='lattice', labels='cosets', num_groups=4,
    num_candidates=4 * base * 16, **changes,
  )  # fmt: skip


def _same(a, b):
  for name, x, y in zip(a._fields, a, b):
    if isinstance(x, np.ndarray):
      np.testing.assert_array_equal(x, y)
    else:
      assert x == y, name


@pytest.mark.parametrize('base', [1, 2, 3, 5, 6, 10, 64, 1000])
@pytest.mark.parametrize('count', [1, 7, 33, 400])
def test_round_trip_and_size(base, count):
  container = _gls(count, base)
  data = bitstream.to_bytes(container)
  _same(bitstream.from_bytes(data), container)
  payload = math.ceil(round(count * math.log2(base), 9) / 8)
  assert len(data) == bitstream.OVERHEAD + payload


def test_what_is_optional_is_counted():
  plain = _gls(labels='random', width=0.0, shape=(50, 8, 4, 3))
  names = tuple(f'Bild ä{i}.PNG' for i in range(50))
  indices = RNG.integers(0, 1000, 50)
  full = plain._replace(indices=indices, names=names, shared_race=True)
  _same(bitstream.from_bytes(bitstream.to_bytes(full)), full)
  more = len(bitstream.to_bytes(full)) - len(bitstream.to_bytes(plain))
  assert more == math.ceil(50 * math.log2(1000) / 8) + sum(
    len(name.encode()) + 1 for name in names
  ) - 1  # fmt: skip
  tiled = full._replace(picture=(8, 9), names=names[::2])  # two tiles across
  assert tiled.num_tiles == 2
  _same(bitstream.from_bytes(bitstream.to_bytes(tiled)), tiled)
  with pytest.raises(bitstream.ContainerError, match='names .* of 2 of 50'):
    bitstream.to_bytes(tiled._replace(names=names))


def test_scheme_and_groups_are_in_the_file():
  for container in (_gls(), _kmeans(), _list(), _lattice()):
    data = bitstream.to_bytes(container)
    _same(bitstream.from_bytes(data), container)
    assert data[12] == bitstream.SCHEME_NAMES.index(container.scheme)
    assert len(data) == len(bitstream.to_bytes(_gls()))  # they cost nothing


def _resealed(data, place, value):
  """Bytes changed and the checksum made right: a writer gone wrong."""
  body = bytearray(data[:-16])
  value = bytes([value]) if isinstance(value, int) else value
  body[place : place + len(value)] = value
  return bytes(body) + hashlib.sha256(body).digest()[-16:]


@pytest.mark.parametrize(
  'place, value, message',
  [
    (12, 4, 'scheme 4'),
    (12, 0, 'labels must be one'),
    (12, 3, 'labels must be one'),
    (12, 2, '1 for a list quantiser, got 2'),
    (13, 5, 'labels 5'),
    (13, 0, 'labels must be one'),
    (10, 1, 'shared_race'),
    (10, 4, 'flags 4'),
    (10, 2, 'its header asks for'),
    (14, b'\0\0', 'num_decoders'),
    (14, b'\0\2', 'num_decoders'),
    (32, 0, 'num_groups must divide the 4 decoders.* got 0'),
    (32, 3, 'num_groups must divide the 4 decoders.* got 3'),
    (36, struct.pack('<f', 0.5), 'width'),
    (36, struct.pack('<f', math.nan), 'width'),
    (41, 1, 'its header asks for'),
    (44, b'\0' * 4, 'shape'),
    (56, 1, 'picture'),
    (60, 29, 'picture'),
    (64, 1, 'its header asks for'),
  ],
)
def test_whole_files_with_an_impossible_header(place, value, message):
  data = bitstream.to_bytes(_kmeans())
  bitstream.from_bytes(_resealed(data, 8, bitstream.VERSION))  # the control
  with pytest.raises(bitstream.ContainerError, match=message):
    bitstream.from_bytes(_resealed(data, place, value))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({28: 1, 24: 2**31, 40: 2**28}, 'at most'),  # L, N, R: no byte each
    ({28: 1, 40: 2**28}, 'R at most'),
    ({24: 2**31}, 'num_candidates'),
    ({28: 2**18, 24: 2**18, 40: 2**22}, 'its header asks for'),
    ({56: 2**32 - 1, 60: 2**32 - 1}, 'picture'),
    ({64: 2**32 - 1}, 'its header asks for'),
  ],
)
def test_no_memory_for_what_is_only_promised(changes, message):
  data = bitstream.to_bytes(_gls(labels='random', width=0.0))
  for place, value in changes.items():
    data = _resealed(data, place, struct.pack('<I', value))
  tracemalloc.start()
  with pytest.raises(bitstream.ContainerError, match=message):
    bitstream.from_bytes(data)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert most < 1 << 20


def test_messages_of_no_bit_are_few():
  """R is all that a file of one message says of its length."""
  container = _gls(4000, 1)
  data = bitstream.to_bytes(container)
  assert len(data) == bitstream.OVERHEAD
  assert not bitstream.from_bytes(data).messages.any()


@pytest.mark.parametrize(
  'name', ['../a.png', '..', 'a/b.png', '/etc/passwd', 'a\nb', '', 'x' * 256]
)
def test_names_that_lead_elsewhere_are_refused(name):
  good = _gls(2, names=('a.png', 'b.png'))
  data = bitstream.to_bytes(good)
  with pytest.raises(bitstream.ContainerError, match='names'):
    bitstream.to_bytes(good._replace(names=('a.png', name)))
  with pytest.raises(bitstream.ContainerError, match='differ'):
    bitstream.to_bytes(good._replace(names=('a.png', 'a.png')))
  with pytest.raises(bitstream.ContainerError, match='names'):
    bitstream.from_bytes(_resealed(data, len(data) - 16 - 6, b'_'))
  with pytest.raises(bitstream.ContainerError, match='names'):
    bitstream.from_bytes(_resealed(data, len(data) - 16 - 5, b'../x'))


def test_bytes_behind_the_last_field_are_refused():
  data = bitstream.to_bytes(_gls())
  assert _resealed(data, len(data) - 16, b'') == data  # the control
  with pytest.raises(bitstream.ContainerError, match='something follows'):
    bitstream.from_bytes(_resealed(data, len(data) - 16, b'more'))


def test_numbers_of_more_digits_are_refused():
  data = bitstream.to_bytes(_gls(base=1000))
  start = bitstream.OVERHEAD - 16
  bitstream.from_bytes(_resealed(data, start + 1, data[start + 1]))
  with pytest.raises(bitstream.ContainerError, match='too large'):
    bitstream.from_bytes(_resealed(data, start, 255))  # beyond 1000^50


def _damaged(data, rng):
  """A damage drawn at random, and its name."""
  place = int(rng.integers(len(data)))
  size = int(rng.integers(1, 9))
  kind = rng.choice(['flip', 'cut', 'tail', 'insert', 'delete', 'swap'])
  if kind == 'flip':
    changed = bytearray(data)
    changed[place] ^= 1 << int(rng.integers(8))
    return kind, bytes(changed)
  if kind == 'cut':
    return kind, data[:place]
  if kind == 'tail':
    return kind, data + rng.bytes(size)
  if kind == 'insert':
    return kind, data[:place] + rng.bytes(size) + data[place:]
  if kind == 'delete':
    return kind, data[:place] + data[place + size :]
  return kind, data[:place] + rng.bytes(size) + data[place + size :]


def test_ten_thousand_corruptions_are_refused():
  rng = np.random.default_rng(1)
  names = tuple(f'{i}.png' for i in range(50))
  files = [
    bitstream.to_bytes(_gls(base=base, indices=indices, names=names))
    for base, indices, names in (
      (6, None, names), (16, None, ()), (8, np.arange(50), names),
    )
  ]  # fmt: skip
  more = _kmeans(), _list(base=16), _lattice()
  files += [bitstream.to_bytes(x) for x in more]
  refused, total = [], 0
  for i in range(10_000):
    data = files[i % len(files)]
    kind, bad = _damaged(data, rng)
    if bad == data:  # chance wrote the same bytes
      continue
    with pytest.raises(bitstream.ContainerError) as caught:
      bitstream.from_bytes(bad)
    refused += [
      (kind, word)
      for word in ('checksum', 'asks for', 'begins with', 'of version')
      if word in str(caught.value)
    ]
    total += 1
  assert total > 9_900
  refused = collections.Counter(refused)
  assert refused['flip', 'checksum'] > 500
  assert refused['cut', 'asks for'] > 500
  assert refused['flip', 'begins with'] and refused['flip', 'of version']
  cut = bitstream.to_bytes(_gls(4000))[:500]
  with pytest.raises(bitstream.ContainerError, match='asks for 14'):
    bitstream.from_bytes(cut)
  for data in files:  # the control: undamaged files are read
    bitstream.from_bytes(data)


@pytest.mark.parametrize('make', [_gls, _list, _lattice])
def test_every_single_bit_counts(make):
  data = bitstream.to_bytes(make(5))
  for place in range(8 * len(data)):
    bad = bytearray(data)
    bad[place // 8] ^= 1 << place % 8
    with pytest.raises(bitstream.ContainerError):
      bitstream.from_bytes(bytes(bad))


def test_another_version_is_named():
  """Before anything else of the file is believed: it may be shorter."""
  data = bytearray(bitstream.to_bytes(_gls()))
  for version in (1, 2, 9):
    data[8] = version
    for part in (data, data[:10], data[:60]):
      with pytest.raises(
        bitstream.ContainerError, match=f'version {version}.*encode .* again'
      ):
        bitstream.from_bytes(bytes(part))


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_messages=2000), 'num_candidates'),
    (dict(num_candidates=2**18 + 1), 'num_candidates must be at most'),
    (dict(num_decoders=0), 'num_decoders'),
    (dict(num_groups=3), 'num_groups must divide the 4 decoders.* got 3'),
    (dict(shape=(49, 2, 2)), 'messages must be those of 49 blocks'),
    (dict(shape=(2**22 + 1, 2, 2)), 'R at most'),
    (dict(shape=(50,)), 'shape'),
    (dict(shape=(50, 2**32, 1)), 'shape'),
    (dict(key_data=(1, 2**32)), 'key_data'),
    (dict(key_data=(-1, 0)), 'key_data'),
    (dict(key_data=(1, 2, 3, 4)), 'key_data'),
    (dict(model_digest=b'1'), 'model_digest'),
    (dict(picture=(28, 0)), 'picture'),
    (dict(picture=(28, 85)), 'picture'),
    (dict(picture=(28,)), 'picture'),
    (dict(width=0.0), 'width'),
    (dict(width=1e-50), 'width'),
    (dict(width=1e39), 'width'),
    (dict(width=math.nan), 'width'),
    (dict(labels='random'), 'width'),
    (dict(labels='cells'), 'cells'),
    (dict(messages=np.full(50, 6)), '0..5'),
    (dict(messages=np.zeros(50)), 'integers'),
    (dict(messages=np.zeros(49, int)), 'messages must be those of 50'),
    (dict(indices=np.arange(3)), 'indices must be those of 50'),
    (dict(names=('a',)), 'names must be those of pictures'),
    (dict(scheme='vq'), 'vq'),
    (dict(scheme='gls_kmeans'), 'labels must be one'),
    (dict(labels='kmeans', width=0.0), 'labels must be one'),
    (dict(_list()._asdict(), shared_race=True), 'shared_race'),
    (dict(_list()._asdict(), num_candidates=17), 'multiple of 6 .* got 17'),
    (dict(_list()._asdict(), num_groups=2), '1 for a list quantiser'),
    (dict(_lattice()._asdict(), num_candidates=385), '6 .* 4 groups, got 385'),
    (dict(_lattice()._asdict(), num_groups=3), 'divide the 4 .* got 3'),
    (dict(num_groups=4, num_messages=251), '1000 / 4, got 251'),
    (dict(num_messages=0), 'num_messages must lie in 1.* got 0'),
  ],
)
def test_fields_that_make_no_sense_are_not_written(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    bitstream.write(tmp_path / 'file', _gls(**change))
  assert not list(tmp_path.iterdir())


def test_files_are_replaced_whole_and_named(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  container = _gls()
  assert bitstream.write(path, container) == path.stat().st_size
  _same(bitstream.read(path), container)

  def fail(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(pathlib.Path, 'write_bytes', fail)
  with pytest.raises(OSError, match=f'{path}'):
    bitstream.write(path, container._replace(num_decoders=1))
  monkeypatch.undo()
  assert [p.name for p in tmp_path.iterdir()] == ['file']
  _same(bitstream.read(path), container)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(bitstream.ContainerError, match=str(path)):
    bitstream.read(path)
  os.mkfifo(tmp_path / 'fifo')
  for call in (bitstream.read, lambda x: bitstream.write(x, container)):
    for name in ('fifo', '.'):
      with pytest.raises(ValueError, match='no regular file'):
        call(tmp_path / name)
  (tmp_path / 'link').symlink_to('file')
  bitstream.write(tmp_path / 'link', container)
  assert (tmp_path / 'link').is_symlink()
  _same(bitstream.read(path), container)


@pytest.mark.parametrize('base, count', [(2, 512), (91, 1024), (1000, 643)])
def test_so_many_digits_make_a_number(base, count):
  """Of files written so far; with another count they need another version."""
  parts = [part for part, _ in bitstream._numbers(2 * count, base)]
  assert parts == [slice(0, count), slice(count, 2 * count)]


@settings(max_examples=50, deadline=None)
@given(base=st.integers(1, 2**18), data=st.data(), count=st.integers(0, 90))
def test_packing_is_exact(base, data, count):
  digits = data.draw(
    st.lists(st.integers(0, base - 1), min_size=count, max_size=count)
  )
  packed = bitstream.pack(np.array(digits, int), base)
  assert len(packed) == -(-(base**count - 1).bit_length() // 8)
  assert bitstream.unpack(packed, count, base).tolist() == digits


@pytest.mark.parametrize('base', [2, 3, 6, 8, 100, 999])
def test_long_ones_take_hardly_a_byte_more(base):
  count = 100_000
  digits = np.random.default_rng(0).integers(0, base, count)
  packed = bitstream.pack(digits, base)
  ideal = math.ceil(count * math.log2(base) / 8)
  assert ideal <= len(packed) <= ideal + (base & (base - 1) > 0)
  assert len(packed) == bitstream.packed_size(count, base)
  np.testing.assert_array_equal(bitstream.unpack(packed, count, base), digits)


def test_numbers_do_not_grow_with_the_file():
  """Cost per digit is that of one bounded number: linear in the file."""
  for base in (3, 100, 2**18 - 1):
    (part, _), *_ = bitstream._numbers(10**6, base)
    assert 512 <= part.stop <= 1024
  size = bitstream.packed_size(10**6, 100)
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
    bitstream.pack(digits, base)


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
    assert bitstream.unpack(data, count, base).tolist() == [2, 2]
    return
  with pytest.raises(ValueError, match=message):
    bitstream.unpack(data, count, base)
