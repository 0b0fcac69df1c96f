"""CIFAR-10 in colour: the binary archive, TFDS, and a subset in four PNGs.

Krizhevsky (2009). The subset, `cifar10_4k`, is the first 4,000 training
images, one image per row of 1,024 RGB pixels; our split of it is by position:
3,600 training images, then 400 test images.
"""

import json
import math
import os
import pathlib
import tarfile

import numpy as np

_SHAPE = (32, 32, 3)
_TRAIN_FILES = tuple(f'data_batch_{i}.bin' for i in range(1, 6))
_TEST_FILES = ('test_batch.bin',)
_MOST_BYTES = 10_000 * (1 + math.prod(_SHAPE))  # of one of them
SUBSET_TRAIN = 3600  # of 4,000; the rest is the test set


def parse_records(data: bytes, source) -> tuple[np.ndarray, np.ndarray]:
  """One binary file: a label, then 1,024 red, green and blue bytes, repeated.

  Args:
    data: contents of the file.
    source: its name, for the error.

  Returns:
    images [R, 32, 32, 3] uint8 and labels [R] uint8.

  Raises:
    ValueError: if the file is no whole number of records or a label is not
      from 0 to 9.

  Example:
    >>> images, labels = parse_records(bytes([7]) + bytes(3072), "batch")
    >>> images.shape, labels.tolist()
    ((1, 32, 32, 3), [7])
  """
  size = 1 + math.prod(_SHAPE)
  if not data or len(data) % size:
    raise ValueError(
      f'{source} is damaged: {len(data)} bytes are no whole number of records '
      f'of {size}. Fetch it again.'
    )
  records = np.frombuffer(data, np.uint8).reshape(-1, size)
  labels = records[:, 0]
  if labels.max() > 9:
    raise ValueError(
      f'{source} is damaged: it holds the label {labels.max()}, above 9.'
    )
  return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def read_archive(path: str | os.PathLike):
  """Reads cifar-10-binary.tar.gz.

  Args:
    path: the archive.

  Returns:
    train images [R, 32, 32, 3] uint8, train labels [R], test images, test
    labels.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no archive, or lacks or garbles one of its files.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'there is no {path}; give the path of cifar-10-binary.tar.gz.'
    )
  try:
    with tarfile.open(path) as archive:
      files = {
        pathlib.PurePosixPath(member.name).name: archive.extractfile(
          member
        ).read(_MOST_BYTES + 1)
        for member in archive
        if member.isfile() and member.name.endswith('.bin')
      }
  except Exception as error:  # gzip, bzip2 and lzma raise kinds of their own
    raise ValueError(f'{path} is damaged: {error}. Fetch it again.') from error
  parts = []
  for names in (_TRAIN_FILES, _TEST_FILES):
    missing = [name for name in names if name not in files]
    if missing:
      raise ValueError(f'{path} is damaged: {missing} are not in it.')
    read = [parse_records(files[name], f'{path}:{name}') for name in names]
    parts += [np.concatenate(x) for x in zip(*read, strict=True)]
  return parts


def read_subset(directory: str | os.PathLike):
  """Reads the subset of 4,000: four PNGs and their labels.

  Args:
    directory: folder of cifar10_batch_0.png to _3.png and cifar10_labels.js.

  Returns:
    train images [3600, 32, 32, 3] uint8, train labels [3600], test images
    [400, 32, 32, 3], test labels [400].

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if a file is damaged.
  """
  from PIL import Image

  directory = pathlib.Path(directory)
  batches = []
  for i in range(4):
    path = directory / f'cifar10_batch_{i}.png'
    if not path.is_file():
      raise FileNotFoundError(
        f'there is no {path}; give data_dir or set LISTCOUPLING_DATA to a '
        'folder that holds cifar10_4k/.'
      )
    try:
      rows = np.asarray(Image.open(path).convert('RGB'))
    except Exception as error:  # Pillow's plugins raise many kinds
      raise ValueError(f'{path} is damaged: {error}.') from error
    if rows.shape[1:] != (1024, 3):
      raise ValueError(
        f'{path} must have rows of 1024 RGB pixels, got shape {rows.shape}.'
      )
    batches.append(rows.reshape(-1, *_SHAPE))
  images = np.concatenate(batches)
  labels = _read_labels(directory / 'cifar10_labels.js')
  if len(images) != 4000 or len(labels) < len(images):
    raise ValueError(
      f'{directory} must hold 4000 images and labels, got {len(images)} and '
      f'{len(labels)}.'
    )
  labels = labels[: len(images)]  # the file goes on past the four pictures
  cut = SUBSET_TRAIN
  return images[:cut], labels[:cut], images[cut:], labels[cut:]


def _read_labels(path) -> np.ndarray:
  """The first list of numbers in a script."""
  try:
    text = path.read_text(encoding='utf-8')
    words = text[text.index('[') : text.index(']') + 1]
    labels = np.array(json.loads(words))
    if not np.isin(labels, range(10)).all():
      raise ValueError('labels are numbers from 0 to 9')
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path} is damaged: {error}.') from error
  return labels.astype(np.uint8)


def tfds_builder(archive, to_png):
  """The stock TFDS builder that needs no TensorFlow.

  Args:
    archive: path of cifar-10-binary.tar.gz, or None to download it.
    to_png: [32, 32, 3] uint8 -> bytes.
  """
  import tensorflow_datasets as tfds
  from tensorflow_datasets.image_classification import cifar

  with tfds.core.registered.skip_registration():

    class Cifar10(cifar.Cifar10):
      name = 'cifar10'
      url_infos = cifar.Cifar10.url_infos  # their checksums

      def _split_generators(self, downloads):
        path = archive or downloads.download(self._cifar_info.url)
        train, train_labels, test, test_labels = read_archive(path)
        return {
          'train': self._generate_examples('train_', (train, train_labels)),
          'test': self._generate_examples('test_', (test, test_labels)),
        }

      def _generate_examples(self, prefix, arrays):
        for index, (image, label) in enumerate(zip(*arrays, strict=True)):
          yield (
            index,
            {
              'id': f'{prefix}{index:05d}',
              'image': to_png(image),
              'label': int(label),
            },
          )

  return Cifar10
