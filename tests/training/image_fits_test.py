"""What the codeword decoder learns from, and codecs fitted and chosen."""

import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from configs import vae_digits
from listcoupling import gumbel
from listcoupling.data import images as image_data
from listcoupling.image_codec import fits, trials
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec.fits import Code, Setting
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
    _codecs=types.SimpleNamespace(
      network=None, options=types.SimpleNamespace(classifier_steps=1)
    ),
  )
  image_fits._Fits._spaces.func(fits)
  learnt, judged = seen['learnt'], seen['judged']
  assert learnt[0] == learnt[1] == list(range(14))
  assert judged[0] == judged[1] == [14, 15]


ONE, TWO = Code('gls', 1, 4), Code('shared_race', 2, 4)
CHOICES = {code: [Setting(0.3, 8), Setting(0.3, 16)] for code in (ONE, TWO)}


class _Codecs(image_fits.Codecs):
  """Errors as if images were sent: 16 candidates suit two decoders."""

  def __init__(self, workdir):
    self.workdir, self.asked = workdir, []

  def prepare(self, key, halves, code, setting):
    return key, halves, setting

  def send(self, code, trials, setting):
    assert trials == ('key', 'held out', setting)
    self.asked.append((code, setting))
    # Best of K: 16 is better; the mean over decoders or the first: 8 is.
    good = [0.5, 0.5] if setting.num_candidates == 8 else [0.9, 0.1]
    return types.SimpleNamespace(
      error=np.array([good[: code.num_decoders]] * 3)
    )


def test_the_setting_whose_best_decoder_errs_least_is_chosen(tmp_path):
  codecs = _Codecs(tmp_path)
  chosen = codecs.choose('key', 'held out', CHOICES)
  assert chosen == {ONE: Setting(0.3, 8), TWO: Setting(0.3, 16)}
  assert len(codecs.asked) == 4


def test_without_images_or_a_choice_the_first_is_taken(tmp_path):
  codecs = _Codecs(tmp_path)
  first = {ONE: Setting(0.3, 8), TWO: Setting(0.3, 8)}
  assert codecs.choose('key', None, CHOICES) == first
  single = {code: settings[1:] for code, settings in CHOICES.items()}
  codecs = _Codecs(tmp_path / 'other')
  assert codecs.choose('key', 'held out', single)[ONE] == Setting(0.3, 16)
  assert not codecs.asked


def test_a_choice_is_kept_and_made_again_for_more_codecs(tmp_path):
  codecs = _Codecs(tmp_path)
  for codes, count in (([ONE], 2), ([ONE], 2), ([ONE, TWO], 6), ([TWO], 6)):
    choices = {code: CHOICES[code] for code in codes}
    chosen = codecs.choose('key', 'held out', choices)
    assert list(chosen) == codes and len(codecs.asked) == count
  kept = json.loads((tmp_path / 'choice' / 'gls.json').read_text())
  assert kept['chosen'][0] == [['gls', 1, 4, 1], [0.3, 8, 1]]


def test_one_codec_is_fitted_without_a_table(tmp_path):
  config = vae_digits.get_config()
  config.train.model.side_features = 8
  config.refine.update(
    num_kmeans=100, classifier_steps=2, steps=2, batch_size=8, hidden_size=8
  )
  codecs = image_fits.Codecs(
    config.train, tmp_path, image_data.load_halves('digits'), {}, config.refine,
    num_decoders=[2], num_messages=4,
  )  # fmt: skip
  code = Code('list_quantiser', 2, 4)
  codecs.fit({code: [Setting(None, None)]})
  trained = fits.load_model(
    tmp_path, scheme='list_quantiser', num_decoders=2, num_messages=4
  )
  assert trained.model.fit.codewords.shape == (8, 32) and trained.reach > 0
  for wrong, setting, message in (
    (code._replace(num_groups=2), Setting(None, None), 'list quantiser must'),
    (Code('lattice', 2, 4), Setting(0.3, None, 2), 'lattice must be 1, got 2'),
    (Code('lattice', 3, 4, 2), Setting(0.3, None), 'num_groups'),
  ):
    with pytest.raises(ValueError, match=message):
      codecs.fit({wrong: [setting]})
