"""Networks of the image codec: shapes, independence, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.models import vae
from tests import floats, statistics

KEY = jax.random.key(0)
SMALL = dict(
  source_shape=(8, 4), side_shape=(3, 3), channels=3, hidden_size=16,
  side_features=8, estimator_size=8,
)  # fmt: skip
# Up to six layers of sums up to 32, of numbers near 1.
ROUNDING = statistics.rounding(6 * 32)


@pytest.fixture(scope='module', params=vae.KINDS)
def model(request):
  config = vae.VAEConfig(**SMALL, kind=request.param)
  return config, vae.init_params(KEY, config), vae.networks(config)


def test_shapes_and_range(model):
  config, params, nets = model
  image, side = jnp.ones((5, 8, 4)), jnp.ones((5, 3, 3))
  mean, log_std = nets.encode(params, image)
  assert mean.shape == log_std.shape == (5, 4)
  out = nets.decode(params, 50 * jnp.ones((5, 4)), side)
  assert out.shape == (5, 8, 4)
  assert float(out.min()) >= 0 and float(out.max()) <= 1
  assert nets.estimate(params, jnp.ones((5, 7, 4)), side).shape == (5, 7)
  assert nets.estimate(params, jnp.ones((7, 4)), side[0]).shape == (7,)
  assert nets.side_only(params, side).shape == (5, 8, 4)
  assert config == nets.config and vae.networks(config) is nets


@pytest.mark.parametrize('kind', vae.KINDS)
def test_colour_is_a_last_axis(kind):
  shapes = dict(source_shape=(8, 4, 3), side_shape=(3, 3, 3))
  config = vae.VAEConfig(**(SMALL | shapes), kind=kind)
  params, nets = vae.init_params(KEY, config), vae.networks(config)
  image = jax.random.uniform(KEY, (2, 8, 4, 3))
  mean, _ = nets.encode(params, image)
  assert mean.shape == (2, 4)
  changed = nets.encode(params, image.at[..., 2].set(0))[0]
  assert np.abs(mean - changed).max() > ROUNDING
  side = image[:, :3, :3]
  assert nets.decode(params, mean, side).shape == image.shape
  assert nets.side_only(params, side).shape == image.shape
  assert nets.estimate(params, mean[:, None], side).shape == (2, 1)


def test_latent_and_side_both_matter(model):
  _, params, nets = model
  latent = jax.random.normal(KEY, (2, 4))
  side = jax.random.uniform(KEY, (2, 3, 3))
  out = nets.decode(params, latent, side)
  for other in ((latent[::-1], side), (latent, side[::-1])):
    assert np.abs(out - nets.decode(params, *other)).max() > ROUNDING
  one, two = (nets.estimate(params, latent, x) for x in side)
  assert np.abs(one - two).max() > ROUNDING


def test_candidates_are_scored_one_by_one(model):
  _, params, nets = model
  latents = jax.random.normal(KEY, (6, 4))
  side = jax.random.uniform(KEY, (3, 3))
  together = nets.estimate(params, latents, side)
  alone = [nets.estimate(params, x[None], side)[0] for x in latents]
  error = floats.apart(nets.estimate, params, latents, side)
  np.testing.assert_allclose(together, np.stack(alone), rtol=0, atol=error)


def test_dropout_acts_in_training_alone():
  config = vae.VAEConfig(**SMALL, kind='dense', dropout_rate=0.5)
  params = vae.init_params(KEY, config)
  latent, side = jnp.ones((1, 4)), jnp.ones((1, 3, 3))

  def decode(seed, train):
    return vae.VAE(config).apply(
      {'params': params}, latent, side, train,
      method=vae.VAE.decode, rngs={'dropout': jax.random.key(seed)},
    )  # fmt: skip

  assert np.abs(decode(0, True) - decode(1, True)).max() > ROUNDING
  np.testing.assert_array_equal(decode(0, False), decode(1, False))


def test_paper_sizes():
  shapes = jax.eval_shape(lambda: vae.init_params(KEY, vae.VAEConfig()))
  assert shapes['encoder']['Dense_0']['kernel'].shape == (3584, 512)
  assert shapes['encoder']['Dense_1']['kernel'].shape == (512, 8)
  assert shapes['projection']['Dense_1']['kernel'].shape[1] == 128


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(kind='resnet'), 'resnet'),
    (dict(latent_size=0), 'latent_size'),
    (dict(dropout_rate=1.0), 'dropout_rate'),
    (dict(side_shape=(3,)), 'side_shape'),
    (dict(source_shape=(0, 4)), 'source_shape'),
    (dict(source_shape=(8, 4, 3)), 'colours'),
  ],
)
def test_bad_sizes_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    vae.VAEConfig(**{**SMALL, **change})
