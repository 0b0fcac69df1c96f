"""The image table: every row, files, pictures, resuming, refusals."""

import shutil

import jax
import numpy as np
import pytest

from configs import vae_digits
from listcoupling.experiments import image_fits, image_trials, images, results


def _config(**changes):
  config = vae_digits.get_config()
  config.train.model.hidden_size = 16
  config.train.model.side_features = 8
  config.train.model.estimator_size = 8
  config.train.steps = 40
  config.train.steps_per_call = 40
  config.train.num_negatives = 4
  config.train.num_held_out = 20
  config.num_decoders = (1, 2)
  config.num_messages = (4,)
  config.num_candidates = (16, 32)
  config.num_images = 12
  config.num_held_out_images = 12
  config.num_repeats = 2
  config.refine.update(
    num_images=48, num_kmeans=200, num_candidates=32, steps=5,
    classifier_steps=5, batch_size=8, hidden_size=8,
  )  # fmt: skip
  config.update(changes)
  return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('images')
  return workdir, images.run(_config(), workdir, seed=1)


def test_table_has_every_row(finished):
  workdir, rows = finished
  names = [(r['scheme'], r['num_decoders'], r['num_messages']) for r in rows]
  wanted = [('mean_image', None, 1)]
  wanted += [('kmeans', None, m) for m in (4,)]
  wanted += [('side_only', k, 1) for k in (1, 2)]
  for scheme in ('gls', 'cells', 'list_quantiser'):
    wanted += [(scheme, k, m) for k in (1, 2) for m in (4,)]
  wanted += [('shared_race', 2, m) for m in (4,)]
  assert sorted(names, key=str) == sorted(wanted, key=str)
  by_name = dict(zip(names, rows))
  for name, row in by_name.items():
    assert row['images'] == 12 and 0 < row['mse_se'] < row['mse'] < 1
    if name[1] == 2:
      assert row['mse_every_decoder'] > row['mse']
    if name[0] in ('gls', 'shared_race'):
      assert row['num_candidates'] in (16, 32) and row['repeats'] == 2
  assert 0 < by_name['gls', 2, 4]['error_bound'] < 1
  kmeans = by_name['kmeans', None, 4]['mse']
  assert by_name['mean_image', None, 1]['mse'] > kmeans
  read = results.read_csv(workdir / 'results.csv')
  assert [r['mse'] for r in read] == [r['mse'] for r in rows]
  record = results.read_json(workdir / 'results.json')
  assert record['config']['train']['beta'] == 0.3
  text = images.as_text(rows)
  assert 'side_only' in text and f'{rows[0]["mse"]:.4f}' in text


def test_pictures(finished):
  names = ['rate_distortion'] + [f'examples_{s}' for s in images.SCHEMES]
  for name in names:
    assert (finished[0] / f'{name}.png').read_bytes()[:4] == b'\x89PNG'


def test_what_is_finished_is_read(finished, monkeypatch):
  workdir, rows = finished

  def refuse(*_, **__):
    raise AssertionError('fitted again')

  monkeypatch.setattr(image_fits.training, 'train', refuse)
  monkeypatch.setattr(image_trials, 'repeat', refuse)
  assert images.run(_config(), workdir, seed=1) == rows
  changed = _config()
  changed.refine.steps = 6
  with pytest.raises(ValueError, match='other settings of config.refine.steps'):
    images.run(changed, workdir, seed=1)
  changed = _config()
  changed.num_messages = (*changed.num_messages, 3)
  with pytest.raises(ValueError, match='other settings of config.num_messages'):
    images.run(changed, workdir, seed=1)
  with pytest.raises(ValueError, match='other settings of seed'):
    images.run(_config(), workdir, seed=2)
  assert images.run(_config(), workdir, seed=1) == rows


def test_results_of_other_networks_are_refused(finished, tmp_path):
  shutil.copytree(finished[0], tmp_path / 'copy')
  path = tmp_path / 'copy' / 'models.json'
  kept = results.read_json(path)
  kept['settings'] = {name: '00' for name in kept['settings']}
  results.write_json(path, kept)
  with pytest.raises(ValueError, match='other settings of beta'):
    images.run(_config(), tmp_path / 'copy', seed=1)


def test_a_choice_is_made_again_for_more_jobs(tmp_path, monkeypatch):
  path = tmp_path / 'gls.json'
  one, two = ('gls', 1, 4), ('shared_race', 2, 4)
  asked = []

  def select(table, jobs, seed):
    asked.append(jobs)
    return dict.fromkeys(jobs, (0.3, 16))

  monkeypatch.setattr(image_trials, 'select', select)
  for jobs in ([one], [one], [one, two], [two]):
    assert images._settle(None, jobs, path, 0) == dict.fromkeys(jobs, (0.3, 16))
  assert asked == [[one], [one, two]]


def test_repeats_differ_and_errors_are_those_of_the_images(finished):
  workdir, rows = finished
  parts = [
    {
      k: x
      for name in ('gls', 'cells')
      for k, x in np.load(workdir / 'repeats' / f'{name}_{i}.npz').items()
    }
    for i in range(2)
  ]
  for name in ('gls.2.4', 'cells.2.4', 'side_only.2.1'):
    assert not np.array_equal(parts[0][name][0], parts[1][name][0])
  row = next(
    r for r in rows if r['scheme'] == 'cells' and r['num_decoders'] == 2
    and r['num_messages'] == 4
  )  # fmt: skip
  assert row['mse'] == pytest.approx(
    np.mean([p['cells.2.4'][0] for p in parts]), rel=1e-6
  )
  table = image_trials.Table(_config(), workdir)
  table.fit('cells')
  halves = image_fits.spread(table.context.halves['test'], 12)
  setting = (0.3, 32)
  key = jax.random.fold_in(jax.random.key(1), 1)
  trials = table.prepare(key, halves, *setting)
  sent = table.send(('cells', 2, 4), trials, 0.3, halves.right)
  pixels = np.asarray(sent.images) - np.asarray(halves.right)[:, None]
  best = (pixels**2).reshape(12, 2, -1).mean(-1).min(1)
  np.testing.assert_allclose(best, parts[1]['cells.2.4'][0], rtol=1e-4)


def test_choice_and_figures_use_other_images():
  config = _config()
  halves = image_fits.vae_training.load_halves(config.train)
  seen = {name: {x.tobytes() for x in np.asarray(part.right)}
          for name, part in halves.items()}  # fmt: skip
  assert len(halves['select'].right) == 20
  assert len(halves['train'].right) == 1437 - 20
  for one, other in (('train', 'select'), ('select', 'test')):
    whole = len(seen[one] & seen[other])
    assert whole <= 1  # a few digits of the set are twins by themselves


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_decoders=(0,)), 'num_decoders'),
    (dict(num_messages=()), 'num_messages'),
    (dict(num_candidates=(0,)), 'num_candidates'),
    (dict(num_images=1), 'num_images'),
    (dict(betas=(-1.0,)), 'betas'),
    (dict(schemes=('lattice',)), 'lattice'),
    (dict(train=dict(estimator_loss='hinge')), 'hinge'),
    (dict(train=dict(num_held_out=0)), 'num_held_out'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    images.run(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
