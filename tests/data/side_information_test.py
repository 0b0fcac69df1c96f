"""Halves and crops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.data import side_information
from tests import statistics


def test_halves():
  image = np.arange(12).reshape(2, 6)
  left, right = side_information.split_halves(image)
  np.testing.assert_array_equal(np.concatenate([left, right], 1), image)
  with pytest.raises(ValueError, match='even'):
    side_information.split_halves(np.zeros((2, 5)))
  with pytest.raises(ValueError, match='even'):
    side_information.split_halves(np.zeros(6))


def test_colour_halves_and_crops():
  image = np.arange(48).reshape(1, 4, 4, 3)
  left, right = side_information.split_halves(image, colour=True)
  np.testing.assert_array_equal(np.concatenate([left, right], 2), image)
  crop = side_information.random_crop(
    jax.random.key(1), jnp.asarray(left[0]), (2, 1, 3)
  )
  assert crop.shape == (2, 1, 3)
  assert any(
    np.array_equal(crop, left[0, i : i + 2, j : j + 1])
    for i in range(3)
    for j in range(2)
  )
  with pytest.raises(ValueError, match='fit'):
    side_information.random_crop(
      jax.random.key(1), jnp.asarray(left[0]), (2, 1, 2)
    )


def test_crops_are_uniform_and_by_decoder():
  left = jnp.arange(15.0).reshape(5, 3)  # more room below than beside
  key = jax.random.key(0)
  lefts = jnp.stack([left, left + 20])
  both = side_information.draw_sides(key, lefts, lefts, 4000, (3, 2))
  crops = both[0]
  np.testing.assert_array_equal(crops[:, 1:], crops[:, :-1] + 3)
  np.testing.assert_array_equal(crops[..., 1:], crops[..., :-1] + 1)
  corner = np.asarray(crops[:, 0, 0]).astype(int)
  law = np.isin(np.arange(15), [0, 1, 3, 4, 6, 7])
  statistics.assert_law(corner, law)
  statistics.assert_not_law(corner, law * np.linspace(1, 2, 15))
  one = left[None]
  few = side_information.draw_sides(key, one, one, 3, (3, 2))[0]
  np.testing.assert_array_equal(few, crops[:3])
  # Images draw apart: corners agree as those of independent draws, in 1 of 6.
  same = np.asarray(both[1] - 20 == crops).all((1, 2)).astype(float)
  statistics.assert_mean(same, 1 / 6)


def test_a_crop_that_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='fit'):
    side_information.random_crop(jax.random.key(0), jnp.zeros((4, 3)), (3, 4))


def test_every_kind_of_side_information():
  left, right = jax.random.uniform(jax.random.key(1), (2, 3, 5, 4))
  draw = side_information.draw_sides

  def sides(kind, shape, noise=0.0):
    key = jax.random.key(0)
    return draw(key, left, right, 2, shape, kind=kind, noise=noise)

  edge = sides('edge', (5, 2))
  for k in range(2):
    np.testing.assert_array_equal(edge[:, k], left[..., 2:])
  assert sides('none', (1, 1)).shape == (3, 2, 1, 1)
  assert not np.any(sides('none', (1, 1)))
  np.testing.assert_array_equal(
    sides('crop', (3, 2)),
    side_information.draw_sides(jax.random.key(0), left, left, 2, (3, 2)),
  )
  noisy = sides('noisy', (5, 4), 1e-3)
  assert np.any(noisy[:, 0] != noisy[:, 1])  # each decoder has its own


def test_a_noisy_copy_has_the_noise_it_says():
  grey = jnp.full((1, 40, 50), 0.5)
  noisy = side_information.draw_sides(
    jax.random.key(0), grey, grey, 2, (40, 50), kind='noisy', noise=0.05
  )
  sample = (np.asarray(noisy) - 0.5).ravel() / 0.05
  statistics.assert_mean(sample, 0)
  statistics.assert_mean(sample**2, 1)
  white = side_information.draw_sides(
    jax.random.key(0), grey, grey + 0.5, 1, (40, 50), kind='noisy', noise=0.05
  )
  least = 1 - statistics.SIGMAS * 0.05
  assert least < float(white.min()) < float(white.max()) == 1  # cut to pixels


@pytest.mark.parametrize(
  'kind, shape, noise, message',
  [
    ('left', (5, 2), 0.0, "side_kind .* got 'left'"),
    ('edge', (4, 2), 0.0, r'as high as a half, \(5, 4\), got \(4, 2\)'),
    ('edge', (5, 5), 0.0, r'got \(5, 5\)'),
    ('noisy', (5, 2), 0.1, r'that of a half, \(5, 4\), got \(5, 2\)'),
    ('noisy', (5, 4), 0.0, 'side_noise must be positive'),
    ('noisy', (5, 4), float('nan'), 'got nan'),
    ('crop', (5, 2), 0.1, 'got 0.1'),
    ('crop', (6, 2), 0.0, 'within a half'),
  ],
)
def test_side_information_that_cannot_be_is_refused(
  kind, shape, noise, message
):
  with pytest.raises(ValueError, match=message):
    side_information.check_kind(kind, shape, (5, 4), noise)


def test_good_kinds_pass():
  for kind, shape, noise in (
    ('crop', (3, 2), 0.0), ('edge', (5, 4), 0.0), ('noisy', (5, 4), 0.1),
    ('none', (1, 1), 0.0),
  ):  # fmt: skip
    side_information.check_kind(kind, shape, (5, 4), noise)
