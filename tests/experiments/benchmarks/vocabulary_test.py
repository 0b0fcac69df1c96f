"""Races, filters and verification of a small vocabulary."""

import pytest

from listcoupling import gumbel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import vocabulary
from listcoupling.models.transformer_config import TransformerConfig

KEY = gumbel.seed_key(0)


def test_races_stand_beside_their_limits():
  cases = vocabulary.sampler_cases(
    KEY, vocabularies=(100,), drafts=(2,), compared=(100, 3), rounds=2
  )
  race, *others = cases
  assert race.name == 'race of 2 streams, V = 100' and len(others) == 6
  row = race.measure()
  assert (row['vocab_size'], row['num_drafts']) == (100, 2)
  assert row['milliseconds'] > 0
  shares = 1 / row['ratio_to_bits'], 0.5 / row['ratio_to_copy']
  assert row['share_of_limit'] == pytest.approx(max(shares))


def test_filters_are_compared_with_none_and_schemes_with_gls(monkeypatch):
  monkeypatch.delitem(vocabulary.FILTERS, 'top_p')
  monkeypatch.setitem(vocabulary.FILTERS, 'top_k', {'top_k': 5})
  block, gls, specinfer = vocabulary.vocabulary_cases(
    KEY,
    config=TransformerConfig(64, 16, 1, 2, 1, 8, 32),
    options=GenerateOptions('autoregressive', 2, 2, max_new_tokens=4),
    methods=('gls', 'specinfer'),
    rounds=2,
  )
  assert block.name == 'block of autoregressive'
  row = block.measure()
  assert row['top_k_ratio'] == row['top_k_ms'] / row['none_ms']
  first, second = gls.measure(), specinfer.measure()
  assert first['top_k_to_gls'] == 1
  assert second['top_k_to_gls'] == second['top_k_ms'] / first['top_k_ms']
