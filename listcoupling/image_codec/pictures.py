"""Pictures of any size as blocks of a model, and blocks as pictures again.

A picture is cut in tiles of the height and twice the width of a source, row by
row; what the last ones lack repeats the edge. The right half of a tile is a
block to code, side information is taken of its left half. A picture as large as
a source is one.

Legend: P pictures, T tiles of each, R = P T blocks, [H, W] source, [h, w] side
information; in colour with a last axis C.
"""

from typing import NamedTuple

import numpy as np

from listcoupling import gumbel
from listcoupling.data import image_files, side_information
from listcoupling.image_codec import bitstream, fits

_UNKNOWN = 0.5  # pixels that neither message nor side information tells


class Blocks(NamedTuple):
  """Pictures as a model codes them."""

  left: np.ndarray | None  # [R, H, W]; None where the pictures are sources
  right: np.ndarray  # [R, H, W], the sources
  size: tuple[int, int]  # height and width of a picture, (0, 0) for sources


def cut(pictures, source_shape) -> Blocks:
  """Pictures as blocks, a right half and what lies to its left in each tile.

  Args:
    pictures: [P, height, width(, C)]; tiles are H x 2 W, filled up with the
      nearest pixels. Of the size of a source they are sources themselves.
    source_shape: (H, W) or (H, W, C) of the model.

  Returns:
    `Blocks` of R = P * tiles, those of one picture in a row.

  Raises:
    ValueError: for pictures smaller than a tile, or of other colours.

  Example:
    >>> cut(np.zeros((5, 8, 9)), (8, 4)).right.shape  # 2 tiles, one padded
    (10, 8, 4)
  """
  height, width, *colours = source_shape
  shape = pictures.shape[1:]
  if shape == tuple(source_shape):
    return Blocks(None, pictures, (0, 0))
  tile = height, 2 * width
  if (
    len(shape) != len(source_shape)
    or list(shape[2:]) != colours
    or any(all_ < one for all_, one in zip(shape, tile))
  ):
    kind = 'RGB' if colours else 'grey'
    if list(shape[2:]) != colours:
      fault = f'in other colours; convert them to {kind}'
    else:
      fault = 'too small; enlarge them'
    raise ValueError(
      f'the images have shape {shape}, {fault}: this model codes {kind} '
      f'pictures of {(*tile, *colours)}, larger ones in tiles, and right '
      f'halves alone of {tuple(source_shape)}.'
    )
  left, right = side_information.split_halves(
    _to_tiles(pictures, tile), colour=bool(colours)
  )
  return Blocks(left, right, shape[:2])


