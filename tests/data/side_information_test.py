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
  both = side_information.random_crops(
    key, jnp.stack([left, left + 20]), 4000, (3, 2)
  )
  crops = both[0]
  np.testing.assert_array_equal(crops[:, 1:], crops[:, :-1] + 3)
  np.testing.assert_array_equal(crops[..., 1:], crops[..., :-1] + 1)
  corner = np.asarray(crops[:, 0, 0]).astype(int)
  law = np.isin(np.arange(15), [0, 1, 3, 4, 6, 7])
  statistics.assert_law(corner, law)
  statistics.assert_not_law(corner, law * np.linspace(1, 2, 15))
  few = side_information.random_crops(key, left[None], 3, (3, 2))[0]
  np.testing.assert_array_equal(few, crops[:3])
  # Images draw apart: corners agree as those of independent draws, in 1 of 6.
  same = np.asarray(both[1] - 20 == crops).all((1, 2)).astype(float)
  statistics.assert_mean(same, 1 / 6)


def test_a_crop_that_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='fit'):
    side_information.random_crop(jax.random.key(0), jnp.zeros((4, 3)), (3, 4))
