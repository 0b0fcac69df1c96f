"""Images to train on and to test on, as left and right halves.

The right half is the source, crops of the left one are side information
(Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5).
"""

from typing import NamedTuple

import jax
import numpy as np

from listcoupling.data import images as image_data
from listcoupling.data import side_information


class Halves(NamedTuple):
  """Left and right halves of a set of images, [., H, W] or [., H, W, C]."""

  left: jax.Array
  right: jax.Array


def load_halves(config) -> dict[str, Halves]:
  """The images of `config`, by use.

  Args:
    config: the `train` part of a configuration.

  Returns:
    "train"; "select", the last `config.num_held_out` of the training images,
    for the choice of settings; "test".

  Raises:
    FileNotFoundError: if the images are missing.
    ValueError: if nothing is left to train on, or the images are not of
      `config.model.source_shape`.
  """
  images = image_data.load_images(config.dataset, config.data_dir or None)
  cut = len(images.train_images) - config.num_held_out
  if config.num_held_out < 0 or cut < 1:
    raise ValueError(
      f'num_held_out must be from 0 to {len(images.train_images) - 1}, got '
      f'{config.num_held_out}.'
    )
  known = images.train_images[:cut]
  if config.flip:
    known = np.concatenate([known, known[:, :, ::-1]])
  parts = {
    'train': known,
    'select': images.train_images[cut:],
    'test': images.test_images,
  }
  halves = {
    name: Halves(*side_information.split_halves(x, colour=x.ndim == 4))
    for name, x in parts.items()
  }
  shape = halves['train'].right.shape[1:]
  if shape != tuple(config.model.source_shape):
    raise ValueError(
      f'model.source_shape is {tuple(config.model.source_shape)} but the right '
      f'halves of {config.dataset!r} are {shape}.'
    )
  return halves
