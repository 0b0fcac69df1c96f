"""The commands of scripts/compress.py: files in, files and a report out.

Every input is read and checked before anything is written, and every output is
written beside its place and renamed.
"""

import math
import pathlib

import numpy as np

from listcoupling.compression import container
from listcoupling.experiments import compress, image_files

_SETTINGS = (
  'seed', 'num_decoders', 'num_messages', 'num_candidates', 'labels', 'width',
  'shared_race',
)  # fmt: skip


def _need(values, *names):
  missing = [f'--{name}' for name in names if values.get(name) is None]
  if missing:
    raise ValueError(f'{", ".join(missing)} must be given.')


def encode(values) -> dict:
  """Images to a file, and crops of their left halves if asked for.

  Args:
    values: the flags of scripts/compress.py by name.

  Returns:
    The report, see `size_report`.

  Raises:
    ValueError: for bad images or settings.
    FileNotFoundError: for a missing model or image.
    OSError: for an output that cannot be written.
  """
  _need(values, 'model', 'images', 'file')
  if pathlib.Path(values['file']).is_dir():
    raise ValueError(f'{values["file"]} is a folder; --file must name a file.')
  model = compress.load_model(
    values['model'],
    scheme=values['scheme'],
    num_decoders=values['num_decoders'],
    num_messages=values['num_messages'],
    beta=values['beta'],
  )
  config = model.config
  images = image_files.read_images(values['images'], config.source_shape)
  left, right = compress.split_source(images, config)
  if values['crops'] and left is None:
    raise ValueError(
      'crops are taken of left halves, but the images are right halves alone.'
    )
  coded = compress.encode(
    model,
    right,
    with_indices=values['indices'],
    **{name: values[name] for name in _SETTINGS},
  )
  if values['crops']:
    sides = compress.take_crops(model, left, coded.num_decoders, values['seed'])
    _write_crops(values['crops'], sides, coded.key_data)
  pathlib.Path(values['file']).parent.mkdir(parents=True, exist_ok=True)
  return size_report(coded, container.write(values['file'], coded))


def _write_crops(folder, sides, key_data) -> None:
  """Side information [R, K, h, w(, C)], a file per decoder."""
  for k in range(sides.shape[1]):
    path = pathlib.Path(folder) / f'decoder_{k}.npz'
    image_files.write_crops(path, sides[:, k], k, key_data)


def decode(values) -> dict:
  """A file and one decoder's crops to images.

  Args:
    values: the flags of scripts/compress.py by name.

  Returns:
    The report, see `size_report` and `quality_report`.

  Raises:
    container.ContainerError: for a damaged file or one of another model.
    ValueError: for side information that does not belong to it.
    FileNotFoundError: for a missing file.
    OSError: for an output that cannot be written.
  """
  _need(values, 'model', 'file', 'side', 'output')
  image_files.check_output(values['output'])
  coded = container.read(values['file'])
  model = compress.load_named(values['model'], coded)
  config = model.config
  crops = image_files.read_crops(values['side'], config.side_shape)
  decoder = compress.check_decoder(
    coded, crops, values['decoder'], config.side_shape
  )
  source = None
  if values['images']:
    images = image_files.read_images(values['images'], config.source_shape)
    source = compress.split_source(images, config)[1]
    if source.shape != tuple(coded.shape):
      raise ValueError(
        f'--images holds {source.shape}, the file {tuple(coded.shape)}.'
      )
  index, images = compress.decode(model, coded, crops.side, decoder)
  image_files.write_images(values['output'], images)
  size = pathlib.Path(values['file']).stat().st_size
  return {
    **size_report(coded, size),
    'decoder': decoder,
    **quality_report(coded, index, images, source),
  }


def inspect(values) -> dict:
  """What a file says of itself; no model is needed.

  Raises:
    container.ContainerError: for a damaged file.
  """
  _need(values, 'file')
  coded = container.read(values['file'])
  return size_report(coded, pathlib.Path(values['file']).stat().st_size)


def size_report(coded: container.Coded, size: int) -> dict:
  """Bytes and bits of a file of `size` bytes."""
  count, base = len(coded.messages), coded.num_messages
  pixels = math.prod(coded.shape[1:])
  return {
    'scheme': coded.scheme,
    'blocks': count,
    'num_candidates': coded.num_candidates,
    'num_decoders': coded.num_decoders,
    'num_messages': base,
    'labels': coded.labels,
    'shared_race': coded.shared_race,
    'shape': list(coded.shape),
    'model': coded.model_digest.hex(),
    'file_bytes': size,
    'overhead_bytes': container.overhead(coded),
    'message_bytes': container.packed_size(count, base),
    'index_bytes': 0
    if coded.indices is None
    else container.packed_size(count, coded.num_candidates),
    'bits_per_block': math.log2(base),
    'bits_per_pixel': math.log2(base) / pixels,
    'file_bits_per_pixel': 8 * size / (count * pixels),
  }


def quality_report(coded, index, images, source=None) -> dict:
  """MSE and PSNR where the source is given, match rate where indices are.

  PSNR is None at no error at all: JSON has no infinity.
  """
  found = {}
  if source is not None:
    mse = float(np.mean((np.asarray(images, np.float64) - source) ** 2))
    found['mse'] = mse
    found['psnr_db'] = -10 * math.log10(mse) if mse else None
  if coded.indices is not None:
    found['match_rate'] = float(np.mean(index == coded.indices))
  return found


def as_text(report: dict) -> str:
  """One line per figure."""
  return '\n'.join(
    f'{name:20} {value:.6g}'
    if isinstance(value, float)
    else f'{name:20} {value}'
    for name, value in report.items()
  )
