"""The schemes by hand: who sends which cell, and what each decoder holds."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds
from listcoupling.compression import images as codec
from listcoupling.experiments import image_schemes, image_trials
from listcoupling.models import refiner

R, K, N, L = 5, 3, 40, 4
CONFIG = refiner.RefinerConfig(
  (2, 1), (1, 1), num_cells=L * K, latent_size=2, hidden_size=8,
  side_features=4, cell_features=2, max_decoders=K,
)  # fmt: skip
WORDS = np.random.default_rng(1).uniform(size=(L * K, 2)).astype(np.float32)
RIGHT = jnp.asarray(np.random.default_rng(2).uniform(size=(R, 2, 1)), 'float32')


def _trials():
  rng = np.random.default_rng(3)
  return codec.Trials(
    jax.random.split(jax.random.key(0), R),
    jax.random.split(jax.random.key(1), R),
    jnp.asarray(rng.normal(size=(R, N, 2)), jnp.float32),
    jnp.asarray(rng.normal(size=(R, N)), jnp.float32),
    jnp.asarray(rng.normal(size=(R, K, N)), jnp.float32),
    jnp.asarray(rng.uniform(size=(R, K, 1, 1)), jnp.float32),
  )


@pytest.fixture(scope='module')
def refined():
  params = refiner.init_params(
    jax.random.key(4), CONFIG, WORDS.reshape(-1, 2, 1)
  )
  kernel = jax.random.normal(jax.random.key(5), (8, 2))
  params['Dense_3']['kernel'] = kernel  # as after training
  labeller = refiner.CellClassifier(L * K).init(
    jax.random.key(6), jnp.zeros((1, 2))
  )['params']
  return image_schemes.Refined(CONFIG, WORDS, params, labeller)


def _answers(refined, cells, latents, sides, count):
  """[R, k] answers of the refiner, one decoder after the other."""
  return np.stack([
    refiner.decoder(CONFIG)(
      refined.params, jnp.asarray(cells[:, k]), jnp.asarray(latents[:, k]),
      sides[:, k], jnp.full(R, count),
    )
    for k in range(count)
  ], axis=1)  # fmt: skip


def test_squared_error_is_per_pixel_and_decoder():
  found = jnp.stack([RIGHT, RIGHT + 0.5], axis=1)  # [R, 2, 2, 1]
  error = image_schemes.squared_error(found, RIGHT)
  np.testing.assert_allclose(error, [[0, 0.25]] * R, atol=1e-7)


@pytest.mark.parametrize('count', [1, 2, 3])
def test_list_quantiser_by_hand(refined, count):
  """Of all L K words the nearest is with its owner, alone."""
  trials, words = _trials(), WORDS[: L * count]
  refined = refined._replace(codewords=words)
  sent = image_schemes.send_list(refined, trials.sides, RIGHT, count)
  flat = np.asarray(RIGHT).reshape(R, 2)
  own = ((flat[:, None] - words) ** 2).sum(-1).argmin(1)
  cells = own[:, None] // count * count + np.arange(count)
  np.testing.assert_array_equal(sent.found, cells == own[:, None])
  wanted = _answers(
    refined, cells, np.zeros((R, count, 2)), trials.sides, count
  )
  np.testing.assert_allclose(sent.images, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('count', [1, 2])
def test_cells_by_hand(refined, count):
  trials = _trials()
  refined = refined._replace(codewords=WORDS[:L])
  tags, heeding = image_schemes.cell_trials(trials, RIGHT, refined, L)
  np.testing.assert_array_equal(
    tags, refiner.classifier(L * K)(refined.classifier, trials.latents, L)
  )
  flat = np.asarray(RIGHT).reshape(R, 2)
  distance = ((flat[:, None] - WORDS[:L]) ** 2).sum(-1)
  penalty = np.take_along_axis(distance, np.asarray(tags), 1)
  np.testing.assert_allclose(
    heeding.encoder_weights, trials.encoder_weights - 100 * penalty, rtol=1e-3
  )
  np.testing.assert_array_equal(heeding.decoder_weights, trials.decoder_weights)
  sent = image_schemes.send_cells(refined, trials, RIGHT, count, L)
  told = codec.transmit(heeding, tags, num_decoders=count)
  latents = np.asarray(trials.latents)[np.arange(R)[:, None], told.index]
  cells = np.repeat(np.asarray(told.message)[:, None], count, 1)
  wanted = _answers(refined, cells, latents, trials.sides, count)
  np.testing.assert_allclose(sent.images, wanted, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(sent.found, told.found)
  pool = image_schemes.cell_pool(refined, trials, RIGHT, (1, 2), L)
  np.testing.assert_array_equal(pool.counts, [1, 2])
  np.testing.assert_array_equal(pool.latents[count - 1, :, :count], latents)
  np.testing.assert_array_equal(pool.cells[count - 1, :, :count], cells)


def test_gls_and_its_baseline_are_the_codec():
  """The decoder says its candidate; one race is not K races."""
  networks = SimpleNamespace(
    decode=lambda params, latents, sides: latents[:, :, None] * params
  )
  model = image_schemes.Model(_Hashable(networks), 1.0)
  trials, found = _trials(), []
  for shared in (False, True):
    sent = image_schemes.send_gls(model, trials, RIGHT, 2, L, shared)
    told = codec.transmit(
      trials, codec.draw_labels(trials, L), num_decoders=2, shared_race=shared
    )
    np.testing.assert_array_equal(
      sent.images[..., 0],
      np.asarray(trials.latents)[np.arange(R)[:, None], told.index],
    )
    np.testing.assert_array_equal(sent.found, told.found)
    assert (sent.error_bound is None) == shared
    if not shared:
      bound = bounds.codebook_error_bound(
        told.encoder_probability, told.decoder_probability, L
      )
      np.testing.assert_array_equal(sent.error_bound, bound)
    found.append(np.asarray(told.index))
  assert np.any(found[0] != found[1])


class _Hashable:
  """Networks are static to jit."""

  def __init__(self, parts):
    self.decode = parts.decode


def test_what_is_measured_of_a_list():
  sent = image_schemes.Sent(
    None, np.array([[0.4, 0.1], [0.2, 0.6]]),
    np.array([[False, True], [False, False]]), jnp.array([0.2, 0.3]),
  )  # fmt: skip
  best, mean, missed, bound = image_trials.measure(sent)
  np.testing.assert_allclose(best, [0.1, 0.2])
  np.testing.assert_allclose(mean, [0.25, 0.4])
  np.testing.assert_array_equal(missed, [0, 1])
  np.testing.assert_allclose(bound, [0.2, 0.3], rtol=1e-5)
  unbounded = sent._replace(error_bound=None)
  assert np.isnan(image_trials.measure(unbounded)[3]).all()
