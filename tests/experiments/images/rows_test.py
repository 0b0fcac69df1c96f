"""Rows of the image table: plain rows, standard errors, the paper beside."""

from types import SimpleNamespace

import numpy as np
import pytest

from configs import vae_digits
from listcoupling.experiments.images import rows


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
  mean, kmeans = rows.plain_rows(config, train, SimpleNamespace(right=test))
  flat = train.reshape(30, 4)
  error = ((test.reshape(3, 4) - flat.mean(0)) ** 2).mean(1)
  assert mean['mse'] == pytest.approx(error.mean())
  assert mean['mse_se'] == pytest.approx(error.std(ddof=1) / np.sqrt(3))
  words = np.stack([flat[1::2].mean(0), flat[::2].mean(0)])
  error = ((test.reshape(3, 1, 4) - words) ** 2).mean(-1).min(1)
  assert kmeans['mse'] == pytest.approx(error.mean(), rel=1e-4)
  assert kmeans['num_messages'] == 2 and kmeans['images'] == 3
  assert kmeans['bits_per_pixel'] == 1 / 4 and mean['bits_per_pixel'] == 0
  assert 10 ** (-kmeans['psnr'] / 10) == pytest.approx(kmeans['mse'])


def test_codec_rows_average_repeats_first():
  """Repeats of one image are not independent: its mean counts once."""
  rng = np.random.default_rng(1)
  values = rng.uniform(size=(2, 5, 7))  # [repeats, measure, images]
  values[:, 4] = np.nan
  job = ('shared_race', 2, 4, 1)
  measured = {'shared_race.2.4.1.1': values}
  (row,) = rows.codec_rows(_config(), measured, {job: (0.3, 256, 1)})
  for place, name in enumerate(('mse', 'mse_mean', 'mse_worst')):
    part = values[:, place].mean(0)
    assert row[name] == pytest.approx(part.mean())
    assert row[f'{name}_se'] == pytest.approx(part.std(ddof=1) / np.sqrt(7))
  assert row['error_rate'] == pytest.approx(values[:, 3].mean())
  assert row['error_bound'] is None and row['repeats'] == 2
  assert row['bits_per_pixel'] == 2 / 32  # of 8 x 4 pixels
  assert (row['beta'], row['num_candidates']) == (0.3, 256)


@pytest.mark.parametrize(
  'dataset, scheme, num_decoders, num_messages, wanted',
  [
    ('mnist', 'gls', 2, 16, 0.0734),
    ('mnist_tfds', 'gls', 4, 64, 0.0564),
    ('mnist', 'shared_race', 2, 16, 0.0783),
    ('mnist', 'gls_kmeans', 1, 4, 0.1027),
    ('mnist', 'side_only', 1, 4, None),
    ('cifar10_4k', 'gls', 2, 64, 0.0616),
    ('cifar10_4k', 'shared_race', 2, 64, None),
    ('digits', 'gls', 2, 16, None),
  ],
)
def test_the_papers_figures(
  dataset, scheme, num_decoders, num_messages, wanted
):
  found = rows.paper_mse(dataset, scheme, num_decoders, num_messages)
  assert found == wanted


def test_every_decoder_of_a_list_is_counted():
  error = np.array([[0.4, 0.1], [0.2, 0.6]])
  found = np.array([[False, True], [False, False]])
  measured = rows.measure(error, found, [0.2, 0.3])
  wanted = [[0.1, 0.2], [0.25, 0.4], [0.4, 0.6], [0, 1], [0.2, 0.3]]
  np.testing.assert_allclose(measured, wanted)
  assert len(measured) == len(rows.MEASURES)
  without = rows.measure(error, error * np.nan, error[:, 0] * np.nan)
  assert np.isnan(without[3:]).all()


def test_the_text_says_where_the_list_quantiser_is_not_reached():
  def row(scheme, gap, error=0.001, **more):
    cell = {'num_decoders': 2, 'num_messages': 4, 'num_groups': 1, 'mse': 0.1}
    gap = {} if gap is None else {'ahead': gap, 'ahead_se': error}
    return {'scheme': scheme, **cell, **gap, **more}

  found = [
    {'scheme': 'kmeans', 'num_messages': 4, 'mse': 0.1},
    row('list_quantiser', None, bin_size=1, is_chosen=False),
    row('list_quantiser', 0.0021, bin_size=2, is_chosen=True),
    row('list_quantiser', -0.9, bin_size=4, is_chosen=False),
    row('list_quantiser', None, bin_size=1, is_chosen=True),
    row('list_quantiser', -0.0021, bin_size=2, is_chosen=True),
    row('lattice', 0.0019, bin_size=None),
    row('lattice', -0.0019, num_groups=2),
  ]
  *_, lists, lattice = rows.as_text(found).splitlines()
  assert lists == (
    'list_quantiser against the list quantiser without bins, 3 cells: ahead in '
    '1, level in 1, behind in 1; behind at (K L G) 2 4 1 (-0.0021)'
  )
  assert lattice.endswith('2 cells: ahead in 0, level in 2, behind in 0')
  swept = [r | {'side': 'none'} for r in found]
  assert 'behind at (K L G) none 2 4 1 (-' in rows.as_text(swept)
