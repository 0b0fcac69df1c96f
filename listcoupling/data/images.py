"""Images for the compression experiments, without TensorFlow.

MNIST from its four IDX files or prepared by TFDS, CIFAR-10 prepared by TFDS
or a subset of it in four PNGs (`cifar`), patches of two views of one scene
(`stereo`), and what scikit-learn carries, for machines without a network: 8 x 8
digits and patches of two photographs.
"""

import gzip
import io
import math
import os
import pathlib
import struct
import zlib
from typing import NamedTuple

import numpy as np

from listcoupling import files
from listcoupling.data import cifar, photographs, side_information, stereo

NAMES = (
  'mnist', 'mnist_tfds', 'cifar10_4k', 'cifar10_tfds', 'digits', 'photographs',
  'stereo',
)  # fmt: skip
DATA_VARIABLE = 'LISTCOUPLING_DATA'
_MOST_RATIO = 1032  # of deflate: bytes out for one byte in

_FILES = {
  'train_images': 'train-images-idx3-ubyte',
  'train_labels': 'train-labels-idx1-ubyte',
  'test_images': 't10k-images-idx3-ubyte',
  'test_labels': 't10k-labels-idx1-ubyte',
}


class Images(NamedTuple):
  """A labelled image set; pixels are float32 in [0, 1].

  Legend: R training images, E test images, H height, W width; images in
  colour have a last axis of 3.
  """

  train_images: np.ndarray  # [R, H, W] or [R, H, W, 3] float32
  train_labels: np.ndarray  # [R] int32
  test_images: np.ndarray  # [E, H, W] or [E, H, W, 3] float32
  test_labels: np.ndarray  # [E] int32


def read_idx(path: str | os.PathLike) -> np.ndarray:
  """Reads one IDX file of bytes, plain or gzip.

  Args:
    path: the file; a name that ends in .gz is unzipped.

  Returns:
    uint8 array of the shape in the header.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is cut short, too long or not IDX of bytes.
  """
  path = pathlib.Path(path)
  files.check_regular(path)
  is_zipped = path.suffix == '.gz'
  try:
    with gzip.open(path) if is_zipped else path.open('rb') as file:
      shape = _read_idx_shape(file, path)
      # Neither what the header promises nor what unzips is taken on trust.
      most = path.stat().st_size * (_MOST_RATIO if is_zipped else 1)
      count = math.prod(shape)
      data = file.read(min(count, most) + 1)
  except (gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise ValueError(
      f'{path} is damaged: it does not unzip ({error}). Fetch it again.'
    ) from error
  if len(data) != count:
    held = f'more than {count}' if len(data) > count else len(data)
    raise ValueError(
      f'{path} is damaged: {held} bytes of data for shape {shape}. Fetch it '
      'again.'
    )
  return np.frombuffer(data, np.uint8).reshape(shape)


def _read_idx_shape(file, path) -> tuple[int, ...]:
  magic = file.read(4)
  if len(magic) < 4 or magic[:3] != b'\0\0\x08' or not 1 <= magic[3] <= 4:
    raise ValueError(
      f'{path} is not an IDX file of bytes: magic is {magic.hex()!r}, expected '
      '000008 and the number of dimensions, at most 4.'
    )
  header = file.read(4 * magic[3])
  if len(header) < 4 * magic[3]:
    raise ValueError(f'{path} is damaged: the header is cut short.')
  return struct.unpack(f'>{magic[3]}I', header)


def _find(directory: pathlib.Path, name: str) -> pathlib.Path:
  for candidate in (directory / name, directory / f'{name}.gz'):
    if candidate.is_file():
      return candidate
  raise FileNotFoundError(
    f'neither {name} nor {name}.gz is in {directory}; give data_dir or set '
    f'{DATA_VARIABLE} to a folder that holds mnist/ with the four IDX files.'
  )


def _default_directory(folder: str) -> pathlib.Path:
  root = os.environ.get(DATA_VARIABLE)
  if not root:
    raise FileNotFoundError(
      f'data_dir is not given and the environment variable {DATA_VARIABLE} is '
      f'not set; set it to the folder that holds {folder}/, or use the images '
      "that need no files, name='digits'."
    )
  return pathlib.Path(root) / folder


def _checked(images: np.ndarray, labels: np.ndarray, source) -> tuple:
  """Pixels in [0, 1] and labels, if they belong together."""
  if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
    raise ValueError(
      f'images and labels from {source} do not belong together: shapes '
      f'{images.shape} and {labels.shape}.'
    )
  return images.astype(np.float32) / 255, labels.astype(np.int32)


def _load_idx(directory: pathlib.Path) -> Images:
  parts = {k: read_idx(_find(directory, name)) for k, name in _FILES.items()}
  train = _checked(parts['train_images'], parts['train_labels'], directory)
  test = _checked(parts['test_images'], parts['test_labels'], directory)
  return Images(*train, *test)


def _png(image: np.ndarray) -> bytes:
  from PIL import Image

  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, format='png')
  return buffer.getvalue()


