"""Many images at all decoders at once: how far off they are."""

import jax.numpy as jnp
import numpy as np

from listcoupling.image_codec import trials


def test_squared_error_is_per_pixel_and_decoder():
  right = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 8, 4)))
  error = trials.squared_error(jnp.stack([right, right + 0.5], 1), right)
  np.testing.assert_allclose(error, [[0, 0.25]] * 5, atol=1e-6)
