"""The commands of scripts/compress.py: files in, files and a report out.

Every input is read and checked before anything is written, and every output is
whole or absent.
"""

import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from absl import logging

from listcoupling import files
from listcoupling.data import image_files
from listcoupling.image_codec import bitstream, fits, transport

_SETTINGS = (
  'seed', 'num_decoders', 'num_messages', 'num_candidates', 'num_groups',
  'labels', 'width', 'shared_race',
)  # fmt: skip
_FLAGS = {
  'encode': {
    'model', 'scheme', 'beta', 'images', 'file', 'overwrite', 'names', 'crops',
    'bin_size', 'indices', *_SETTINGS,
  },
  'decode': {'model', 'images', 'file', 'side', 'output', 'whole', 'decoder'},
  'inspect': {'file'},
}  # fmt: skip
_STRANGE = 0.05  # share of blocks; of the training's kind it is a thousandth
_SHIPPED = 'shipped: right halves of MNIST digits'


def check_flags(command: str, given: set[str]) -> None:
  """Raises ValueError for a flag that only another command reads."""
  for other, names in _FLAGS.items():
    if wrong := sorted(given & names - _FLAGS[command]):
      raise ValueError(
        f'--{wrong[0]} is a flag of {other}, {command} does not read it; '
        'leave it out.'
      )


def _need(values, *names) -> None:
  missing = [f'--{name}' for name in names if values.get(name) is None]
  if missing:
    raise ValueError(f'{", ".join(missing)} must be given.')
  for name in ('images', 'file', 'model', 'crops', 'side', 'output'):
    if values.get(name) == '':
      raise ValueError(f'--{name} is empty; name a path, or leave it out.')


def _check_apart(values, outputs, inputs) -> None:
  """Raises ValueError for an output in the place of another path."""
  for output in outputs:
    for other in {*inputs, *outputs} - {output}:
      if not values[output] or not values[other]:
        continue
      place, taken = (
        pathlib.Path(os.path.realpath(values[name])) for name in (output, other)
      )
      is_below = taken in place.parents and (other in outputs or taken.is_dir())
      if place == taken or is_below:
        raise ValueError(
          f'--{output} {values[output]} lies in the place of --{other} '
          f'{values[other]}; name another.'
        )


def _check_shipped(scheme, num_decoders, num_messages) -> None:
  """Raises ValueError for a code that the shipped codec does not have."""
  own, decoders, messages = fits.SHIPPED_CODE
  if scheme != own:
    raise ValueError(
      f'the shipped codec holds {own} alone, got {scheme}; name a --model.'
    )
  if (num_decoders, num_messages) != (decoders, messages):
    raise ValueError(
      f'the shipped codec has {messages} messages to {decoders} decoders, got '
      f'{num_messages} to {num_decoders}; name a --model.'
    )


def _load(values) -> tuple[fits.Trained, str]:
  """Networks to encode with, and which they are, in words."""
  shipped = values['model'] is None
  scheme = values['scheme'] or (fits.SHIPPED_CODE[0] if shipped else 'gls')
  if shipped:
    _check_shipped(scheme, values['num_decoders'], values['num_messages'])
  options = ('num_decoders', 'num_messages', 'num_groups', 'bin_size', 'beta')
  trained = fits.load_model(
    fits.SHIPPED if shipped else values['model'],
    scheme=scheme,
    **{name: values[name] for name in options},
  )
  return trained, _SHIPPED if shipped else str(values['model'])


def encode(values: Mapping) -> dict:
  """Pictures to a file, and parts of their left halves if asked for.

  Args:
    values: the flags of scripts/compress.py by name.

  Returns:
    The report, see `size_report`.

  Raises:
    ValueError: for bad images or settings, or a file that is there already.
    FileNotFoundError: for a missing model or image.
    OSError: for an output that cannot be written.
  """
  _need(values, 'images', 'file')
  _check_apart(values, ['file', 'crops'], ['images'])
  files.check_regular(values['file'])
  if os.path.exists(values['file']) and not values['overwrite']:
    raise ValueError(f'{values["file"]} exists; --overwrite replaces it.')
  trained, networks = _load(values)
  shape = trained.model.config.source_shape
  images = image_files.read_named_images(values['images'], shape)
  blocks = transport.cut(images.pixels, shape)
  if values['crops'] and blocks.left is None:
    raise ValueError(
      'crops are taken of left halves, but the images are right halves alone.'
    )
  container = transport.encode(
    trained,
    blocks.right,
    with_indices=values['indices'],
    names=images.names if values['names'] else (),
    picture=blocks.size,
    **{name: values[name] for name in _SETTINGS},
  )
  if values['crops']:
    _write_crops(values, trained, blocks.left, container)
  size = bitstream.write(values['file'], container)
  report = {'networks': networks, **size_report(container, size)}
  return report | _hint(trained, blocks.right)


