"""The file of coded messages: round trips, sizes, and what is refused."""

import hashlib
import math
import os

import jax
import numpy as np
import pytest

from listcoupling.compression import container

RNG = np.random.default_rng(0)


def _coded(count=50, base=6, **changes):
  fields = dict(
    key_data=(7, 2**32 - 1),
    num_candidates=1000,
    num_decoders=3,
    num_messages=base,
    shape=(count, 28, 14),
    messages=RNG.integers(0, base, count),
    model_digest=container.digest({'w': np.arange(3.0)}, {'size': 3}),
    source='images',
    labels='lattice',
    width=0.25,
  )
  return container.Coded(**{**fields, **changes})


def _cells(**changes):
  return _coded(
    **{**dict(labels='cells', width=0.0, scheme='cells'), **changes}
  )


def _list(count=50, base=6):
  return _cells(
    count=count, base=base, scheme='list_quantiser', num_candidates=3 * base
  )


def _same(a, b):
  for name, x, y in zip(a._fields, a, b):
    if isinstance(x, np.ndarray):
      np.testing.assert_array_equal(x, y)
    else:
      assert x == y, name


@pytest.mark.parametrize('base', [1, 2, 3, 5, 6, 10, 64, 1000])
@pytest.mark.parametrize('count', [1, 7, 33, 400])
def test_round_trip_and_size(base, count):
  coded = _coded(count, base)
  data = container.to_bytes(coded)
  _same(container.from_bytes(data), coded)
  payload = math.ceil(round(count * math.log2(base), 9) / 8)
  assert len(data) == container.overhead(coded) + payload


def test_indices_are_optional_and_counted():
  plain = _coded()
  indices = RNG.integers(0, 1000, 50)
  full = plain._replace(indices=indices, shared_race=True)
  _same(container.from_bytes(container.to_bytes(full)), full)
  more = len(container.to_bytes(full)) - len(container.to_bytes(plain))
  assert more == math.ceil(50 * math.log2(1000) / 8)


def test_the_scheme_is_in_the_file():
  for coded in (_coded(), _cells(), _list()):
    data = container.to_bytes(coded)
    assert container.from_bytes(data).scheme == coded.scheme
    assert data[15] == container.SCHEMES.index(coded.scheme)
    assert len(data) == len(container.to_bytes(_coded()))  # it costs nothing


def _resealed(data, place, value):
  """A byte changed and the checksum made right: a writer gone wrong."""
  body = bytearray(data[:-16])
  body[place] = value
  return bytes(body) + hashlib.sha256(body).digest()[-16:]


@pytest.mark.parametrize(
  'place, value, message',
  [
    (12, 2, 'unknown kind of source 2'),
    (13, 5, 'labels 5'),
    (13, 0, 'labels must be "cells"'),
    (15, 3, 'scheme 3'),
    (15, 0, 'labels must be "cells"'),
    (15, 2, 'num_candidates of a list'),
    (10, 1, 'shared_race'),
    (10, 4, 'not one this version writes'),
    (10, 2, 'not one this version writes'),
    (44, 1, 'not one this version writes'),
  ],
)
def test_whole_files_with_an_impossible_header(place, value, message):
  data = container.to_bytes(_cells())
  container.from_bytes(_resealed(data, 8, container.VERSION))  # the control
  with pytest.raises(container.HeaderError, match=message):
    container.from_bytes(_resealed(data, place, value))


