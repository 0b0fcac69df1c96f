"""Rotary frequencies against their published formulas."""

import jax.numpy as jnp
import numpy as np

from listcoupling.models import rope
from listcoupling.models.transformer_config import (
  RopeScaling,
  TransformerConfig,
)
from tests import floats, statistics


def test_llama3_frequencies():
  # The piecewise formula as published with Llama 3.1, in wavelengths.
  scaling = RopeScaling('llama3', 8.0, 1.0, 4.0, 8192)
  config = TransformerConfig(
    *(8, 8, 1, 1, 1, 64, 8), rope_theta=5e5, rope_scaling=scaling
  )
  plain = 5e5 ** -(np.arange(0, 64, 2) / 64)
  expected = []
  for frequency in plain:
    wavelength = 2 * np.pi / frequency
    if wavelength < 8192 / 4.0:
      expected.append(frequency)
    elif wavelength > 8192 / 1.0:
      expected.append(frequency / 8.0)
    else:
      smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
      expected.append((1 - smooth) * frequency / 8.0 + smooth * frequency)
  got = rope.frequencies(config)
  # Of the frequency and its inverse 1.5 units in the last place, 6 of the share
  # that is kept where it is small and an eighth is left, 1.5 of the mix.
  limit = statistics.rounding(9)
  np.testing.assert_allclose(got, expected, rtol=limit)
  mixed = (got < plain * (1 - limit)) & (got > plain / 8 * (1 + limit))
  assert mixed.sum() > 1


def test_a_part_of_a_head_is_rotated():
  config = TransformerConfig(*(8, 8, 1, 1, 1, 8, 8), rotary_dim=4)
  x = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 1, 8) + 1

  def turn(x, positions):
    return rope.rotate(x, *rope.phases(config, positions))

  def written_out(x):
    angles = 3 * 10000.0 ** -jnp.asarray([0, 0.5])
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.stack([x[0] * cos - x[1] * sin, x[0] * sin + x[1] * cos])

  turned = turn(jnp.asarray(x), jnp.asarray([[3]]))[0, 0, 0, 0]
  limit = floats.apart(written_out, x[0, 0, 0, 0, :4].reshape(2, 2))
  np.testing.assert_array_equal(turned[4:], x[0, 0, 0, 0, 4:])
  angles = 3 * 10000.0 ** -np.asarray([0, 0.5])
  pairs = (x[..., :2] + 1j * x[..., 2:4])[0, 0, 0, 0] * np.exp(1j * angles)
  np.testing.assert_allclose(turned[:2], pairs.real, rtol=0, atol=limit)
  np.testing.assert_allclose(turned[2:4], pairs.imag, rtol=0, atol=limit)


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones():
  scaling = RopeScaling('yarn', 4.0, original_max_positions=1024)
  sizes = (8, 8, 1, 1, 1, 64, 8)
  ratio = rope.frequencies(TransformerConfig(*sizes)) / rope.frequencies(
    TransformerConfig(*sizes, rope_scaling=scaling)
  )
  turns = 1024 * 10000.0 ** -(np.arange(0, 64, 2) / 64) / (2 * np.pi)
  np.testing.assert_array_equal(ratio[turns > 40], 1)
  np.testing.assert_array_equal(ratio[turns < 0.8], 4)
  assert (np.diff(ratio) >= 0).all() and 1.1 < ratio[turns > 1][-2] < 4
