"""Where a lattice lies in the latent space of a VAE, chosen on images.

For the scheme `lattice` of `image_codec.scheme`. A network learns the mean of
the latent given side information; what it leaves open, and how much of a latent
a pixel feels, give the axes. The period and how far the axes are stretched are
those with the least error of the best decoder, by the VAE's own decoder, on
images that the network never saw.

Legend: R images, K decoders, D latent size, S settings, [H, W] source, [h, w]
side.
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
_PERIODS = tuple(2.0 * 1.25**i for i in range(9))  # 2 to 11.9
# 0: pixels feel all axes alike; 1: a decoder is as unsure of all alike.
_POWERS = (0.0, 0.5, 1.0)
_LEARNT_FROM = 0.875  # share of the images; the rest judges


class Known(NamedTuple):
  """The network of the means, axes to choose from, and images that judge."""

  mean: Any  # params
  transforms: jax.Array  # [S, D, D]
  right: jax.Array  # [R, H, W]
  sides: jax.Array  # [R, K, h, w]
  latents: jax.Array  # [R, D]
  means: jax.Array  # [R, K, D] of the latents, given the sides
  keys: jax.Array  # [R] of the dither


def learn(key, model: schemes.Model, right, sides, config, steps: int) -> Known:
  """All that choices for several K and L share.

  Args:
    key: typed key; reusable for other domains.
    model: with the VAE.
    right: [R, H, W], at least 8 of them.
    sides: [R, K, h, w].
    config: `CodewordDecoderConfig`.
    steps: of Adam.

  Returns:
    `Known`.
  """
  latents, log_std = jax.jit(model.networks.encode)(model.params, right)
  cut = int(_LEARNT_FROM * len(right))
  mean, _ = training.train_side_means(
    key, sides[:cut], latents[:cut], config=config, steps=steps
  )
  right, sides, latents = right[cut:], sides[cut:], latents[cut:]
  means = codeword_decoder.side_scores(
    mean, sides, config, config.latent_size
  )  # [R, K, D]
  left = np.asarray(latents[:, None] - means, np.float64)  # [R, K, D]
  axes = _transforms(
    left.reshape(-1, left.shape[2]),
    np.exp(np.mean(np.asarray(log_std, np.float64), 0)),
  )
  rows = jnp.arange(len(right), dtype=jnp.int32)
  keys = schemes.SCHEMES['lattice'].prepare(
    gumbel.domain_key(key, gumbel.Domain.SELECTION), rows, model, None
  )
  return Known(mean, jnp.asarray(axes), right, sides, latents, means, keys)


def _transforms(left, spread) -> np.ndarray:
  """Axes for each of `_POWERS`: [S, D, D] float32.

  Args:
    left: [., D] latents less their means.
    spread: [D] standard deviation of the VAE's posterior: half as much is
      twice the change of the pixels.
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
def _errors(known: Known, model, spaces, *, settings) -> jax.Array:
  """Mean squared error of the best of K decoders: spaces of [S] -> [S]."""
  code = schemes.lattice_code(settings, known.latents.shape[1])
  count = settings.num_decoders
  decoders = jnp.arange(count, dtype=jnp.int32)
  means, sides = known.means[:, :count], known.sides[:, :count]
  flat = sides.reshape(-1, *sides.shape[2:])

  def one(space):
    sent = schemes.encode_lattice(space, known.keys, known.latents, code)
    _, latent = schemes.decode_lattice(
      space, known.keys, means, sent.message, decoders, code
    )
    images = model.networks.decode(
      model.params, latent.reshape(len(flat), -1), flat
    )
    images = images.reshape(*latent.shape[:2], *images.shape[1:])
    axes = tuple(range(2, images.ndim))
    error = jnp.mean((images - known.right[:, None]) ** 2, axes)
    return jnp.mean(jnp.min(error, 1))

  return jax.lax.map(one, spaces)


def choose(known: Known, model, settings) -> schemes.LatticeSpace:
  """The best period and axes for one K and L.

  Args:
    known: from `learn`, of at least K decoders.
    model: with the VAE.
    settings: `scheme.Settings`.
  """
  pairs = list(itertools.product(known.transforms, _PERIODS))
  spaces = schemes.LatticeSpace(
    jnp.array([period for _, period in pairs], jnp.float32),
    jnp.stack([transform for transform, _ in pairs]),
    None,
  )
  best = int(np.argmin(_errors(known, model, spaces, settings=settings)))
  return jax.tree.map(
    np.asarray,
    schemes.LatticeSpace(
      spaces.period[best], spaces.transform[best], known.mean
    ),
  )
