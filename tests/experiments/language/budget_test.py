"""The table at equal nodes against generate, its leads, a run that goes on."""

import numpy as np
import pytest

from configs import decoding_budget
from listcoupling import tables
from listcoupling.decoding import programs
from listcoupling.decoding.generate import generate
from listcoupling.experiments.language import budget, protocol
from listcoupling.validation import check_config
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
  assert row['tokens_per_call'] == pytest.approx(tokens.sum() / calls.sum())
  # A race writes the text of plain sampling, a rejection scheme another one.
  same = {row['method']: row['same_text'] for row in rows[4:]}
  assert same['autoregressive'] == same['gumbel_tree'] == 1
  assert same['specinfer'] < 1
  assert all(0 < row['race'] < row['overlap'] < 1 for row in rows)
  # Resumed: nothing is run again.
  monkeypatch.setattr(protocol, 'continue_prompts', None)
  assert budget.run(config, work, 5) == rows
  text = budget.run.as_text(rows).splitlines()
  assert text[0].startswith('gsm8k, temperature 0.6: 5 prompts, 1 - TV 0.')
  assert text[2].startswith('gumbel_tree') and '100 %' in text[2]
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
  found = budget.lead(best)
  assert (found['gap'], found['scheme']) == (0.5, 'specinfer, 4 x 2')
  assert found['gap_se'] == pytest.approx(0.5)


def test_where_the_tree_is_behind_the_table_says_why():
  """Gaps of both signs by hand, beside chains of what one draft allows."""
  shared = dict(prompts=4, same_text=1.0, tokens_per_second=9.0)
  plain = _row('autoregressive', 1, 1.0, num_nodes=0, **shared)
  ahead = [
    _row('gumbel_tree', 8, 3.0, num_nodes=2, **shared),
    _row('block', 1, 2.6, num_nodes=2, tokens_per_call_se=0.4, **shared),
  ]
  behind = [
    _row('gumbel_tree', 8, 3.0, **shared),
    _row('specinfer', 4, 3.25, distinct=True, **shared),
  ]
  text = budget.as_text([plain, *ahead, *behind])
  *_, first, second, why = text.splitlines()
  assert first.split() == [
    '2', '+0.40', '±', '0.50', 'block,', '1', 'x', '8', '1.75', '2.31', 'ahead'
  ]  # fmt: skip
  expected = '8 -0.25 ± 0.42 specinfer, distinct, 4 x 2'.split()
  assert second.split()[:-3] == expected
  chains = [sum(p**i for i in range(9)) for p in (0.5, 0.75)]
  assert second.split()[-3:] == [*(f'{x:.2f}' for x in chains), 'behind']
  assert (
    why.startswith('Behind:') and '0.500' in why and '0.750 (1 - TV)' in why
  )
  assert 'Behind:' not in budget.as_text([plain, *ahead])
