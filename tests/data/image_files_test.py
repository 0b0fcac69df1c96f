"""Images in files: every one is read with all its bits, or refused by name."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from listcoupling.data import image_files
from tests import statistics

GREY = np.arange(48, dtype=np.uint8).reshape(8, 6)


def _png16(colour_type, samples):
  """A PNG of 16 bits per sample, which Pillow cannot write in colour."""

  def chunk(kind, data):
    size, check = len(data), zlib.crc32(kind + data)
    return struct.pack('>I', size) + kind + data + struct.pack('>I', check)

  head = struct.pack('>IIBBBBB', 6, 8, 16, colour_type, 0, 0, 0)
  raw = b''.join(b'\0' + bytes(range(2 * 6 * samples)) for _ in range(8))
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    (chunk(b'IHDR', head), chunk(b'IDAT', zlib.compress(raw)),
     chunk(b'IEND', b''))
  )  # fmt: skip


def test_every_kind_of_file_is_read_alike(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (3, 8, 6), np.uint8)
  expected = images.astype(np.float32) / 255
  np.save(tmp_path / 'a.npy', images)
  image_files.write_images(tmp_path / 'png', expected)
  header = bytes((0, 0, 8, 3)) + np.array(images.shape, '>u4').tobytes()
  (tmp_path / 'a-ubyte').write_bytes(header + images.tobytes())
  for name in ('a.npy', 'png', 'a-ubyte'):
    found = image_files.read_images(tmp_path / name)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
  one = image_files.read_images(tmp_path / 'png' / '000001.png')
  np.testing.assert_array_equal(one, expected[1:2])
  assert len(image_files.read_images(tmp_path / 'a.npy', (8, 6))) == 3
  np.save(tmp_path / 'one.npy', images[0])
  assert len(image_files.read_images(tmp_path / 'one.npy', (8, 6))) == 1


def test_no_picture_of_a_folder_is_left_out(tmp_path):
  exact = ('a.PNG', 'b.bmp', 'c.tif', 'd.GIF', 'e.pgm', 'f.tga', 'no_suffix')
  for name in exact:
    kind = {'tif': 'tiff', 'pgm': 'ppm'}.get(name[2:].lower(), name[2:].lower())
    Image.fromarray(GREY).save(tmp_path / name, 'png' if name > 'g' else kind)
  Image.fromarray(GREY).save(tmp_path / 'g.JPEG', quality=100)
  found = image_files.read_named_images(tmp_path)
  assert found.names == tuple(sorted((*exact, 'g.JPEG')))
  for name, pixels in zip(found.names, found.pixels):
    wanted = GREY.astype(np.float32) / 255
    # The 64 coefficients of a JPEG, here of step 1, are off by a half each,
    # so that its pixels, of an orthonormal transform, are by 4, and a half.
    error = 4.5 / 255 * (name == 'g.JPEG')
    np.testing.assert_allclose(pixels, wanted, rtol=0, atol=error)


@pytest.mark.parametrize(
  'name, data',
  [('notes.txt', b'x'), ('.hidden', b''), ('z.png', b'\x89PNG no')],
)
def test_anything_else_in_a_folder_is_named(tmp_path, name, data):
  Image.fromarray(GREY).save(tmp_path / 'a.png')
  (tmp_path / name).write_bytes(data)
  with pytest.raises(ValueError, match=f'{name} is no image'):
    image_files.read_images(tmp_path)


def test_folders_devices_and_nothing_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='empty'):
    image_files.read_images(tmp_path)
  with pytest.raises(FileNotFoundError, match='nowhere'):
    image_files.read_images(tmp_path / 'nowhere')
  Image.fromarray(GREY).save(tmp_path / 'a.png')
  (tmp_path / 'b').mkdir()
  with pytest.raises(ValueError, match='b is no regular file'):
    image_files.read_images(tmp_path)
  os.mkfifo(tmp_path / 'fifo')
  with pytest.raises(ValueError, match='fifo is no regular file'):
    image_files.read_images(tmp_path / 'fifo')
  (tmp_path / 'b').rmdir()
  (tmp_path / 'fifo').unlink()
  Image.fromarray(GREY[:4]).save(tmp_path / 'c.png')
  with pytest.raises(
    ValueError, match=r'c.png has shape \(4, 6\), .*alike: give each'
  ):
    image_files.read_images(tmp_path)


def _saved(image, kind, **options):
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def test_sixteen_bits_of_grey_are_kept(tmp_path):
  deep = (30_000 + 5 * np.arange(48).reshape(8, 6)).astype(np.uint16)
  for kind in ('png', 'tiff', 'ppm'):
    path = tmp_path / f'a.{kind}'
    path.write_bytes(_saved(Image.fromarray(deep), kind))
    found = image_files.read_images(path)[0]
    np.testing.assert_array_equal(found, deep / np.float32(65535))
    assert len(np.unique(found)) == 48  # all alike in 8 bits


def test_depth_that_pillow_cuts_is_refused(tmp_path):
  palette = Image.fromarray(GREY).convert('P')
  transparent = _saved(palette, 'png', transparency=3)
  frames = [palette, Image.fromarray(GREY[::-1]).convert('P')]
  many = _saved(frames[0], 'gif', save_all=True, append_images=frames[1:])
  for name, data, message in (
    ('rgb.png', _png16(2, 3), 'more than 8 bits'),
    ('rgba.png', _png16(6, 4), 'mode RGBA'),
    ('rgb.ppm', b'P6 6 8 65535\n' + bytes(288), 'more than 8 bits'),
    ('alpha.png', _saved(Image.new('RGBA', (6, 8)), 'png'), 'mode RGBA'),
    ('clear.png', transparent, 'with transparency'),
    ('cmyk.jpg', _saved(Image.new('CMYK', (6, 8)), 'jpeg'), 'mode CMYK'),
    ('many.gif', many, 'holds 2 pictures'),
    ('cut.png', _saved(Image.fromarray(GREY), 'png')[:60], 'is damaged'),
  ):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
      image_files.read_images(tmp_path / name)
    assert name in str(caught.value)


def test_palettes_and_one_bit_lose_nothing(tmp_path):
  colours = np.random.default_rng(0).integers(0, 2, (8, 6, 3)) * 255
  image = Image.fromarray(colours.astype(np.uint8))
  image.quantize(8).save(tmp_path / 'p.png')
  np.testing.assert_array_equal(
    image_files.read_images(tmp_path / 'p.png')[0], colours / 255
  )
  bits = GREY > 20
  Image.fromarray(bits).save(tmp_path / '1.png')
  np.testing.assert_array_equal(
    image_files.read_images(tmp_path / '1.png')[0], bits
  )


def test_a_photo_is_upright(tmp_path):
  exif = Image.Exif()
  exif[0x112] = 6  # a quarter turn, as cameras write it
  Image.fromarray(GREY).save(tmp_path / 'a.png', exif=exif)
  found = image_files.read_images(tmp_path / 'a.png')[0]
  np.testing.assert_array_equal(found, np.rot90(GREY, -1) / np.float32(255))


def test_the_order_of_bytes_is_that_of_the_file(tmp_path):
  deep = (1000 * np.arange(48).reshape(1, 8, 6)).astype('>u2')
  np.save(tmp_path / 'a.npy', deep)
  found = image_files.read_images(tmp_path / 'a.npy')
  np.testing.assert_array_equal(found, deep / np.float32(65535))


def test_a_link_to_a_folder_is_followed(tmp_path):
  (tmp_path / 'link').symlink_to(tmp_path / 'folder')
  image_files.write_images(tmp_path / 'link', GREY[None] / 255)
  assert (tmp_path / 'link').is_symlink()
  assert [x.name for x in (tmp_path / 'folder').iterdir()] == ['000000.png']


@pytest.mark.filterwarnings('ignore')  # Pillow's, of damaged files
@pytest.mark.parametrize('kind', ['png', 'tiff', 'ppm', 'gif'])
def test_damage_of_any_byte_is_read_or_named(tmp_path, kind):
  data = _saved(Image.fromarray(GREY), kind)
  rng = np.random.default_rng(0)
  path = tmp_path / f'broken.{kind}'
  for place in range(min(len(data), 120)):
    broken = bytearray(data)
    broken[place] ^= rng.integers(1, 256)
    path.write_bytes(broken)
    try:
      image_files.read_images(path)
    except ValueError as error:
      assert path.name in str(error)


def _promised(shape):
  """An npy file whose header alone says what it holds."""
  words = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n"
  size = len(words).to_bytes(2, 'little')
  return b'\x93NUMPY\x01\x00' + size + words.encode()


@pytest.mark.parametrize(
  'array, message',
  [
    (np.full((2, 8, 8), 3.0), 'scale them'),
    (np.full((2, 8, 8), np.nan), 'pixels in'),
    (np.zeros((2, 8, 8), int), 'int64'),
    (np.zeros(5), r'\[R, H, W\]'),
    (np.zeros((0, 8, 8)), r'\[R, H, W\]'),
    (b'not numpy', 'readable npy'),
    (_promised('(1000000, 1000, 1000)'), 'x.npy is not a readable npy'),
    (_promised('(True, 8, 8)'), 'x.npy is not a readable npy'),
    (_promised('(2,' * 3000), 'x.npy is not a readable npy'),
  ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, array, message):
  path = tmp_path / 'x.npy'
  path.write_bytes(array) if isinstance(array, bytes) else np.save(path, array)
  with pytest.raises(ValueError, match=message):
    image_files.read_images(path)


def test_names_go_to_the_output(tmp_path):
  images = np.zeros((3, 8, 6), np.float32)

  def written(names):
    folder = tmp_path / f'out_{"-".join(names)}_'
    image_files.write_images(folder, images, names)
    return sorted(path.name for path in folder.iterdir())

  assert written(('b.JPG', 'a.png', 'c')) == ['a.png', 'b.png', 'c.png']
  both = written(('a.bmp', 'a.png', 'b.png'))  # none overwrites another
  assert both == ['a.bmp.png', 'a.png.png', 'b.png.png']
  assert written(()) == ['000000.png', '000001.png', '000002.png']
  with pytest.raises(ValueError, match='exists'):
    image_files.write_images(tmp_path, images)
  with pytest.raises(ValueError, match='out.jpeg names a picture'):
    image_files.write_images(tmp_path / 'out.jpeg', images)
  image_files.check_output(tmp_path / 'scan.fit')  # few suffixes are pictures
  (tmp_path / 'empty.png').mkdir()
  image_files.check_output(tmp_path / 'empty.png')
  os.mkfifo(tmp_path / 'x.npy')
  with pytest.raises(ValueError, match='no regular file'):
    image_files.check_output(tmp_path / 'x.npy')


def test_side_information_is_encodes_or_ones_own(tmp_path):
  side = np.random.default_rng(0).uniform(size=(4, 3, 3)).astype(np.float32)
  places = np.arange(8).reshape(4, 2)
  known = image_files.SideInformation(side, 1, (5, 2**32 - 1), places)
  image_files.write_side(tmp_path / 'own.npz', known)
  found = image_files.read_side(tmp_path / 'own.npz', (3, 3))
  assert (found.decoder, found.key_data) == (1, (5, 2**32 - 1))
  np.testing.assert_array_equal(found.side, side)
  np.testing.assert_array_equal(found.corners, places)
  np.save(tmp_path / 'a.npy', side)
  np.savez(tmp_path / 'b.npz', side)
  np.savez(tmp_path / 'c.npz', side=side, notes=np.zeros(2))
  np.savez(tmp_path / 'd.npz', whatever=side)
  for name in ('a.npy', 'b.npz', 'c.npz', 'd.npz'):
    found = image_files.read_side(tmp_path / name, (3, 3))
    assert found[1:] == (None, None, None)
    np.testing.assert_array_equal(found.side, side)
  image_files.write_images(tmp_path / 'folder', side)
  found = image_files.read_side(tmp_path / 'folder', (3, 3)).side
  # Half a unit of 8 bits; times and by 255 are rounded.
  error = 0.5 / 255 + statistics.rounding(2)
  np.testing.assert_allclose(found, side, rtol=0, atol=error)


def test_a_picture_that_declares_too_many_pixels_is_refused(tmp_path):
  """Before their memory is taken; 100 and 400 million, of a few bytes."""
  for side in (10_000, 20_000):
    png = bytearray(_png16(0, 1))
    png[16:24] = struct.pack('>II', side, side)
    png[29:33] = struct.pack('>I', zlib.crc32(png[12:29]))
    path = tmp_path / f'{side}.png'
    path.write_bytes(png)
    with pytest.raises(ValueError, match=f'{side}.png has more than .* pixels'):
      image_files.read_images(path)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path):
  path = tmp_path / 'side.npz'
  np.savez_compressed(path, np.zeros((2, 3, 3)))
  data = bytearray(path.read_bytes())
  place = data.find(b'PK\1\2')  # its entry in the directory
  data[place + 24 : place + 28] = struct.pack('<I', 2**31)
  path.write_bytes(data)
  with pytest.raises(ValueError, match='side.npz unpacks to 2147483648 bytes'):
    image_files.read_side(path, (3, 3))


def test_files_that_hold_no_side_information_are_named(tmp_path):
  np.savez(tmp_path / 'two.npz', a=np.zeros(2), b=np.zeros(2))
  (tmp_path / 'bad.npz').write_bytes(b'PK12')
  np.savez(tmp_path / 'flat.npz', np.zeros(9))
  np.savez(tmp_path / 'high.npz', np.full((2, 3, 3), 255.0))
  for name, message in {
    'two': 'is no npz of side information',
    'bad': 'is no npz of side information',
    'flat': r'must hold images',
    'high': 'scale them',
  }.items():
    with pytest.raises(ValueError, match=f'{name}.npz.*{message}'):
      image_files.read_side(tmp_path / f'{name}.npz', (3, 3))
  with pytest.raises(FileNotFoundError, match='nowhere'):
    image_files.read_side(tmp_path / 'nowhere.npz', (3, 3))
