import dataclasses

import numpy as np
import pytest

from configs import decoding_matching
from listcoupling import tables
from listcoupling.decoding import analysis
from listcoupling.decoding.generate import generate
from listcoupling.experiments.language import matching, protocol
from tests import statistics
from tests.experiments.language import fakes


def _config(folder, **changes):
  settings = dict(num_drafts=(1, 2), repetitions=30, datasets=('gsm8k',))
  config = decoding_matching.get_config()
  return fakes.config_of(folder, config, **{**settings, **changes})


def test_the_table_agrees_with_theory_and_with_the_analysis(folder):
  config = _config(folder)
  rows = matching.run(config, folder / 'work', 3)
  assert [row['num_drafts'] for row in rows] == [1, 2]
  tokens = rows[0]['tokens']
  assert tokens == 5 * 12 * 2
  for row in rows:
    trials = tokens * config.repetitions
    successes = row['gls'] * trials
    statistics.assert_proportion(successes, trials, row['gls_exact'])
  one, two = rows
  # Alike for one draft, but for roundings of both: sums over the 16 atoms of
  # two laws; in that of the races one of the sums is over others.
  for name, other, sums in (
    ('gls_bound', 'gls_exact', 3),
    ('optimum', 'optimum_without_replacement', 1),
    ('specinfer', 'optimum', 1),
    ('spectr', 'optimum', 1),
  ):
    assert abs(one[name] - one[other]) <= statistics.rounding(16 * sums)
    assert two[other] - two[name] > statistics.rounding(16 * sums)
  assert one['gls_exact'] < one['optimum'] and two['gls_exact'] < two['optimum']
  with pytest.raises(AssertionError):  # control: the other K is seen
    statistics.assert_proportion(successes, trials, rows[0]['gls_exact'])
  assert rows[1]['shared_race'] > rows[1]['gls_exact']
  # The engine's analysis of the same texts, K = 2.
  setup = protocol.prepare(config)
  choice, found = setup.choices['gsm8k'], []
  options = dataclasses.replace(setup.options, num_drafts=2)
  for seed in (3, 4):
    keys = protocol.row_keys(seed, 'gsm8k', np.arange(5))
    out = generate(
      keys, setup.target, [], choice.tokens, choice.lengths, setup.options
    )
    found.append(
      analysis.expected_acceptance(
        setup.target,
        setup.drafter,
        choice.tokens,
        choice.lengths,
        out,
        options,
      )
    )
  # Likewise, and integrals of 48 and of 128 nodes.
  for ours, theirs, terms in (
    ('gls_bound', 'bound', 3 * 16),
    ('gls_exact', 'gls', 4 * 16 + 48),
    ('optimum', 'optimum', 16),
    ('optimum_without_replacement', 'optimum_without_replacement', 16 + 128),
  ):
    mean = np.mean([getattr(one, theirs) for one in found])
    assert abs(two[ours] - mean) <= statistics.rounding(terms), ours
  # Resumed, and printed.
  before = (folder / 'work' / 'batches.csv').read_bytes()
  assert matching.run(config, folder / 'work', 3) == rows
  assert (folder / 'work' / 'batches.csv').read_bytes() == before
  assert tables.read_csv(folder / 'work' / 'results.csv')[1] == rows[1]
  lines = matching.run.as_text(rows).splitlines()
  assert lines[0].endswith('0 more dropped as too long')
  assert f'{rows[1]["gls"]:.4f} ± {rows[1]["gls_se"]:.4f}' in lines[3]


def test_rows_that_stop_early_count_their_own_tokens(folder):
  config = _config(
    folder,
    num_drafts=(1,),
    repetitions=1,
    stop_tokens=('c', 'nothing'),
    seeds=1,
  )
  setup = protocol.prepare(config)
  assert setup.options.stop_tokens == (2,)
  row = matching.run(config, folder / 'work')[0]
  keys = protocol.row_keys(0, 'gsm8k', np.arange(5))
  choice = setup.choices['gsm8k']
  out = generate(
    keys, setup.target, [], choice.tokens, choice.lengths, setup.options
  )
  assert row['tokens'] == out.lengths.sum() < 5 * 12


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'repetitions': 0}, 'repetitions'),
    ({'draft_temperatures': ('0.5/1.0',)}, 'draft_temperatures'),
    ({'draft_temperatures': ('0.5', '1.0')}, 'draft_temperatures'),
  ],
)
def test_bad_settings_leave_no_files(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    matching.run(_config(folder, **changes), folder / 'work')
  assert not (folder / 'work').exists()
