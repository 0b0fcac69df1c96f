"""The compressor's commands: reports that count every byte, and refusals."""

import json
import math
import os
import re
import shutil
import sys

import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image
from scipy import stats

from listcoupling.data import image_files
from listcoupling.data import images as image_data
from listcoupling.image_codec import bitstream, commands, fits, transport
from scripts import compress as script
from tests import statistics
from tests.image_codec import fakes

R, N, L, K = 20, 64, 6, 2  # L is no power of two
# Half a unit of 8 bits; times and by 255 are rounded.
PIXEL = 0.5 / 255 + statistics.rounding(2)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('commands')
  fakes.save_vae(folder / 'model' / 'model', 0)
  images = image_data.load_images('digits').test_images[:R]
  np.save(folder / 'images.npy', images)
  return folder


def _values(folder, **changes):
  values = dict(
    model=folder / 'model', images=folder / 'images.npy', file=None, crops=None,
    side=None, output=None, decoder=None, num_decoders=K, num_messages=L,
    num_candidates=N, num_groups=1, seed=5, labels=None, width=0.0,
    shared_race=False, indices=False, scheme='gls', beta=None, names=True,
    bin_size=None, whole=None, overwrite=False,
  )  # fmt: skip
  return {**values, **changes}


@pytest.fixture(scope='module')
def encoded(folder):
  """Report of the encoder; the file and the crops are in `folder`."""
  return commands.encode(
    _values(folder, file=folder / 'coded', crops=folder / 'crops', indices=True)
  )


def test_the_report_counts_every_byte(folder, encoded):
  size = (folder / 'coded').stat().st_size
  messages = math.ceil(R * math.log2(L) / 8)
  indices = math.ceil(R * math.log2(N) / 8)
  assert encoded['file_bytes'] == size
  assert encoded['message_bytes'] == messages
  assert size == encoded['overhead_bytes'] + messages + indices
  assert encoded['bits_per_pixel'] == math.log2(L) / 32
  header = commands.inspect({'file': folder / 'coded'})
  assert encoded == {'networks': str(folder / 'model'), **header}
  assert 'gls' in commands.as_text(header).splitlines()[0]


def test_decoding_reports_the_error_and_the_matches(folder, encoded):
  report = commands.decode(
    _values(
      folder, file=folder / 'coded', side=folder / 'crops' / 'decoder_1.npz',
      output=folder / 'decoded.npy', whole=False,
    )
  )  # fmt: skip
  trained = fits.load_model(folder / 'model')
  container = bitstream.read(folder / 'coded')
  side = image_files.read_side(folder / 'crops' / 'decoder_1.npz', (3, 3)).side
  index, images = transport.decode(trained, container, side, 1)
  np.testing.assert_array_equal(np.load(folder / 'decoded.npy'), images)
  source = np.load(folder / 'images.npy')[:, :, 4:]
  assert report['decoder'] == 1
  mse = np.mean((images.astype(np.float64) - source) ** 2)
  assert report['mse'] == mse
  assert report['psnr_db'] == -10 * math.log10(mse)
  assert report['match_rate'] == np.mean(index == container.indices)
  # To find the encoder's among N / L candidates of its label is no accident.
  matches = index == container.indices
  assert stats.binom.sf(matches.sum() - 1, R, L / N) < statistics.LEVEL
  moved = np.roll(index, 1) == container.indices  # control: of another image
  assert stats.binom.sf(moved.sum() - 1, R, L / N) > statistics.LEVEL


