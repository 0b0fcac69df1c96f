"""The shipped codec: its card, its size, and files decoded elsewhere."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from listcoupling import image_codec
from listcoupling.data import images as image_data
from listcoupling.image_codec import commands, fits

SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'compress.py'
CARD = (fits.SHIPPED / 'README.md').read_text()


def _figures(name):
  """Best, mean and worst decoder of a row of the card."""
  row = re.search(rf'^\| {name} \|(.*)\|$', CARD, re.M)
  return [float(x) for x in row[1].split('|')]


def test_the_card_says_what_it_is():
  trained = image_codec.shipped_codec()
  assert trained.digest.hex() in CARD
  assert trained.scheme == 'list_quantiser' and trained.num_candidates == 128
  files = [x for x in fits.SHIPPED.rglob('*') if x.is_file()]
  assert sum(x.stat().st_size for x in files) < 2_000_000


def _encode(images, file, **changes):
  """The command's report with its defaults."""
  values = dict(
    model=None, scheme=None, beta=None, bin_size=None, num_decoders=2,
    num_messages=16, num_candidates=None, num_groups=1, labels=None, width=0.0,
    shared_race=False, seed=0, images=images, names=True, file=file, crops=None,
    indices=False, overwrite=False,
  )  # fmt: skip
  return commands.encode(values | changes)


@pytest.fixture(scope='module')
def coded(tmp_path_factory):
  """Pictures of 3 x 2 digits, coded with the defaults of the command."""
  folder = tmp_path_factory.mktemp('shipped')
  digits = image_data.load_images('digits').test_images[:24]
  large = np.pad(np.kron(digits, np.ones((2, 2))), [(0, 0), (6, 6), (6, 6)])
  sheets = large.reshape(4, 3, 2, 28, 28).swapaxes(2, 3).reshape(4, 84, 56)
  np.save(folder / 'sheets.npy', sheets[:, :-9, :-3].astype(np.float32))
  paths = folder / 'sheets.npy', folder / 'coded'
  return folder, _encode(*paths, crops=folder / 'known')


def test_pictures_that_are_no_digits_get_a_hint(coded, caplog):
  folder, report = coded
  assert 'hint' not in report
  np.save(folder / 'dark.npy', 1 - np.load(folder / 'sheets.npy'))
  negative = _encode(folder / 'dark.npy', folder / 'dark')
  assert negative['hint'].startswith('24 of 24 blocks are unlike')
  assert {**report, 'hint': negative['hint']} == negative
  assert negative['hint'] in caplog.text


def test_another_process_decodes_whole_pictures(coded):
  folder, report = coded
  assert report['networks'].startswith('shipped')
  assert (report['pictures'], report['blocks']) == (4, 24)
  assert report['message_bytes'] == 12
  found = subprocess.run(
    [
      sys.executable, SCRIPT, 'decode', '--file=coded', '--format=json',
      '--side=known/decoder_1.npz', '--output=out.npy', '--images=sheets.npy',
    ],
    cwd=folder, check=True, capture_output=True, text=True, timeout=300,
    env=os.environ | {'PYTHONPATH': str(SCRIPT.parents[1])},
  )  # fmt: skip
  report = json.loads(found.stdout)
  sheets, decoded = np.load(folder / 'sheets.npy'), np.load(folder / 'out.npy')
  assert report['whole'] and decoded.shape == sheets.shape == (4, 75, 53)
  blocks = image_codec.cut(sheets, (28, 14))
  again = image_codec.cut(decoded, (28, 14))
  first = np.arange(24) % 2 == 0  # tiles that are not padded at the right
  np.testing.assert_array_equal(again.left[first], blocks.left[first])
  trained, container = (
    image_codec.shipped_codec(),
    image_codec.read(folder / 'coded'),
  )
  _, images = image_codec.decode(trained, container, blocks.left, 1)
  inside = np.arange(24) % 6 == 0
  np.testing.assert_array_equal(again.right[inside], images[inside])
  mse = np.mean((images.astype(np.float64) - blocks.right) ** 2)
  assert report['mse'] == mse
  # The control: messages of other images are worse answers.
  other = container._replace(messages=np.roll(container.messages, 1))
  _, wrong = image_codec.decode(trained, other, blocks.left, 1)
  assert np.mean((wrong - blocks.right) ** 2) > mse


def test_rates_that_it_does_not_have_are_named(coded):
  with pytest.raises(FileNotFoundError, match='holds no .*128_bins_of_4'):
    fits.load_model(
      fits.SHIPPED, scheme='list_quantiser', num_decoders=2, num_messages=8
    )


@pytest.mark.skipif(
  not os.environ.get('LISTCOUPLING_DATA'),
  reason='LISTCOUPLING_DATA is not set: no MNIST here.',
)
def test_the_figures_of_the_card():
  """Best, mean and worst decoder on the images of the card, to its last digit.

  A list quantiser has no races: the seed is no matter.
  """
  images = image_data.load_images('mnist').test_images
  trained = image_codec.shipped_codec()
  blocks = image_codec.cut(images, (28, 14))
  container = image_codec.encode(
    trained, blocks.right, seed=1, num_decoders=2, num_messages=16
  )
  errors = np.stack(
    [
      ((decoded - blocks.right) ** 2).mean((1, 2))
      for _, decoded in (
        image_codec.decode(trained, container, blocks.left, k) for k in (0, 1)
      )
    ]
  )
  found = [x.mean() for x in (errors.min(0), errors.mean(0), errors.max(0))]
  half = 0.5e-4  # of the last digit; none is near it by as little as roundings
  np.testing.assert_allclose(found, _figures('shipped'), rtol=0, atol=half)