def _hint(trained, sources) -> dict[str, str]:
  """Words on pictures that are nothing like those of the training."""
  strange = fits.count_strange(trained, sources)
  if strange <= _STRANGE * len(sources):
    return {}
  words = (
    f'{strange} of {len(sources)} blocks are unlike all pictures that this '
    'codec was trained on; name a --model of pictures like these'
  )
  logging.warning('%s.', words)  # a report may go to a file
  return {'hint': words}


def _write_crops(values, trained, left, container) -> None:
  """Side information of each decoder, a file each."""
  crops, corners = transport.take_crops(
    trained, left, container.num_decoders, values['seed']
  )
  for k in range(container.num_decoders):
    image_files.write_side(
      pathlib.Path(values['crops']) / f'decoder_{k}.npz',
      image_files.SideInformation(
        crops[:, k], k, container.key_data, corners[:, k]
      ),
    )


def decode(values: Mapping) -> dict:
  """A file and one decoder's side information to images.

  Pictures come back whole, the side information in its place, where they were
  encoded whole and that place is known, or they have several tiles; else the
  sources alone. `whole` True or False decides.

  Args:
    values: the flags of scripts/compress.py by name.

  Returns:
    The report, see `size_report` and `quality_report`.

  Raises:
    bitstream.ContainerError: for a damaged file or one of another model.
    ValueError: for side information that does not belong to it, or without a
      model a file of another code than the shipped one.
    ModuleNotFoundError: for a folder of pictures without Pillow.
    FileNotFoundError: for a missing file.
    OSError: for an output that cannot be written.
  """
  _need(values, 'file', 'side', 'output')
  _check_apart(values, ['output'], ['file', 'side', 'images'])
  image_files.check_output(values['output'])
  container = bitstream.read(values['file'])
  if values['model'] is None:
    _check_shipped(
      container.scheme, container.num_decoders, container.num_messages
    )
  trained = fits.load_named(values['model'] or fits.SHIPPED, container)
  config = trained.model.config
  known = transport.place_side(
    trained, container, image_files.read_side(values['side'], config.side_shape)
  )
  decoder = transport.check_decoder(
    container, known, values['decoder'], config.side_shape
  )
  whole = _is_whole(values['whole'], container, known)
  source = _source(values['images'], container, config)
  index, images = transport.decode(trained, container, known.side, decoder)
  names = container.names if whole or container.num_tiles == 1 else ()
  shown = transport.join(container, images, known) if whole else images
  image_files.write_images(values['output'], shown, names)
  size = pathlib.Path(values['file']).stat().st_size
  return {
    **size_report(container, size),
    'decoder': decoder,
    'whole': whole,
    'output': os.fspath(values['output']),
    **quality_report(container, index, images, source),
  }


def _is_whole(whole, container, known) -> bool:
  """Whether whole pictures are written; None is what users expect."""
  if whole is None:
    has_place = known.corners is not None or container.num_tiles > 1
    return any(container.picture) and has_place
  if whole:
    transport.check_whole(container)
  return whole


def _source(path, container, config):
  """The true sources, if there are any to compare with."""
  if not path:
    return None
  images = image_files.read_images(path, config.source_shape)
  blocks = transport.cut(images, config.source_shape)
  if blocks.right.shape != container.shape:
    raise ValueError(
      f'--images holds {blocks.right.shape}, the file {container.shape}.'
    )
  return blocks.right


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
    'pictures': count // c.num_tiles,
    'blocks': count,
    **{name: getattr(c, name) for name in names},
    'labels': c.labels,
    'shared_race': c.shared_race,
    'shape': list(c.shape),
    'model': c.model_digest.hex(),
    'file_bytes': size,
    'overhead_bytes': bitstream.OVERHEAD,
    'message_bytes': bitstream.packed_size(count, base),
    'index_bytes': 0
    if c.indices is None
    else bitstream.packed_size(count, c.num_candidates),
    'name_bytes': len('\0'.join(c.names).encode()),
    'bits_per_block': math.log2(base),
    'bits_per_pixel': math.log2(base) / pixels,
    'file_bits_per_pixel': 8 * size / (count * pixels),
  }


def quality_report(container, index, images, source=None) -> dict:
  """MSE and PSNR of the coded parts, given the source; the match rate.

  The match rate needs indices in the file. PSNR is None at no error at all:
  JSON has no infinity.
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
