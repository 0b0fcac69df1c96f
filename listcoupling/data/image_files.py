"""Images and side information in files: what Pillow reads, npy, npz, IDX.

Pixels are float32 in [0, 1] in memory. Every file of a folder is read or
refused by name, with all its bits. Outputs are whole or absent.

Legend: R images, [H, W] or in colour [H, W, C]; [h, w] side information.
"""

import contextlib
import os
import pathlib
import warnings
from typing import NamedTuple

import numpy as np

from listcoupling import files
from listcoupling.data import images as image_data

__all__ = [
  'NamedImages',
  'SideInformation',
  'check_output',
  'read_images',
  'read_named_images',
  'read_side',
  'write_images',
  'write_side',
]


def __dir__():
  return __all__


_PICTURES = (
  '.png', '.jpg', '.jpeg', '.gif', '.webp', '.bmp', '.tif', '.tiff',
)  # fmt: skip


class NamedImages(NamedTuple):
  """Images and the names of their files; () where there is one for all."""

  pixels: np.ndarray  # [R, H, W] or [R, H, W, C] float32 in [0, 1]
  names: tuple[str, ...]


class SideInformation(NamedTuple):
  """Side information of one decoder for R images."""

  side: np.ndarray  # [R, h, w] or [R, h, w, C] float32 in [0, 1]
  decoder: int | None = None  # None: the file does not say
  key_data: tuple[int, int] | None = None  # of the file it belongs to
  corners: np.ndarray | None = None  # [R, 2], row and column in the left half


def _pixels(array, path) -> np.ndarray:
  """Array of any allowed type as float32 in [0, 1]."""
  if array.dtype.newbyteorder('=') in (np.uint8, np.uint16):
    return (array / np.float32(np.iinfo(array.dtype).max)).astype(np.float32)
  if not np.issubdtype(array.dtype, np.floating):
    raise ValueError(
      f'{path} must hold 8 or 16 unsigned bits or floats in [0, 1], got '
      f'{array.dtype}.'
    )
  if not (array.size and array.min() >= 0 and array.max() <= 1):
    raise ValueError(
      f'{path} must hold pixels in [0, 1], got '
      f'{np.min(array, initial=np.inf)}..{np.max(array, initial=-np.inf)}; '
      'scale them, or save bytes.'
    )
  return array.astype(np.float32)


def _is_cut(image, path) -> bool:
  """Whether Pillow cuts the pixels of an opened image to 8 bits."""
  with open(path, 'rb') as file:
    head = file.read(1 << 16)
  if image.format == 'AVIF':  # high_bitdepth of the av1C box
    place = head.find(b'av1C')
    return place >= 0 and bool(head[place + 6] & 64)
  if image.mode != 'RGB':
    return False
  if image.format == 'JPEG2000':  # Ssiz of the SIZ marker
    place = head.find(b'\xff\x51')
    return place >= 0 and head[place + 40] & 127 > 7
  for tile in image.tile:
    args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    if str(args[0]).startswith('RGB') and ';16' in args[0]:
      return True
    if image.format == 'PPM' and args[-1] != args[0] and args[-1] > 255:
      return True
  return False


@contextlib.contextmanager
def _refusing_bombs(path):
  """Pictures of more pixels than Pillow takes without a warning are refused.

  Their memory is taken before the first of them is read.
  """
  from PIL import Image

  refused = Image.DecompressionBombError, Image.DecompressionBombWarning
  with warnings.catch_warnings():
    warnings.simplefilter('error', Image.DecompressionBombWarning)
    try:
      yield
    except refused as error:
      raise ValueError(
        f'{path} has more than {Image.MAX_IMAGE_PIXELS} pixels, the most that '
        'a picture may have; an npy file may have more.'
      ) from error


