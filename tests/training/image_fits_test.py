"""What the codeword decoder learns from: the outcomes of the codec."""

import types

import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel
from listcoupling.data import images as image_data
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec import trials
from listcoupling.training import image_fits
from tests.image_codec import fakes


def test_pools_hold_what_the_schemes_deliver():
  """The first K of each list size; the slots beyond repeat the first."""
  model = fakes.random_model(0, 4)
  rng = np.random.default_rng(0)
  halves = image_data.Halves(*rng.uniform(size=(2, 5, 8, 4)).astype(np.float32))
  for name, num_messages, fit in (
    ('gls_kmeans', (4, 4), model.fit),
    ('list_quantiser', (4, 2), model.fit),
    ('lattice', (4, 4), fakes.random_fit(0, 4, 'lattice')),
  ):
    model = model._replace(fit=fit._replace(params=None))
    sent = trials.prepare(
      gumbel.seed_key(0), name, model, halves, num_candidates=30,
      num_decoders=2, side_shape=(3, 3),
    )  # fmt: skip
    pool = image_fits.make_pool(name, model, sent, (1, 2), 30)
    assert pool.counts.tolist() == [1, 2]
    for place, count in enumerate((1, 2)):
      settings = schemes.Settings(30, count, num_messages[place])
      prepared = sent.prepared
      if name == 'gls_kmeans':
        weights = prepared.decoder_log_weights[:, :count]
        prepared = prepared._replace(decoder_log_weights=weights)
      scheme = schemes.SCHEMES[name]
      coded = scheme.encode(model, prepared, sent.right, settings)
      heard = scheme.decode(
        model, prepared, coded.message, sent.sides[:, :count],
        jnp.arange(count), settings,
      )  # fmt: skip
      for found, wanted in (
        (pool.codewords, heard.codeword), (pool.latents, heard.latent),
        (pool.starts, heard.images),
      ):  # fmt: skip
        if wanted is None:  # training starts from codewords
          assert found is None and name != 'lattice'
          continue
        np.testing.assert_array_equal(found[place][:, :count], wanted)
        if count == 1:  # a slot beyond the list repeats the first
          np.testing.assert_array_equal(found[place][:, 1:], wanted)


def test_a_lattice_is_placed_on_images_that_its_means_have_not_seen(
  monkeypatch,
):
  images = np.arange(16, dtype=np.float32).reshape(16, 1, 1)
  seen = {}

  def learn(key, sides, latents, **_):
    del key
    seen['learnt'] = sides[:, 0, 0, 0].tolist(), latents[:, 0].tolist()
    return {}, 0.0

  def place(key, mean, right, sides, latents, *_):
    del key, mean
    assert right[:, 0, 0].tolist() == latents[:, 0].tolist()
    seen['judged'] = sides[:, 0, 0, 0].tolist(), latents[:, 0].tolist()

  monkeypatch.setattr(image_fits.training, 'train_side_means', learn)
  monkeypatch.setattr(image_fits.lattice_space, 'prepare', place)
  fits = types.SimpleNamespace(
    _trials=types.SimpleNamespace(right=images, sides=images[:, None]),
    _key=gumbel.seed_key(0),
    _model=schemes.Model(fakes.PixelVAE(), ()),
    _context=types.SimpleNamespace(
      network=None, options=types.SimpleNamespace(classifier_steps=1)
    ),
  )
  image_fits.Fits._spaces.func(fits)
  learnt, judged = seen['learnt'], seen['judged']
  assert learnt[0] == learnt[1] == list(range(14))
  assert judged[0] == judged[1] == [14, 15]
