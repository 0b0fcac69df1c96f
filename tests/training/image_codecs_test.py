"""Codecs of a workdir: the best setting of each, kept."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from configs import vae_digits
from listcoupling.data import images
from listcoupling.image_codec import fits
from listcoupling.image_codec.fits import Code, Setting
from listcoupling.training import image_codecs, image_fits

ONE, TWO = Code('gls', 1, 4), Code('shared_race', 2, 4)
CHOICES = {code: [Setting(0.3, 8), Setting(0.3, 16)] for code in (ONE, TWO)}


class _Codecs(image_codecs.Codecs):
  """Errors as if images were sent: 16 candidates suit two decoders."""

  def __init__(self, workdir):
    super().__init__(SimpleNamespace(workdir=workdir))
    self.asked = []

  def prepare(self, key, halves, code, setting):
    return key, halves, setting

  def send(self, code, trials, setting):
    assert trials == ('key', 'held out', setting)
    self.asked.append((code, setting))
    # Best of K: 16 is better; the mean over decoders or the first: 8 is.
    good = [0.5, 0.5] if setting.num_candidates == 8 else [0.9, 0.1]
    return SimpleNamespace(error=np.array([good[: code.num_decoders]] * 3))


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
  codecs = image_codecs.Codecs(
    image_fits.make_context(
      config.train, tmp_path, images.load_halves('digits'), {}, config.refine,
      num_decoders=[2], num_messages=4,
    )
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
