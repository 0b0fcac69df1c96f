"""CIFAR-10: records, archive, TFDS without TensorFlow, the subset."""

import io
import os
import pathlib
import tarfile

import numpy as np
import pytest

from listcoupling.data import cifar, images
from tests import statistics

_NAMES = [f'data_batch_{i}.bin' for i in range(1, 6)] + ['test_batch.bin']


def _archive(path, files):
  with tarfile.open(path, 'w:gz') as archive:
    for name, data in files.items():
      member = tarfile.TarInfo(f'cifar-10-batches-bin/{name}')
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return path


@pytest.fixture
def files():
  rng = np.random.default_rng(0)
  records = {
    name: rng.integers(0, 256, (3, 3073)).astype(np.uint8) for name in _NAMES
  }
  for batch in records.values():
    batch[:, 0] %= 10
  return {name: batch.tobytes() for name, batch in records.items()}


def test_planes_become_pixels(files):
  data = files['test_batch.bin']
  pixels, labels = cifar.parse_records(data, 'test')
  assert pixels.shape == (3, 32, 32, 3) and labels[1] == data[3073]
  for row, column, colour in ((0, 0, 0), (0, 5, 2), (31, 7, 1)):
    place = 3073 + 1 + 1024 * colour + 32 * row + column
    assert pixels[1, row, column, colour] == data[place]


def test_archive_keeps_the_order(files, tmp_path):
  path = _archive(tmp_path / 'a.tar.gz', files)
  train, train_labels, test, test_labels = cifar.read_archive(path)
  assert train.shape == (15, 32, 32, 3) and test.shape == (3, 32, 32, 3)
  third, labels = cifar.parse_records(files['data_batch_3.bin'], '3')
  np.testing.assert_array_equal(train[6:9], third)
  np.testing.assert_array_equal(train_labels[6:9], labels)
  assert test_labels.tolist() == [files['test_batch.bin'][3073 * i] for i in
                                  range(3)]  # fmt: skip


def test_damage_is_refused_by_name(files, tmp_path):
  with pytest.raises(FileNotFoundError, match='none.tar.gz'):
    cifar.read_archive(tmp_path / 'none.tar.gz')
  bad = dict(files, **{'data_batch_2.bin': files['data_batch_2.bin'][:-1]})
  with pytest.raises(ValueError, match='data_batch_2'):
    cifar.read_archive(_archive(tmp_path / 'b.tar.gz', bad))
  bad = dict(files, **{'test_batch.bin': b'\xff' + bytes(3072)})
  with pytest.raises(ValueError, match='label 255'):
    cifar.read_archive(_archive(tmp_path / 'c.tar.gz', bad))
  del bad['test_batch.bin']
  with pytest.raises(ValueError, match='test_batch.bin'):
    cifar.read_archive(_archive(tmp_path / 'd.tar.gz', bad))
  cut = tmp_path / 'e.tar.gz'
  cut.write_bytes((tmp_path / 'd.tar.gz').read_bytes()[:2000])
  with pytest.raises(ValueError, match='damaged'):
    cifar.read_archive(cut)


def test_tfds_round_trip_without_tensorflow(files, tmp_path):
  pytest.importorskip('tensorflow_datasets')
  path = _archive(tmp_path / 'a.tar.gz', files)
  tfds_dir = tmp_path / 'tfds'
  with pytest.raises(FileNotFoundError, match='prepare_tfds_cifar10'):
    images.load_images('cifar10_tfds', tfds_dir)
  images.prepare_tfds_cifar10(tfds_dir, path)
  data = images.load_images('cifar10_tfds', tfds_dir)
  train, labels, test, _ = cifar.read_archive(path)
  assert data.train_images.shape == (15, 32, 32, 3)
  assert data.test_images.shape == test.shape
  order = [
    int(np.abs(train / 255 - image).sum((1, 2, 3)).argmin())
    for image in data.train_images
  ]
  assert sorted(order) == list(range(15))  # TFDS shuffles
  wanted = train[order] / np.float32(255)
  np.testing.assert_array_equal(data.train_images, wanted)
  np.testing.assert_array_equal(labels[order], data.train_labels)


def test_subset_is_split_by_position(tmp_path):
  """Pixel (r, c) of image i is (i mod 250, i // 250, 7 r + c)."""
  from PIL import Image

  index, place = np.arange(4000), np.arange(1024)
  red, green = (
    np.broadcast_to(x[:, None], (4000, 1024))
    for x in (index % 250, index // 250)
  )
  blue = np.broadcast_to(7 * (place // 32) + place % 32, (4000, 1024))
  rows = np.stack([red, green, blue], -1).astype(np.uint8)
  for i in range(4):
    Image.fromarray(rows[1000 * i : 1000 * i + 1000]).save(
      tmp_path / f'cifar10_batch_{i}.png', compress_level=1
    )
  labels = (index // 3 % 10).tolist() + [9] * 5
  (tmp_path / 'cifar10_labels.js').write_text(f'var labels={labels};')
  train, train_labels, test, test_labels = cifar.read_subset(tmp_path)
  assert len(train) == cifar.SUBSET_TRAIN == 3600 and len(test) == 400
  images = np.concatenate([train, test])
  found = images[:, 5, 9, 0] + 250 * images[:, 5, 9, 1].astype(int)
  np.testing.assert_array_equal(found, index)
  assert (images[:, 5, 9, 2] == 7 * 5 + 9).all()
  np.testing.assert_array_equal(
    np.concatenate([train_labels, test_labels]), labels[:4000]
  )
  (tmp_path / 'cifar10_labels.js').write_text(f'var labels={labels[:3999]};')
  with pytest.raises(ValueError, match='4000'):
    cifar.read_subset(tmp_path)
  for text in (b'var labels;', b'var labels=[1, 256];', b'\xff'):
    (tmp_path / 'cifar10_labels.js').write_bytes(text)
    with pytest.raises(ValueError, match='cifar10_labels.js is damaged'):
      cifar.read_subset(tmp_path)


def test_missing_subset_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='cifar10_batch_0'):
    images.load_images('cifar10_4k', tmp_path)
  (tmp_path / 'cifar10_batch_0.png').write_bytes(b'no picture')
  with pytest.raises(ValueError, match='cifar10_batch_0'):
    images.load_images('cifar10_4k', tmp_path)


def test_real_subset():
  root = os.environ.get(images.DATA_VARIABLE)
  if not root or not (pathlib.Path(root) / 'cifar10_4k').is_dir():
    pytest.skip(
      f'set {images.DATA_VARIABLE} to the folder that holds cifar10_4k/'
    )
  data = images.load_images('cifar10_4k')
  assert data.train_images.shape == (3600, 32, 32, 3)
  assert data.test_images.shape == (400, 32, 32, 3)
  assert data.train_labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
  assert 0 <= data.train_images.min() and data.train_images.max() == 1
  # Neighbouring rows of a picture are alike, which garbled pixels are not.
  near, far = (
    np.abs(data.train_images[:, rows:] - data.train_images[:, :-rows]).mean(
      (1, 2, 3)
    )
    for rows in (1, 16)
  )
  gain = far - near
  assert gain.mean() > statistics.SIGMAS * gain.std() / len(gain) ** 0.5
