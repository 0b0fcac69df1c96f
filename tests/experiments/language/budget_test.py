"""The table at equal nodes against generate, its leads, a run that goes on."""

import functools

import numpy as np
import pytest

from configs import decoding_budget
from listcoupling import tables
from listcoupling.config_fields import check_config
from listcoupling.data.prompt_choice import Batch
from listcoupling.decoding import programs
from listcoupling.decoding.generate import generate
from listcoupling.experiments.language import budget, protocol
from listcoupling.experiments.language.protocol import Job
from tests import statistics
from tests.experiments.language import fakes


def _config(folder, **changes):
  settings = dict(
    datasets=('gsm8k',),
    methods=('autoregressive', 'gumbel_tree', 'specinfer'),
    num_nodes=(4,),
    num_drafts=(2,),
    temperatures=(0.6, 1.0),
    seeds=1,
  )
  config = decoding_budget.get_config()
  small = fakes.config_of(folder)
  shared = {name: small[name] for name in config if name in small}
  with config.ignore_type():
    config.update(shared | {'experiment': 'budget'} | settings | changes)
  return config


def test_the_shipped_configs_are_complete():
  for pair, bits in (('', 0), ('int8', 8), ('llama3-int4', 4)):
    config = decoding_budget.get_config(pair)
    check_config(config, budget.FIELDS)
    assert config.drafter_bits == bits
    assert bool(config.target) == pair.startswith('llama3')
    for setting in budget.settings_of(config).values():
      used = setting.num_drafts * setting.draft_length
      assert used == setting.num_nodes or setting.method == 'gumbel_tree'
  with pytest.raises(ValueError, match='int2'):
    decoding_budget.get_config('int2')


def test_the_table_is_what_generate_gives(folder, monkeypatch):
  config, work = _config(folder), folder / 'work'
  compiled, make = [], programs._compile
  monkeypatch.setattr(
    programs,
    '_compile',
    lambda kept, key, *args: compiled.append(key) or make(kept, key, *args),
  )
  monkeypatch.setattr(programs, 'SIZE', 1)
  programs.clear()
  ran, run = [], protocol.continue_prompts
  monkeypatch.setattr(
    protocol,
    'continue_prompts',
    lambda setup, job, own: ran.append(own.method) or run(setup, job, own),
  )
  rows = budget.run(config, work, 5)
  # Each program is kept for the next batch; its first run is not timed.
  assert len(set(compiled)) == len(compiled) == 8
  assert ran.count('specinfer') == 8 + 2
  # Plain sampling runs once for the settings of a batch, and for its laws.
  assert ran.count('autoregressive') == 4 + 1 + 4
  schemes = [(row['method'], row['distinct']) for row in rows]
  assert schemes == 2 * [
    ('autoregressive', False),
    ('gumbel_tree', False),
    ('specinfer', False),
    ('specinfer', True),
  ]
  setup, row = protocol.prepare(config), rows[7]
  setting = budget.Setting(*(row[name] for name in budget.Setting._fields))
  choice = setup.choices['gsm8k']
  tokens, calls = np.zeros((2, 5))
  for part in (np.arange(3), np.arange(2, 5)):  # rows of a batch, as there
    out = generate(
      protocol.row_keys(5, 'gsm8k', part), setup.target, [setup.drafter],
      choice.tokens[part], choice.lengths[part],
      budget.options_of(setup, setting),
    )  # fmt: skip
    tokens[part], calls[part] = out.lengths, out.metrics.target_calls
  assert row['tokens_per_call'] == tokens.sum() / calls.sum()
  # A race writes the text of plain sampling, a rejection scheme another one.
  same = {row['method']: row['same_text'] for row in rows[4:]}
  assert same['autoregressive'] == same['gumbel_tree'] == 1
  assert same['specinfer'] < 1
  assert all(0 < row['race'] < row['overlap'] < 1 for row in rows)
  # Resumed: nothing is run again.
  monkeypatch.setattr(protocol, 'continue_prompts', None)
  assert budget.run(config, work, 5) == rows
  lines = budget.run.as_text(rows).splitlines()
  assert lines[0].startswith('gsm8k: 5 prompts')
  assert lines[3].split()[:3] == ['0.6', '4', 'gumbel_tree']
  assert '100%' in lines[3]
  assert len(tables.read_csv(work / 'batches.csv')) == 16


def _row(method, width, value, **changes):
  return (
    dict(
      dataset='x',
      temperature=1.0,
      method=method,
      distinct=False,
      num_nodes=8,
      num_drafts=width,
      draft_length=8 // width,
      tokens_per_call=value,
      tokens_per_call_se=0.3,
      race=0.5,
      overlap=0.75,
    )
    | changes
  )


def test_the_best_shape_of_every_method_is_told():
  rows = [
    _row('gumbel_tree', 8, 3.0),
    _row('specinfer', 2, 2.0),
    _row('specinfer', 4, 2.5, tokens_per_call_se=0.4),
    _row('specinfer', 4, 2.4, distinct=True),
    _row('specinfer', 8, 1.0),
  ]
  best = budget.best_shapes(rows)
  assert [row['tokens_per_call'] for row in best] == [3.0, 2.5, 2.4]
  about = {'prompts': 4, 'prompts_cut': 0, 'prompts_dropped': 0}
  told, _ = budget.run.as_text([row | about for row in rows]).split('\n\n')
  assert len(told.splitlines()) == 2 + len(best)


def test_a_lead_is_the_trees_of_equal_nodes_on_the_same_prompts():
  """By hand: tokens of three prompts, two calls each."""
  tokens = {
    budget.Setting('autoregressive', 0, 0, 0, False, 1.0): '2 2 2',
    budget.Setting('gumbel_tree', 4, 4, 4, False, 1.0): '6 8 10',
    budget.Setting('specinfer', 4, 2, 2, True, 1.0): '4 8 9',
    budget.Setting('block', 4, 1, 4, False, 1.0): '9 9 9',
    budget.Setting('block', 8, 1, 8, False, 1.0): '4 4 4',  # no such tree
  }
  shared = dict(same='1 1 1', overlap='1 1 1', race='1 1 1', calls='2 2 2')
  groups = {}
  for setting, each in tokens.items():
    batch = Batch(np.arange(3), 3)
    job = Job('x', 0, 0, batch, setting)
    row = shared | {'tokens': each, 'tokens_per_second': 1.0}
    groups['x', setting] = [(job, row)]
  rows = [budget.summarize(groups, place, None) for place in groups]
  leads = [row['tree_lead'] for row in rows]
  assert leads == [None, None, 0.5, -0.5, None]
  # Of prompts that are ahead by 1, 0 and .5: less their mean, over 3.
  error = np.std([1, 0, 0.5], ddof=1) / 3**0.5
  # Up to 10 tokens of 6 calls, four roundings a term, two terms a prompt; then
  # the squares, their sum and its root.
  near = functools.partial(
    pytest.approx, rel=0, abs=statistics.rounding(8 + 5, 10 / 6, np.float64)
  )
  assert rows[2]['tree_lead_se'] == near(error)
  apart = np.hypot(*(row['tokens_per_call_se'] for row in rows[1:3]))
  with pytest.raises(AssertionError):  # control: as if prompts were others
    assert rows[2]['tree_lead_se'] == near(apart)
