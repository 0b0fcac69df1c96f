"""The list quantiser: its best decoder is a quantiser of L K words."""

import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.compression import list_quantiser


@pytest.fixture(scope='module')
def sample():
  rng = np.random.default_rng(0)
  points = rng.normal(size=(600, 3)).astype(np.float32)
  return points, list_quantiser.fit_codewords(points, 12)


@pytest.mark.parametrize('num_decoders', [1, 2, 4])
def test_best_decoder_has_the_nearest_of_all_words(sample, num_decoders):
  points, words = sample
  message = list_quantiser.encode(points, words, num_decoders=num_decoders)
  assert int(message.max()) < 12 // num_decoders and int(message.min()) == 0
  cells = list_quantiser.decode(message, num_decoders=num_decoders)
  assert cells.shape == (600, num_decoders)
  distance = ((points[:, None] - words[np.asarray(cells)]) ** 2).sum(-1)
  every = ((points[:, None] - words) ** 2).sum(-1)
  np.testing.assert_allclose(distance.min(1), every.min(1), rtol=1e-5)
  wrong = (np.asarray(cells) + 1) % 12  # control
  distance = ((points[:, None] - words[wrong]) ** 2).sum(-1)
  assert distance.min(1).mean() > 1.2 * every.min(1).mean()


def test_words_are_means_in_an_order_of_neighbours(sample):
  points, words = sample
  assert words.dtype == np.float32 and words.shape == (12, 3)
  own = np.asarray(list_quantiser.nearest(points, words))
  means = np.stack([points[own == i].mean(0) for i in range(12)])
  np.testing.assert_allclose(means, words, atol=0.05)
  steps = np.linalg.norm(np.diff(words, axis=0), axis=1).mean()
  every = np.linalg.norm(words[:, None] - words, axis=-1)
  assert steps < every[np.triu_indices(12, 1)].mean() * 0.85


def test_bad_sizes_are_refused(sample):
  points, words = sample
  with pytest.raises(ValueError, match='num_decoders'):
    list_quantiser.encode(points, words, num_decoders=5)
  with pytest.raises(ValueError, match='num_decoders'):
    list_quantiser.decode(jnp.zeros(2, int), num_decoders=0)
  with pytest.raises(ValueError, match='at least 0, got -1'):
    list_quantiser.decode(jnp.array([2, -1]), num_decoders=2)
  with pytest.raises(ValueError, match='count'):
    list_quantiser.fit_codewords(points[:3], 4)
  assert jnp.asarray(words).shape == (12, 3)