def test_a_number_of_more_digits_is_refused():
  data = container.to_bytes(_cells(base=1000))
  start = container.overhead(_cells()) - 16
  container.from_bytes(_resealed(data, start + 1, data[start + 1]))
  high = _resealed(data, start, 255)  # beyond 1000^50
  with pytest.raises(container.HeaderError, match='too large'):
    container.from_bytes(high)


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
  files = [
    container.to_bytes(_coded(base=base, indices=indices))
    for base, indices in ((6, None), (16, None), (8, np.arange(50)))
  ]
  files += [container.to_bytes(coded) for coded in (_cells(), _list(base=16))]
  refused = {}
  for i in range(10_000):
    data = files[i % len(files)]
    kind, bad = _damaged(data, rng)
    if bad == data:  # chance wrote the same bytes
      continue
    with pytest.raises(container.ContainerError) as caught:
      container.from_bytes(bad)
    name = type(caught.value).__name__
    refused[kind, name] = refused.get((kind, name), 0) + 1
  assert sum(refused.values()) > 9_900
  assert refused['flip', 'ChecksumError'] > 500
  assert refused['cut', 'LengthError'] > 500
  assert refused['flip', 'MagicError'] and refused['flip', 'VersionError']
  cut = container.to_bytes(_coded(4000))[:500]
  with pytest.raises(container.LengthError, match='more than 129'):
    container.from_bytes(cut)
  for data in files:  # the control: undamaged files are read
    container.from_bytes(data)


@pytest.mark.parametrize('make', [_coded, _list])
def test_every_single_bit_counts(make):
  data = container.to_bytes(make(5))
  for place in range(8 * len(data)):
    bad = bytearray(data)
    bad[place // 8] ^= 1 << place % 8
    with pytest.raises(container.ContainerError):
      container.from_bytes(bytes(bad))


def test_another_version_or_model_is_named():
  data = bytearray(container.to_bytes(_coded()))
  for version in (1, 9):
    data[8] = version
    with pytest.raises(container.VersionError, match=f'version {version}'):
      container.from_bytes(bytes(data))
  data = container.to_bytes(_coded())
  right = container.digest({'w': np.arange(3.0)}, {'size': 3})
  container.from_bytes(data, model_digest=right)
  for params, config in (
    ({'w': np.arange(3.0) + 1e-7}, {'size': 3}),
    ({'v': np.arange(3.0)}, {'size': 3}),
    ({'w': np.arange(3.0)}, {'size': 4}),
  ):
    wrong = container.digest(params, config)
    with pytest.raises(container.ModelError, match=wrong.hex()[:12]):
      container.from_bytes(data, model_digest=wrong)


def test_the_digest_does_not_depend_on_where_the_arrays_live():
  params = {'a': {'w': np.ones((2, 3), np.float32)}}
  on_device = jax.tree.map(jax.numpy.asarray, params)
  assert container.digest(params) == container.digest(on_device)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_messages=2000), 'num_candidates'),
    (dict(num_decoders=0), 'num_decoders'),
    (dict(shape=(49, 2)), 'shape'),
    (dict(shape=()), 'shape'),
    (dict(shape=(50, 2**32)), 'shape'),
    (dict(key_data=(1, 2**32)), 'key_data'),
    (dict(key_data=(-1, 0)), 'key_data'),
    (dict(key_data=(1, 2, 3, 4)), 'key_data'),
    (dict(model_digest=b'1'), 'model_digest'),
    (dict(source='sounds'), 'sounds'),
    (dict(width=0.0), 'width'),
    (dict(width=1e-50), 'width'),
    (dict(width=1e39), 'width'),
    (dict(width=math.nan), 'width'),
    (dict(labels='random'), 'width'),
    (dict(messages=np.full(50, 6)), '0..5'),
    (dict(messages=np.zeros(50)), 'integers'),
    (dict(indices=np.arange(3)), '3 indices'),
    (dict(scheme='vq'), 'vq'),
    (dict(scheme='cells'), 'labels must be "cells"'),
    (dict(labels='cells', width=0.0), 'labels must be "cells"'),
    (dict(_list()._asdict(), shared_race=True), 'shared_race'),
    (dict(_list()._asdict(), num_candidates=17), '18, got 17'),
  ],
)
def test_fields_that_make_no_sense_are_not_written(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    container.write(tmp_path / 'file', _coded(**change))
  assert not list(tmp_path.iterdir())


def test_files_are_replaced_whole(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  coded = _coded()
  assert container.write(path, coded) == path.stat().st_size
  _same(container.read(path), coded)

  def fail(*_):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    container.write(path, coded._replace(num_decoders=1))
  assert [p.name for p in tmp_path.iterdir()] == ['file']
  _same(container.read(path), coded)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(container.LengthError, match=str(path)):
    container.read(path)