def test_names_travel_from_pictures_to_pictures(folder, tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
  names = ['dog.PNG', 'cat.bmp', 'cow.png']
  (tmp_path / 'in').mkdir()
  for name, image in zip(names, pixels):
    Image.fromarray(image).save(tmp_path / 'in' / name)
  values = _values(
    folder, images=tmp_path / 'in', file=tmp_path / 'coded',
    crops=tmp_path / 'crops',
  )  # fmt: skip
  report = commands.encode(values)
  assert report['name_bytes'] == sum(map(len, names)) + 2
  values |= dict(
    side=tmp_path / 'crops' / 'decoder_0.npz', output=tmp_path / 'out'
  )
  commands.decode(values)
  found = image_files.read_named_images(tmp_path / 'out')
  assert found.names == ('cat.png', 'cow.png', 'dog.png')
  container = bitstream.read(tmp_path / 'coded')
  assert container.names == tuple(sorted(names))
  trained = fits.load_model(folder / 'model')
  side = image_files.read_side(values['side'], (3, 3)).side
  _, images = transport.decode(trained, container, side, 0)
  by_name = dict(zip(container.names, images))
  for name, image in zip(('cat.bmp', 'cow.png', 'dog.PNG'), found.pixels):
    np.testing.assert_allclose(image[:, 4:], by_name[name], rtol=0, atol=PIXEL)
  with pytest.raises(ValueError, match='coded exists; --overwrite'):
    commands.encode(values)
  assert bitstream.read(tmp_path / 'coded').names
  plain = commands.encode(values | dict(names=False, overwrite=True))
  assert plain['file_bytes'] == report['file_bytes'] - report['name_bytes']


def test_whole_pictures_come_back_in_tiles(folder, tmp_path):
  """The crop at its place, the source beside it, nothing else invented."""
  pixels = np.random.default_rng(1).integers(0, 256, (R // 4, 9, 16), np.uint8)
  (tmp_path / 'in').mkdir()
  for i, image in enumerate(pixels):
    Image.fromarray(image).save(tmp_path / 'in' / f'p{i}.png')
  values = _values(
    folder, images=tmp_path / 'in', file=tmp_path / 'coded',
    crops=tmp_path / 'crops',
  )  # fmt: skip
  report = commands.encode(values)
  assert (report['pictures'], report['blocks']) == (R // 4, R)
  values |= dict(
    side=tmp_path / 'crops' / 'decoder_1.npz', output=tmp_path / 'out'
  )
  report = commands.decode(values)
  assert report['whole'] is True
  assert report['output'] == str(tmp_path / 'out')
  found = image_files.read_named_images(tmp_path / 'out')
  assert found.names == tuple(f'p{i}.png' for i in range(R // 4))
  assert found.pixels.shape == pixels.shape
  apart = values | dict(output=tmp_path / 'apart.npy', whole=False)
  assert commands.decode(apart)['whole'] is False
  sources = np.load(tmp_path / 'apart.npy').reshape(-1, 4, 8, 4)
  corners = np.load(values['side'])['corners'].reshape(-1, 4, 2)
  for picture, source, decoded, corner in zip(
    pixels / np.float32(255), sources, found.pixels, corners
  ):
    same = picture == decoded
    for tile in range(2):  # the tiles below show one row of theirs
      right = decoded[:8, 8 * tile + 4 : 8 * tile + 8]
      np.testing.assert_allclose(right, source[tile], rtol=0, atol=PIXEL)
      left = slice(0, 8), slice(8 * tile, 8 * tile + 4)
      row, column = corner[tile]
      crop = np.zeros((8, 4), bool)
      crop[row : row + 3, column : column + 3] = True
      assert np.all(same[left][crop])
      grey = decoded[left][~crop]
      np.testing.assert_allclose(grey, 0.5, rtol=0, atol=PIXEL)


def test_sources_alone_cannot_be_made_whole(folder, encoded, tmp_path):
  np.save(tmp_path / 'right.npy', np.load(folder / 'images.npy')[:, :, 4:])
  values = _values(
    folder, images=tmp_path / 'right.npy', file=tmp_path / 'coded',
    side=folder / 'crops' / 'decoder_0.npz', output=tmp_path / 'x.npy',
  )  # fmt: skip
  commands.encode(values)
  with pytest.raises(ValueError, match='whole pictures cannot be made'):
    commands.decode(values | dict(whole=True))
  assert commands.decode(values | dict(images=None))['whole'] is False
  assert np.load(tmp_path / 'x.npy').shape == (R, 8, 4)


def test_ones_own_side_information(folder, encoded, tmp_path):
  side = np.random.default_rng(0).uniform(size=(R, 3, 3))
  np.save(tmp_path / 'a.npy', side)
  np.savez(tmp_path / 'b.npz', side)
  outputs = []
  for name in ('a.npy', 'b.npz'):
    values = _values(
      folder, file=folder / 'coded', side=tmp_path / name, images=None,
      output=tmp_path / f'{name}.npy',
    )  # fmt: skip
    with pytest.raises(ValueError, match='decoder must be given'):
      commands.decode(values)
    assert 'mse' not in commands.decode(values | dict(decoder=1))
    outputs.append(np.load(values['output']))
  np.testing.assert_array_equal(*outputs)


def test_a_perfect_answer_is_json(folder, encoded):
  container = bitstream.read(folder / 'coded')
  images = np.zeros((R, 8, 4))
  report = commands.quality_report(container, container.indices, images, images)
  assert report == {
    'mse': 0.0,
    'psnr_db': None,
    'match_rate': 1.0,
  }
  json.dumps(report, allow_nan=False)
  assert 'None' in commands.as_text(report)


def test_another_model_or_a_damaged_file_is_refused(folder, encoded, tmp_path):
  def refused(kind, message, **changes):
    good = dict(
      file=folder / 'coded', side=folder / 'crops' / 'decoder_0.npz',
      output=folder / 'never',
    )  # fmt: skip
    with pytest.raises(kind, match=message):
      commands.decode(_values(folder, **{**good, **changes}))
    assert not (folder / 'never').exists()

  fakes.save_vae(tmp_path / 'model' / 'model', 1)
  refused(bitstream.ModelError, 'has [0-9a-f]{12}', model=tmp_path / 'model')
  data = bytearray((folder / 'coded').read_bytes())
  data[-30] ^= 4
  (tmp_path / 'coded').write_bytes(data)
  refused(bitstream.ContainerError, 'coded', file=tmp_path / 'coded')
  refused(FileNotFoundError, 'vae.safetensors', model=tmp_path)
  np.save(tmp_path / 'images.npy', np.zeros((R - 1, 8, 8)))
  refused(ValueError, 'holds list_quantiser alone', model=None)
  refused(ValueError, '--images holds', images=tmp_path / 'images.npy')
  refused(ValueError, '--side must be given', side=None)
  refused(ValueError, 'another key', side=_side_of_another_file(tmp_path))


def test_pillow_is_missed_before_anything_is_decoded(
  folder, encoded, tmp_path, monkeypatch, capsys
):
  monkeypatch.setitem(sys.modules, 'PIL', None)
  arguments = [
    'compress.py', 'decode', f'--file={folder}/coded', f'--model={folder}/none',
    f'--side={folder}/crops/decoder_0.npz', f'--output={tmp_path}/decoded',
  ]  # fmt: skip
  with flagsaver.flagsaver():
    run = script.command.guard(script.main, script._COMMANDS)
    assert run(script.flags.FLAGS(arguments)) == 1
  wanted = "compress.py: needs PIL: pip install 'listcoupling[images]'\n"
  assert capsys.readouterr().err == wanted


def _side_of_another_file(folder):
  known = image_files.SideInformation(np.zeros((R, 3, 3)), 0, (0, 9))
  image_files.write_side(folder / 's.npz', known)
  return folder / 's.npz'


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_messages=N + 1), 'num_messages'),
    (dict(labels='lattice'), 'width'),
    (dict(scheme='gls_kmeans'), 'no model for gls_kmeans: it has no folder'),
    (dict(num_groups=3), 'num_groups must divide .* 2, got 3'),
    (dict(num_groups=0), 'num_groups'),
    (dict(bin_size=2), 'bin_size of gls must be 1, got 2'),
    (dict(file=None), '--file'),
    (dict(images='nowhere'), 'nowhere'),
    (dict(model=None), 'codec holds list_quantiser alone, got gls; .* --model'),
    (dict(model=None, scheme=None), 'has 16 messages to 2 decoders, got 6 to'),
  ],
)
def test_bad_settings_write_nothing(folder, tmp_path, change, message):
  values = _values(folder, file=tmp_path / 'coded', crops=tmp_path / 'crops')
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    commands.encode({**values, **change})
  np.save(tmp_path / 'right.npy', np.zeros((R, 8, 4)))
  with pytest.raises(ValueError, match='left halves'):
    commands.encode({**values, 'images': tmp_path / 'right.npy'})
  assert [p.name for p in tmp_path.iterdir()] == ['right.npy']


@pytest.mark.parametrize(
  'command, place',
  [
    ('decode --side=crops/decoder_0.npz --file=coded --output', 'folder.npy'),
    ('decode --side=crops/decoder_0.npz --file=coded --output', 'a_file/x.npy'),
    ('encode --images=images.npy --file', 'folder.npy'),
    ('encode --images=images.npy --file', 'fifo'),
    ('encode --images=images.npy --file', 'a_file/coded'),
    ('encode --images=images.npy --crops=a_file --file', 'a_file'),
    ('inspect --file', 'folder.npy'),
    ('inspect --file', 'fifo'),
  ],
)
def test_outputs_that_cannot_be_written(
  folder, encoded, tmp_path, monkeypatch, capsys, command, place
):
  (tmp_path / 'a_file').touch()
  (tmp_path / 'folder.npy').mkdir()
  os.mkfifo(tmp_path / 'fifo')
  monkeypatch.chdir(folder)
  command = command.replace('=a_file', f'={tmp_path}/a_file')
  arguments = [
    'compress.py', *command.split(), str(tmp_path / place),
  ]  # fmt: skip
  if command.startswith('encode'):
    arguments += [f'--num_messages={L}', f'--num_candidates={N}']
  if not command.startswith('inspect'):
    arguments.append('--model=model')
  with flagsaver.flagsaver():
    run = script.command.guard(script.main, script._COMMANDS)
    assert run(script.flags.FLAGS(arguments)) == 1
  error = capsys.readouterr().err.splitlines()[-1]
  assert error.startswith('compress.py: ')
  assert str(tmp_path / place.split('/')[0]) in error


def _run(arguments):
  with flagsaver.flagsaver():
    run = script.command.guard(script.main, script._COMMANDS)
    return run(script.flags.FLAGS(['compress.py', *arguments.split()]))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ('encode --images=x --file=y --decoder=1', '--decoder is a flag of decode'),
    ('decode --file=x --side=y --output=z --seed=1', '--seed is a flag of enc'),
    ('inspect --file=coded --model=model', '--model is a flag of encode'),
    ('encode --images=images.npy --file=', '--file is empty'),
    ('encode --images=images.npy --file=new --model=', '--model is empty'),
    ('encode --images=p --file=p/new', '--file p/new lies in .* --images p'),
    ('encode --images=images.npy --file=images.npy --overwrite', '--file'),
    ('encode --images=images.npy --file=new --crops=new', '--crops new; name'),
    ('encode --images=images.npy --file=c/x --crops=c', '--file c/x lies in'),
    ('encode --images=images.npy --file=n/x --crops=n', '--file n/x lies in'),
    ('encode --images=images.npy --file=n --crops=n/x', '--crops n/x lies in'),
    ('decode --file=coded --side=s.npy --output=s.npy', 'place of --side'),
    ('decode --file=coded --side=s.npy --output=s.png', 'names a picture'),
  ],
)  # fmt: skip
def test_odd_pairs_of_flags(
  folder, encoded, tmp_path, monkeypatch, capsys, arguments, message
):
  for name in ('coded', 'images.npy'):
    shutil.copy(folder / name, tmp_path)
  np.save(tmp_path / 's.npy', np.zeros((R, 3, 3), np.float32))
  for name in ('p', 'c'):
    (tmp_path / name).mkdir()
  before = {x: x.stat().st_mtime_ns for x in tmp_path.rglob('*')}
  monkeypatch.chdir(tmp_path)
  assert _run(arguments) == 1
  assert re.search(message, capsys.readouterr().err)
  assert {x: x.stat().st_mtime_ns for x in tmp_path.rglob('*')} == before


@pytest.mark.parametrize('command', ['encode', 'decode'])
def test_ctrl_c_leaves_nothing_half(
  folder, encoded, tmp_path, monkeypatch, capsys, command
):
  def stop(*_, **__):
    raise KeyboardInterrupt

  monkeypatch.setattr(np, 'savez', stop)  # the first crops
  monkeypatch.setattr(Image.Image, 'save', stop)
  arguments = {
    'encode': f'--images={folder}/images.npy --file={tmp_path}/a/coded '
    f'--crops={tmp_path}/b --num_messages={L} --num_candidates={N}',
    'decode': f'--file={folder}/coded --side={folder}/crops/decoder_0.npz '
    f'--output={tmp_path}/out/pictures',
  }[command]
  assert _run(f'{command} --model={folder}/model {arguments}') == 130
  assert capsys.readouterr().err.endswith('compress.py: Stopped.\n')
  assert not any(tmp_path.iterdir())
