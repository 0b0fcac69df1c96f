"""The choice among settings, with rates given instead of measured."""

import jax
import pytest

from listcoupling.decoding import tuning
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.tuning import GRID, measure, settings, tune
from tests import fakes

TARGET, (DRAFTER,) = fakes.random_pair(7, 0.7, 5)
KEY = jax.random.key(0)
OPTIONS = GenerateOptions(
  'gls', max_new_tokens=8, temperature=0.7, top_k=5, stop_tokens=(3,)
)


@pytest.fixture
def rate(monkeypatch):
  """Tokens per second by number of nodes; each look is written down."""
  rates, looks = {}, []

  def generate(key, target, drafters, prompts, lengths, options):
    nodes = options.num_nodes or 0
    look = (nodes, options.draft_cost) if options.draft_cost else nodes
    looks.append(look)
    value = rates.get(look, 1.0)
    value = value.pop(0) if isinstance(value, list) else value
    return fakes.timed(value)

  monkeypatch.setattr(tuning, 'generate', generate)
  return rates, looks


def chosen():
  return tune(KEY, TARGET, DRAFTER, [[1, 2]], [2], OPTIONS)


def test_the_fastest_is_chosen_and_the_law_is_kept(rate):
  rates, _ = rate
  rates |= {0: 100.0, 16: 150.0, 32: 149.0}
  best = chosen()
  assert (best.method, best.num_nodes) == ('gumbel_tree', 16)
  assert (best.num_drafts, best.draft_length) == (4, 4)
  for name in ('temperature', 'top_k', 'stop_tokens', 'max_new_tokens'):
    assert getattr(best, name) == getattr(OPTIONS, name)
  rates[0] = 151.0
  assert chosen().method == 'autoregressive'


def test_who_leads_is_told_after_every_turn(rate):
  rates, _ = rate
  rates |= {16: 140.0, 8: 150.0}
  lines = []
  tune(KEY, TARGET, DRAFTER, [[1, 2]], [2], OPTIONS, on_turn=lines.append)
  assert len(lines) == 1 + tuning._TRIES + 2  # once more with costs, all slow
  assert (
    lines[0] == f'turn 0 of 9: {len(settings(OPTIONS))} settings are compiled'
  )
  lead = 'gumbel_tree of 8 nodes, 8 deep leads'
  assert lines[1] == f'turn 1 of 9: {lead} 3 settings with 150 tokens/s'
  lead = 'gumbel_tree of 8 nodes, 8 deep is the only setting left'
  assert lines[-1] == f'turn 1 of 9: {lead} with 150 tokens/s'


def test_one_slow_try_does_not_decide(rate):
  rates, _ = rate
  rates[8] = [5.0] + [100.0, 100.0, 30.0] * 12
  rates[16] = [999.0] + [90.0] * tuning._TRIES  # the first one is not counted
  assert chosen().num_nodes == 8


def test_slow_settings_are_dropped(rate):
  rates, looks = rate
  rates |= {nodes: 10.0 for _, _, nodes in GRID} | {32: 100.0}
  assert chosen().num_nodes == 32
  assert looks.count(64) == 2
  # Nothing is left to compare with; once more, beside costs.
  assert looks.count(32) == 2 * 2


def test_a_cost_of_drafting_is_tried_on_the_fastest_tree(rate):
  rates, looks = rate
  rates |= {32: 100.0, (32, 0.1): 120.0, (16, 0.1): 300.0}
  best = chosen()
  assert (best.num_nodes, best.draft_cost) == (32, 0.1)
  rates[0] = 1000.0
  looks.clear()
  assert chosen().draft_cost == 0
  assert all(isinstance(look, int) for look in looks)


def test_settings_have_a_slot_for_each_drafter():
  for each in settings(OPTIONS, 3):
    each.check(7)
    assert each.method == 'autoregressive' or each.num_drafts % 3 == 0


def test_real_runs_are_measured():
  (plain, short, *_) = settings(OPTIONS)
  rates = measure(KEY, TARGET, [DRAFTER], [[1, 2]], [2], [plain, short])
  assert all(rate > 0 for each in rates.values() for rate in each)
  assert all(1 <= len(each) <= tuning._TRIES for each in rates.values())


def test_nothing_to_tune_is_refused():
  with pytest.raises(ValueError, match='tune needs at least one drafter'):
    tune(KEY, TARGET, [], [[1, 2]], [2], OPTIONS)
