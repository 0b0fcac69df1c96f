"""Where the lattice of the codec lies in the latent space: chosen on images.

A network learns the mean of the latent given side information; what it leaves
open, and how much of a latent a pixel feels, give the axes. The period and how
far the axes are stretched are those with the least error of the best decoder,
by the VAE's own decoder, on images that the network never saw.

Legend: R images, K decoders, D latent size, S places of a lattice, [H, W]
source, [h, w] side.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel
from listcoupling.image_codec import scheme as schemes
from listcoupling.models import codeword_decoder
from listcoupling.training import codeword_decoder as training

# In units of what side information leaves of a latent.
PERIODS = tuple(2.0 * 1.25**i for i in range(9))  # 2 to 11.9
# 0: pixels feel all axes alike; 1: a decoder is as unsure of all alike.
_POWERS = (0.0, 0.5, 1.0)


class Choices(NamedTuple):
  """The network of the means, axes to choose from, and images that judge."""

  mean: Any  # params
  transforms: jax.Array  # [S, D, D]
  right: jax.Array  # [R, H, W]
  sides: jax.Array  # [R, K, h, w]
  latents: jax.Array  # [R, D]
  means: jax.Array  # [R, K, D] of the latents, given the sides
  keys: jax.Array  # [R] of the dither


def prepare(key, mean, right, sides, latents, spread, config) -> Choices:
  """All that choices for several K and L share.

  Args:
    key: typed key; reusable for other domains.
    mean: params of the network, which was trained on other images.
    right: [R, H, W].
    sides: [R, K, h, w].
    latents: [R, D] of the VAE.
    spread: [D] standard deviation of the VAE's posterior: half as much is
      twice the change of the pixels.
    config: `CodewordDecoderConfig`.
  """
  means = codeword_decoder.side_scores(mean, sides, config, config.latent_size)
  left = np.asarray(latents[:, None] - means, np.float64)  # [R, K, D]
  axes = transforms(left.reshape(-1, left.shape[2]), spread)
  rows = jnp.arange(len(right), dtype=jnp.int32)
  keys = schemes.SCHEMES['lattice'].prepare(
    gumbel.domain_key(key, gumbel.Domain.SELECTION), rows, None, None
  )
  return Choices(mean, jnp.asarray(axes), right, sides, latents, means, keys)


def transforms(left, spread) -> np.ndarray:
  """Axes for each power of what is left open: [S, D, D] float32.

  Args:
    left: [., D] latents less their means.
    spread: [D] as of `prepare`.
  """
  scaled = left / spread
  variance, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
  variance, axes = np.maximum(variance[::-1], 1e-12), axes[:, ::-1]
  found = []
  for power in _POWERS:
    stretch = variance ** (-power / 2)
    unit = np.exp(np.mean(np.log(stretch * np.sqrt(variance))))
    found.append(axes / spread[:, None] * stretch / unit)
  return np.array(found, np.float32)


@functools.partial(jax.jit, static_argnames='settings')
def errors(known: Choices, model, spaces, *, settings) -> jax.Array:
  """Mean squared error of the best of K decoders: spaces of [S] -> [S]."""
  code = schemes.lattice_code(settings, known.latents.shape[1])
  count = settings.num_decoders
  decoders = jnp.arange(count, dtype=jnp.int32)
  means, sides = known.means[:, :count], known.sides[:, :count]

  def one(space):
    sent = schemes.encode_lattice(space, known.keys, known.latents, code)
    _, latent = schemes.decode_lattice(
      space, known.keys, means, sent.message, decoders, code
    )
    images = schemes.vae_images(model, latent, sides)
    return jnp.mean(jnp.min(training.squared_error(images, known.right), 1))

  return jax.lax.map(one, spaces)


def choose(known: Choices, model, settings) -> schemes.LatticeSpace:
  """The best period and axes for one K and L.

  Args:
    known: from `prepare`, of at least K decoders.
    model: with the VAE.
    settings: `scheme.Settings`.
  """
  axes, periods = zip(*itertools.product(known.transforms, PERIODS))
  spaces = schemes.LatticeSpace(
    jnp.array(periods, jnp.float32), jnp.stack(axes), None
  )
  best = int(np.argmin(errors(known, model, spaces, settings=settings)))
  chosen = spaces.period[best], spaces.transform[best], known.mean
  return jax.tree.map(np.asarray, schemes.LatticeSpace(*chosen))
