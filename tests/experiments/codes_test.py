"""Groups of decoders and lattices: rows, the best, refusals."""

import functools

import numpy as np
import pytest

from configs import binary_groups, gaussian_groups, gaussian_lattices
from listcoupling import files, gumbel, tables
from listcoupling.compression import gaussian, lattices
from listcoupling.experiments import codes
from tests.statistics import SIGMAS, rounding


def _binary(**changes):
  config = binary_groups.get_config()
  config.update(dict(cases=((2, (0.2,) * 4),)) | changes)
  return config


def _gaussian(**changes):
  config = gaussian_groups.get_config()
  config.update(
    dict(
      cases=((4, (0.05, 0.05, 5, 5)),), periods=(0.9,), selection_trials=100,
      trials=60_000,
    )
    | changes
  )  # fmt: skip
  return config


def test_every_number_of_groups_has_its_best_bins(tmp_path):
  rows = codes.run_binary_groups(_binary(), tmp_path)
  assert [row['num_groups'] for row in rows] == [1, 2, 4]
  one, two, four = (row['best'] for row in rows)
  assert two < one and two < four  # exact sums
  for row in rows:
    assert row['best'] <= row['mean'] <= row['worst']
  read = tables.read_csv(tmp_path / 'results.csv')
  assert [row['best'] for row in read] == [one, two, four]
  kept = files.read_json(tmp_path / 'results.json')['table']
  assert [row['worst'] for row in kept] == [row['worst'] for row in rows]
  assert '0.2 0.2 0.2 0.2' in codes.run_binary_groups.as_text(rows)


def test_groups_without_words_have_no_row(tmp_path):
  rows = codes.run_binary_groups(_binary(num_bits=2), tmp_path)
  assert [row['num_groups'] for row in rows] == [1, 2]


def test_two_groups_beat_one_and_four_where_two_decoders_see_well(tmp_path):
  rows = codes.run_groups(_gaussian(), tmp_path)
  assert [row['num_groups'] for row in rows] == [1, 2, 4]
  one, two, four = rows
  for other in (one, four):
    error = (two['mse_db_se'] ** 2 + other['mse_db_se'] ** 2) ** 0.5
    assert other['mse_db'] - two['mse_db'] > SIGMAS * error
  for row in rows:
    means = [row[f'{x}mse_db'] for x in ('', 'average_', 'worst_')]
    assert means == sorted(means)
  read = tables.read_csv(tmp_path / 'results.csv')
  assert [row['mse_db'] for row in read] == [row['mse_db'] for row in rows]
  assert '0.05 0.05 5 5' in codes.run_groups.as_text(rows)


def test_mean_and_worst_are_drawn_under_the_best(tmp_path, drawn):
  rows = [
    {
      'num_messages': 2, 'flip_probabilities': '0.2 0.2', 'num_groups': g,
      'best': 0.1 * g, 'mean': 0.2 * g, 'worst': 0.3 * g,
    }
    for g in (1, 2)
  ]  # fmt: skip
  codes.run_binary_groups.figures['groups.png'](rows, tmp_path / 'groups.png')
  best, others = drawn['groups.png']
  assert best.lines[0].get_ydata().tolist() == [0.1, 0.2]
  assert best.lines[-1].get_xdata().tolist() == [1]  # the ring
  assert [x.get_ydata().tolist() for x in others.lines] == [
    [0.2, 0.4],
    [0.3, 0.6],
  ]


def test_equal_side_information_is_the_control(tmp_path):
  rows = codes.run_groups(
    _gaussian(cases=((4, (0.5,) * 4),), periods=(2.5,)), tmp_path
  )
  errors = [row['mse_db'] for row in rows]
  assert errors == sorted(errors, reverse=True)  # the more groups the better


def _lattices(**changes):
  config = gaussian_lattices.get_config()
  config.update(
    dict(
      lattices=('D4',), bits=(1.0, 1.1), num_decoders=(1,),
      periods=(3.0, 4.0), cell_points=64, selection_trials=500, trials=10_000,
    )
    | changes
  )  # fmt: skip
  return config


