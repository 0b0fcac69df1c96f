"""Races, filters and verification of a small vocabulary."""

import jax
import pytest

from listcoupling import gumbel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import speed, vocabulary
from listcoupling.models.transformer_config import TransformerConfig

KEY = gumbel.seed_key(0)


@pytest.fixture
def times(monkeypatch):
  """Milliseconds by name that stand for what a clock would say."""
  known = {}

  def milliseconds(functions, *, rounds):
    jax.block_until_ready([function() for function in functions.values()])
    return {name: known.get(name, 9.0) for name in functions}

  monkeypatch.setattr(speed, 'milliseconds', milliseconds)
  return known


@pytest.mark.parametrize('copy, share', [(3.0, 0.5), (6.0, 0.75)])
def test_races_stand_beside_their_limits(times, copy, share):
  times |= {'race of 2 streams': 4.0, 'bits': 2.0, 'copy': copy}
  cases = vocabulary.sampler_cases(
    KEY, vocabularies=(100,), drafts=(2,), compared=(100, 3)
  )
  race, *others = cases
  assert race.name == 'race of 2 streams, V = 100' and len(others) == 6
  row = race.measure()
  assert (row['vocab_size'], row['num_drafts']) == (100, 2)
  assert row['milliseconds'] == 4 and row['ratio_to_bits'] == 2
  assert row['ratio_to_copy'] == 4 / copy and row['share_of_limit'] == share


def test_no_part_of_a_race_is_worked_out_in_advance(monkeypatch):
  asked = {}
  monkeypatch.setattr(
    speed, 'milliseconds', lambda functions, rounds: asked.update(functions)
  )
  race, *_ = vocabulary.sampler_cases(
    KEY, vocabularies=(100,), drafts=(2,), compared=(100, 3)
  )
  with pytest.raises(TypeError):  # nothing was timed
    race.measure()
  call = asked['race of 2 streams']
  head = call.func.lower(*call.args).as_text().partition('@main(')[2]
  assert 'tensor<2x100xf32>' in head.splitlines()[0]  # laws are arguments


def test_filters_are_compared_with_none_and_schemes_with_gls(
  monkeypatch, times
):
  times |= {'none': 4.0, 'top_k': 6.0}
  times |= {('gls', 'none'): 1.0, ('gls', 'top_k'): 2.0}
  times |= {('specinfer', 'none'): 5.0, ('specinfer', 'top_k'): 8.0}
  monkeypatch.delitem(vocabulary.FILTERS, 'top_p')
  monkeypatch.setitem(vocabulary.FILTERS, 'top_k', {'top_k': 5})
  block, gls, specinfer = vocabulary.vocabulary_cases(
    KEY,
    config=TransformerConfig(64, 16, 1, 2, 1, 8, 32),
    options=GenerateOptions('autoregressive', 2, 2, max_new_tokens=4),
    methods=('gls', 'specinfer'),
  )
  assert block.name == 'block of autoregressive'
  assert block.measure() == dict(none_ms=4.0, top_k_ms=6.0, top_k_ratio=1.5)
  assert gls.measure() == dict(
    none_ms=1.0, top_k_ms=2.0, top_k_ratio=2.0, top_k_to_gls=1.0
  )
  assert specinfer.measure() == dict(
    none_ms=5.0, top_k_ms=8.0, top_k_ratio=1.6, top_k_to_gls=4.0
  )
