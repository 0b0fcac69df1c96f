"""The codeword decoder: where it starts, what it learns, what it ignores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from listcoupling.models import codeword_decoder as models
from listcoupling.training import codeword_decoder as training
from tests import statistics

KEY = jax.random.key(0)
CONFIG = models.CodewordDecoderConfig(
  (1, 2), (1, 1), num_codewords=3, latent_size=1, hidden_size=32,
  side_features=8, codeword_features=4, max_decoders=2,
)  # fmt: skip
WORDS = np.array([[[0.2, 0.8]], [[0.5, 0.1]]], np.float32)
STEPS, BATCH = 300, 128  # of a classifier
# Of a pixel of the first network: two logarithms and their difference, up to
# 2.3 at a slope of a sigmoid, 1/4, the sigmoid (two), and the source's sum.
PIXEL = statistics.rounding(3 * 2.3 / 4 + 2 + 1)


def _pool(key, images=2000):
  """Pixel 1 is known to the side, its sign of deviation to latent 1."""
  place_key, side_key, latent_key = jax.random.split(key, 3)
  places = jax.random.randint(place_key, (images,), 0, 2)
  side = jax.random.rademacher(side_key, (images,)).astype(jnp.float32)
  latent = jax.random.rademacher(latent_key, (images, 2)).astype(jnp.float32)
  source = jnp.asarray(WORDS)[places] + 0.1 * jnp.stack(
    [side, latent[:, 0]], -1
  ).reshape(images, 1, 2)
  return training.Pool(
    jnp.array([1, 2]),
    source,
    jnp.broadcast_to(side[:, None, None, None], (images, 2, 1, 1)),
    jnp.broadcast_to(places[None, :, None], (2, images, 2)),
    # The second decoder of two holds the latent, the only one holds noise.
    jnp.stack([jnp.stack([latent[:, 1], latent[:, 1]], 1),
               jnp.stack([latent[:, 1], latent[:, 0]], 1)])[..., None],
  )  # fmt: skip


def _errors(params, pool):
  """[2000] of the best of one decoder, and of two."""
  found = []
  for kind, count in enumerate((1, 2)):
    counts = jnp.full(len(pool.source), count)
    images = models.decode(
      params,
      pool.codewords[kind],
      pool.latents[kind],
      pool.sides,
      counts,
      CONFIG,
    )
    error = jnp.mean((images - pool.source[:, None]) ** 2, (2, 3))
    found.append(np.asarray(error[:, :count].min(1), np.float64))
  return found


def test_starts_at_the_mean_of_the_codeword_and_learns_what_helps():
  pool = _pool(jax.random.key(1))
  start = models.init_params(KEY, CONFIG, WORDS)
  # A square of d changes by 2 d times the change of d.
  error = 2 * 0.1 * PIXEL
  np.testing.assert_allclose(_errors(start, pool), 0.01, rtol=0, atol=error)
  params, loss = training.train(
    KEY, WORDS, pool, config=CONFIG, steps=500, batch_size=64,
    learning_rate=5e-3,
  )  # fmt: skip
  one, two = _errors(params, _pool(jax.random.key(2)))
  # One decoder: the side gives pixel 0, nothing gives pixel 1, so that half of
  # the error stays. Two: the best of them knows both.
  error = statistics.SIGMAS * one.std() / len(one) ** 0.5
  assert abs(one.mean() - 0.005) < error < 0.01 - one.mean()
  assert two.mean() < one.mean() / 5  # of what was left, too
  assert (one.mean() + two.mean()) / 2 < loss < 0.01  # less as it learns


def test_loss_of_the_first_decoders():
  """Of 9, 1, 4: the first alone; nine tenths of 1 and a tenth of the mean."""
  images = jnp.array([3.0, 1.0, 2.0]).reshape(1, 3, 1, 1) * jnp.ones(
    (2, 3, 2, 2)
  )
  source = jnp.zeros((2, 2, 2))
  loss = training.list_loss(images, source, jnp.array([1, 3]), mean_weight=0.1)
  # The sum and, of its tenth, a mean, a difference and a product.
  error = statistics.rounding(2, 1.4)
  wanted = [9, 0.9 + 0.1 * 14 / 3]
  np.testing.assert_allclose(loss, wanted, rtol=0, atol=error)
  loss = training.list_loss(images, source, 2, mean_weight=0.1)
  np.testing.assert_allclose(loss, [0.9 + 0.5] * 2, rtol=0, atol=error)


def test_the_loss_is_of_the_decoders_in_use():
  """Slots beyond the list hold the right place; they must not count."""
  places = jnp.zeros((1, 4, 2), jnp.int32).at[:, :, 1].set(1)
  pool = training.Pool(
    jnp.array([1]), jnp.broadcast_to(WORDS[1], (4, 1, 2)),
    jnp.zeros((4, 2, 1, 1)), places, jnp.zeros((1, 4, 2, 1)),
  )  # fmt: skip
  options = dict(config=CONFIG, steps=1, batch_size=3, learning_rate=1e-3)
  _, loss = training.train(KEY, WORDS, pool, **options)
  apart = np.float64(WORDS[0] - WORDS[1])
  wrong, error = (apart**2).mean(), 2 * np.abs(apart).max() * PIXEL
  assert loss == pytest.approx(wrong, rel=0, abs=error)
  both = pool._replace(counts=jnp.array([2]))
  _, loss = training.train(KEY, WORDS, both, **options)
  assert loss == pytest.approx(0.1 * wrong / 2, rel=0, abs=0.1 * error / 2)
  _, loss = training.train(KEY, WORDS, both, **options, mean_weight=0.4)
  assert loss == pytest.approx(0.4 * wrong / 2, rel=0, abs=0.4 * error / 2)
  # Grey codewords add nothing to the answers that it begins with.
  starts = jnp.broadcast_to(WORDS[1], (1, 4, 2, 1, 2))
  begun, grey = pool._replace(starts=starts), np.full_like(WORDS, 0.5)
  _, loss = training.train(KEY, grey, begun, **options)
  assert loss <= PIXEL**2


def test_starts_that_do_not_fit_are_refused():
  """They would be gathered as they are, without an error."""
  pool = _pool(KEY, images=4)._replace(starts=jnp.zeros((2, 3, 2, 1, 2)))
  with pytest.raises(ValueError, match=r'starts must be .* \(2, 4, 2, 1, 2\)'):
    training.train(
      KEY, WORDS, pool, config=CONFIG, steps=1, batch_size=2, learning_rate=0.1
    )


def test_the_rate_falls_to_a_fiftieth():
  optimizer = training._optimizer(10, 0.5)
  one, found = jnp.ones(1), []
  state = optimizer.init(one)
  for _ in range(11):  # Adam moves by its rate under a constant gradient
    with jax.numpy_dtype_promotion('standard'):  # optax mixes types
      update, state = optimizer.update(one, state)
    found.append(-float(update[0]))
  wanted = 0.02 + 0.98 * (1 + np.cos(np.pi * np.arange(11) / 10)) / 2
  # Adam divides by the root of 1 - .999^t, which is as good as its power is.
  error = statistics.rounding(1, 0.5 / (1 - 0.999))
  np.testing.assert_allclose(found, 0.5 * wanted, rtol=error)


def test_classifier_learns_from_draws_of_the_posterior():
  """Means +-1 at deviation 1 overlap: nobody's log loss is below .356.

  Draws are new in every step, so that the loss over all steps is not, either,
  whatever was learnt; and who learns nothing is at log 2.
  """
  mean = jnp.where(jnp.arange(2000) % 2, 1.0, -1.0)[:, None] * jnp.array(
    [[1.0, 0.0]]
  )
  law = stats.norm(1, 1)
  least, square = (
    law.expect(lambda w, n=n: np.logaddexp(0, -2 * w) ** n) for n in (1, 2)
  )
  deviation = np.sqrt(square - least**2)
  error = statistics.SIGMAS * deviation / np.sqrt(STEPS * BATCH)

  def loss(log_std):
    return training.train_classifier(
      KEY, mean, jnp.full((2000, 2), log_std), jnp.arange(2000) % 2,
      num_codewords=8, steps=STEPS, batch_size=BATCH,
    )[1]  # fmt: skip

  assert least - error < loss(0.0) < np.log(2) - error
  assert loss(-9.0) < least - error  # control: the means themselves


def test_classifier_finds_the_quadrants():
  mean = jax.random.normal(KEY, (2000, 2))
  signs = (mean > 0).astype(jnp.int32)
  places = signs[:, 0] + 2 * signs[:, 1]
  params, _ = training.train_classifier(
    KEY, mean, jnp.full_like(mean, -4.0), places, num_codewords=8, steps=STEPS,
    batch_size=BATCH,
  )  # fmt: skip
  depth = np.abs(mean).min(1)  # from the border of its region
  missed = np.asarray(models.classify(params, mean, 4, 8) != places)
  assert missed.mean() < np.mean(depth < statistics.SIGMAS * np.exp(-4))
  assert depth[missed].max(initial=0) < np.median(depth)
  swapped = np.asarray(models.classify(params, -mean, 4, 8) != places)
  assert depth[swapped].max() > np.median(depth)  # control
  # Padding is never used.
  assert int(models.classify(params, 9 * mean, 2, 8).max()) < 2


def test_side_information_finds_its_codeword():
  """Of every decoder; side information that says nothing stays at chance."""
  places = jax.random.randint(KEY, (2000,), 0, 2)
  sign = jnp.where(places, 1.0, -1.0)
  sides = jnp.stack([sign, 3 * sign], 1).reshape(2000, 2, 1, 1)
  options = dict(config=CONFIG, steps=STEPS, batch_size=BATCH)
  params, known = training.train_side_classifier(KEY, sides, places, **options)
  scores = models.side_scores(params, sides, CONFIG)
  assert scores.shape == (2000, 2, 3)
  np.testing.assert_array_equal(
    jnp.argmax(scores, -1), jnp.stack([places] * 2, 1)
  )
  _, loss = training.train_side_classifier(KEY, 0 * sides, places, **options)
  # Not below the entropy of the places; a log loss deviates by log 2 at most
  # while no guess is surer than 3 to 1.
  share = np.mean(places)
  entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
  slack = statistics.SIGMAS * np.log(2) / np.sqrt(STEPS * BATCH)
  assert float(loss) > entropy - slack > float(known)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(steps=0), 'steps'),
    (dict(batch_size=0), 'batch_size'),
    (dict(mean_weight=1.5), 'mean_weight must be from 0 to 1, got 1.5'),
    (dict(codewords=WORDS[:, :, :1]), 'codewords'),
    (
      dict(pool=_pool(KEY)._replace(codewords=jnp.zeros((2, 3, 2)))),
      'codewords',
    ),
  ],
)
def test_bad_input_is_refused(change, message):
  settings = dict(
    codewords=WORDS, pool=_pool(KEY), config=CONFIG, steps=1, batch_size=2,
    learning_rate=1e-3,
  ) | change  # fmt: skip
  with pytest.raises(ValueError, match=message):
    training.train(KEY, **settings)


def test_bad_sizes_are_refused():
  with pytest.raises(ValueError, match='num_codewords'):
    models.CodewordDecoderConfig((2, 2), (1, 1), num_codewords=0)


def test_squared_error_is_per_pixel_and_decoder():
  # Of 64ths: nothing is rounded.
  right = jnp.asarray(np.random.default_rng(0).integers(0, 64, (5, 8, 4)) / 64)
  error = training.squared_error(jnp.stack([right, right + 0.5], 1), right)
  np.testing.assert_array_equal(error, [[0, 0.25]] * 5)
