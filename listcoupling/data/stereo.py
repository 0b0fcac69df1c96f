"""Patches of a scene seen by two cameras: a source and the other view of it.

The motorcycle of the Middlebury stereo sets (Scharstein et al., 2014), 500 x
741 pixels, in grey, as scikit-image 0.16.2 carried it:

    pip download scikit-image==0.16.2 --no-deps --only-binary :all: \
      --python-version 3.8 --platform manylinux1_x86_64
    unzip -j scikit_image-0.16.2-*.whl 'skimage/data/motorcycle*' -d DIR/stereo

for the data_dir DIR/stereo, or the environment variable LISTCOUPLING_DATA at
DIR. A patch is 16 x 32: its right half is a source, 16 x 16 pixels of the left
camera; its left half are those of the right camera at the median disparity of
the source, as if a decoder knew how far away the scene is. Sources of the right
quarter are for tests and share no pixel with the others; those to train on
overlap each other, those to test do not.

Legend: R patches to train on, E to test.
"""

import os
import pathlib

import numpy as np

from listcoupling import files

SIDE = 16  # of a source and of its other view
_STRIDE = 4  # of patches to train on
_NAMES = 'motorcycle_left.png', 'motorcycle_right.png', 'motorcycle_disp.npz'


def _read_grey(path) -> np.ndarray:
  from PIL import Image

  with Image.open(path) as image:
    return np.asarray(image.convert('L'))


def _read_disparity(path) -> np.ndarray:
  files.check_unpacked(path)
  with np.load(path) as kept:
    return np.asarray(kept[kept.files[0]], np.float64)


def pair_patches(left, right, disparity, corners) -> np.ndarray:
  """Sources of the left view beside the same places in the right one.

  Args:
    left: [H, W], its pixel (y, x) shows what the right one has at (y, x - d).
    right: [H, W].
    disparity: [H, W] d, not finite where it is not known.
    corners: (y, x) of each source.

  Returns:
    [., 16, 32]; without the sources of which less than half is known, or whose
    other view is not in the picture.

  Example:
    >>> view = np.arange(400).reshape(20, 20)
    >>> pair = pair_patches(view, view, np.full((20, 20), 2.0), [(0, 2)])
    >>> pair[0, 0, [0, 16]].tolist()
    [0, 2]
  """
  found = []
  for y, x in corners:
    place = slice(y, y + SIDE), slice(x, x + SIDE)
    known = disparity[place][np.isfinite(disparity[place])]
    if 2 * known.size < SIDE**2:
      continue
    start = x - int(np.rint(np.median(known)))
    if 0 <= start <= right.shape[1] - SIDE:
      other = right[place[0], start : start + SIDE]
      found.append(np.concatenate([other, left[place]], 1))
  return np.array(found)


def read_patches(directory: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
  """Patches to train on and to test, both from left to right.

  Args:
    directory: folder of the two views and the disparity.

  Returns:
    [R, 16, 32] and [E, 16, 32] uint8.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if a file is damaged, or they do not belong together.
  """
  paths = [pathlib.Path(directory) / name for name in _NAMES]
  for path in paths:
    if not path.is_file():
      raise FileNotFoundError(
        f'there is no {path}; listcoupling/data/stereo.py says where to get it.'
      )
  planes = []
  for path in paths:
    read = _read_disparity if path.suffix == '.npz' else _read_grey
    try:
      planes.append(read(path))
    except Exception as error:  # Pillow, zip and npy raise many kinds
      raise ValueError(
        f'{path} is damaged: {error}. Fetch it again.'
      ) from error
  shapes = {plane.shape for plane in planes}
  if len(shapes) > 1 or min(min(shapes)) < 8 * SIDE:
    raise ValueError(
      f'the views and the disparity in {directory} must have one shape, of at '
      f'least {8 * SIDE} pixels each way, got {[p.shape for p in planes]}.'
    )
  height, width = planes[0].shape
  border = width * 3 // 4

  def corners(first, last, step):
    return [
      (y, x)
      for x in range(first, last - SIDE + 1, step)
      for y in range(0, height - SIDE + 1, step)
    ]

  return (
    pair_patches(*planes, corners(0, border, _STRIDE)),
    pair_patches(*planes, corners(border, width, SIDE)),
  )
