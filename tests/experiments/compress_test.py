"""Images to one file and back: two processes, sizes, and what is refused."""

import functools
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from listcoupling.compression import container
from listcoupling.data import images as image_data
from listcoupling.experiments import compress, compress_files, image_files
from tests.experiments import compress_fakes

ROOT = pathlib.Path(__file__).parents[2]
R, N, L, K = 20, 64, 6, 2  # L is no power of two


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('compress')
  compress_fakes.save_vae(folder / 'model' / 'model', 0)
  images = image_data.load_images('digits').test_images[:R]
  np.save(folder / 'images.npy', images)
  return folder


def _values(folder, **changes):
  values = dict(
    model=folder / 'model', images=folder / 'images.npy', file=None, crops=None,
    side=None, output=None, decoder=None, num_decoders=K, num_messages=L,
    num_candidates=N, seed=5, labels='random', width=0.0, shared_race=False,
    indices=False, scheme='gls', beta=None,
  )  # fmt: skip
  return {**values, **changes}


@pytest.fixture(scope='module')
def encoded(folder):
  """Report of the encoder; the file and the crops are in `folder`."""
  return compress_files.encode(
    _values(folder, file=folder / 'coded', crops=folder / 'crops', indices=True)
  )


def test_file_size_is_that_of_the_messages(folder, encoded):
  size = (folder / 'coded').stat().st_size
  messages = math.ceil(R * math.log2(L) / 8)
  indices = math.ceil(R * math.log2(N) / 8)
  assert encoded['file_bytes'] == size
  assert encoded['message_bytes'] == messages
  assert size == encoded['overhead_bytes'] + messages + indices
  assert encoded['bits_per_pixel'] == pytest.approx(math.log2(L) / 32)
  plain = compress_files.encode(_values(folder, file=folder / 'plain'))
  assert plain['file_bytes'] == encoded['overhead_bytes'] + messages
  np.testing.assert_array_equal(
    container.read(folder / 'plain').messages,
    container.read(folder / 'coded').messages,
  )


def test_another_process_decodes(folder, encoded):
  done = subprocess.run(
    [
      sys.executable,
      'scripts/compress.py',
      'decode',
      f'--model={folder / "model"}',
      f'--file={folder / "coded"}',
      f'--side={folder / "crops" / "decoder_1.npz"}',
      f'--output={folder / "decoded.npy"}',
      f'--images={folder / "images.npy"}',
      '--format=json',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  report = json.loads(done.stdout)
  model = compress.load_model(folder / 'model')
  coded = container.read(folder / 'coded', model_digest=model.digest)
  crops = image_files.read_crops(folder / 'crops' / 'decoder_1.npz', (3, 3))
  index, images = compress.decode(model, coded, crops.side, 1)
  np.testing.assert_allclose(np.load(folder / 'decoded.npy'), images, atol=1e-6)
  source = np.load(folder / 'images.npy')[:, :, 4:]
  assert report['mse'] == pytest.approx(np.mean((images - source) ** 2))
  assert report['psnr_db'] == pytest.approx(-10 * np.log10(report['mse']))
  assert report['match_rate'] == np.mean(index == coded.indices)
  # Labels ~ 1 / L of the candidates: finding the encoder's is no accident.
  assert report['match_rate'] > 3 * L / N
  other, _ = compress.decode(model, coded, crops.side, 0)
  assert np.mean(index == other) < 0.9  # another race


@pytest.mark.parametrize(
  'options',
  [
    dict(labels='lattice', width=0.5),
    dict(labels='balanced', num_messages=N, shared_race=True),
  ],
)
def test_labels_and_races_are_rebuilt(folder, tmp_path, options):
  values = _values(
    folder, file=tmp_path / 'coded', crops=tmp_path, indices=True, **options
  )
  compress_files.encode(values)
  report = compress_files.decode(
    {**values, 'side': tmp_path / 'decoder_0.npz', 'output': tmp_path / 'png'}
  )
  if options.get('num_messages') == N:  # the message names the candidate
    assert report['match_rate'] == 1
  assert report['match_rate'] > 2 * report['num_messages'] / N or (
    report['match_rate'] == 1
  )
  written = image_files.read_images(tmp_path / 'png')
  assert written.shape == (R, 8, 4)


def _decode(folder, **changes):
  good = dict(
    file=folder / 'coded',
    side=folder / 'crops' / 'decoder_0.npz',
    output=folder / 'never',
  )
  return compress_files.decode(_values(folder, **{**good, **changes}))


def test_side_information_must_belong_to_the_file(folder, encoded, tmp_path):
  refuse = functools.partial(pytest.raises, ValueError)
  with refuse(match='that of decoder 0, not of 1'):
    _decode(folder, decoder=1)
  with refuse(match='0..1, got 2'):
    _decode(folder, decoder=2)
  np.save(tmp_path / 'side.npy', np.zeros((R, 3, 4)))
  with refuse(match=r'\(20, 3, 3\), got \(20, 3, 4\)'):
    _decode(folder, side=tmp_path / 'side.npy', decoder=0)
  np.save(tmp_path / 'side.npy', np.zeros((R, 3, 3)))
  with refuse(match='decoder must be given'):
    _decode(folder, side=tmp_path / 'side.npy')
  image_files.write_crops(tmp_path / 's.npz', np.zeros((R, 3, 3)), 0, (0, 9))
  with refuse(match='another key'):
    _decode(folder, side=tmp_path / 's.npz')
  (tmp_path / 'bad.npz').write_bytes(b'PK12')
  with refuse(match='not a file of crops'):
    _decode(folder, side=tmp_path / 'bad.npz')
  with pytest.raises(FileNotFoundError, match='nowhere'):
    _decode(folder, side=folder / 'nowhere.npz')
  assert not (folder / 'never').exists()


def test_another_model_or_a_damaged_file_is_refused(folder, encoded, tmp_path):
  compress_fakes.save_vae(tmp_path / 'model' / 'model', 1)
  with pytest.raises(container.ModelError, match='another|model'):
    _decode(folder, model=tmp_path / 'model')
  data = bytearray((folder / 'coded').read_bytes())
  data[-30] ^= 4
  (tmp_path / 'coded').write_bytes(data)
  with pytest.raises(container.ChecksumError, match='coded'):
    _decode(folder, file=tmp_path / 'coded')
  with pytest.raises(FileNotFoundError, match='train_config.json'):
    _decode(folder, model=tmp_path)
  assert not (folder / 'never').exists()


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_messages=N + 1), 'num_messages'),
    (dict(num_messages=0), 'num_messages'),
    (dict(num_decoders=0), 'num_decoders'),
    (dict(labels='cells'), 'labels'),
    (dict(labels='lattice'), 'width'),
    (dict(width=1.0), 'width'),
    (dict(file=None), '--file'),
  ],
)
def test_bad_settings_write_nothing(folder, tmp_path, change, message):
  values = _values(folder, file=tmp_path / 'coded', crops=tmp_path / 'crops')
  with pytest.raises(ValueError, match=message):
    compress_files.encode({**values, **change})
  assert not list(tmp_path.iterdir())


