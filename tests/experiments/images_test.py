"""The image table: every row, files, pictures, refusals."""

import jax
import numpy as np
import pytest

from configs import vae_digits
from listcoupling.experiments import images, results


def _config(**changes):
  config = vae_digits.get_config()
  config.train.model.hidden_size = 16
  config.train.model.side_features = 8
  config.train.model.estimator_size = 8
  config.train.steps = 40
  config.train.steps_per_call = 40
  config.train.num_negatives = 4
  config.num_decoders = (1, 2)
  config.num_messages = (2, 4)
  config.num_candidates = 32
  config.num_images = 12
  config.update(changes)
  return config


def test_table_has_every_row_and_is_reproducible(tmp_path):
  rows = images.run(_config(), tmp_path, seed=1)
  names = [(r['scheme'], r['num_decoders'], r['num_messages']) for r in rows]
  wanted = [('mean_image', None, 1)]
  wanted += [('kmeans', None, m) for m in (2, 4)]
  wanted += [('side_only', k, 1) for k in (1, 2)]
  wanted += [('gls', k, m) for k in (1, 2) for m in (2, 4)]
  wanted += [('cells', k, m) for k in (1, 2) for m in (2, 4)]
  wanted += [('shared_race', 2, m) for m in (2, 4)]
  assert sorted(names, key=str) == sorted(wanted, key=str)
  by_name = dict(zip(names, rows))
  for row in rows:
    assert row['images'] == 12 and 0 < row['mse_se'] < row['mse'] < 1
  assert 0 < by_name['gls', 2, 4]['error_bound'] < 1
  kmeans = [by_name['kmeans', None, m]['mse'] for m in (2, 4)]
  assert by_name['mean_image', None, 1]['mse'] > kmeans[0] > kmeans[1]
  for name in ('rate_distortion.png', 'examples.png'):
    assert (tmp_path / name).read_bytes()[:4] == b'\x89PNG'
  read = results.read_csv(tmp_path / 'results.csv')
  assert [r['mse'] for r in read] == [r['mse'] for r in rows]
  record = results.read_json(tmp_path / 'results.json')
  assert record['config']['train']['beta'] == 0.3
  text = images.as_text(rows)
  assert 'side_only' in text and f'{rows[0]["mse"]:.4f}' in text

  trial = images.setup(_config(), tmp_path, seed=1)  # the model is only read
  row = images.codec_row(trial, _config(), 'gls', 2, 4)
  assert row == {k: by_name['gls', 2, 4].get(k) for k in row}
  _check_side_only(trial, by_name['side_only', 2, 1])


def _check_side_only(trial, row):
  """Against one image and one crop at a time."""
  best = []
  for source, sides in zip(trial.right, trial.trials.sides):
    answers = [
      trial.networks.side_only(trial.params, side[None])[0] for side in sides
    ]
    best.append(min(float(((a - source) ** 2).mean()) for a in answers))
  assert row['mse'] == pytest.approx(np.mean(best), rel=1e-5)


def test_centres_are_padded_with_what_is_never_nearest():
  trial = images.Setup(
    networks=type(
      'Toy',
      (),
      {
        'encode': staticmethod(
          lambda params, x: (x[:, 0], jax.numpy.full(x[:, 0].shape, -9.0))
        )
      },
    ),
    params=None,
    train_right=jax.random.normal(jax.random.key(0), (40, 1, 3)),
    left=None,
    right=None,
    trials=None,
  )
  centres = images.latent_centres(trial, 4, 6)
  assert centres.shape == (6, 3)
  assert np.isfinite(centres[:4]).all() and np.isinf(centres[4:]).all()


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_decoders=(0,)), 'num_decoders'),
    (dict(num_messages=()), 'num_messages'),
    (dict(num_candidates=1), 'num_candidates'),
    (dict(schemes=('lattice',)), 'lattice'),
    (dict(train=dict(estimator_loss='hinge')), 'hinge'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    images.run(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
