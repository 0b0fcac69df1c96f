"""The Gaussian tables: rows, files, resume and refusals."""

import functools

import jax
import numpy as np
import pytest

from configs import gaussian as config_file
from listcoupling import files, standard_errors, tables
from listcoupling.compression import distortion
from listcoupling.compression import gaussian as source
from listcoupling.config_fields import check_config
from listcoupling.experiments import gaussian
from listcoupling.experiments.run import open_run
from tests import statistics

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
  lattice_trials=240,
  lattice_periods=(1.6, 3.3),
  repeats=2,
  chunk=60,
)


_TRIALS = {'seed': 120, 'lattice': 480}  # of two repeats


def _config(**changes):
  config = config_file.get_config()
  config.update({**_SMALL, **changes})
  return config


def _plain_decibels(config, seed, repeat):
  """[R] of the better of two decoders without a message, from the trials."""
  error = source.simulate_no_message(
    gaussian.trial_keys(seed, repeat)[1],
    num_trials=config.trials,
    num_decoders=2,
    side_variance=config.side_variance,
  )
  return 10 * np.log10(np.asarray(error, np.float64).min(1))


def test_table_has_every_row_and_resumes(tmp_path, monkeypatch):
  config = _config()
  rows = gaussian.run(config, tmp_path, seed=3)
  places = [(r['scheme'], r['num_decoders'], r['num_messages']) for r in rows]
  assert len(set(places)) == len(places)
  simulated = 12 * 2 * 2 - 2 + 2  # the shared race of one decoder is left out
  assert len(rows) == simulated + 2 * 2 * 2 + 2
  by_place = dict(zip(places, rows))
  gls = by_place['gls', 2, 8]
  assert gls['paper_mean_db'] == -21.70 and gls['repeats'] == 2
  assert len(gls['test_variance'].split()) == 2
  assert 0 < gls['error_bound'] < 1 and 0 < gls['error_rate'] < 1
  plain = by_place['no_message', 2, 1]
  assert plain['paper_mean_db'] == -15.19
  decibels = np.array([_plain_decibels(config, 3, r) for r in range(2)])
  mean, error = standard_errors.mean_error(decibels.ravel())
  # Sums of 240 numbers and of their squares, less the square of the mean, which
  # is twice the variance here.
  rounding = functools.partial(statistics.rounding, dtype=np.float64)
  assert plain['mean_db'] == pytest.approx(
    mean, rel=0, abs=rounding(240, -mean)
  )
  assert plain['mean_db_se'] == pytest.approx(
    error, rel=0, abs=rounding(4 * 240, error)
  )
  for (scheme, _, _), row in by_place.items():
    if scheme.split('_')[0] not in ('limit', 'lloyd'):
      assert row['trials'] == _TRIALS.get(scheme.split('_')[0], 240)
      assert row['mean_db'] < row['mse_db']  # Jensen
      means = [row[x + 'mse_db'] for x in ('', 'average_', 'worst_')]
      assert means == sorted(means)
      assert row['mean_db_se'] > 0
  assert by_place['limit_wyner_ziv', 1, 2]['mse_db'] == pytest.approx(
    -10 * np.log10(12), rel=0, abs=rounding(5, 10)
  )
  # A genie's quantiser for decibels, as derived for one setting by hand, to
  # half a unit of the last digit.
  assert by_place['lloyd_max', 2, 8]['mean_db'] == pytest.approx(
    -33.78, rel=0, abs=0.005
  )
  read = tables.read_csv(tmp_path / 'results.csv')
  assert [r['mse_db'] for r in read] == [r['mse_db'] for r in rows]

  def never(*_, **__):
    raise AssertionError('computed finished trials again')

  monkeypatch.setattr(gaussian, 'run_jobs', never)
  again = gaussian.run(config, tmp_path, seed=3)
  assert [r['mse_db'] for r in again] == [r['mse_db'] for r in rows]
  with pytest.raises(AssertionError, match='finished trials'):
    gaussian.run(_config(repeats=3), tmp_path, seed=3)
  with pytest.raises(ValueError, match=r'of config.trials \(120, now 80\); '):
    gaussian.run(_config(trials=80), tmp_path, seed=3)
  text = gaussian.as_text(rows)
  assert 'shared_race' in text and '-21.70' in text
  below = [
    row['mse_db'] < by_place['no_message', n, 1]['mse_db']
    for (scheme, n, count), row in by_place.items()
    if scheme == 'interval_mse' and count >= 4
  ]
  assert (
    f'interval_mse: MSE below no message in {sum(below)} of {len(below)} rows'
  ) in text
  kept = files.read_json(tmp_path / 'results.json')['table']
  assert [r.get('worst_mse_db') for r in kept] == [
    r.get('worst_mse_db') for r in rows
  ]


def test_the_text_says_in_which_settings_expectations_fail():
  def row(scheme, num_decoders, num_messages, db):
    return {
      'scheme': scheme, 'num_decoders': num_decoders,
      'num_messages': num_messages, 'mse_db': db, 'mse_db_se': 0.3,
      'mean_db': db, 'mean_db_se': 0.3,
    }  # fmt: skip

  rows = [
    row('lattice_mse', 1, 2, -10.0), row('lloyd_max', 1, 2, -15.5),
    row('lattice_mse', 2, 2, -10.0), row('lloyd_max', 2, 2, -15.75),
    row('interval', 1, 2, -9.0), row('interval_groups', 1, 2, -8.0),
    row('interval', 3, 2, -9.0), row('interval_groups', 3, 2, -9.5),
    row('no_message', 4, 1, -9.0), row('gls', 4, 2, -9.9),
    row('gls', 4, 4, -9.2), row('gls', 4, 8, -8.0),
  ]  # fmt: skip
  text = gaussian.as_text(rows)
  assert (
    'lattice_mse: within 5.5 dB of lloyd_max in mse_db in 1 of 2 settings, by '
    '+5.50 to +5.75 dB; not at K=2 L=2 (+5.75 ± 0.42)'
  ) in text
  # One decoder has no groups: that setting does not count.
  assert (
    'interval_groups: ahead of interval in mean_db in 1 of 1 settings, by -0.50'
  ) in text
  assert 'modulo_mse' not in text  # nothing to hold it against
  # The row of one bit does not count.
  assert 'gls: MSE below no message in 1 of 2 rows of at least 2 bits' in text
  assert 'lattice_mse: MSE below' not in text