def _mnist_builder(idx_dir):
  """The stock TFDS builder with our own unzip and PNG: no TensorFlow."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.image_classification import mnist

  with tfds.core.registered.skip_registration():

    class MNIST(mnist.MNIST):
      name = 'mnist'
      url_infos = mnist.MNIST.url_infos  # their checksums

      def _split_generators(self, downloads):
        if idx_dir is not None:
          paths = {k: _find(idx_dir, name) for k, name in _FILES.items()}
        else:
          paths = downloads.download(
            {k: f'{self.URL}{name}.gz' for k, name in _FILES.items()}
          )
        return {
          split: self._generate_examples(
            paths[f'{split}_images'], paths[f'{split}_labels']
          )
          for split in ('train', 'test')
        }

      def _generate_examples(self, images_path, labels_path):
        images, labels = read_idx(images_path), read_idx(labels_path)
        for index, (image, label) in enumerate(zip(images, labels)):
          yield index, {'image': _png(image), 'label': int(label)}

  return MNIST


def prepare_tfds_mnist(tfds_dir, idx_dir=None) -> None:
  """Writes MNIST as TFDS array_record files; does nothing if they exist.

  Args:
    tfds_dir: the TFDS data directory, e.g. ~/tensorflow_datasets.
    idx_dir: folder of the four IDX files; None downloads them.

  Raises:
    FileNotFoundError: if `idx_dir` lacks a file.
    ValueError: if a file is damaged.
  """
  if idx_dir is not None:
    idx_dir = pathlib.Path(idx_dir)
    for name in _FILES.values():
      _find(idx_dir, name)
  builder = _mnist_builder(idx_dir)(
    data_dir=os.fspath(tfds_dir), file_format='array_record'
  )
  builder.download_and_prepare()


def prepare_tfds_cifar10(tfds_dir, archive=None) -> None:
  """Writes CIFAR-10 as TFDS array_record files; does nothing if they exist.

  Args:
    tfds_dir: the TFDS data directory, e.g. ~/tensorflow_datasets.
    archive: path of cifar-10-binary.tar.gz; None downloads it.

  Raises:
    FileNotFoundError: if there is no such archive.
    ValueError: if it is damaged.
  """
  if archive is not None:
    cifar.read_archive(archive)  # refuse it before TFDS makes its folders
  builder = cifar.tfds_builder(archive, _png)(
    data_dir=os.fspath(tfds_dir), file_format='array_record'
  )
  builder.download_and_prepare()


def _load_tfds(name: str, tfds_dir: pathlib.Path) -> Images:
  if not list(tfds_dir.glob(f'{name}/*/dataset_info.json')):
    # Asked for what is not there, TFDS retries the network for minutes.
    raise FileNotFoundError(
      f'{tfds_dir} holds no prepared {name}; call prepare_tfds_{name} first.'
    )
  import tensorflow_datasets as tfds

  source = tfds.data_source(name, data_dir=os.fspath(tfds_dir))
  arrays = []
  for split in ('train', 'test'):
    records = list(source[split])
    images = np.stack([record['image'] for record in records])
    if images.shape[-1] == 1:
      images = images[..., 0]
    labels = np.array([record['label'] for record in records])
    arrays.extend(_checked(images, labels, tfds_dir))
  return Images(*arrays)


def _load_digits() -> Images:
  from sklearn import datasets

  bunch = datasets.load_digits()
  images = (bunch.images / 16).astype(np.float32)  # [1797, 8, 8]
  labels = bunch.target.astype(np.int32)
  # The last writers are in the test set alone.
  split = 1437
  return Images(images[:split], labels[:split], images[split:], labels[split:])


def _unlabelled(train, test, source) -> Images:
  """Labels say nothing: 0."""
  return Images(
    *_checked(train, np.zeros(len(train)), source),
    *_checked(test, np.zeros(len(test)), source),
  )


def load_images(name: str, data_dir=None) -> Images:
  """Loads an image set.

  Args:
    name: "mnist" (IDX files, plain or .gz), "mnist_tfds" and "cifar10_tfds"
      (made by `prepare_tfds_mnist`, `prepare_tfds_cifar10`; TFDS shuffles the
      records), "cifar10_4k" (`cifar.read_subset`: 3600 + 400 images), "stereo"
      (`stereo.read_patches`: patches of 16 x 32); without files, "digits" (8 x
      8, 1437 + 360 images) or "photographs" (`photographs.read_patches`: 16 x
      32, 23278 + 468 patches).
    data_dir: the folder of the files, by default mnist/, cifar10_4k/ or stereo/
      in the folder that the environment variable LISTCOUPLING_DATA names; for
      the TFDS sets the TFDS data directory, which must be given.

  Returns:
    `Images`.

  Raises:
    ValueError: for a name that is not known or a damaged file.
    FileNotFoundError: if files are missing.

  Example:
    >>> load_images("digits").test_images.shape
    (360, 8, 8)
  """
  if name not in NAMES:
    raise ValueError(f'name must be one of {NAMES}, got {name!r}.')
  if name == 'digits':
    return _load_digits()
  if name == 'photographs':
    return _unlabelled(*photographs.read_patches(), name)
  if name.endswith('_tfds'):
    if not data_dir:
      raise ValueError(
        f'data_dir must be given for {name!r}, got {data_dir!r}.'
      )
    return _load_tfds(name.removesuffix('_tfds'), pathlib.Path(data_dir))
  directory = pathlib.Path(data_dir or _default_directory(name))
  if name == 'mnist':
    return _load_idx(directory)
  if name == 'stereo':
    return _unlabelled(*stereo.read_patches(directory), directory)
  train, train_labels, test, test_labels = cifar.read_subset(directory)
  return Images(
    *_checked(train, train_labels, directory),
    *_checked(test, test_labels, directory),
  )


class Halves(NamedTuple):
  """Left and right halves of a set of images, [., H, W] or [., H, W, C]."""

  left: np.ndarray
  right: np.ndarray


def load_halves(
  name: str, data_dir=None, *, num_held_out: int = 0, flip: bool = False
) -> dict[str, Halves]:
  """An image set by use, cut in half: sources right, side information left.

  Args:
    name: see `load_images`.
    data_dir: see `load_images`.
    num_held_out: training images that are kept for the choice of settings.
    flip: train on the mirror images as well.

  Returns:
    "train"; "select", the last `num_held_out` of the training images; "test".

  Raises:
    FileNotFoundError: if the images are missing.
    ValueError: if nothing is left to train on.

  Example:
    >>> load_halves('digits')['test'].right.shape
    (360, 8, 4)
  """
  images = load_images(name, data_dir)
  cut = len(images.train_images) - num_held_out
  if num_held_out < 0 or cut < 1:
    raise ValueError(
      f'num_held_out must be from 0 to {len(images.train_images) - 1}, got '
      f'{num_held_out}.'
    )
  known = images.train_images[:cut]
  if flip:
    known = np.concatenate([known, known[:, :, ::-1]])
  parts = {
    'train': known,
    'select': images.train_images[cut:],
    'test': images.test_images,
  }
  return {
    name: Halves(*side_information.split_halves(x, colour=x.ndim == 4))
    for name, x in parts.items()
  }
