"""Rows of the image table: plain rows, standard errors, the paper beside."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import vae_digits
from listcoupling.experiments import image_rows, image_trials, images
from listcoupling.training import vae as training


def _config(**changes):
  config = vae_digits.get_config()
  config.update(changes)
  return config


def test_plain_rows_learn_from_training_images_alone():
  rng = np.random.default_rng(0)
  train = np.where(np.arange(30) % 2, 0.25, 0.75)[:, None, None] + 0.01 * (
    rng.normal(size=(30, 2, 2))
  )
  test = np.array([0.0, 0.3, 0.9])[:, None, None] * np.ones((3, 2, 2))
  config = _config(num_messages=(2,))
  config.refine.num_kmeans = 30
  rows = image_rows.plain_rows(config, train, SimpleNamespace(right=test))
  mean, kmeans = rows
  flat = train.reshape(30, 4)
  error = ((test.reshape(3, 4) - flat.mean(0)) ** 2).mean(1)
  assert mean['mse'] == pytest.approx(error.mean())
  assert mean['mse_se'] == pytest.approx(error.std(ddof=1) / np.sqrt(3))
  words = np.stack([flat[1::2].mean(0), flat[::2].mean(0)])
  error = ((test.reshape(3, 1, 4) - words) ** 2).mean(-1).min(1)
  assert kmeans['mse'] == pytest.approx(error.mean(), rel=1e-4)
  assert kmeans['num_messages'] == 2 and kmeans['images'] == 3


def test_codec_rows_average_repeats_first():
  """Repeats of one image are not independent: its mean counts once."""
  rng = np.random.default_rng(1)
  values = rng.uniform(size=(2, 4, 7))  # [repeats, kind, images]
  values[:, 3] = np.nan
  job = ('shared_race', 2, 4)
  errors = {'shared_race.2.4': values}
  (row,) = image_rows.codec_rows(_config(), errors, {job: (0.3, 256)})
  best = values[:, 0].mean(0)
  assert row['mse'] == pytest.approx(best.mean())
  assert row['mse_se'] == pytest.approx(best.std(ddof=1) / np.sqrt(7))
  assert row['mse_every_decoder'] == pytest.approx(values[:, 1].mean())
  assert row['error_rate'] == pytest.approx(values[:, 2].mean())
  assert row['error_bound'] is None and row['repeats'] == 2
  assert (row['beta'], row['num_candidates']) == (0.3, 256)


@pytest.mark.parametrize(
  'dataset, scheme, num_decoders, num_messages, wanted',
  [
    ('mnist', 'gls', 2, 16, 0.0734),
    ('mnist_tfds', 'gls', 4, 64, 0.0564),
    ('mnist', 'shared_race', 2, 16, 0.0783),
    ('mnist', 'cells', 1, 4, 0.1027),
    ('mnist', 'side_only', 1, 4, None),
    ('cifar10_4k', 'gls', 2, 64, 0.0616),
    ('cifar10_4k', 'shared_race', 2, 64, None),
    ('digits', 'gls', 2, 16, None),
  ],
)
def test_the_papers_figures(
  dataset, scheme, num_decoders, num_messages, wanted
):
  config = _config()
  config.train.dataset = dataset
  found = image_rows._paper(config, scheme, num_decoders, num_messages)
  assert found == wanted


def test_settings_are_chosen_on_images_held_out():
  """The best setting of each row, on "select", with a key of no repeat."""
  config = _config(
    num_candidates=(8, 16), num_held_out_images=2, num_decoders=(1, 2),
    num_messages=(4,), schemes=('gls',),
  )  # fmt: skip
  halves = {
    name: training.Halves(*np.full((2, 3, 1, 1), value))
    for name, value in (('train', 0.0), ('select', 1.0), ('test', 2.0))
  }
  keys = []

  def prepare(key, part, beta, num_candidates):
    assert np.all(part.right == 1)  # the held-out images
    keys.append(key)
    return num_candidates

  def send(job, trials, beta, right):
    # Best of K: 16 is better; mean over decoders or the first: 8 is.
    good = [0.5, 0.5] if trials == 8 else [0.9, 0.1]
    errors = good if job[1] == 2 else good[:1]
    return SimpleNamespace(error=np.array([errors] * 2))

  table = SimpleNamespace(
    context=SimpleNamespace(config=config, halves=halves),
    prepare=prepare, send=send,
  )  # fmt: skip
  chosen = image_trials.select(table, images.jobs_of(config), seed=3)
  assert chosen == {('gls', 1, 4): (0.3, 8), ('gls', 2, 4): (0.3, 16)}
  repeats = [jax.random.fold_in(jax.random.key(3), i) for i in range(100)]
  assert not any(key == other for key in keys for other in repeats)
