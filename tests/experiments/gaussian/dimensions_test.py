"""Lattices of several dimensions: rows, who is ahead, refusals."""

import numpy as np
import pytest

from configs import gaussian_lattices as config_file
from listcoupling import tables
from listcoupling.experiments.gaussian import dimensions


def _config(**changes):
  config = config_file.get_config()
  config.update(
    dict(
      lattices=('D4',), bits=(1.0, 1.1), num_decoders=(1,),
      periods=(3.0, 4.0), cell_points=64, selection_trials=500, trials=10_000,
    )
    | changes
  )  # fmt: skip
  return config


def test_a_better_lattice_is_ahead_of_the_cubic_one(tmp_path):
  rows = dimensions.TABLE.run(_config(), tmp_path)
  # 1.1 bits a symbol are no number of messages.
  assert [(r['lattice'], r['num_messages']) for r in rows] == [
    ('Z4', 16), ('D4', 16),
  ]  # fmt: skip
  cubic, better = rows
  assert better['ahead_db'] > 5 * better['ahead_db_se'] > 0
  assert better['ahead_db'] == pytest.approx(cubic['mse_db'] - better['mse_db'])
  read = tables.read_csv(tmp_path / 'results.csv')
  assert [row['mse_db'] for row in read] == [row['mse_db'] for row in rows]
  assert (tmp_path / 'lattices.png').stat().st_size
  assert (tmp_path / 'lattices.pdf').stat().st_size
  assert 'D4' in dimensions.TABLE.as_text(rows)


def test_pairs_count_what_two_errors_share():
  rng = np.random.default_rng(0)
  common = rng.exponential(size=4000)
  noise = rng.exponential(size=(2, 4000)) / 20
  ahead, error = dimensions._ahead(2 * common + noise[0], common + noise[1])
  assert abs(ahead - 10 * np.log10(2.05 / 1.05)) < 5 * error
  apart = dimensions._ahead(2 * common, rng.permutation(common))[1]
  assert error < apart / 5  # control: trials that share nothing


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(lattices=('Z',)), 'lattices'),
    (dict(bits=(0.0,)), 'bits'),
    (dict(trials=1), 'trials'),
    (dict(believed_variance=0.0), 'believed_variance'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    dimensions.TABLE.run(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
