"""Image sets: IDX files, TFDS without TensorFlow, scikit-learn's digits."""

import gzip
import os
import pathlib
import struct
import tracemalloc

import numpy as np
import pytest

from listcoupling.data import images

_NAMES = {
  'train-images-idx3-ubyte': (30, 28, 28),
  'train-labels-idx1-ubyte': (30,),
  't10k-images-idx3-ubyte': (7, 28, 28),
  't10k-labels-idx1-ubyte': (7,),
}


def _idx(array):
  header = bytes([0, 0, 8, array.ndim]) + struct.pack(
    f'>{array.ndim}I', *array.shape
  )
  return header + array.tobytes()


@pytest.fixture
def idx_dir(tmp_path):
  rng = np.random.default_rng(0)
  for name, shape in _NAMES.items():
    high = 256 if len(shape) == 3 else 10
    array = rng.integers(0, high, shape).astype(np.uint8)
    zipped = 'train' in name
    data = gzip.compress(_idx(array)) if zipped else _idx(array)
    (tmp_path / (name + '.gz' * zipped)).write_bytes(data)
  return tmp_path


def test_reads_idx_plain_and_gzip(idx_dir):
  data = images.load_images('mnist', idx_dir)
  assert [x.shape for x in data] == [(30, 28, 28), (30,), (7, 28, 28), (7,)]
  assert data.train_images.dtype == np.float32
  raw = (idx_dir / 't10k-images-idx3-ubyte').read_bytes()[16:]
  np.testing.assert_array_equal(
    np.round(data.test_images * 255).astype(np.uint8).tobytes(), raw
  )
  assert 0 <= data.train_images.min() and data.train_images.max() <= 1