def _read_picture(path) -> np.ndarray:
  """uint8 or uint16 [H, W], or uint8 [H, W, 3], of a file Pillow reads."""
  from PIL import Image, ImageOps, UnidentifiedImageError

  try:
    with _refusing_bombs(path), Image.open(path) as image:
      if getattr(image, 'n_frames', 1) > 1:
        raise ValueError(f'{path} holds {image.n_frames} pictures; save one.')
      if _is_cut(image, path):
        raise ValueError(
          f'{path} has pixels of more than 8 bits, which would be cut; save '
          '8 bits, or all images as an npy file.'
        )
      ImageOps.exif_transpose(image, in_place=True)  # upright, as it is shown
      opaque = 'transparency' not in image.info
      if image.mode == 'P' and opaque:
        palette = np.reshape(image.getpalette(), (-1, 3))
        is_grey = np.all(palette == palette[:, :1])
        return np.asarray(image.convert('L' if is_grey else 'RGB'))
      if image.mode == '1' and opaque:
        return np.asarray(image.convert('L'))
      is_deep_pgm = image.mode == 'I' and image.format == 'PPM'
      if image.mode.startswith('I;16') or is_deep_pgm:
        return np.asarray(image).astype(np.uint16)
      if image.mode not in ('L', 'RGB', 'F') or not opaque:
        raise ValueError(
          f'{path} has pixels of mode {image.mode}'
          f'{"" if opaque else " with transparency"}; save it without '
          'transparency, in grey of 8 or 16 bits or RGB of 8.'
        )
      return np.asarray(image)
  except UnidentifiedImageError as error:
    raise ValueError(f'{path} is no image that Pillow reads.') from error
  except Exception as error:  # its plugins raise many kinds
    if str(path) in str(error) and isinstance(error, ValueError):
      raise
    raise ValueError(f'{path} is damaged ({error}).') from error


def _read_folder(path) -> NamedImages:
  names = sorted(entry.name for entry in path.iterdir())
  if not names:
    raise FileNotFoundError(f'{path} is empty: there is no image in it.')
  arrays = []
  for name in names:
    files.check_regular(path / name)  # a folder within, a device
    array = _pixels(_read_picture(path / name), path / name)
    if arrays and array.shape != arrays[0].shape:
      raise ValueError(
        f'{path / name} has shape {array.shape}, but {path / names[0]} has '
        f'{arrays[0].shape}; all images of a folder must be alike: give each '
        'size and kind a folder of its own.'
      )
    arrays.append(array)
  return NamedImages(np.stack(arrays), tuple(names))


def _read_array(path) -> np.ndarray:
  try:  # mapped: a header cannot ask for more memory than the file has bytes
    return np.load(path, mmap_mode='r', allow_pickle=False)
  except Exception as error:  # npy raises many kinds
    raise ValueError(f'{path} is not a readable npy file ({error}).') from error


def _check_batch(array, path) -> np.ndarray:
  """Pixels of [R, H, W(, C)]."""
  if array.ndim not in (3, 4) or not array.size:
    raise ValueError(
      f'{path} must hold images [R, H, W] or [R, H, W, C], got shape '
      f'{array.shape}.'
    )
  return _pixels(array, path)


def read_named_images(path, shape=None) -> NamedImages:
  """Images of a picture, a folder of pictures (by name), an npy or IDX file.

  Args:
    path: the file or folder; every file of a folder must be a picture.
    shape: of an image, with a third axis if in colour: tells one from many in
      an npy file.

  Returns:
    `NamedImages`; 16-bit grey keeps its bits.

  Raises:
    FileNotFoundError: if there is nothing at `path`, or nothing in it.
    ValueError: naming the file: no picture, damaged, more bits than Pillow
      keeps, transparency, other shapes than the first, pixels out of [0, 1].
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'there is no file or folder {path}.')
  if path.is_dir():
    return _read_folder(path)
  files.check_regular(path)
  suffix = path.suffix.lower()
  if suffix == '.npy':
    array = _read_array(path)
    array = array[None] if array.ndim == len(shape or ()) else array
    return NamedImages(_check_batch(array, path), ())
  if suffix in ('.gz', '.idx') or 'ubyte' in path.name:
    return NamedImages(_check_batch(image_data.read_idx(path), path), ())
  return NamedImages(_pixels(_read_picture(path)[None], path), (path.name,))


def read_images(path, shape=None) -> np.ndarray:
  """The pixels of `read_named_images`: [R, H, W] or [R, H, W, C].

  Example:
    >>> np.save('images.npy', np.zeros((5, 8, 8)))
    >>> read_images('images.npy').shape
    (5, 8, 8)
  """
  return read_named_images(path, shape).pixels


def _output_names(count: int, names) -> list[str]:
  """PNG names: the stem of the source's, the whole name where two share it."""
  if not names:
    return [f'{row:06d}.png' for row in range(count)]
  stems = [pathlib.PurePath(name).stem for name in names]
  if len({stem.lower() for stem in stems}) < count:
    stems = names
  return [f'{stem}.png' for stem in stems]


