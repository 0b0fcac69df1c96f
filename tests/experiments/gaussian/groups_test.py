"""Groups between one for all and one for each: rows, the case, refusals."""

import pytest

from configs import gaussian_groups as config_file
from listcoupling import tables
from listcoupling.experiments.gaussian import groups


def _config(**changes):
  config = config_file.get_config()
  config.update(
    dict(
      cases=('4: .05 .05 5 5',), periods=(0.9,), selection_trials=100,
      trials=60_000,
    )
    | changes
  )  # fmt: skip
  return config


def test_two_groups_beat_one_and_four_where_two_decoders_see_well(tmp_path):
  rows = groups.TABLE.run(_config(), tmp_path)
  assert [row['num_groups'] for row in rows] == [1, 2, 4]
  one, two, four = rows
  for other in (one, four):
    error = (two['mse_db_se'] ** 2 + other['mse_db_se'] ** 2) ** 0.5
    assert other['mse_db'] - two['mse_db'] > 5 * error
  for row in rows:
    means = [row[f'{x}mse_db'] for x in ('', 'average_', 'worst_')]
    assert means == sorted(means)
  read = tables.read_csv(tmp_path / 'results.csv')
  assert [row['mse_db'] for row in read] == [row['mse_db'] for row in rows]
  assert (tmp_path / 'groups.png').exists()
  assert '0.05 0.05 5 5' in groups.TABLE.as_text(rows)


def test_equal_side_information_is_the_control(tmp_path):
  rows = groups.TABLE.run(
    _config(cases=('4: .5 .5 .5 .5',), periods=(2.5,)), tmp_path
  )
  errors = [row['mse_db'] for row in rows]
  assert errors == sorted(errors, reverse=True)  # the more groups the better


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(cases=('4 .5 .5',)), "got '4 .5 .5'"),
    (dict(cases=('0: .5',)), 'cases'),
    (dict(cases=('2: .5 -1',)), 'cases'),
    (dict(cases=('2:',)), 'cases'),
    (dict(periods=(0.0,)), 'periods'),
    (dict(trials=1), 'trials'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    groups.TABLE.run(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
