"""Labels and weights of `cells` are computed a few images at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.compression import images as codec
from listcoupling.experiments import image_schemes
from listcoupling.models import refiner
from tests.experiments import compress_fakes

R, N, L = 37, 50, 6  # R is no multiple of the images of one call


@pytest.fixture(scope='module')
def parts():
  fit = compress_fakes.random_fit(0, L, True)
  key = jax.random.key(1)
  latents = jax.random.normal(key, (R, N, fit.config.latent_size))
  weights = jax.random.normal(jax.random.fold_in(key, 1), (R, N))
  right = jax.random.uniform(key, (R, *fit.config.source_shape))
  return fit, codec.Trials(None, None, latents, weights, None, None), right


def test_labels_are_those_of_all_candidates_at_once(parts):
  fit, trials, right = parts
  tags, heeding = image_schemes.cell_trials(trials, right, fit, L)
  label = refiner.classifier(fit.config.num_cells)
  whole = label(fit.classifier, trials.latents, L)  # [R, N] in one call
  np.testing.assert_array_equal(tags, whole)
  counts = np.bincount(np.ravel(tags), minlength=L)
  assert len(counts) == L and (counts > 0).sum() > 2
  fewer = image_schemes.cell_labels(trials.latents, fit, 2)
  assert fewer.max() < 2 <= tags.max()  # cells from L on are padding
  assert heeding.latents is trials.latents


def test_weights_heed_the_distance_of_the_cell(parts):
  fit, trials, right = parts
  tags, heeding = image_schemes.cell_trials(trials, right, fit, L)
  flat = np.asarray(right, np.float64).reshape(R, 1, -1)
  distance = ((flat - fit.codewords) ** 2).sum(-1)  # [R, L]
  penalty = np.take_along_axis(distance, np.asarray(tags), 1)
  found = np.asarray(trials.encoder_weights - heeding.encoder_weights)
  np.testing.assert_allclose(found, 100 * penalty, rtol=1e-5, atol=1e-3)


def test_memory_does_not_grow_with_the_images(parts):
  fit, trials, right = parts

  def scratch(images):
    latents = jnp.zeros((images, N, fit.config.latent_size))
    source = jnp.zeros((images, *fit.config.source_shape))

    def both(latents, source):
      tags = image_schemes.cell_labels(latents, fit, L)
      return tags, image_schemes.cell_penalty(source, tags, fit.codewords)

    compiled = jax.jit(both).lower(latents, source).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  logits = 4 * N * fit.config.num_cells  # bytes of one image
  assert scratch(640) - scratch(64) < 576 * logits / 2
  del trials, right


def test_one_decoder_of_a_list_answers_as_all_do(parts):
  fit = parts[0]
  rng = np.random.default_rng(0)
  cells = jnp.asarray(rng.integers(0, L, (5, 2)))
  latents = jnp.asarray(rng.normal(size=(5, 2, 4)), jnp.float32)
  sides = jnp.asarray(rng.uniform(size=(5, 2, 3, 3)), jnp.float32)
  both = image_schemes.refine(fit, cells, latents, sides, 2)
  for k in range(2):
    part = (x[:, k : k + 1] for x in (cells, latents, sides))
    one = image_schemes.refine(fit, *part, 2)
    np.testing.assert_allclose(one[:, 0], both[:, k], atol=1e-6)
  alone = image_schemes.refine(
    fit, cells[:, :1], latents[:, :1], sides[:, :1], 1
  )
  assert np.abs(alone[:, 0] - both[:, 0]).max() > 1e-3  # K is an input