def test_a_better_lattice_is_ahead_of_the_cubic_one(tmp_path, drawn):
  rows = codes.run_lattices(_lattices(), tmp_path)
  # 1.1 bits a symbol are no number of messages.
  assert [(r['lattice'], r['num_messages']) for r in rows] == [('D4', 16)]
  (better,) = rows
  assert better['ahead_db'] > SIGMAS * better['ahead_db_se'] > 0
  # Means of 10,000 errors each, summed in another order, in decibels.
  error = rounding(2 * 10_000, 10 / np.log(10), np.float64)
  difference = better['cubic_mse_db'] - better['mse_db']
  assert better['ahead_db'] == pytest.approx(difference, rel=0, abs=error)
  read = tables.read_csv(tmp_path / 'results.csv')
  assert [row['mse_db'] for row in read] == [row['mse_db'] for row in rows]
  (axes,) = drawn['lattices.png']
  assert axes.get_title() == 'K = 1'
  ahead, *_, cells_alone = (line.get_ydata() for line in axes.lines)
  assert ahead.tolist() == [better['ahead_db']]
  assert set(cells_alone) == {better['known_db']}
  assert 'D4' in codes.run_lattices.as_text(rows)


@pytest.mark.parametrize('cases', [3, '2: .2'])
def test_what_is_no_list_of_cases_is_refused_in_words(tmp_path, cases):
  config = _binary()
  with config.ignore_type():
    config.cases = cases
  message = f'config.cases must hold pairs: .* got {cases!r}'
  with pytest.raises(ValueError, match=message):
    codes.run_binary_groups(config, tmp_path / 'out')


def test_trials_in_chunks_are_those_of_one_call(monkeypatch):
  code = lattices.make_code('Z', 4, num_groups=2)
  key = gumbel.seed_key(0)
  # Of roots, as where trials are done by hand; chunks are other programs.
  error = rounding(2 * len(code.cell), 4)
  shapes, simulate = [], gaussian.simulate_lattice

  def watched(key, trials, *args, **kwargs):
    shapes.append(len(trials))
    return simulate(key, trials, *args, **kwargs)

  monkeypatch.setattr(gaussian, 'simulate_lattice', watched)
  side = np.full(2, 0.5, np.float32)
  run = functools.partial(codes._errors, key, 20, code, (2.0, 2.0), side)
  whole = run()
  monkeypatch.setattr(codes, '_CHUNK', 8)
  parts = run()
  assert shapes == [20, 8, 8, 4]
  # Trials know no chunks.
  off = np.sqrt(whole[0]) - np.sqrt(parts[0])
  assert np.abs(off).max() < error
  np.testing.assert_array_equal(whole[1], parts[1])  # weights of 1
  control = np.sqrt(whole[0]) - np.sqrt(np.roll(parts[0], 1, axis=0))
  assert np.abs(control).max(1).min() > error


@pytest.mark.parametrize(
  'table, change, message',
  [
    ('binary', dict(cases=()), r'got \(\)'),
    ('binary', dict(cases=('2: .2',)), "got '2: .2'"),
    ('binary', dict(cases=((2, (0.2, 0.6)),)), r'got \(2, \(0.2, 0.6\)\)'),
    ('binary', dict(cases=((3, (0.2, 0.2)),)), 'a power of two, got 3'),
    ('binary', dict(num_bits=6), 'num_bits must be a power of two, got 6'),
    ('binary', dict(num_bits=16), 'at most 10'),
    ('gaussian', dict(cases=((4, 0.5),)), r'got \(4, 0.5\)'),
    ('gaussian', dict(cases=((0, (0.5,)),)), 'cases'),
    ('gaussian', dict(cases=((2, (0.5, -1.0)),)), 'cases'),
    ('gaussian', dict(cases=((2, ()),)), 'cases'),
    ('gaussian', dict(periods=(0.0,)), 'periods'),
    ('gaussian', dict(trials=1), 'trials'),
    ('lattices', dict(lattices=('Z',)), 'lattices'),
    ('lattices', dict(bits=(0.0,)), 'bits'),
    ('lattices', dict(trials=1), 'trials'),
    ('lattices', dict(believed_variance=0.0), 'believed_variance'),
  ],
)
def test_bad_settings_are_refused_before_writing(
  tmp_path, table, change, message
):
  experiment, config = {
    'binary': (codes.run_binary_groups, _binary),
    'gaussian': (codes.run_groups, _gaussian),
    'lattices': (codes.run_lattices, _lattices),
  }[table]
  with pytest.raises(ValueError, match=message):
    experiment(config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
