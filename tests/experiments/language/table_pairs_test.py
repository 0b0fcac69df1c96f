"""Trees on pairs of tables: who is ahead, and a run that goes on."""

import dataclasses

import numpy as np
import pytest

from configs import table_pairs as config_file
from listcoupling import gumbel, tables
from listcoupling.experiments.language import table_pairs
from listcoupling.models import table_pair
from tests.statistics import SIGMAS


def _config(**changes):
  config = config_file.get_config()
  small = dict(
    sigmas=(1.0,),
    temperatures=(1.0,),
    pairs=2,
    rows=8,
    max_new_tokens=48,
    num_nodes=12,
    beam=4,
    depth=6,
    num_drafts=(3, 5),
  )
  with config.ignore_type():
    config.update(small | changes)
  return config


def test_the_tree_is_ahead_of_what_does_not_know_the_noise(
  tmp_path, monkeypatch
):
  """Of a greedy draft by far, and the means are those of the pairs."""
  config = _config()
  (row,) = table_pairs.run(config, tmp_path, 3)
  options = table_pairs.options_of(config, 1.0)
  assert list(options) == ['tree', 'greedy', 'specinfer_3', 'traversal_3']
  found = [
    [x.mean() for x in table_pairs.tokens_per_call(
      gumbel.seed_key(seed), 1.0, list(options.values()), num_rows=8
    )]
    for seed in (3, 4)
  ]  # fmt: skip
  names = 'tree', 'greedy', 'specinfer', 'traversal'
  for name, values in zip(names, np.transpose(found)):
    assert row[name] == values.mean()
    assert row[f'{name}_se'] == np.std(values, ddof=1) / 2**0.5
  assert row['tree_minus_greedy'] > SIGMAS * row['tree_minus_greedy_se']
  assert row['specinfer_drafts'] == row['traversal_drafts'] == 3
  best = [
    table_pairs.best_tokens_per_call(
      gumbel.seed_key(seed), 1.0, 1.0, config
    ).mean()
    for seed in (3, 4)
  ]
  assert row['best'] == np.mean(best)
  assert row['best_minus_traversal'] == np.mean(best - values)
  # Another call measures nothing.
  monkeypatch.setattr(table_pairs, 'tokens_per_call', None)
  assert table_pairs.run(config, tmp_path, 3) == [row]
  stored = tables.read_csv(tmp_path / 'results.csv')
  assert stored[0]['tree'] == row['tree']
  assert f'{row["tree"]:.2f} ±' in table_pairs.run.as_text([row])


def test_a_longer_distance_is_a_harder_pair():
  options = [table_pairs.options_of(_config(), 1.0)['tree']]
  near, far = (
    table_pairs.tokens_per_call(gumbel.seed_key(0), s, options, num_rows=8)[0]
    for s in (0.2, 2.0)
  )
  assert near.min() > far.max()


def _lead(sigma, temperature, *drafts):
  """Tokens per call of the tree above its twins', with errors over texts.

  Args:
    sigma: distance of the pair.
    temperature: of the text.
    *drafts: draft temperatures of the twins.
  """
  tree = table_pairs.options_of(_config(), temperature)['tree']
  twins = [
    dataclasses.replace(tree, draft_temperatures=(each,)) for each in drafts
  ]
  found = np.hstack(
    [
      table_pairs.tokens_per_call(
        gumbel.seed_key(seed), sigma, [tree, *twins], num_rows=8
      )
      for seed in range(3)
    ]
  )
  leads = found[0] - found[1:]  # of the same texts
  return leads.mean(axis=1), leads.std(axis=1, ddof=1) / leads.shape[1] ** 0.5


@pytest.mark.parametrize('sigma', [0.5, 2.0])
def test_the_tree_is_never_behind_a_greedy_draft(sigma):
  """From cold texts, where both are alike, to warm ones, where it leads.

  The control is a twin whose draft is told next to nothing of the law.
  """
  for temperature in (0.2, 0.6, 1.0, 1.5):
    (greedy, blind), (error, blind_error) = _lead(sigma, temperature, 0.0, 50.0)
    wanted = SIGMAS if temperature > 0.5 else -SIGMAS
    assert greedy > wanted * error, temperature
    assert blind > SIGMAS * blind_error
    if temperature < 0.5:  # the blind twin fails what the tree passes
      assert greedy - blind < -SIGMAS * np.hypot(error, blind_error)


@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_the_best_tree_of_a_perfect_drafter_is_a_chain(temperature):
  config = _config(max_new_tokens=39)
  found = table_pairs.best_tokens_per_call(
    gumbel.seed_key(0), 0.0, temperature, config
  )
  np.testing.assert_array_equal(found, config.num_nodes + 1)


def test_the_best_tree_is_ahead_of_one_that_trusts_otherwise(monkeypatch):
  """It knows sigma, the control believes in 4."""
  config = _config(max_new_tokens=24, rows=32, num_nodes=6)
  key = gumbel.seed_key(6)
  best = table_pairs.best_tokens_per_call(key, 1.0, 1.0, config)
  original = table_pair.posterior
  monkeypatch.setattr(
    table_pair, 'posterior', lambda logits, sigma: original(logits, 4.0)
  )
  lead = best - table_pairs.best_tokens_per_call(key, 1.0, 1.0, config)
  assert lead.mean() > SIGMAS * lead.std(ddof=1) / len(lead) ** 0.5
