"""The Gaussian table: rows, files, resume and refusals."""

import numpy as np
import pytest

from configs import gaussian as config_file
from listcoupling.experiments import gaussian, results


def _config(**changes):
  config = config_file.get_config()
  config.update(
    dict(
      num_candidates=128,
      test_variances=(0.1, 0.02),
      interval_widths=(0.4,),
      selection_trials=40,
      trials=90,
    )
  )
  config.update(changes)
  return config


def test_table_has_every_row_and_resumes(tmp_path, monkeypatch):
  rows = gaussian.run(_config(), tmp_path, seed=3)
  assert [r["scheme"] for r in rows] == [
    "no_message", "gls", "shared_race", "interval",
  ]  # fmt: skip
  by_scheme = {row['scheme']: row for row in rows}
  assert by_scheme['gls']['paper_mean_db'] == -21.70
  assert by_scheme['gls']['test_variance'] in (0.1, 0.02)
  assert 0 < by_scheme['gls']['error_bound'] < 1
  assert by_scheme['no_message']['paper_mean_db'] == -15.19
  for row in rows:
    assert row['trials'] == 90 and row['mean_db_se'] > 0
    assert row['mean_db'] < row['mse_db']  # Jensen
  read = results.read_csv(tmp_path / 'results.csv')
  assert [r['mean_db'] for r in read] == [r['mean_db'] for r in rows]
  assert results.read_json(tmp_path / 'results.json')['config']['seed'] == 3

  def never(*_):
    raise AssertionError('computed a finished row again')

  monkeypatch.setattr(gaussian, '_row', never)
  again = gaussian.run(_config(), tmp_path, seed=3)
  assert [r['mse_db'] for r in again] == [r['mse_db'] for r in rows]
  with pytest.raises(AssertionError, match='finished row'):
    gaussian.run(_config(trials=80), tmp_path, seed=3)
  text = gaussian.as_text(rows)
  assert 'shared_race' in text and '-21.70' in text


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
    (dict(trials=1), 'trials'),
    (dict(side_variance=0.0), 'side_variance'),
    (dict(schemes=('gls', 'lattice')), 'lattice'),
    (dict(select_by='luck'), 'luck'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    gaussian.run(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
