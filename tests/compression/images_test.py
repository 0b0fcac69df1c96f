"""The image codec: one use by hand, all uses at once, refusals."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds, gumbel
from listcoupling.compression import images, labels
from listcoupling.data import side_information
from tests import statistics

R, N, K, V, S = 1500, 128, 2, 0.1, 0.3
SHIFT = 0.2
KEY = jax.random.key(0)


def _posterior(t):
  """W | T = t for W = A + N(0, V), T = A + N(0, S), W ~ N(0, 1)."""
  return (1 - V) * t / (1 - V + S), 1 - (1 - V) ** 2 / (1 - V + S)


class _Toy:
  """A linear Gaussian model: pixel of the right half -> W, exact odds."""

  config = SimpleNamespace(
    latent_size=1, source_shape=(1, 1), side_shape=(1, 1)
  )

  def encode(self, params, image):
    return image[..., 0], jnp.full(image.shape[:-1], 0.5 * jnp.log(V))

  def estimate(self, params, latents, side):
    w, (mean, variance) = latents[..., 0], _posterior(side[..., 0, 0])
    return 0.5 * (w**2 - (w - mean) ** 2 / variance) - 0.5 * jnp.log(variance)

  def decode(self, params, latent, side):
    return params * latent[:, :, None] + SHIFT * side


TOY = _Toy()


@pytest.fixture(scope='module')
def halves():
  source, side = jax.random.normal(jax.random.key(9), (2, R, 1, 1))
  source = jnp.sqrt(1 - V) * source
  return source + jnp.sqrt(S) * side, source


@pytest.fixture(scope='module')
def trials(halves):
  return images.prepare(
    KEY, 1.0, *halves, networks=TOY, num_decoders=K, num_candidates=N
  )


def test_all_at_once_is_one_by_one(halves, trials):
  tags = images.draw_labels(trials, 8)
  sent = images.transmit(trials, tags, num_decoders=K)
  out = images.reconstruct(2.0, trials, sent.index, networks=TOY)
  for r in range(3):
    crop_key, book_key = jax.random.split(jax.random.fold_in(KEY, r))
    book = images.make_codebook(book_key, N, 8, 1)
    np.testing.assert_array_equal(book.labels, tags[r])
    sides = side_information.random_crops(crop_key, halves[0][r], K, (1, 1))
    options = dict(networks=TOY, num_decoders=K)
    index, message = images.encode_image(2.0, halves[1][r], book, **options)
    assert message == sent.message[r]
    for k in range(K):
      choice, image = images.decode_image(
        2.0, message, sides[k], book, decoder=k, **options
      )
      assert choice == sent.index[r, k]
      assert sent.found[r, k] == (choice == index)
      expected = 2 * book.latents[choice, 0] + SHIFT * sides[k, 0, 0]
      np.testing.assert_allclose(image[0, 0], expected, rtol=1e-6)
      np.testing.assert_allclose(out[r, k], image, rtol=1e-6)


@pytest.fixture(scope='module')
def wide():
  """Left halves with room for crops: pixels all differ. [R, 2, 3], [R, 1, 1]"""
  left = jnp.arange(24.0).reshape(4, 2, 3) / 24
  return left, jnp.linspace(-1, 1, 4).reshape(4, 1, 1)


def test_each_decoder_answers_from_its_own_crop_of_the_left_half(wide):
  trials = images.prepare(
    KEY, 1.0, *wide, networks=TOY, num_decoders=3, num_candidates=5
  )
  sides = np.asarray(trials.sides)[..., 0, 0]
  for r in range(4):
    assert np.isin(sides[r], wide[0][r]).all()
  assert (sides != sides[:, :1]).any()
  index = jnp.array([[0, 1, 2]] * 4)
  out = images.reconstruct(2.0, trials, index, networks=TOY)
  wanted = 2 * np.asarray(trials.latents)[:, :3, 0] + SHIFT * sides
  np.testing.assert_allclose(out[..., 0, 0], wanted, rtol=1e-5, atol=1e-6)


def test_decoders_race_by_the_odds(wide):
  """exp(logit), not the probability: they differ where a logit is large."""
  trials = images.prepare(
    KEY, 1.0, *wide, networks=TOY, num_decoders=3, num_candidates=64
  )
  for r in range(4):
    for k in range(3):
      logits = TOY.estimate(1.0, trials.latents[r], trials.sides[r, k])
      np.testing.assert_allclose(
        trials.decoder_weights[r, k], logits, rtol=1e-4, atol=1e-5
      )
  found, by_probability = [], []
  for seed in range(60):
    book = images.make_codebook(jax.random.key(seed), 64, 2, 1)
    side = wide[0][0, :1, :1]
    logits = np.asarray(TOY.estimate(1.0, book.latents, side), float)
    times = np.asarray(gumbel.exponential(book.race_key, 64, 0))
    times = np.where(book.labels == 1, times, np.inf)
    odds = np.exp(logits)
    choice, _ = images.decode_image(
      1.0, 1, side, book, networks=TOY, decoder=0, num_decoders=1
    )
    assert choice == np.argmin(times / odds)
    found.append(int(choice))
    by_probability.append(np.argmin(times * (1 + odds) / odds))
  assert np.any(np.array(found) != by_probability)


def test_latents_labels_and_races_have_keys_of_their_own():
  race_key, label_key, latents = images._draw_candidates(KEY, 9, 2)
  book = images.make_codebook(KEY, 9, 4, 2)
  np.testing.assert_array_equal(book.latents, latents)
  assert book.race_key == race_key != label_key
  for key in (KEY, race_key, label_key):
    assert not np.any(jax.random.normal(key, (9, 2)) == latents)


def test_errors_obey_proposition_4(trials):
  for num_messages in (2, 8):
    sent = images.transmit(
      trials, images.draw_labels(trials, num_messages), num_decoders=K
    )
    missed = 1 - np.asarray(sent.found.any(1))
    bound = bounds.compression_error_bound(
      sent.information_density, num_messages
    )
    excess = missed - np.asarray(bound)
    error = excess.std() / np.sqrt(R)
    assert -0.25 < excess.mean() < 5 * error
  # Control: decoders that go by the inverse of the odds find too little.
  wrong = trials._replace(decoder_weights=-trials.decoder_weights)
  sent = images.transmit(wrong, images.draw_labels(trials, 8), num_decoders=K)
  loose = bounds.compression_error_bound(
    images.transmit(
      trials, images.draw_labels(trials, 8), num_decoders=K
    ).information_density,
    8,
  )
  excess = 1 - np.asarray(sent.found.any(1)) - np.asarray(loose)
  assert excess.mean() > 5 * excess.std() / np.sqrt(R)


def _excess(sent, bound):
  """Mean of errors less their bound, in standard errors."""
  excess = 1 - np.asarray(sent.found.any(1)) - np.asarray(bound)
  return excess.mean() / excess.std() * np.sqrt(R)


@pytest.mark.parametrize('num_candidates', [8, N])
def test_errors_obey_the_bound_of_their_codebook(halves, num_candidates):
  trials = images.prepare(
    KEY, 1.0, *halves, networks=TOY, num_decoders=K,
    num_candidates=num_candidates,
  )  # fmt: skip
  for scale in (1.0, 0.3):  # a poor estimator obeys it too
    weights = scale * trials.decoder_weights
    sent = images.transmit(
      trials._replace(decoder_weights=weights),
      images.draw_labels(trials, 4),
      num_decoders=K,
    )
    bound = bounds.codebook_error_bound(
      sent.encoder_probability, sent.decoder_probability, 4
    )
    assert _excess(sent, bound) < 5
    assert np.asarray(bound).mean() < 0.9  # it says something
  # Control: decoders that go by the inverse of the odds.
  wrong = trials._replace(decoder_weights=-trials.decoder_weights)
  found = images.transmit(wrong, images.draw_labels(trials, 4), num_decoders=K)
  assert _excess(found, bound) > 5


def test_information_density_averages_to_the_information(trials):
  sent = images.transmit(trials, images.draw_labels(trials, 4), num_decoders=K)
  variance = 1 - (1 - V) ** 2 / (1 - V + S)
  expected = 0.5 * np.log2(variance / V)
  found = np.asarray(sent.information_density).mean()
  assert abs(found - expected) < 0.1  # finite N biases it a little
  assert abs(found - 2 * expected) > 0.3
  # An estimator knows its odds up to a factor of the side information.
  scaled = trials._replace(
    decoder_weights=trials.decoder_weights + trials.sides[..., 0]
  )
  again = images.transmit(scaled, images.draw_labels(trials, 4), num_decoders=K)
  np.testing.assert_array_equal(again.message, sent.message)
  np.testing.assert_allclose(
    again.information_density, sent.information_density, atol=1e-4
  )


def test_more_decoders_leave_the_first_alone(halves, trials):
  more = images.prepare(
    KEY, 1.0, *halves, networks=TOY, num_decoders=K + 1, num_candidates=N
  )
  np.testing.assert_array_equal(more.sides[:, :K], trials.sides)
  np.testing.assert_array_equal(more.latents, trials.latents)
  np.testing.assert_allclose(
    more.decoder_weights[:, :K], trials.decoder_weights, rtol=1e-5, atol=1e-5
  )


def test_candidates_follow_the_prior(trials):
  sample = np.asarray(trials.latents[:100]).ravel()
  statistics.assert_mean(sample, 0)
  statistics.assert_mean(sample**2, 1)


def test_cells_are_the_nearest_centres():
  latents = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.9, 5.0]])
  centres = jnp.array([[1.9, 0.0], [0.0, 0.1], [jnp.inf, jnp.inf]])
  found = labels.kmeans_labels(latents, centres)
  np.testing.assert_array_equal(found, [1, 0, 1])
  book = images.make_codebook(KEY, 50, 3, 2, centres)
  np.testing.assert_array_equal(
    book.labels, labels.kmeans_labels(book.latents, centres)
  )


def test_wrong_shapes_are_refused():
  book = images.make_codebook(KEY, 8, 2, 1)
  encode = functools.partial(images.encode_image, networks=TOY, num_decoders=1)
  with pytest.raises(ValueError, match='image must have'):
    encode(1.0, jnp.zeros((2, 2)), book)
  with pytest.raises(ValueError, match='side must have'):
    images.decode_image(
      1.0, 0, jnp.zeros(1), book, networks=TOY, decoder=0, num_decoders=1
    )