def write_images(path, images, names=()) -> None:
  """Writes [R, H, W(, C)] in [0, 1]: floats to .npy, PNG files to a folder.

  Args:
    path: a file that ends in .npy, or a folder that is new or empty; a link is
      followed.
    images: the pixels.
    names: of the R sources, for a folder; else the images are numbered.

  Raises:
    ValueError: for a folder that exists and is not empty.
  """
  path = pathlib.Path(path)
  if path.suffix == '.npy':
    with files.replacing(path) as new, new.open('wb') as file:
      np.save(file, np.asarray(images, np.float32))
    return
  from PIL import Image

  check_output(path)
  path = pathlib.Path(os.path.realpath(path))
  with files.folder_beside(path) as new:
    for image, name in zip(images, _output_names(len(images), names)):
      image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
      Image.fromarray(image).save(new / name)
    new.replace(path)


def check_output(path) -> None:
  """Raises ValueError if `path` cannot be made a folder of images.

  Raises:
    ModuleNotFoundError: a folder needs Pillow, which is missing.
  """
  path = pathlib.Path(path)
  if path.suffix == '.npy':
    files.check_regular(path)
    return
  import PIL.Image  # noqa: F401  missing, it is told before anything is done

  if path.suffix.lower() in _PICTURES and not path.is_dir():
    raise ValueError(
      f'{path} names a picture; name a new folder for them, or a file that '
      'ends in .npy.'
    )
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise ValueError(
      f'{path} exists; name a new folder, or a file that ends in .npy.'
    )


def write_side(path, known: SideInformation) -> None:
  """Writes one decoder's side information, and what is known of it, as npz."""
  arrays = {
    'side': np.asarray(known.side, np.float32),
    'decoder': known.decoder,
    'key_data': known.key_data,
    'corners': known.corners,
  }
  kept = {name: np.asarray(x) for name, x in arrays.items() if x is not None}
  with files.replacing(path) as new, new.open('wb') as file:
    np.savez(file, **kept)


def read_side(path, shape) -> SideInformation:
  """Side information of `write_side`, or one's own.

  Args:
    path: any file or folder of `read_images`, or an npz: one array of images,
      called "side" if there are others, and by choice "decoder", "key_data"
      and "corners".
    shape: of one image, as for `read_images`.

  Raises:
    FileNotFoundError: if there is nothing at `path`.
    ValueError: for damaged files, other types or pixels out of [0, 1].
  """
  path = pathlib.Path(path)
  if path.suffix.lower() != '.npz':
    return SideInformation(read_images(path, shape))
  if not path.exists():
    raise FileNotFoundError(f'there is no file {path}.')
  files.check_regular(path)
  try:
    files.check_unpacked(path)
    with np.load(path, allow_pickle=False) as kept:
      names = kept.files
      side = kept[names[0] if len(names) == 1 else 'side']
      more = {name: kept[name] for name in SideInformation._fields[1:]
              if name in names}  # fmt: skip
    decoder = int(more['decoder']) if 'decoder' in more else None
    words = more['key_data'].tolist() if 'key_data' in more else None
    corners = more['corners'].astype(np.int64) if 'corners' in more else None
  except Exception as error:  # zip and npy raise many kinds
    raise ValueError(
      f'{path} is no npz of side information ({error}); it needs one array, or '
      'one that is called side.'
    ) from error
  side = side[None] if side.ndim == len(shape) else side
  return SideInformation(
    _check_batch(side, path), decoder, words and tuple(words), corners
  )
