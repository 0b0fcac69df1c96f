"""What the codeword decoder learns from, and codecs fitted and chosen."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vae_digits
from listcoupling import gumbel, together
from listcoupling.data import images as image_data
from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec.fits import CodecSetting, CodecSizes
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
    sent = image_fits.make_trials(
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
    _scheme=schemes.SCHEMES['lattice'],
    _model=schemes.Model(fakes.PixelVAE(), ()),
    _codecs=types.SimpleNamespace(
      network=None, options=types.SimpleNamespace(classifier_steps=1)
    ),
  )
  image_fits._Fits._spaces.func(fits)
  learnt, judged = seen['learnt'], seen['judged']
  assert learnt[0] == learnt[1] == list(range(14))
  assert judged[0] == judged[1] == [14, 15]


ONE, TWO = CodecSizes('gls', 1, 4), CodecSizes('shared_race', 2, 4)
CHOICES = {
  code: [CodecSetting(0.3, 8), CodecSetting(0.3, 16)] for code in (ONE, TWO)
}


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
  assert chosen == {ONE: CodecSetting(0.3, 8), TWO: CodecSetting(0.3, 16)}
  assert len(codecs.asked) == 4


def test_without_images_or_a_choice_the_first_is_taken(tmp_path):
  codecs = _Codecs(tmp_path)
  first = {ONE: CodecSetting(0.3, 8), TWO: CodecSetting(0.3, 8)}
  assert codecs.choose('key', None, CHOICES) == first
  single = {code: settings[1:] for code, settings in CHOICES.items()}
  codecs = _Codecs(tmp_path / 'other')
  assert codecs.choose('key', 'held out', single)[ONE] == CodecSetting(0.3, 16)
  assert not codecs.asked


def test_choices_are_kept_and_made_for_what_lacks_one(tmp_path):
  codecs = _Codecs(tmp_path)
  for codes, count in (([ONE], 2), ([ONE], 2), ([ONE, TWO], 4), ([TWO], 4)):
    choices = {code: CHOICES[code] for code in codes}
    chosen = codecs.choose('key', 'held out', choices)
    assert list(chosen) == codes and len(codecs.asked) == count
  path = tmp_path / 'choice' / 'gls.json'
  kept = json.loads(path.read_text())
  assert kept['chosen'][0] == [['gls', 1, 4, 1], [0.3, 8, 1]]
  other = CodecSetting(0.6, 8)  # what was kept is none of these
  assert codecs.choose('key', None, {TWO: [other]}) == {TWO: other}
  assert fits.read_choice(path) == {ONE: CodecSetting(0.3, 8), TWO: other}


def test_what_no_codec_reads_is_not_kept(tmp_path):
  code, setting = CodecSizes('side_only', 2, 1), CodecSetting(0.6, 1)
  chosen = _Codecs(tmp_path).choose('key', 'held out', {code: [setting]})
  assert chosen == {code: setting} and not [*tmp_path.iterdir()]


def test_side_information_is_answered_by_the_vae_that_is_named(monkeypatch):
  codecs = image_fits.Codecs.__new__(image_fits.Codecs)
  codecs.models = {0.3: 'first', 0.6: 'second'}
  monkeypatch.setattr(image_fits, '_answer_sides', lambda *args: args)
  code = CodecSizes('side_only', 2, 1)
  sent = codecs.send(code, 'trials', CodecSetting(0.6, 1))
  assert sent == ('second', 'trials', 2)


def test_a_scheme_is_fitted_on_the_vaes_that_a_table_fits_it_on():
  config = vae_digits.get_config()
  for betas, own, wanted in (
    ((), (), (0.3,)), ((0.1, 0.6), (), (0.1, 0.6)), ((0.1, 0.6), (0.6,), (0.6,))
  ):  # fmt: skip
    config.betas, config.refine.betas = betas, own
    assert image_fits.fitted_betas(config, 'lattice') == wanted
    assert image_fits.fitted_betas(config, 'list_quantiser') == (None,)


def _digits():
  config = vae_digits.get_config()
  config.train.model.side_features = 8
  config.refine.update(
    num_kmeans=100, classifier_steps=2, steps=2, batch_size=8, hidden_size=8
  )
  return config


def _codecs(config, workdir, num_decoders=(2,), num_messages=4):
  return image_fits.Codecs(
    config.train, workdir, image_data.load_halves('digits'), {}, config.refine,
    num_decoders=num_decoders, num_messages=num_messages,
  )  # fmt: skip


@pytest.fixture(scope='module')
def fitted(tmp_path_factory):
  """A list quantiser of 4 messages to 2 decoders."""
  workdir, code = tmp_path_factory.mktemp('one'), ('list_quantiser', 2, 4)
  choices = {CodecSizes(*code): [CodecSetting(None, None)]}
  _codecs(_digits(), workdir).fit(choices)
  return workdir, choices


def test_one_codec_is_fitted_without_a_table(fitted):
  trained = fits.load_model(
    fitted[0], scheme='list_quantiser', num_decoders=2, num_messages=4
  )
  assert trained.model.fit.codewords.shape == (8, 32) and trained.reach > 0
  with pytest.raises(ValueError, match='for .2. decoders, not for 4; .*--sch'):
    fits.load_model(
      fitted[0], scheme='list_quantiser', num_decoders=4, num_messages=2
    )


def test_what_cannot_be_fitted_is_refused(tmp_path):
  codecs = _codecs(_digits(), tmp_path)
  code = CodecSizes('list_quantiser', 2, 4, 2)
  for wrong, setting, message in (
    (code, (None, None), 'list quantiser must'),
    (CodecSizes('lattice', 2, 4), (0.3, None, 2), 'lattice must be 1, got 2'),
    (CodecSizes('lattice', 3, 4, 2), (0.3, None), 'num_groups'),
    (CodecSizes('lattice', 2, 4, 2), (0.3, None), 'needs a VAE of beta 0.3'),
  ):
    with pytest.raises(ValueError, match=message):
      codecs.fit({wrong: [CodecSetting(*setting)]})
  config = _digits()
  del config.refine.steps, config.refine.num_images
  with pytest.raises(ValueError, match='must have num_images, steps;'):
    _codecs(config, tmp_path)


def _with(config, name, value):
  config.update_from_flattened_dict({name: value})
  return config


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('refine.steps', 3, r'steps \(2, now 3\)'),
    ('refine.mean_weight', 0.2, r'mean_weight \(0\.1, now 0\.2\)'),
    ('refine.hidden_size', 16, r'hidden_size \(8, now 16\)'),
    ('train.seed', 1, r'seed \(0, now 1\)'),
    ('train.side_noise', 0.5, r'side_noise \(0\.0, now 0\.5\)'),
  ],
)
def test_a_fit_made_in_another_way_is_refused(fitted, name, value, message):
  workdir, choices = fitted
  codecs = _codecs(_with(_digits(), name, value), workdir)
  for call in (codecs.check, codecs.fit):
    with pytest.raises(ValueError, match=f'quantiser_8.*{message}; choose an'):
      call(choices)


def test_a_fit_for_other_list_sizes_is_refused_else_it_is_read(
  fitted, tmp_path, monkeypatch
):
  def refuse(*_, **__):
    raise AssertionError('made again')

  monkeypatch.setattr(image_fits.training, 'train', refuse)
  workdir, choices = fitted
  # As many codewords, for other decoders; and for more than these two.
  other = {CodecSizes('list_quantiser', 4, 2): [CodecSetting(None, None)]}
  with pytest.raises(ValueError, match=r'num_decoders \(\[2\], now \[4\]\)'):
    _codecs(_digits(), workdir, (4,), 2).fit(other)
  with pytest.raises(ValueError, match=r'max_decoders \(2, now 4\)'):
    _codecs(_digits(), workdir, (2, 4)).fit(choices)
  codecs = _codecs(_digits(), workdir)
  codecs.fit(choices)
  with pytest.raises(AssertionError, match='made again'):  # else it would be
    _codecs(_digits(), tmp_path).fit(choices)
  # Of a file that does not say how it was made what it says counts.
  path = fits.fit_path(tmp_path, 'list_quantiser', 8)
  kept = fits.read_fit(fits.fit_path(workdir, 'list_quantiser', 8))
  fits.write_fit(path, kept._replace(recipe=None))
  _codecs(_with(_digits(), 'refine.steps', 3), tmp_path).fit(choices)
  with pytest.raises(ValueError, match=r'hidden_size \(8, now 16\)'):
    _codecs(_with(_digits(), 'refine.hidden_size', 16), tmp_path).fit(choices)


def test_another_fit_is_refused_before_a_vae_is_trained(
  fitted, tmp_path, monkeypatch
):
  def refuse(*_, **__):
    raise AssertionError('trained')

  monkeypatch.setattr(image_fits.vae_training, 'train', refuse)
  code = CodecSizes('gls_kmeans', 2, 8)
  kept = fits.read_fit(fits.fit_path(fitted[0], 'list_quantiser', 8))
  path = fits.fit_path(tmp_path, 'gls_kmeans', 8, 0.3)
  fits.write_fit(path, kept)
  with pytest.raises(ValueError, match=r'num_codewords \(8, now 16\)'):
    image_fits.fit_codec(_digits(), tmp_path, code)
  # On which VAE it was fitted cannot be known yet.
  sizes = dataclasses.replace(kept.fit.config, num_codewords=16)
  kept = kept._replace(
    fit=kept.fit._replace(config=sizes), recipe={'vae_digest': '0'}
  )
  fits.write_fit(path, kept)
  with pytest.raises(AssertionError, match='trained'):
    image_fits.fit_codec(_digits(), tmp_path, code)
  wrong = _with(_digits(), 'train.beta', -1.0)
  with pytest.raises(ValueError, match='beta must be positive'):
    image_fits.fit_codec(wrong, tmp_path, code)


def test_a_process_without_the_images_tells_the_others(tmp_path, monkeypatch):
  told = []

  def gather(x):  # the other process is well
    told.append(int(x))
    return np.stack([x, np.zeros_like(x)])

  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(
    together.multihost_utils, 'process_allgather', lambda x: gather(x)
  )
  config = _with(_digits(), 'train.data_dir', str(tmp_path / 'none'))
  config = _with(config, 'train.dataset', 'mnist')
  with pytest.raises((ValueError, FileNotFoundError)):
    image_fits.fit_codec(config, tmp_path, CodecSizes('list_quantiser', 2, 4))
  assert told == [together._FAILED]