@pytest.mark.parametrize(
  'damage, message',
  [
    (lambda d: d[: len(d) // 2], 'damaged'),
    (lambda d: d[:40] + b'\xff\xff\xff' + d[43:], 'damaged'),
    (lambda d: b'not gzip at all', 'damaged'),
    (lambda d: gzip.compress(gzip.decompress(d)[:-1]), 'damaged'),
    (lambda d: gzip.compress(gzip.decompress(d) + b'x'), 'damaged'),
    (lambda d: gzip.compress(b'\0\0\x0d\x01\0\0\0\0'), 'not an IDX'),
    (lambda d: gzip.compress(b'\0\0\x08\x03\0\0'), 'cut short'),
    (lambda d: gzip.compress(b''), 'not an IDX'),
    (lambda d: gzip.compress(b'\0\0\x08\xff' + b'\1' * 1020), 'not an IDX'),
  ],
)
def test_damaged_files_are_refused_by_name(idx_dir, damage, message):
  path = idx_dir / 'train-images-idx3-ubyte.gz'
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(ValueError, match=message) as error:
    images.load_images('mnist', idx_dir)
  assert path.name in str(error.value)


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('promised', [9, 2**32 - 1])
def test_what_a_header_promises_bounds_the_memory(tmp_path, promised, zipped):
  """Of a file that unzips to 64 MB, and of one that is short."""
  head = b'\0\0\x08\x02' + struct.pack('>II', promised, promised)
  rest = bytes(64 << 20) if promised == 9 else bytes(99)
  path = tmp_path / ('a-idx2-ubyte' + '.gz' * zipped)
  path.write_bytes(gzip.compress(head + rest, 1) if zipped else head + rest)
  del rest
  tracemalloc.start()
  with pytest.raises(ValueError, match=path.name):
    images.read_idx(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 1 << 20


def test_images_without_their_labels_are_refused(idx_dir):
  short = np.zeros(6, np.uint8)
  (idx_dir / 't10k-labels-idx1-ubyte').write_bytes(_idx(short))
  with pytest.raises(ValueError, match='belong together'):
    images.load_images('mnist', idx_dir)


def test_missing_files_name_the_variable(tmp_path, monkeypatch):
  with pytest.raises(FileNotFoundError, match=images.DATA_VARIABLE):
    images.load_images('mnist', tmp_path)
  monkeypatch.delenv(images.DATA_VARIABLE, raising=False)
  with pytest.raises(FileNotFoundError, match=images.DATA_VARIABLE):
    images.load_images('mnist')
  monkeypatch.setenv(images.DATA_VARIABLE, str(tmp_path))
  with pytest.raises(FileNotFoundError, match='train-images'):
    images.load_images('mnist')


def test_bad_names_are_refused():
  with pytest.raises(ValueError, match="'cifar'"):
    images.load_images('cifar')
  with pytest.raises(ValueError, match='data_dir'):
    images.load_images('mnist_tfds')


def test_tfds_round_trip_without_tensorflow(idx_dir, tmp_path):
  pytest.importorskip('tensorflow_datasets')
  tfds_dir = tmp_path / 'tfds'
  with pytest.raises(FileNotFoundError, match='prepare_tfds_mnist'):
    images.load_images('mnist_tfds', tfds_dir)
  images.prepare_tfds_mnist(tfds_dir, idx_dir)
  ours = images.load_images('mnist', idx_dir)
  theirs = images.load_images('mnist_tfds', tfds_dir)
  for split in ('train', 'test'):
    mine = getattr(ours, f'{split}_images')
    other = getattr(theirs, f'{split}_images')
    assert mine.shape == other.shape
    order = [int(np.abs(mine - image).sum((1, 2)).argmin()) for image in other]
    assert sorted(order) == list(range(len(mine)))  # TFDS shuffles
    np.testing.assert_array_equal(mine[order], other)
    np.testing.assert_array_equal(
      getattr(ours, f'{split}_labels')[order],
      getattr(theirs, f'{split}_labels'),
    )


def test_digits_need_no_files():
  pytest.importorskip('sklearn')
  data = images.load_images('digits')
  assert data.train_images.shape == (1437, 8, 8)
  assert data.test_images.shape == (360, 8, 8)
  assert data.train_images.max() == 1 and data.train_images.min() == 0
  assert set(data.test_labels) == set(range(10))


def test_real_mnist():
  root = os.environ.get(images.DATA_VARIABLE)
  if not root or not (pathlib.Path(root) / 'mnist').is_dir():
    pytest.skip(f'set {images.DATA_VARIABLE} to the folder that holds mnist/')
  data = images.load_images('mnist')
  assert data.train_images.shape == (60000, 28, 28)
  assert data.test_images.shape == (10000, 28, 28)
  assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
  # To the last digit of the mean that everybody subtracts.
  mean = data.train_images.mean(dtype=np.float64)
  assert abs(mean - 0.1307) < 0.5e-4


def test_halves_by_use():
  plain = images.load_halves('digits')
  held = images.load_halves('digits', num_held_out=100, flip=True)
  assert len(held['select'].right) == 100
  np.testing.assert_array_equal(
    held['select'].right, plain['train'].right[-100:]
  )
  count = len(plain['train'].right) - 100
  assert len(held['train'].right) == 2 * count
  np.testing.assert_array_equal(
    held['train'].right[:count], plain['train'].right[:count]
  )
  np.testing.assert_array_equal(
    held['train'].right[count:], plain['train'].left[:count, :, ::-1]
  )
  whole = images.load_images('digits').test_images
  np.testing.assert_array_equal(np.concatenate(held['test'], 2), whole)
  with pytest.raises(ValueError, match='num_held_out'):
    images.load_halves('digits', num_held_out=1437)


def test_choice_and_figures_use_other_images():
  halves = images.load_halves('digits', num_held_out=20)
  seen = {
    name: {x.tobytes() for x in part.right} for name, part in halves.items()
  }
  for one, other in (('train', 'select'), ('select', 'test')):
    whole = len(seen[one] & seen[other])
    assert whole <= 1  # a few digits of the set are twins by themselves