def test_rows_of_a_file_are_shown_as_they_were(tmp_path):
  """Empty entries: the bound is not proved for every scheme."""

  def row(scheme, rate, **more):
    return {
      'scheme': scheme, 'num_decoders': 2, 'num_messages': 2, 'mse_db': -1.5,
      'mean_db': -2.5, 'error_rate': rate, 'error_rate_se': 0.01, **more,
    }  # fmt: skip

  rows = [
    row('gls', 0.25, error_bound=0.5),
    row('shared_race', 0.25),
    row('interval', 0.75, error_bound=0.5),
  ]
  tables.write_csv(tmp_path / 'rows.csv', rows)
  text = gaussian.as_text(tables.read_csv(tmp_path / 'rows.csv'))
  assert text == gaussian.as_text(rows)
  told = [x for x in text.splitlines() if 'Proposition 4' in x]
  assert told == [
    'gls: P[error] above Proposition 4 in 0 of 1 rows',
    'interval: P[error] above Proposition 4 in 1 of 1 rows',
  ]


def test_chunks_and_interruptions_do_not_change_the_sums(tmp_path, monkeypatch):
  jobs = [gaussian.Job('modulo', 4, 1.0, 2.0)]
  key, run_jobs, asked = jax.random.key(0), gaussian.run_jobs, []

  def watched(key, trials, *args, **kwargs):
    asked.append((trials[0], len(trials)))
    # One by one: chunks of other sizes are programs with other roundings.
    return sum(run_jobs(key, [r], *args, **kwargs) for r in trials)

  def sums(name, chunk, total=70):
    config = _config(chunk=chunk)
    with open_run(tmp_path, {}) as run:
      return gaussian.accumulate(
        run, name, key, total, jobs, config, complete=True
      )

  monkeypatch.setattr(gaussian, 'run_jobs', watched)
  whole = sums('a', 70)
  sums('b', 20, total=40)
  # A trial is the same in any chunk; its float64 sums have another order.
  error = statistics.rounding(70, dtype=np.float64)
  np.testing.assert_allclose(sums('b', 20), whole, rtol=error)
  assert asked == [(0, 70), (0, 20), (20, 20), (40, 20), (60, 10)]


def test_selection_takes_the_best_of_each_number_of_decoders():
  config = _config(schemes=('interval', 'interval_mse'), num_messages=(2,))
  jobs = [
    gaussian.Job('interval', 2, v, p) for v, p in ((0.1, 1.0), (0.2, 2.0))
  ]
  error = np.empty((4, 2, 2))
  error[:, 0, 0], error[:, 1, 0] = [1e-6, 1e-6, 4, 4], 0.5  # mean dB: first
  error[:, 0, 1], error[:, 1, 1] = 0.1, 0.2
  sums = distortion.moments(distortion.by_list_size(error))
  chosen = gaussian.select(jobs, sums, config)
  assert chosen['interval', 2].test_variance.tolist() == [0.1, 0.1]
  assert chosen['interval_mse', 2].test_variance.tolist() == [0.2, 0.1]
  assert chosen['interval_mse', 2].period.tolist() == [2.0, 1.0]


def test_a_setting_of_rare_failures_is_not_chosen_by_its_luck():
  config = _config(schemes=('lattice_mse',), num_messages=(2,))
  config.num_decoders = (1,)
  jobs = [gaussian.Job('lattice', 2, period=p) for p in (1.0, 2.0)]
  error = np.full((100, 2, 1), 0.01)
  error[0, 0], error[:, 1] = 1.0, 0.02  # one failure; on average .0199
  sums = distortion.moments(distortion.by_list_size(error))
  first, second = (distortion.figures(x[0])['mse_db'] for x in sums)
  assert first < second  # by the figures alone it would be
  chosen = gaussian.select(jobs, sums, config)
  assert chosen['lattice_mse', 2].period.tolist() == [2.0]


def test_a_setting_without_figures_is_not_chosen():
  config = _config(schemes=('interval',), num_messages=(2,))
  config.num_decoders = (1,)
  jobs = [gaussian.Job('interval', 2, v, 1.0) for v in (0.1, 0.2)]
  sums = distortion.moments(distortion.by_list_size(np.full((4, 2, 1), 0.5)))
  sums[0] = np.nan
  chosen = gaussian.select(jobs, sums, config)
  assert chosen['interval', 2].test_variance.tolist() == [0.2]
  with pytest.raises(ValueError, match='with mean_db and mean_db_se'):
    gaussian.select(jobs, sums * np.nan, config)


def test_every_config_is_accepted():
  for kind in ('full', 'small'):
    check_config(config_file.get_config(kind), gaussian.FIELDS)
  with pytest.raises(ValueError, match="small, got 'tiny'"):
    config_file.get_config('tiny')


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
