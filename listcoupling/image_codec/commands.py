"""The commands of scripts/compress.py: files in, files and a report out.

Every input is read and checked before anything is written, and every output is
whole or absent.
"""

import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from listcoupling import files
from listcoupling.compression import packing
from listcoupling.data import image_files
from listcoupling.image_codec import bitstream, fits, transport

_SETTINGS = (
  'seed', 'num_decoders', 'num_messages', 'num_candidates', 'num_groups',
  'labels', 'width', 'shared_race',
)  # fmt: skip


def _need(values, *names) -> None:
  missing = [f'--{name}' for name in names if values.get(name) is None]
  if missing:
    raise ValueError(f'{", ".join(missing)} must be given.')


def encode(values: Mapping) -> dict:
  """Images to a file, and crops of their left halves if asked for.

  Args:
    values: the flags of scripts/compress.py by name.

  Returns:
    The report, see `size_report`.

  Raises:
    ValueError: for bad images or settings, or a file that is there already.
    FileNotFoundError: for a missing model or image.
    OSError: for an output that cannot be written.
  """
  _need(values, 'model', 'images', 'file')
  files.check_regular(values['file'])
  if os.path.exists(values['file']) and not values['overwrite']:
    raise ValueError(f'{values["file"]} exists; --overwrite replaces it.')
  trained = fits.load_model(
    values['model'],
    scheme=values['scheme'],
    num_decoders=values['num_decoders'],
    num_messages=values['num_messages'],
    num_groups=values['num_groups'],
    bin_size=values['bin_size'],
    beta=values['beta'],
  )
  config = trained.model.config
  images = image_files.read_named_images(values['images'], config.source_shape)
  left, right = transport.split_source(images.pixels, config)
  if values['crops'] and left is None:
    raise ValueError(
      'crops are taken of left halves, but the images are right halves alone.'
    )
  container = transport.encode(
    trained,
    right,
    with_indices=values['indices'],
    names=images.names if values['names'] else (),
    **{name: values[name] for name in _SETTINGS},
  )
  if values['crops']:
    count = container.num_decoders
    sides = transport.take_crops(trained, left, count, values['seed'])
    for k in range(count):
      path = pathlib.Path(values['crops']) / f'decoder_{k}.npz'
      image_files.write_side(path, sides[:, k], k, container.key_data)
  return size_report(container, bitstream.write(values['file'], container))


def decode(values: Mapping) -> dict:
  """A file and one decoder's side information to images.

  Args:
    values: the flags of scripts/compress.py by name.

  Returns:
    The report, see `size_report` and `quality_report`.

  Raises:
    bitstream.ContainerError: for a damaged file or one of another model.
    ValueError: for side information that does not belong to it.
    FileNotFoundError: for a missing file.
    OSError: for an output that cannot be written.
  """
  _need(values, 'model', 'file', 'side', 'output')
  image_files.check_output(values['output'])
  container = bitstream.read(values['file'])
  trained = fits.load_named(values['model'], container)
  config = trained.model.config
  known = image_files.read_side(values['side'], config.side_shape)
  decoder = transport.check_decoder(
    container, known, values['decoder'], config.side_shape
  )
  source = None
  if values['images']:
    images = image_files.read_images(values['images'], config.source_shape)
    source = transport.split_source(images, config)[1]
    if source.shape != container.shape:
      raise ValueError(
        f'--images holds {source.shape}, the file {container.shape}.'
      )
  index, images = transport.decode(trained, container, known.side, decoder)
  image_files.write_images(values['output'], images, container.names)
  size = pathlib.Path(values['file']).stat().st_size
  return {
    **size_report(container, size),
    'decoder': decoder,
    **quality_report(container, index, images, source),
  }


def inspect(values: Mapping) -> dict:
  """The header of a file; no model is needed.

  Raises:
    bitstream.ContainerError: for a damaged file.
  """
  _need(values, 'file')
  container = bitstream.read(values['file'])
  return size_report(container, pathlib.Path(values['file']).stat().st_size)


def size_report(container: bitstream.Container, size: int) -> dict:
  """Bytes and bits of a file of `size` bytes."""
  c, count, base = container, container.shape[0], container.num_messages
  pixels = math.prod(c.shape[1:])
  names = (
    'num_candidates', 'num_decoders', 'num_messages', 'num_groups', 'bin_size',
  )  # fmt: skip
  return {
    'scheme': c.scheme,
    'blocks': count,
    **{name: getattr(c, name) for name in names},
    'labels': c.labels,
    'shared_race': c.shared_race,
    'shape': list(c.shape),
    'model': c.model_digest.hex(),
    'file_bytes': size,
    'overhead_bytes': bitstream.OVERHEAD,
    'message_bytes': packing.packed_size(count, base),
    'index_bytes': 0
    if c.indices is None
    else packing.packed_size(count, c.num_candidates),
    'name_bytes': len('\0'.join(c.names).encode()),
    'bits_per_block': math.log2(base),
    'bits_per_pixel': math.log2(base) / pixels,
    'file_bits_per_pixel': 8 * size / (count * pixels),
  }


def quality_report(container, index, images, source=None) -> dict:
  """MSE and PSNR where the source is given, match rate where indices are.

  PSNR is None at no error at all: JSON has no infinity.
  """
  found = {}
  if source is not None:
    mse = float(np.mean((np.asarray(images, np.float64) - source) ** 2))
    found['mse'] = mse
    found['psnr_db'] = -10 * math.log10(mse) if mse else None
  if container.indices is not None:
    found['match_rate'] = float(np.mean(index == container.indices))
  return found


def as_text(report: Mapping) -> str:
  """One line per figure."""
  return '\n'.join(
    f'{name:20} {value:.6g}'
    if isinstance(value, float)
    else f'{name:20} {value}'
    for name, value in report.items()
  )
