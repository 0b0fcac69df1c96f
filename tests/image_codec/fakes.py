"""Untrained models and fits, laid out as training and evaluation leave them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import vae_digits
from listcoupling import files, gumbel
from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.models import codeword_decoder, vae
from tests import floats

NUM_CODEWORDS = 16  # at most: 4 messages to 2 decoders in bins of 2
SIZES = vae.VAEConfig(
  (8, 4), (3, 3), kind='dense', hidden_size=16, side_features=8,
  estimator_size=64,
)  # fmt: skip
FIT_SIZES = codeword_decoder.CodewordDecoderConfig(
  (8, 4), (3, 3), num_codewords=NUM_CODEWORDS, hidden_size=8, side_features=64,
  max_decoders=2,
)  # fmt: skip


class _Pixels:
  latent_size, source_shape, side_shape = 1, (1, 1), (1, 1)


@jax.tree_util.register_static
class PixelVAE:
  """A VAE whose latent is its one pixel, with noise of `variance`."""

  config, variance = _Pixels, 0.01

  def encode(self, params, image):
    shape = image.shape[:-1]
    return image[..., 0], jnp.full(shape, 0.5 * jnp.log(self.variance))

  def decode(self, params, latent, side):
    return latent[..., None]


@functools.cache
def random_vae(seed):
  """Parameters of a VAE of `SIZES`."""
  return vae.init_params(gumbel.seed_key(seed), SIZES)


@functools.cache
def random_fit(seed, count, classifies='latents'):
  """A fit whose answers depend on codeword, latent, crop and list size.

  Its classifier is of latents, of sides, of a lattice or None.
  """
  config, rng = FIT_SIZES, np.random.default_rng(seed)
  words = rng.uniform(size=(count, *config.source_shape)).astype(np.float32)

  def init():
    key, classifier = jax.random.key(0), codeword_decoder.Classifier
    label = classifier(config.num_codewords), jnp.zeros((1, config.latent_size))
    if classifies in ('sides', 'lattice'):
      outputs = {'sides': config.num_codewords, 'lattice': config.latent_size}
      label = (
        classifier(outputs[classifies], config.hidden_size), jnp.zeros((1, 9))
      )  # fmt: skip
    params = codeword_decoder.init_params(key, config, words)
    return params, label[0].init(key, label[1])['params']

  params, classifier = jax.tree.map(
    lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32),
    jax.eval_shape(init),
  )
  if classifies == 'lattice':
    transform = np.eye(4) + rng.normal(0, 0.1, (4, 4))
    space = np.float32(2), transform.astype(np.float32), classifier
    classifier = schemes.LatticeSpace(*space)._asdict()
  words = words.reshape(count, -1)
  return schemes.Fit(words, params, classifier if classifies else None, config)


def random_model(seed, count):
  """A VAE and a fit on it, for any scheme."""
  return schemes.Model(
    vae.networks(SIZES), random_vae(seed), random_fit(seed, count)
  )


@functools.cache
def answer_error():
  """Most that answers of networks like these differ by from rounding alone.

  A fit's that starts from the VAE's, as for a lattice: the longest way.
  """
  fit, sizes = random_fit(0, 12), (5, 2)
  latents = jax.random.normal(jax.random.key(0), (*sizes, 4))
  sides = jax.random.uniform(jax.random.key(1), (*sizes, 3, 3))
  model, words = random_model(0, 12), jnp.zeros(sizes, jnp.int32)

  def answers(params, latents, sides):
    start = schemes.vae_images(model, latents, sides)
    better = codeword_decoder.decode(
      params, words, latents, sides, jnp.full(5, 2), fit.config, start
    )
    return jnp.stack([start, better])

  return floats.apart(answers, fit.params, latents, sides)


def assert_answers(found, wanted):
  """Those of networks like these are alike but for their roundings."""
  np.testing.assert_allclose(found, wanted, rtol=0, atol=answer_error())


def save_vae(directory, seed, beta=0.3):
  """A VAE in a folder of its own, as a finished training leaves it."""
  directory.mkdir(parents=True)
  vae.save(directory / vae.FILE, random_vae(seed), SIZES, beta=beta)


def save_workdir(directory, seed):
  """Two VAEs; fits of 4 messages on both, 6 on one; lists of 8 and 12.

  And for 4 messages to 2 decoders, of groups, of bins of 2 and of a lattice.
  """
  for beta in (0.3, 1.0):
    save_vae(directory / f'model_beta_{beta:g}', seed + int(beta), beta)
  path = functools.partial(fits.fit_path, directory)
  for count, beta in ((4, 0.3), (4, 1.0), (6, 0.3)):
    fit = fits.FitFile(random_fit(seed + count, count), (1, 2), 64)
    fits.write_fit(path('gls_kmeans', count, beta), fit)
  for count in (8, 12):
    fit = fits.FitFile(random_fit(seed + count, count, None), (2,), count)
    fits.write_fit(path('list_quantiser', count), fit)
  fit = fits.FitFile(random_fit(seed + 1, 8), (2,), 64)
  fits.write_fit(path('gls_kmeans', 8, 0.3, num_groups=2), fit)
  fit = fits.FitFile(random_fit(seed + 2, 16, 'sides'), (2,), 16)
  fits.write_fit(path('list_quantiser', 16, bin_size=2), fit)
  fit = fits.FitFile(random_fit(seed + 3, 8, 'lattice'), (2,), 8 << 4)
  fits.write_fit(path('lattice', 8, 0.3, num_groups=2), fit)


def save_choice(directory, scheme, chosen):
  """The choices of an evaluation: [[scheme, K, L, G], [beta, N, M]] pairs."""
  files.write_json(directory / 'choice' / f'{scheme}.json', {'chosen': chosen})


def train_config():
  """Settings of a training of `SIZES`."""
  return vae_digits.get_config().train