def _to_tiles(pictures, tile) -> np.ndarray:
  """[P, height, width(, C)] -> [P T, *tile(, C)]."""
  rest = [-size % one for size, one in zip(pictures.shape[1:], tile)]
  padding = [(0, 0), *((0, size) for size in rest)]
  padding += [(0, 0)] * (pictures.ndim - 3)
  padded = np.pad(pictures, padding, mode='edge')
  down, across = (size // one for size, one in zip(padded.shape[1:], tile))
  apart = padded.reshape(
    len(padded), down, tile[0], across, tile[1], *padded.shape[3:]
  )
  return apart.swapaxes(2, 3).reshape(-1, *tile, *padded.shape[3:])


def _from_tiles(tiles, size) -> np.ndarray:
  """[P T, *tile(, C)] -> [P, *size(, C)]."""
  tile, colours = tiles.shape[1:3], tiles.shape[3:]
  down, across = (-(-all_ // one) for all_, one in zip(size, tile))
  apart = tiles.reshape(-1, down, across, *tile, *colours).swapaxes(2, 3)
  padded = apart.reshape(-1, down * tile[0], across * tile[1], *colours)
  return padded[:, : size[0], : size[1]]


def take_crops(
  trained: fits.Trained, left, num_decoders: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Side information for trials: parts of left halves.

  Args:
    trained: whose decoders will look at them.
    left: [R, H, W(, C)], see `cut`.
    num_decoders: K.
    seed: of the places, where the model does not fix them.

  Returns:
    The parts, [R, K, h, w(, C)], and where they lie, [R, K, 2].

  Raises:
    ValueError: for a model whose side information is no part of a left half.

  Example:
    >>> trained = fits.load_model(
    ...     fits.SHIPPED, scheme='list_quantiser', num_decoders=2,
    ...     num_messages=16)
    >>> parts, corners = take_crops(trained, np.zeros((3, 28, 14)), 2, seed=0)
    >>> parts.shape, corners.shape  # all of the left half
    ((3, 2, 28, 14), (3, 2, 2))
  """
  shape, kind = trained.model.config.side_shape, trained.side_kind
  corner = side_information.fixed_corner(kind, shape, left.shape[1:])
  if corner is not None:
    corners = np.broadcast_to(corner, (len(left), num_decoders, 2))
  elif kind == 'crop':
    corners = np.asarray(
      side_information.random_corners(
        gumbel.seed_key(seed), len(left), num_decoders, left.shape[1:], shape
      )
    )
  else:
    raise ValueError(
      f'crops must be of a model that knows a part of the left half; what '
      f'decoders of this one know is of kind {kind!r}.'
    )
  crops = [[_part(image, corner, shape) for corner in row]
           for image, row in zip(left, corners)]  # fmt: skip
  return np.asarray(crops), corners


def _part(image, corner, shape) -> np.ndarray:
  """A view of `shape` into an image."""
  (row, column), (height, width) = corner, shape[:2]
  return image[row : row + height, column : column + width]


def place_side(
  trained: fits.Trained,
  container: bitstream.Container,
  known: image_files.SideInformation,
) -> image_files.SideInformation:
  """Side information as blocks, with its place if that can be told.

  Args:
    trained: the networks.
    container: the file.
    known: of the blocks, or pictures of which this decoder knows a part that
      always lies at one place, such as the left half.

  Raises:
    ValueError: for places outside of the left half.
  """
  config, side = trained.model.config, known.side
  shape, source = config.side_shape, config.source_shape
  corner = side_information.fixed_corner(trained.side_kind, shape, source)
  if corner is None and known.corners is None:
    return known
  blocks = container.shape[0]
  if side.shape[1:3] == container.picture != (0, 0) and corner is not None:
    left = cut(side, source).left
    side = np.stack([_part(image, corner, shape) for image in left])
  corners = known.corners
  if corners is None:
    corners = np.broadcast_to(corner, (blocks, 2))
  if len(side) != blocks or len(corners) != blocks:
    raise ValueError(
      f'the side information must have {blocks} entries, one for each block '
      f'of the file, got {len(side)} with {len(corners)} corners.'
    )
  room = np.subtract(source[:2], shape[:2])
  if corners.shape != (blocks, 2) or np.any((corners < 0) | (corners > room)):
    raise ValueError(
      f'corners of the side information must be {blocks} places in '
      f'(0, 0)..{tuple(room.tolist())}, got {corners.tolist()[:3]}...'
    )
  return known._replace(side=side, corners=corners)


def check_whole(container: bitstream.Container) -> None:
  """Raises ValueError for a file of sources that are no part of a picture."""
  if not any(container.picture):
    raise ValueError(
      'whole pictures cannot be made: the file is of images that are sources '
      f'of {container.shape[1:]} themselves.'
    )


def join(
  container: bitstream.Container,
  images,
  known: image_files.SideInformation,
) -> np.ndarray:
  """Decoded blocks as whole pictures, the side information beside them.

  Args:
    container: the file; it holds the size of the pictures.
    images: [R, H, W(, C)] decoded.
    known: what the decoder knows; without corners it is left out. What is
      left of a tile is grey.

  Returns:
    [P, height, width(, C)].

  Raises:
    ValueError: if sources were coded that are no part of a picture.
  """
  check_whole(container)
  unknown = np.full_like(images, _UNKNOWN)
  tiles = np.concatenate([unknown, images], axis=2)
  if known.corners is not None:
    for tile, side, corner in zip(tiles, known.side, known.corners):
      _part(tile, corner, side.shape)[:] = side
  return _from_tiles(tiles, container.picture)
