"""Pictures as tiles and back, and where side information lies in them."""

import numpy as np
import pytest

from listcoupling.data import image_files
from listcoupling.image_codec import bitstream, fits, pictures
from listcoupling.image_codec import scheme as schemes
from tests.image_codec import fakes

SOURCE = (8, 4)
RNG = np.random.default_rng(0)


def _container(blocks, kind='crop'):
  """A file of these blocks, and networks that know `kind` of them."""
  model = schemes.Model(fit=fakes.random_fit(0, 4, None))
  trained = fits.make_trained('list_quantiser', model, side_kind=kind)
  container = bitstream.Container(
    'list_quantiser', (0, 1), 4, 2, 2, blocks.right.shape,
    np.zeros(len(blocks.right), int), trained.digest, labels='kmeans',
    picture=blocks.size,
  )  # fmt: skip
  bitstream.check(container)
  return trained, container


@pytest.mark.parametrize(
  'size, tiles',
  [((8, 8), 1), ((8, 9), 2), ((9, 8), 2), ((17, 20), 9), ((16, 24), 6)],
)
@pytest.mark.parametrize('colours', [(), (3,)])
def test_tiles_are_put_together_again(size, tiles, colours):
  images = RNG.uniform(size=(5, *size, *colours)).astype(np.float32)
  blocks = pictures.cut(images, (*SOURCE, *colours))
  assert blocks.right.shape == (5 * tiles, *SOURCE, *colours)
  _, container = _container(blocks)
  assert container.num_tiles == tiles
  known = image_files.SideInformation(
    blocks.left, corners=np.zeros((5 * tiles, 2), int)
  )
  np.testing.assert_array_equal(
    pictures.join(container, blocks.right, known), images
  )
  # The control: tiles of other pictures are another picture.
  turned = pictures.join(container, np.roll(blocks.right, 1, 0), known)
  assert not np.array_equal(turned, images)


def test_what_tiles_lack_repeats_the_edge():
  image = RNG.uniform(size=(1, 9, 11))
  blocks = pictures.cut(image, SOURCE)
  np.testing.assert_array_equal(blocks.left[1, :, :3], image[0, :8, 8:])
  edge = np.broadcast_to(image[0, :8, 10:], (8, 4))
  np.testing.assert_array_equal(blocks.right[1], edge)


def test_sources_may_be_given_as_they_are():
  right = RNG.uniform(size=(3, 8, 4))
  blocks = pictures.cut(right, SOURCE)
  assert blocks.left is None and blocks.size == (0, 0)
  np.testing.assert_array_equal(blocks.right, right)
  _, container = _container(blocks)
  with pytest.raises(ValueError, match='whole pictures cannot be made'):
    pictures.join(container, right, image_files.SideInformation(right))


@pytest.mark.parametrize(
  ('shape', 'fault'),
  [
    ((8, 7), 'too small'),
    ((7, 8), 'too small'),
    ((8, 8, 3), 'in other colours; convert them to grey'),
    ((4, 4), 'too small'),
  ],
)
def test_pictures_that_are_no_tile_are_refused_by_their_fault(shape, fault):
  with pytest.raises(ValueError) as caught:
    pictures.cut(np.zeros((2, *shape)), SOURCE)
  for words in (str(shape), fault, '(8, 4)', '(8, 8)'):
    assert words in str(caught.value)


def test_trials_know_what_the_model_knows():
  blocks = pictures.cut(RNG.uniform(size=(4, 8, 8)), SOURCE)
  trained, _ = _container(blocks)
  crops, corners = pictures.take_crops(trained, blocks.left, 2, 3)
  assert crops.shape == (4, 2, 3, 3)
  assert len(np.unique(corners.reshape(-1, 2), axis=0)) > 2
  for image, row, places in zip(blocks.left, crops, corners):
    for crop, (y, x) in zip(row, places):
      np.testing.assert_array_equal(crop, image[y : y + 3, x : x + 3])
  trained, _ = _container(blocks, 'edge')
  _, corners = pictures.take_crops(trained, blocks.left, 2, 3)
  assert np.all(corners == (0, 1))
  trained, _ = _container(blocks, 'noisy')
  with pytest.raises(ValueError, match="of kind 'noisy'"):
    pictures.take_crops(trained, blocks.left, 2, 3)


def test_a_part_that_lies_at_one_place_is_taken_of_pictures():
  images = RNG.uniform(size=(4, 9, 8))
  blocks = pictures.cut(images, SOURCE)
  trained, container = _container(blocks, 'edge')
  own = image_files.SideInformation(images)
  placed = pictures.place_side(trained, container, own)
  np.testing.assert_array_equal(placed.side, blocks.left[:, :3, 1:])
  assert np.all(placed.corners == (0, 1))
  again = pictures.place_side(
    trained, container, image_files.SideInformation(placed.side)
  )
  np.testing.assert_array_equal(again.side, placed.side)
  # A crop may lie anywhere: nothing is taken, nothing is placed.
  trained, container = _container(blocks)
  assert pictures.place_side(trained, container, own) is own
  grey = pictures.join(container, blocks.right, own)
  assert np.all(grey[:, :, :4] == 0.5)


@pytest.mark.parametrize(
  'corners',
  [[place] * 4 for place in ((6, 0), (0, 2), (-1, 0), (0, 0, 0))],
)
def test_places_outside_of_the_left_half_are_refused(corners):
  blocks = pictures.cut(RNG.uniform(size=(4, 8, 8)), SOURCE)
  trained, container = _container(blocks)
  known = image_files.SideInformation(
    np.zeros((4, 3, 3)), corners=np.asarray(corners, int)
  )
  with pytest.raises(ValueError, match=r'4 places in \(0, 0\)..\(5, 1\)'):
    pictures.place_side(trained, container, known)
  for side, places in ((known.side[:3], corners), (known.side, corners[:3])):
    few = image_files.SideInformation(side, corners=np.asarray(places, int))
    with pytest.raises(ValueError, match='must have 4 entries, .* got '):
      pictures.place_side(trained, container, few)
