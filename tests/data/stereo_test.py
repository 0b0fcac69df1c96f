"""Patches of two views: the same place in both, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from listcoupling.data import images, stereo
from tests import statistics

HEIGHT, WIDTH, NEAR, FAR = 160, 240, 9, 5


@pytest.fixture
def folder(tmp_path):
  """The upper half of the scene is farther away; some depths are not known."""
  rng = np.random.default_rng(0)
  left = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
  disparity = np.full((HEIGHT, WIDTH), float(NEAR))
  disparity[: HEIGHT // 2] = FAR
  right = np.stack([
    np.roll(row, -int(d)) for row, d in zip(left, disparity[:, 0])
  ])  # fmt: skip
  disparity[:, 5] = np.inf
  disparity[: HEIGHT // 2, -40:] = np.nan
  Image.fromarray(left).save(tmp_path / 'motorcycle_left.png')
  Image.fromarray(right).save(tmp_path / 'motorcycle_right.png')
  np.savez(tmp_path / 'motorcycle_disp.npz', disparity)
  return tmp_path


def test_both_halves_show_one_place(folder):
  train, test = stereo.read_patches(folder)
  assert len(train) > 500
  np.testing.assert_array_equal(test[..., :16], test[..., 16:])
  # Some of those to train on lie across the edge between near and far.
  assert 0.9 < np.mean(train[..., :16] == train[..., 16:]) < 1
  # Corners of 8 x 10 sources less 10, of which the depth is not known.
  columns = (WIDTH - WIDTH * 3 // 4) // 16
  assert len(test) == (HEIGHT // 16) * columns - (HEIGHT // 32) * 2
  views = [
    np.asarray(Image.open(folder / f'motorcycle_{side}.png'))
    for side in ('left', 'right')
  ]
  wrong = stereo.pair_patches(*views, np.zeros(views[0].shape), [(0, 0)])
  same = wrong[..., :16] == wrong[..., 16:]  # control: d of 0, bytes by chance
  statistics.assert_proportion(same.sum(), same.size, 1 / 256)


def test_tests_share_no_source_with_training(folder):
  border = WIDTH * 3 // 4
  left = np.full((HEIGHT, WIDTH), 50, np.uint8)
  left[:, border:] = 200
  Image.fromarray(left).save(folder / 'motorcycle_left.png')
  train, test = stereo.read_patches(folder)
  assert np.unique(train[..., 16:]) == 50 and np.unique(test[..., 16:]) == 200


def test_sources_that_the_other_camera_does_not_see_are_left_out():
  view = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
  disparity = np.full(view.shape, float(NEAR))
  corners = [(0, x) for x in range(0, 60, 4)]
  pairs = stereo.pair_patches(view, view, disparity, corners)
  np.testing.assert_array_equal(pairs[:, 0, 16], np.arange(12, 60, 4))


def test_an_image_set_of_the_name(folder):
  halves = images.load_halves('stereo', folder, num_held_out=10)
  assert halves['test'].right.shape[1:] == (16, 16)
  assert len(halves['select'].left) == 10


def test_what_is_missing_or_damaged_is_named(folder):
  path = folder / 'motorcycle_disp.npz'
  good = path.read_bytes()
  path.write_bytes(good[: len(good) // 2])
  with pytest.raises(ValueError, match='motorcycle_disp.npz is damaged'):
    stereo.read_patches(folder)
  np.savez(path, np.zeros((HEIGHT, WIDTH - 1)))
  with pytest.raises(ValueError, match=r'one shape.*\(160, 239\)'):
    stereo.read_patches(folder)
  path.write_bytes(good)
  (folder / 'motorcycle_left.png').write_bytes(b'no picture')
  with pytest.raises(ValueError, match='motorcycle_left.png is damaged'):
    stereo.read_patches(folder)
  (folder / 'motorcycle_left.png').unlink()
  with pytest.raises(FileNotFoundError, match='motorcycle_left.png'):
    images.load_halves('stereo', folder)
