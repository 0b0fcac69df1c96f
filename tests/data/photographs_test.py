"""Patches of photographs: which pixels they hold, and what they share."""

import numpy as np

from listcoupling.data import images, photographs


def test_patches_are_cut_where_they_should_be():
  height, width = 24, 40
  plane = np.arange(height * width).reshape(height, width)
  found = photographs.cut(np.stack([plane, -plane]), 8, 4)
  assert found.shape == (3 * 2 * 2, 16, 32)  # columns, photographs, rows
  np.testing.assert_array_equal(found[0], plane[:16, :32])
  np.testing.assert_array_equal(found[1], plane[8:24, :32])
  np.testing.assert_array_equal(found[2], -plane[:16, :32])
  np.testing.assert_array_equal(found[4], plane[:16, 4:36])


def test_tests_share_no_pixel_with_training(monkeypatch):
  """On two planes of numbered pixels in place of the photographs."""
  planes = np.arange(2 * 48 * 160).reshape(2, 48, 160)
  monkeypatch.setattr(photographs, '_photographs', lambda: planes)
  train, test = photographs.read_patches()
  assert not np.intersect1d(train, test).size
  sources = test[:, :, 16:]
  assert len(np.unique(sources)) == sources.size  # nor with each other
  assert len(np.unique(train)) < train.size  # control


def test_halves_are_neighbours():
  halves = images.load_halves('photographs')['test']
  assert halves.left.shape == halves.right.shape == (468, 16, 16)
  assert 0 <= halves.right.min() and 0.9 < halves.right.max() <= 1
  _, patches = photographs.read_patches()
  pixels = np.rint(255 * np.concatenate([halves.left, halves.right], 2))
  np.testing.assert_array_equal(pixels, patches)