def test_images_of_another_size_or_type_are_refused(folder, tmp_path):
  from PIL import Image

  values = _values(folder, file=tmp_path / 'coded')

  def refused(path, message):
    with pytest.raises(ValueError, match=message):
      compress_files.encode({**values, 'images': path})
    assert not (tmp_path / 'coded').exists()

  for array, message in (
    (np.zeros((R, 9, 8)), r'\(9, 8\)'),
    (np.full((R, 8, 8), 3.0), 'scale them'),
    (np.full((R, 8, 8), np.nan), 'pixels in'),
    (np.zeros((R, 8, 8), int), 'int64'),
    (np.zeros(5), 'shape'),
  ):
    np.save(tmp_path / 'x.npy', array)
    refused(tmp_path / 'x.npy', message)
  (tmp_path / 'x.npy').write_bytes(b'not numpy')
  refused(tmp_path / 'x.npy', 'readable npy')
  (tmp_path / 'x.png').write_bytes(b'\x89PNG not')
  refused(tmp_path / 'x.png', 'not a readable image')
  Image.new('RGBA', (8, 8)).save(tmp_path / 'x.png')
  refused(tmp_path / 'x.png', 'RGBA')
  (tmp_path / 'x.txt').write_text('x')
  refused(tmp_path / 'x.txt', 'no known type')
  (tmp_path / 'mixed').mkdir()
  for i in (8, 9):
    Image.new('L', (8, i)).save(tmp_path / 'mixed' / f'{i}.png')
  refused(tmp_path / 'mixed', 'must be alike')
  np.save(tmp_path / 'right.npy', np.zeros((R, 8, 4)))
  with pytest.raises(ValueError, match='left halves'):
    compress_files.encode(
      {**values, 'images': tmp_path / 'right.npy', 'crops': tmp_path / 'c'}
    )
  with pytest.raises(FileNotFoundError, match='nowhere'):
    compress_files.encode({**values, 'images': tmp_path / 'nowhere'})


def test_every_kind_of_file_is_read_alike(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (3, 8, 6), np.uint8)
  expected = images.astype(np.float32) / 255
  np.save(tmp_path / 'a.npy', images)
  image_files.write_images(tmp_path / 'png', expected)
  header = bytes((0, 0, 8, 3)) + np.array(images.shape, '>u4').tobytes()
  (tmp_path / 'a-ubyte').write_bytes(header + images.tobytes())
  for name in ('a.npy', 'png', 'a-ubyte'):
    np.testing.assert_array_equal(
      image_files.read_images(tmp_path / name), expected
    )
  one = image_files.read_images(tmp_path / 'png' / '000001.png')
  np.testing.assert_array_equal(one, expected[1:2])
  with pytest.raises(ValueError, match='exists'):
    image_files.write_images(tmp_path / 'png', expected)
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'a-ubyte', 'a.npy', 'png',
  ]  # fmt: skip
