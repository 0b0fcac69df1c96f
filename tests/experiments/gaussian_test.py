"""The Gaussian tables: rows, files, resume and refusals."""

import jax
import numpy as np
import pytest

from configs import gaussian as config_file
from listcoupling.experiments import (
  gaussian,
  gaussian_jobs,
  gaussian_stages,
  gaussian_sums,
  results,
)

_SMALL = dict(
  num_decoders=(1, 2),
  num_messages=(2, 8),
  num_candidates=256,
  test_variances=(0.1, 0.02),
  interval_variances=(0.1, 0.02),
  periods=(1.6, 3.0),
  selection_trials=60,  # equal chunks: each length is compiled anew
  trials=120,
  seed_aware_trials=60,
  repeats=2,
  chunk=60,
)


def _config(**changes):
  config = config_file.get_config()
  config.update({**_SMALL, **changes})
  return config


def test_table_has_every_row_and_resumes(tmp_path, monkeypatch):
  config = _config()
  rows = gaussian.run(config, tmp_path, seed=3)
  places = [(r['scheme'], r['num_decoders'], r['num_messages']) for r in rows]
  assert len(set(places)) == len(places)
  simulated = 7 * 2 * 2 - 2 + 2  # the shared race of one decoder is left out
  assert len(rows) == simulated + 2 * 2 + 2
  table = dict(zip(places, rows))
  gls = table['gls', 2, 8]
  assert gls['paper_mean_db'] == -21.70 and gls['repeats'] == 2
  assert len(gls['test_variance'].split()) == 2
  assert 0 < gls['error_bound'] < 1 and 0 < gls['error_rate'] < 1
  assert table['no_message', 2, 1]['paper_mean_db'] == -15.19
  for (scheme, _, _), row in table.items():
    if 'limit' not in scheme:
      assert row['trials'] == (120 if scheme == 'seed_aware' else 240)
      assert row['mean_db'] < row['mse_db']  # Jensen
      assert row['mean_db_se'] > 0 and row['mean_db_spread'] >= 0
  assert np.isclose(table['limit_wyner_ziv', 1, 2]['mse_db'], -10.79, atol=0.01)
  read = results.read_csv(tmp_path / 'results.csv')
  assert [r['mse_db'] for r in read] == [r['mse_db'] for r in rows]
  assert (tmp_path / 'rate_distortion.png').stat().st_size > 10_000

  def never(*_, **__):
    raise AssertionError('computed finished trials again')

  monkeypatch.setattr(gaussian_jobs, 'run_jobs', never)
  again = gaussian.run(config, tmp_path, seed=3)
  assert [r['mse_db'] for r in again] == [r['mse_db'] for r in rows]
  with pytest.raises(AssertionError, match='finished trials'):
    gaussian.run(_config(repeats=3), tmp_path, seed=3)
  with pytest.raises(ValueError, match='of trials; '):
    gaussian.run(_config(trials=80), tmp_path, seed=3)
  text = gaussian.as_text(rows)
  assert 'shared_race' in text and '-21.70' in text
  assert 'interval_mse: MSE below no message in' in text


def test_chunks_and_interruptions_do_not_change_the_sums(tmp_path):
  jobs = [gaussian_jobs.Job('modulo', 4, 1.0, 2.0)]
  keys = jax.random.key(0)
  done = []

  def sums(path, chunk, total=70):
    return gaussian_stages.accumulate(
      tmp_path / path, keys, total, jobs, _config(chunk=chunk), done.append,
      complete=True,
    )  # fmt: skip

  whole = sums('a.json', 70)
  sums('b.json', 20, total=40)
  np.testing.assert_allclose(sums('b.json', 20), whole, rtol=1e-5)
  assert done == [70, 20, 20, 40, 20, 10]


def test_selection_takes_the_best_of_each_number_of_decoders():
  config = _config(schemes=('interval', 'interval_mse'), num_messages=(2,))
  jobs = [
    gaussian_jobs.Job('interval', 2, v, p) for v, p in ((0.1, 1.0), (0.2, 2.0))
  ]
  error = np.empty((4, 2, 2))
  error[:, 0, 0], error[:, 1, 0] = [1e-6, 1e-6, 4, 4], 0.5  # mean dB: first
  error[:, 0, 1], error[:, 1, 1] = 0.1, 0.2
  sums = gaussian_sums.moments(gaussian_sums.by_list_size(error))
  chosen = gaussian_stages.select(jobs, sums, config)
  assert chosen['interval', 2].test_variance.tolist() == [0.1, 0.1]
  assert chosen['interval_mse', 2].test_variance.tolist() == [0.2, 0.1]
  assert chosen['interval_mse', 2].period.tolist() == [2.0, 1.0]


def test_the_codec_itself_gives_the_same_figures(tmp_path):
  fields = dict(
    schemes=('gls', 'shared_race', 'interval'),
    num_messages=(4,),
    test_variances=(0.05,),
    interval_variances=(0.05,),
    periods=(1.6,),
    selection_trials=600,
    trials=600,
    repeats=1,
    chunk=600,
  )
  rows = [
    gaussian.run(_config(exact_codec=exact, **fields), tmp_path / name, seed=1)
    for exact, name in ((False, 'a'), (True, 'b'))
  ]
  for a, b in zip(*rows, strict=True):
    for name in ('mean_db', 'error_rate'):
      error = np.hypot(a[name + '_se'], b[name + '_se'])
      assert abs(a[name] - b[name]) < 5 * error, (a['scheme'], name)
  one, two = rows[0][0], rows[1][2]  # control: K = 1 does not pass for 2
  assert one['num_decoders'] == 1 and two['num_decoders'] == 2
  error = np.hypot(one['mean_db_se'], two['mean_db_se'])
  assert one['mean_db'] - two['mean_db'] > 5 * error


def test_decibels_by_hand():
  found = gaussian.decibels(np.array([0.1, 0.001]))
  assert found['mean_db'] == pytest.approx(-20)
  assert found['mean_db_se'] == pytest.approx(10)
  assert found['mse_db'] == pytest.approx(10 * np.log10(0.0505))
  # Delta method against a small change of the mean.
  error = np.random.default_rng(0).exponential(size=1000)
  out = gaussian.decibels(error)
  step = error.std(ddof=1) / np.sqrt(1000)
  moved = 10 * np.log10(error.mean() + step) - out['mse_db']
  assert out['mse_db_se'] == pytest.approx(moved, rel=0.05)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_decoders=(0,)), 'num_decoders'),
    (dict(num_messages=()), 'num_messages'),
    (dict(test_variances=(0.1, -1.0)), 'test_variances'),
    (dict(periods=()), 'periods'),
    (dict(trials=1), 'trials'),
    (dict(repeats=0), 'repeats'),
    (dict(side_variance=0.0), 'side_variance'),
    (dict(schemes=('gls', 'hexagons')), 'hexagons'),
    (dict(num_candidates=100), 'multiple of 256'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    gaussian.run(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
