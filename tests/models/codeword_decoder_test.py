"""Codeword decoder and classifier: where they start, what they may answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.models import codeword_decoder
from tests import statistics

KEY = jax.random.key(3)
CONFIG = codeword_decoder.CodewordDecoderConfig(
  (3, 2), (2, 2), num_codewords=4, latent_size=2, hidden_size=16,
  side_features=8, codeword_features=4, max_decoders=3,
)  # fmt: skip
WORDS = np.random.default_rng(0).uniform(0.02, 0.98, (3, 3, 2))
# Of a pixel: all of its logit, at the slope of the sigmoid, count less than
# one; the sigmoid counts two.
ROUNDING = statistics.rounding(3)


def _batch(size):
  """Codewords, latents, sides and counts, all random."""
  rng = np.random.default_rng(1)
  return (
    jnp.asarray(rng.integers(0, 4, size)),
    jnp.asarray(rng.normal(size=(size, 2)), jnp.float32),
    jnp.asarray(rng.uniform(size=(size, 2, 2)), jnp.float32),
    jnp.asarray(rng.integers(1, 4, size)),
  )


def _decode(params, *batch):
  """One decoder per row: [B], [B, D], [B, h, w], [B] -> [B, H, W]."""
  held = [x[:, None] for x in batch[:3]]
  return codeword_decoder.decode(params, *held, batch[3], CONFIG)[:, 0]


@pytest.fixture(scope='module')
def trained():
  """Parameters that look at everything, as after training."""
  params = codeword_decoder.init_params(KEY, CONFIG, WORDS)
  kernel = jax.random.normal(KEY, params['Dense_3']['kernel'].shape)
  params['Dense_3']['kernel'] = kernel
  return params


def test_starts_at_the_codeword_whatever_else_it_holds():
  params = codeword_decoder.init_params(KEY, CONFIG, WORDS)
  batch = _batch(40)
  out = _decode(params, *batch)
  wanted = np.concatenate([WORDS, np.full((1, 3, 2), 0.5)])  # the rest is grey
  np.testing.assert_allclose(out, wanted[batch[0]], rtol=0, atol=ROUNDING)


def test_starts_at_another_answer_where_codewords_have_no_image(trained):
  params = codeword_decoder.init_params(KEY, CONFIG, np.full((1, 3, 2), 0.5))
  (word, *held, count), starts = _batch(40), np.resize(WORDS, (40, 3, 2))
  held = [x[:, None] for x in (word, *held)]
  starts = jnp.asarray(starts, jnp.float32)[:, None]
  out = codeword_decoder.decode(params, *held, count, CONFIG, starts)
  np.testing.assert_allclose(out, starts, rtol=0, atol=ROUNDING)
  # The network then moves it: logits add.
  one, two = (
    codeword_decoder.decode(trained, *held, count, CONFIG, x)
    for x in (None, starts)
  )
  one, two, starts = (np.asarray(x, np.float64) for x in (one, two, starts))
  plain, found, added = (np.log(x / (1 - x)) for x in (one, two, starts))
  # What an answer is rounded by moves its logit so much more near 0 and 1.
  slack = ROUNDING * sum(1 / (x * (1 - x)) for x in (one, two, starts))
  assert (np.abs(found - plain - added) < slack).all()


def test_black_and_white_codewords_can_still_be_learned_from():
  params = codeword_decoder.init_params(KEY, CONFIG, np.round(WORDS))
  out = _decode(params, *_batch(40))
  least = codeword_decoder._CLIP - ROUNDING
  assert least <= float(out.min()) and float(out.max()) <= 1 - least


@pytest.mark.parametrize('place', range(3))
def test_codeword_latent_and_side_all_matter(trained, place):
  # Without the table: the codeword must reach the network itself too.
  params = trained | {'table': jnp.zeros_like(trained['table'])}
  first = list(_batch(8))
  other = list(first)
  other[place] = (first[place] + 1) % 4
  one, two = (_decode(params, *x) for x in (first, other))
  limit = statistics.rounding(3 * 17)  # of three layers of sums up to 17
  assert (np.abs(one - two).max((1, 2)) > limit).all()


def test_every_count_has_features_of_its_own(trained):
  word, latent, side, _ = (x[:1] for x in _batch(1))

  def answer(params, count):
    return np.asarray(_decode(params, word, latent, side, jnp.array([count])))

  # Rows of the first joint layer: latent, side, codeword, then one per count.
  kernel = trained['Dense_1']['kernel']
  assert kernel.shape[0] == 2 + 8 + 4 + 3
  for row in range(3):
    changed = kernel.at[2 + 8 + 4 + row].add(1.0)
    params = trained | {'Dense_1': trained['Dense_1'] | {'kernel': changed}}
    moved = [
      not np.array_equal(answer(params, count), answer(trained, count))
      for count in (1, 2, 3)
    ]
    assert moved == [count - 1 == row for count in (1, 2, 3)]


def test_the_classifier_never_answers_padding():
  def label(params, latents, used):
    return codeword_decoder.classify(params, latents, used, 5)

  latents = jax.random.normal(KEY, (300, 2))
  model = codeword_decoder.Classifier(5)
  params = model.init(KEY, latents)['params']
  last = params['Dense_2']
  for used in (1, 3, 4):
    # The first padded cell has by far the best score of all.
    bias = last['bias'].at[used].set(1e3)
    sure = params | {'Dense_2': last | {'bias': bias}}
    logits = model.apply({'params': sure}, latents)
    found = label(sure, latents, used)
    np.testing.assert_array_equal(found, np.argmax(logits[:, :used], -1))
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(
    label(params, latents, 5),
    np.argmax(model.apply({'params': params}, latents), -1),
  )


@pytest.mark.parametrize('words', [WORDS[..., :1], np.zeros((5, 3, 2))])
def test_codewords_that_do_not_fit_are_refused(words):
  with pytest.raises(ValueError, match='codewords'):
    codeword_decoder.init_params(KEY, CONFIG, words)
