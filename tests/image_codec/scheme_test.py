"""The schemes: by hand, their laws, and what does not depend on what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.compression import codec, lattices
from listcoupling.data import side_information
from listcoupling.image_codec import scheme as schemes
from listcoupling.models import codeword_decoder
from tests import floats, statistics
from tests.image_codec import fakes

R, N, K, V, S = 1500, 128, 2, 0.1, 0.3
SHIFT = 0.2
KEY = gumbel.seed_key(0)
GLS = schemes.SCHEMES['gls']


def _posterior(t):
  """W | T = t for W = A + N(0, V), T = A + N(0, S), W ~ N(0, 1)."""
  return (1 - V) * t / (1 - V + S), 1 - (1 - V) ** 2 / (1 - V + S)


@jax.tree_util.register_static
class _Toy(fakes.PixelVAE):
  """A linear Gaussian model: pixel of the right half -> W, exact odds."""

  variance = V

  def estimate(self, params, latents, side):
    w, (mean, variance) = latents[..., 0], _posterior(side[..., 0, 0])
    return 0.5 * (w**2 - (w - mean) ** 2 / variance) - 0.5 * jnp.log(variance)

  def decode(self, params, latent, side):
    return params * latent[:, :, None] + SHIFT * side


TOY = schemes.Model(_Toy(), jnp.float32(2.0))


def _settings(num_messages=8, num_candidates=N, num_decoders=K, **changes):
  return schemes.Settings(num_candidates, num_decoders, num_messages, **changes)


@functools.partial(jax.jit, static_argnums=3)
def _prepare(key, right, sides, settings):
  return GLS.prepare(
    key, jnp.arange(len(right), dtype=jnp.int32), TOY, settings,
    images=right, sides=sides,
  )  # fmt: skip


@pytest.fixture(scope='module')
def images():
  """Sources [R, 1, 1] and side information [R, K, 1, 1]."""
  source, *sides = jax.random.normal(jax.random.key(9), (1 + K, R, 1, 1))
  source = jnp.sqrt(1 - V) * source
  return source, jnp.stack([source + jnp.sqrt(S) * x for x in sides], 1)


@pytest.fixture(scope='module')
def prepared(images):
  return _prepare(KEY, *images, _settings())


@functools.partial(jax.jit, static_argnums=2)
def _transmit(prepared, images, settings):
  """(encoding, decoding, bound) of all images at once."""
  decoders = jnp.arange(settings.num_decoders, dtype=jnp.int32)
  encoding = GLS.encode(TOY, prepared, images[0], settings)
  decoding = GLS.decode(
    TOY, prepared, encoding.message, images[1], decoders, settings
  )
  bound = schemes.error_bound(prepared, encoding.index, settings)
  return encoding, decoding, bound


def _missed(sent):
  encoding, decoding, _ = sent
  return 1 - np.asarray((decoding.index == encoding.index[:, None]).any(1))


def test_all_at_once_is_one_by_one(images, prepared):
  settings = _settings()
  encoding, decoding, _ = _transmit(prepared, images, settings)
  book = schemes.draw_codebook(KEY, jnp.arange(R), N, 1)
  labels = schemes.draw_labels(book, settings)
  for r in range(3):
    weights = schemes.encoder_log_weights(
      2.0, images[0][r], book.latents[r], TOY.networks
    )
    one = codec.encode(book.race_keys[r], weights, labels[r], num_decoders=K)
    assert one.message == encoding.message[r]
    assert one.index == encoding.index[r]
    for k in range(K):
      side = images[1][r, k]
      choice = codec.decode(
        book.race_keys[r],
        TOY.networks.estimate(2.0, book.latents[r], side),
        labels[r], one.message, decoder=k, num_decoders=K,
      )  # fmt: skip
      assert choice == decoding.index[r, k]
      wanted = 2 * book.latents[r, choice, 0], SHIFT * side[0, 0]
      error = statistics.rounding(2, np.abs(wanted).sum())  # product and sum
      assert abs(decoding.images[r, k, 0, 0] - sum(wanted)) <= error


def test_an_encoder_sees_no_side_and_a_decoder_no_image(images, prepared):
  settings, few = _settings(), (images[0][:9], images[1][:9])
  encoding, decoding, _ = _transmit(prepared, images, settings)
  blind = _prepare(KEY, few[0], None, settings)
  assert blind.decoder_log_weights is None
  sent = GLS.encode(TOY, blind, few[0], settings)
  np.testing.assert_array_equal(sent.message, encoding.message[:9])
  rows = jnp.arange(9, dtype=jnp.int32)
  for k in range(K):
    own = few[1][:, k : k + 1]
    heard = GLS.prepare(KEY, rows, TOY, settings, sides=own)
    assert heard.encoder_log_weights is None
    found = GLS.decode(TOY, heard, sent.message, own, jnp.array([k]), settings)
    np.testing.assert_array_equal(found.index[:, 0], decoding.index[:9, k])


def test_decoders_race_by_the_odds(images):
  """exp(logit), not the probability: they differ where a logit is large."""
  settings = _settings(2, 64, 1)
  sides = jnp.broadcast_to(images[1][:1, :1], (60, 1, 1, 1))
  prepared = _prepare(KEY, images[0][:60], sides, settings)
  messages = jnp.ones(60, jnp.int32)
  found = GLS.decode(
    TOY, prepared, messages, sides, jnp.array([0]), settings
  ).index[:, 0]
  labels = schemes.draw_labels(prepared.codebook, settings)
  by_probability = []
  for r in range(60):
    logits = np.asarray(prepared.decoder_log_weights[r, 0], float)
    times = np.asarray(gumbel.exponential(prepared.codebook.race_keys[r], 64))
    times = np.where(labels[r] == 1, times, np.inf)
    odds = np.exp(logits)
    assert found[r] == np.argmin(times / odds)
    by_probability.append(np.argmin(times * (1 + odds) / odds))
  assert np.any(found != np.array(by_probability))


def test_latents_labels_races_and_crops_have_keys_of_their_own():
  book = schemes.draw_codebook(KEY, jnp.arange(2, dtype=jnp.int32), 9, 2)
  bits = [
    jax.random.key_data(x).tolist()
    for x in (
      KEY, *book.race_keys, *book.label_keys,
      *(gumbel.domain_key(KEY, gumbel.Domain.CODEBOOK, r) for r in range(2)),
      *(
        gumbel.domain_key(KEY, gumbel.Domain.SIDE_INFORMATION, r, k)
        for r in range(2)
        for k in range(2)
      ),
      gumbel.domain_key(KEY, gumbel.Domain.TRAINING_STEP, 0),
      gumbel.domain_key(KEY, gumbel.Domain.MODEL_INIT),
    )
  ]  # fmt: skip
  assert len({tuple(x) for x in bits}) == len(bits)
  left = jnp.arange(200.0).reshape(1, 20, 10)
  crops = side_information.draw_sides(KEY, left, left, 2, (1, 1))
  assert crops[0, 0] != crops[0, 1]


def test_more_decoders_and_images_leave_the_first_alone(images, prepared):
  more = _prepare(
    KEY, images[0][:7],
    jnp.concatenate([images[1][:7], images[1][:7, :1]], 1), _settings(),
  )  # fmt: skip
  # Their programs are others: of other sizes.
  latents, sides = prepared.codebook.latents[:7], images[1][:7]

  def drawn(uniform):
    return np.sqrt(2, dtype=np.float32) * jax.scipy.special.erfinv(uniform)

  def weights(uniform):
    return jnp.stack(
      [
        TOY.networks.estimate(2.0, drawn(uniform), sides[:, k, None])
        for k in range(K)
      ],
      1,
    )

  uniform = jax.scipy.special.erf(latents / np.sqrt(2, dtype=np.float32))
  for found, wanted, formula in (
    (more.codebook.latents, latents, drawn),
    (
      more.decoder_log_weights[:, :K],
      prepared.decoder_log_weights[:7],
      weights,
    ),
  ):
    error = floats.apart(formula, uniform)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=error)
    with pytest.raises(AssertionError):  # control: of other images
      np.testing.assert_allclose(found[::-1], wanted, rtol=0, atol=error)


def _misled(prepared):
  """Decoders that go by the inverse of the odds."""
  return prepared._replace(
    decoder_log_weights=-3 * prepared.decoder_log_weights
  )


def _excess(missed, bound):
  """Mean of errors less their bound, in standard errors."""
  excess = missed - np.asarray(bound)
  return excess.mean() / excess.std() * np.sqrt(R)


@pytest.mark.parametrize('num_candidates', [8, N])
def test_errors_obey_the_bound_of_their_codebook(images, num_candidates):
  settings = _settings(4, num_candidates)
  prepared = _prepare(KEY, *images, settings)
  for scale in (1.0, 0.3):  # a poor estimator obeys it too
    weights = scale * prepared.decoder_log_weights
    scaled = prepared._replace(decoder_log_weights=weights)
    sent = _transmit(scaled, images, settings)
    assert _excess(_missed(sent), sent[2]) < statistics.SIGMAS
    missed = _missed(_transmit(_misled(prepared), images, settings))
    assert _excess(missed, sent[2]) > statistics.SIGMAS  # control


def test_one_shared_race_is_not_a_race_for_each(images, prepared):
  apart = _transmit(prepared, images, _settings())
  shared = _transmit(prepared, images, _settings(shared_race=True))
  assert np.any(apart[0].index != shared[0].index)
  alike = [
    np.mean(x[1].index[:, 0] == x[1].index[:, 1]) for x in (apart, shared)
  ]
  assert alike[1] > alike[0] + statistics.SIGMAS * 0.5 / np.sqrt(R)


def test_candidates_follow_the_prior(prepared):
  sample = np.asarray(prepared.codebook.latents[:100]).ravel()
  statistics.assert_mean(sample, 0)
  statistics.assert_mean(sample**2, 1)


@pytest.mark.parametrize('labels', ['random', 'balanced', 'lattice'])
def test_every_kind_of_label_finds_its_way(images, labels):
  settings = _settings(labels=labels, width=0.5 * (labels == 'lattice'))
  few = images[0][:200], images[1][:200]
  prepared = _prepare(KEY, *few, settings)
  encoding, decoding, _ = sent = _transmit(prepared, few, settings)
  found = schemes.draw_labels(prepared.codebook, settings)
  own = jnp.take_along_axis(found, encoding.index[:, None], 1)[:, 0]
  np.testing.assert_array_equal(own, encoding.message)
  heard = jnp.take_along_axis(found, decoding.index, 1)
  np.testing.assert_array_equal(heard, encoding.message[:, None] + 0 * heard)
  # Against decoders that see the side information of the image before.
  other = prepared._replace(
    decoder_log_weights=jnp.roll(prepared.decoder_log_weights, 1, 0)
  )
  gain = _missed(_transmit(other, few, settings)) - _missed(sent)
  assert gain.mean() > statistics.SIGMAS * gain.std() / np.sqrt(len(gain))


def test_every_decoder_looks_at_candidates_of_its_group(images, prepared):
  settings = _settings(4, num_groups=K)
  encoding, decoding, _ = sent = _transmit(prepared, images, settings)
  labels = schemes.draw_labels(prepared.codebook, settings)
  own = jnp.take_along_axis(labels, encoding.index[:, None], 1)[:, 0]
  np.testing.assert_array_equal(own // K, encoding.message)
  heard = np.asarray(jnp.take_along_axis(labels, decoding.index, 1))
  np.testing.assert_array_equal(heard % K, np.arange(K) + 0 * heard)
  np.testing.assert_array_equal(
    heard // K, encoding.message[:, None] + 0 * heard
  )
  found = decoding.index == encoding.index[:, None]
  assert not found.all(1).any()
  assert _excess(_missed(sent), sent[2]) < statistics.SIGMAS
  missed = _missed(_transmit(_misled(prepared), images, settings))
  assert _excess(missed, sent[2]) > statistics.SIGMAS  # control


@pytest.fixture(scope='module')
def fitted():
  """A VAE with a fit that looks at everything, and images: B, 4 of them."""
  model = fakes.random_model(0, 12)
  rng = np.random.default_rng(2)
  right = jnp.asarray(rng.uniform(size=(5, 8, 4)), jnp.float32)
  sides = jnp.asarray(rng.uniform(size=(5, K, 3, 3)), jnp.float32)
  return model, right, sides


def _answers(fit, codewords, latents, sides, count, starts=None):
  """[B, K] answers, one decoder after the other."""
  counts = jnp.full(len(codewords), count, jnp.int32)
  return np.stack([
    codeword_decoder.decode(
      fit.params, codewords[:, k : k + 1], latents[:, k : k + 1],
      sides[:, k : k + 1], counts, fit.config,
      None if starts is None else starts[:, k : k + 1],
    )[:, 0]
    for k in range(codewords.shape[1])
  ], axis=1)  # fmt: skip


@pytest.mark.parametrize('count', [1, 2])
def test_list_quantiser_by_hand(fitted, count):
  """Of all L K words the nearest is with its owner, alone."""
  model, right, sides = fitted
  scheme, settings = (
    schemes.SCHEMES['list_quantiser'],
    _settings(12 // count, 12, count),
  )
  assert scheme.num_codewords(count, 12 // count, 1, 1) == 12
  assert scheme.prepare(KEY, None, model, settings) is None
  encoding = scheme.encode(model, None, right, settings)
  flat = np.asarray(right).reshape(5, -1)
  own = ((flat[:, None] - model.fit.codewords) ** 2).sum(-1).argmin(1)
  np.testing.assert_array_equal(encoding.index, own)
  np.testing.assert_array_equal(encoding.message, own // count)
  decoders = jnp.arange(count, dtype=jnp.int32)
  out = scheme.decode(
    model, None, encoding.message, sides[:, :count], decoders, settings
  )
  held = own[:, None] // count * count + np.arange(count)
  np.testing.assert_array_equal(out.index, held)
  wanted = _answers(
    model.fit, jnp.asarray(held), jnp.zeros((5, count, 4)), sides, count
  )
  fakes.assert_answers(out.images, wanted)


def test_a_bin_is_decided_by_side_information(fitted):
  """Of the words of a message, its decoder's most likely; found is found."""
  _, right, sides = fitted
  fit = fakes.random_fit(0, 12, 'sides')
  model = schemes.Model(fit=fit)
  scheme = schemes.SCHEMES['list_quantiser']
  settings = _settings(2, 12, K, bin_size=3)
  assert scheme.num_codewords(K, 2, 1, 3) == 12
  encoding = scheme.encode(model, None, right, settings)
  np.testing.assert_array_equal(encoding.message, encoding.index // K % 2)
  out = scheme.decode(
    model, None, encoding.message, sides, jnp.arange(K), settings
  )
  scores = codeword_decoder.side_scores(fit.classifier, sides, fit.config)
  for r, m in enumerate(encoding.message.tolist()):
    for k in range(K):
      own = [j for j in range(12) if j % K == k and j // K % 2 == m]
      assert len(own) == 3
      best = max(own, key=lambda j: scores[r, k, j])
      assert out.index[r, k] == best
  fakes.assert_answers(
    out.images, _answers(fit, out.index, jnp.zeros((5, K, 4)), sides, K)
  )  # fmt: skip
  # One decoder asked alone, and the control: other sides, other words.
  alone = scheme.decode(
    model, None, encoding.message, sides[:, 1:], jnp.array([1]), settings
  )
  np.testing.assert_array_equal(alone.index[:, 0], out.index[:, 1])
  other = scheme.decode(
    model, None, encoding.message, 9 - 20 * sides, jnp.arange(K), settings
  )
  assert np.any(other.index != out.index)


def test_gls_kmeans_by_hand(fitted):
  model, right, sides = fitted
  fit = model.fit._replace(codewords=model.fit.codewords[:4])
  model, settings = model._replace(fit=fit), _settings(4, 40)
  scheme = schemes.SCHEMES['gls_kmeans']
  rows = jnp.arange(5, dtype=jnp.int32)
  prepared = scheme.prepare(
    KEY, rows, model, settings, images=right, sides=sides
  )
  latents = prepared.codebook.latents
  labels = codeword_decoder.classify(
    fit.classifier, latents, 4, fit.config.num_codewords
  )
  assert len(np.unique(labels)) > 2 and labels.max() < 4
  flat = np.asarray(right, np.float64).reshape(5, 1, -1)
  distance = ((flat - fit.codewords) ** 2).sum(-1)  # [B, L]
  penalty = 100 * np.take_along_axis(distance, np.asarray(labels), 1)
  weights = prepared.encoder_log_weights - jnp.asarray(penalty, jnp.float32)
  encoding = scheme.encode(model, prepared, right, settings)
  decoders = jnp.arange(K, dtype=jnp.int32)
  out = scheme.decode(
    model, prepared, encoding.message, sides, decoders, settings
  )
  for r in range(5):
    one = codec.encode(
      prepared.codebook.race_keys[r], weights[r], labels[r], num_decoders=K
    )
    assert one == (encoding.index[r], encoding.message[r])
    for k in range(K):
      choice = codec.decode(
        prepared.codebook.race_keys[r], prepared.decoder_log_weights[r, k],
        labels[r], one.message, decoder=k, num_decoders=K,
      )  # fmt: skip
      assert choice == out.index[r, k]
      np.testing.assert_array_equal(out.latent[r, k], latents[r, choice])
  held = jnp.repeat(encoding.message[:, None], K, 1)
  wanted = _answers(fit, held, out.latent, sides, K)
  fakes.assert_answers(out.images, wanted)
  untrained = model._replace(fit=fit._replace(params=None))
  early = scheme.decode(
    untrained, prepared, encoding.message, sides, decoders, settings
  )
  assert early.images is None
  np.testing.assert_array_equal(early.codeword, held)


def test_lattice_by_hand(fitted):
  """Dither, messages and points one image and one decoder at a time."""
  model, right, sides = fitted
  fit = fakes.random_fit(0, 8, 'lattice')
  model, settings = model._replace(fit=fit), _settings(4, 1, num_groups=K)
  scheme, rows = schemes.SCHEMES['lattice'], jnp.arange(5, dtype=jnp.int32)
  assert scheme.num_codewords(K, 4, K, 1) == 8
  keys = scheme.prepare(KEY, rows, model, settings)
  encoding = scheme.encode(model, keys, right, settings)
  out = scheme.decode(
    model, keys, encoding.message, sides, jnp.arange(K), settings
  )
  code = lattices.make_code('Z', 4, num_groups=K, size=4)
  space = schemes.LatticeSpace(**fit.classifier)
  back = np.abs(np.linalg.inv(space.transform)) @ np.abs(space.transform)
  latents, _ = model.networks.encode(model.params, right)
  means = codeword_decoder.side_scores(space.mean, sides, fit.config, 4)
  for r in range(5):
    key = gumbel.domain_key(KEY, gumbel.Domain.DITHER, r)
    held = lattices.dither(key, (), code), space.period, code
    sent = lattices.encode(latents[r] @ space.transform, *held)
    assert encoding.message[r] == sent
    for k in range(K):
      mean = means[r, k] @ space.transform
      word = lattices.decode(sent, mean, *held, decoder=k)
      point = out.latent[r, k] @ space.transform
      # An inverse, thrice its size, and two products are rounded by halves.
      error = statistics.rounding((3 + 2) * 4 / 2, (np.abs(word) @ back).max())
      np.testing.assert_allclose(point, word, rtol=0, atol=error)
      assert out.index[r, k] == lattices.number(word, *held)
      assert out.index[r, k] % 8 == sent * K + k  # its own coset
  # The network betters the VAE's answer to the point, which training sees.
  untrained = model._replace(fit=fit._replace(params=None))
  start = scheme.decode(
    untrained, keys, encoding.message, sides, jnp.arange(K), settings
  ).images
  for k in range(K):
    vae_answer = model.networks.decode(
      model.params, out.latent[:, k], sides[:, k]
    )
    fakes.assert_answers(start[:, k], vae_answer)
  wanted = _answers(fit, jnp.zeros((5, K), int), out.latent, sides, K, start)
  fakes.assert_answers(out.images, wanted)
  # Of decoders that know the latent, the owner of the point finds it, alone.
  known = jnp.broadcast_to(latents[:, None], means.shape)
  index, _ = schemes.decode_lattice(
    space, keys, known, encoding.message, jnp.arange(K), code
  )
  found = np.asarray(index == encoding.index[:, None])
  np.testing.assert_array_equal(found.sum(1), 1)
  # One decoder asked alone, and the control: other sides, other points.
  alone = scheme.decode(
    model, keys, encoding.message, sides[:, 1:], jnp.array([1]), settings
  )
  np.testing.assert_array_equal(alone.index[:, 0], out.index[:, 1])
  other = scheme.decode(
    model, keys, encoding.message, 90 * sides, jnp.arange(K), settings
  )
  assert np.any(other.index != out.index)


@pytest.mark.parametrize('name', ['gls', 'gls_kmeans'])
def test_memory_does_not_grow_with_the_images(fitted, name):
  """Candidates are weighed and labelled an image at a time."""
  model, settings, count = fitted[0], _settings(4, 50), 50

  def weigh(latents, sides):
    del latents
    rows = jnp.arange(len(sides), dtype=jnp.int32)
    return GLS.prepare(KEY, rows, model, settings, sides=sides)[2]

  def label(latents, sides):
    del sides
    book = schemes.Codebook(latents, None, None)
    prepared = schemes.Prepared(book, None, None)
    return schemes._kmeans_labels(model.fit, prepared, settings)

  function, width = {
    'gls': (weigh, K * fakes.SIZES.estimator_size),
    'gls_kmeans': (label, fakes.NUM_CODEWORDS),
  }[name]

  def scratch(images):
    arrays = jnp.zeros((images, count, 4)), jnp.zeros((images, K, 3, 3))
    compiled = jax.jit(function).lower(*arrays).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  layer = 4 * count * width  # bytes of one image's hidden layer or logits
  assert scratch(320) - scratch(64) < 256 * layer / 2


def test_keys_of_fits_stay_those_of_their_schemes():
  """Fits and figures hang on these numbers; a new scheme takes a new one."""
  numbers = {name: own.number for name, own in schemes.SCHEMES.items()}
  assert numbers == dict(gls=0, gls_kmeans=1, list_quantiser=2, lattice=3)
