"""Images and crops in files: PNG, folders of PNG, npy, IDX; crops as npz.

Pixels are float32 in [0, 1] in memory. Outputs are written beside and renamed.
"""

import os
import pathlib
import shutil
import tempfile
from typing import NamedTuple

import numpy as np

from listcoupling.data import images as image_data
from listcoupling.experiments import results


class Crops(NamedTuple):
  """Side information of one decoder, as `write_crops` keeps it."""

  side: np.ndarray  # [R, h, w] or [R, h, w, C]
  decoder: int | None  # None: the file does not say
  key_data: tuple[int, int] | None  # of the coded file they belong to


def _pixels(array, path) -> np.ndarray:
  """Array of any allowed type as float32 in [0, 1]."""
  if array.dtype == np.uint8:
    return array.astype(np.float32) / 255
  if not np.issubdtype(array.dtype, np.floating):
    raise ValueError(
      f'{path} must hold bytes or floats in [0, 1], got {array.dtype}.'
    )
  if not (array.size and array.min() >= 0 and array.max() <= 1):
    raise ValueError(
      f'{path} must hold pixels in [0, 1], got '
      f'{np.min(array, initial=np.inf)}..{np.max(array, initial=-np.inf)}; '
      'scale them, or save bytes.'
    )
  return array.astype(np.float32)


def _read_png(path) -> np.ndarray:
  from PIL import Image, UnidentifiedImageError

  try:
    with Image.open(path) as image:
      if image.mode not in ('L', 'RGB', '1'):
        raise ValueError(
          f'{path} has pixels of mode {image.mode}; grey (L) or RGB of 8 bits '
          'is needed.'
        )
      array = np.asarray(image.convert('L') if image.mode == '1' else image)
  except (UnidentifiedImageError, OSError, SyntaxError) as error:
    raise ValueError(f'{path} is not a readable image ({error}).') from error
  return array


def _read_folder(path) -> np.ndarray:
  names = sorted(path.glob('*.png'))
  if not names:
    raise FileNotFoundError(f'{path} holds no .png file.')
  arrays = [_read_png(name) for name in names]
  for name, array in zip(names, arrays):
    if array.shape != arrays[0].shape:
      raise ValueError(
        f'{name} has shape {array.shape}, but {names[0]} has '
        f'{arrays[0].shape}; all images of a folder must be alike.'
      )
  return np.stack(arrays)


def read_images(path, shape=None) -> np.ndarray:
  """Images of a PNG, a folder of PNG (by name), an npy or an IDX file.

  Args:
    path: the file or folder.
    shape: of one image, to tell one image from many in an npy file.

  Returns:
    [R, H, W] or [R, H, W, C] float32 in [0, 1].

  Raises:
    FileNotFoundError: if there is nothing at `path`.
    ValueError: for damaged files, other types or pixels out of [0, 1].
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'there is no file or folder {path}.')
  if path.is_dir():
    return _pixels(_read_folder(path), path)
  if path.suffix == '.png':
    return _pixels(_read_png(path)[None], path)
  if path.suffix == '.npy':
    try:
      array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
      raise ValueError(
        f'{path} is not a readable npy file ({error}).'
      ) from error
    array = array[None] if array.shape == tuple(shape or ()) else array
    if array.ndim not in (3, 4) or not array.size:
      raise ValueError(
        f'{path} must hold images [R, H, W] or [R, H, W, C], got shape '
        f'{array.shape}.'
      )
    return _pixels(array, path)
  if path.suffix == '.gz' or 'ubyte' in path.name or path.suffix == '.idx':
    array = image_data.read_idx(path)
    if array.ndim != 3 or not array.size:
      raise ValueError(f'{path} holds {array.shape}, not images [R, H, W].')
    return _pixels(array, path)
  raise ValueError(
    f'{path} is of no known type: .png, a folder of them, .npy or IDX '
    '(-ubyte, .gz) is needed.'
  )


def write_images(path, images) -> None:
  """Writes [R, H, W(, C)] in [0, 1]: floats to .npy, PNG files to a folder.

  Raises:
    ValueError: for a folder that exists and is not empty.
  """
  path = pathlib.Path(path)
  if path.suffix == '.npy':
    with results.replacing(path) as new, new.open('wb') as file:
      np.save(file, np.asarray(images, np.float32))
    return
  from PIL import Image

  check_output(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  new = pathlib.Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
  try:
    for row, image in enumerate(np.asarray(images)):
      image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
      Image.fromarray(image).save(new / f'{row:06d}.png')
    new.chmod(0o755)
    os.replace(new, path)
  finally:
    shutil.rmtree(new, ignore_errors=True)


def check_output(path) -> None:
  """Raises ValueError if `path` cannot be made a folder of images."""
  path = pathlib.Path(path)
  if path.suffix != '.npy' and path.exists():
    if not path.is_dir() or any(path.iterdir()):
      raise ValueError(
        f'{path} exists; name a new folder, or a file that ends in .npy.'
      )


def write_crops(path, side, decoder: int, key_data) -> None:
  """Writes one decoder's side information, and whose it is, as npz."""
  with results.replacing(path) as new, new.open('wb') as file:
    np.savez(
      file,
      side=np.asarray(side, np.float32),
      decoder=np.int64(decoder),
      key_data=np.asarray(key_data, np.uint32),
    )


def read_crops(path, shape) -> Crops:
  """Side information of `write_crops`, or of any file of images.

  Raises:
    FileNotFoundError: if there is nothing at `path`.
    ValueError: for damaged files, other types or pixels out of [0, 1].
  """
  path = pathlib.Path(path)
  if path.suffix != '.npz':
    return Crops(read_images(path, shape), None, None)
  if not path.is_file():
    raise FileNotFoundError(f'there is no file {path}.')
  try:
    with np.load(path, allow_pickle=False) as kept:
      side, decoder = kept['side'], int(kept['decoder'])
      words = tuple(int(word) for word in kept['key_data'])
  except Exception as error:  # zip and npy raise many kinds
    raise ValueError(
      f'{path} is not a file of crops that encode wrote ({error}).'
    ) from error
  return Crops(_pixels(side, path), decoder, words)
