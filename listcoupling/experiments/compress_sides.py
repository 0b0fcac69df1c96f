"""Sources and side information of the compressor: halves and crops.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5. The side information
never meets the encoder; crops are taken here for trials alone, where whole
images are given.

Legend: R images, K decoders.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.compression import container
from listcoupling.data import side_information

_CROP = 1 << 31  # folded into the seed's key: where `encode` takes crops


def split_source(images, config):
  """(left or None, right) of whole images, or of sources as they are.

  Raises:
    ValueError: for images of another size or colour.
  """
  shape, whole = images.shape[1:], list(config.source_shape)
  whole[1] *= 2
  if shape == tuple(config.source_shape):
    return None, images
  if shape == tuple(whole):
    return side_information.split_halves(images, colour=images.ndim == 4)
  raise ValueError(
    f'the images have shape {shape}; this model codes {config.source_shape}, '
    f'the right half of {tuple(whole)}.'
  )


def take_crops(model, left, num_decoders, seed) -> np.ndarray:
  """Crops [R, K, h, w(, C)] of the left halves, as trials need them."""
  key = jax.random.fold_in(jax.random.key(seed), _CROP)
  crop = functools.partial(
    side_information.random_crops,
    num=num_decoders,
    shape=model.config.side_shape,
  )
  keys = jax.vmap(lambda r: jax.random.fold_in(key, r))(jnp.arange(len(left)))
  return np.asarray(jax.vmap(crop)(keys, jnp.asarray(left)))


def check_decoder(coded: container.Coded, crops, decoder, side_shape) -> int:
  """The decoder to be, if the side information is its own.

  Args:
    coded: the file.
    crops: `image_files.Crops`.
    decoder: index from 0, or None to take that of the crops.
    side_shape: the model's.

  Raises:
    ValueError: if decoder, crops and file do not belong together.
  """
  if decoder is None:
    decoder = crops.decoder
  if decoder is None:
    raise ValueError('decoder must be given: the crops do not name theirs.')
  if not 0 <= decoder < coded.num_decoders:
    raise ValueError(
      f'decoder must be in 0..{coded.num_decoders - 1}, got {decoder}.'
    )
  if crops.decoder is not None and crops.decoder != decoder:
    raise ValueError(
      f'the side information is that of decoder {crops.decoder}, not of '
      f'{decoder}.'
    )
  if crops.key_data is not None and crops.key_data != coded.key_data:
    raise ValueError(
      'the side information belongs to a file of another key '
      f'{crops.key_data}, this one has {coded.key_data}.'
    )
  wanted = (len(coded.messages), *side_shape)
  if crops.side.shape != wanted:
    raise ValueError(
      f'the side information must have shape {wanted}, got {crops.side.shape}.'
    )
  return decoder
