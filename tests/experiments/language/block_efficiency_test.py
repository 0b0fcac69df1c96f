import functools
import types

import numpy as np
import pytest

from configs import (
  decoding_consistency,
  decoding_diverse,
  decoding_iid,
  decoding_matching,
)
from listcoupling import files, tables
from listcoupling.config_fields import check_config
from listcoupling.data.prompt_choice import Batch
from listcoupling.decoding import programs
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.language import (
  block_efficiency,
  matching,
  protocol,
)
from listcoupling.experiments.language.protocol import Job
from tests import statistics
from tests.experiments.language import fakes


def _config(folder, **changes):
  settings = dict(methods=('single', 'gls'), num_drafts=(2,))
  return fakes.config_of(folder, **{**settings, **changes})


def _by_hand(setup, setting, seed):
  """Tokens and target calls [5] of gsm8k, one row of a batch at a time."""
  choice, rows = setup.choices['gsm8k'], np.arange(3)
  options = protocol.options_of(setup, setting)
  tokens, calls = np.zeros((2, 5))
  for part in (rows, rows + 2):  # three rows, as in the table
    keys = protocol.row_keys(seed, 'gsm8k', part)
    out = generate(
      keys, setup.target, [setup.drafter],
      choice.tokens[part], choice.lengths[part], options,
    )  # fmt: skip
    tokens[part], calls[part] = out.lengths, out.metrics.target_calls
  return tokens.sum() / calls.sum()


def test_the_table_is_what_generate_gives_and_a_second_call_repeats_it(
  folder, monkeypatch
):
  config, work = _config(folder), folder / 'work'
  rows = block_efficiency.run(config, work, 7)
  assert [row['method'] for row in rows] == 2 * ['single', 'gls']
  stored = tables.read_csv(work / 'results.csv')
  assert [{**row, 'draft_temperatures': ''} for row in stored] == rows
  record = files.read_json(work / 'results.json')
  assert len(record['prompts']['mbpp'].split()) == 5
  assert record['sources']['mbpp'].endswith('mbpp.jsonl')
  options = protocol.prepare(config).options
  assert record['stop_tokens'] == list(options.stop_tokens)
  assert record['parameters']['target'] >= record['parameters']['drafter'] > 0
  setup = protocol.prepare(config)
  setting = protocol.Setting('gls', 2, '')
  found = [_by_hand(setup, setting, seed) for seed in (7, 8)]
  mean, error = rows[1]['block_efficiency'], rows[1]['block_efficiency_se']
  assert mean == np.mean(found)
  assert error == np.std(found, ddof=1) / 2**0.5
  # Resumed: nothing is run again, and nothing changes.
  monkeypatch.setattr(protocol, 'continue_prompts', None)
  before = (work / 'results.json').read_bytes()
  assert block_efficiency.run(config, work, 7) == rows
  assert (work / 'results.json').read_bytes() == before
  config.top_k = 7
  with pytest.raises(ValueError, match=r'config\.top_k'):
    block_efficiency.run(config, work, 7)
  text = block_efficiency.run.as_text(rows).splitlines()
  assert text[0].startswith('gsm8k: 5 prompts, 0 of them cut')
  assert text[3].startswith('gls') and f'{mean:.3f} ± {error:.3f}' in text[3]
  assert text[5].startswith('mbpp: 5 prompts')


def test_no_program_is_timed_cold(monkeypatch):
  """Nor is one that was dropped after its first run."""
  seen = []

  def run(setup, job, options):
    compiling = programs.seconds()
    programs.get(abs, np.zeros(3))
    seen.append('cold' if programs.seconds() > compiling else 'warm')
    counts = np.ones(2, int)
    metrics = types.SimpleNamespace(
      target_calls=counts, drafted_tokens=counts, accepted_tokens=counts,
      tokens_per_second=seen[-1],
    )  # fmt: skip
    return types.SimpleNamespace(lengths=counts, metrics=metrics)

  monkeypatch.setattr(protocol, 'continue_prompts', run)
  setup = types.SimpleNamespace(options=GenerateOptions())
  job = _job(protocol.Setting('single', 1, ''))
  for dropped in (True, False, True):
    if dropped:
      programs.clear()
    row = block_efficiency.measure(setup, job, protocol.Once())
    assert row['tokens_per_second'] == 'warm'
  assert seen == ['cold', 'warm', 'warm', 'cold', 'warm']


def _job(setting, seed=0, rows=(0, 1), number=0):
  batch = Batch(np.array(rows), len(rows))
  return Job('gsm8k', seed, number, batch, setting)


def _found(tokens, calls, rate):
  return dict(
    rows='', tokens=tokens, calls=calls, drafted=8, accepted=4,
    tokens_per_second=rate,
  )  # fmt: skip


def _summarize(jobs, found):
  groups = {}
  for job, row in zip(jobs, found, strict=True):
    groups.setdefault((job.dataset, job.setting), []).append((job, row))
  setup = types.SimpleNamespace(config=decoding_iid.get_config())
  return [
    place[1]._asdict() | block_efficiency.summarize(groups, place, setup)
    for place in groups
  ]


def test_rates_are_compared_within_a_batch():
  single = protocol.Setting('single', 1, '')
  gls = protocol.Setting('gls', 2, '')
  specinfer = protocol.Setting('specinfer', 2, '')
  jobs, found = [], []
  for number, speed in enumerate((1.0, 0.1, 3.0)):  # the machine's
    for setting, rate in ((single, 100), (gls, 125), (specinfer, 75)):
      rows = (2 * number, 2 * number + 1)
      jobs.append(_job(setting, 0, rows, number))
      tokens = {single: '8 10', gls: '7 13', specinfer: '6 12'}[setting]
      found.append(_found(tokens, '4 5', rate * speed))
  rows = _summarize(jobs, found)
  percents = [row['token_rate_percent'] for row in rows]
  assert percents == [0, 25, -25]
  efficiency = [row['block_efficiency'] for row in rows]
  assert efficiency == [2, 20 / 9, 2]
  assert rows[1]['minus_specinfer'] == 20 / 9 - 2
  # (tokens - ratio calls) / 27 is ∓17/9/27 of a prompt for gls, ∓2/27 for its
  # other, three prompts each way; 6/5 for the mean that was estimated.
  scale = (6 * 6 / 5) ** 0.5 / 27
  # Up to 13 tokens of 27 calls, four roundings a term, two terms a prompt; then
  # the squares, their sum and its root.
  error = statistics.rounding(8 + 8, 13 * scale, np.float64)
  near = functools.partial(pytest.approx, rel=0, abs=error)
  ours, theirs = rows[1], rows[2]
  assert ours['block_efficiency_prompt_se'] == near(17 / 9 * scale)
  assert theirs['block_efficiency_prompt_se'] == near(2 * scale)
  paired, apart = (2 - 17 / 9) * scale, np.hypot(2, 17 / 9) * scale
  assert ours['minus_specinfer_se'] == near(paired)
  with pytest.raises(AssertionError):  # control: as if prompts were others
    assert ours['minus_specinfer_se'] == near(apart)
  assert rows[0]['minus_specinfer'] is None
  assert rows[1]['block_efficiency_se'] is None  # one seed
  assert rows[1]['acceptance_rate'] == 0.5
  counts = {
    'dataset': 'gsm8k', 'prompts': 6, 'prompts_cut': 31, 'prompts_dropped': 2
  }  # fmt: skip
  shown = block_efficiency.run.as_text([{**row, **counts} for row in rows])
  lines = shown.splitlines()
  assert lines[0].startswith('gsm8k: 6 prompts, 31 of them cut at the left; 2')
  assert lines[3].split()[2:] == '2.222 0.188 +0.222 ± 0.011 25.0'.split()
  assert lines[2].split()[2:] == ['2.000', '0.000', '0.0']


def test_rows_of_the_tables():
  names = list(block_efficiency.settings_of(decoding_iid.get_config()))
  assert len(names) == 3 + 6 * 3
  assert names[:3] == ['single-K1', 'block-K1', 'autoregressive']
  diverse = block_efficiency.settings_of(decoding_diverse.get_config()).values()
  assert ('spectr', 2, '1.0/1.0') in diverse
  assert ('spectr', 2, '0.5/1.0') not in diverse
  assert ('gls', 2, '0.5/1.0') in diverse
  assert ('single', 1, '1.0') in diverse
  config = decoding_iid.get_config()
  config.methods = ('gls',)  # what rates are compared with is always run
  assert next(iter(block_efficiency.settings_of(config))) == 'single-K1'


@pytest.mark.parametrize('pair', ['', *decoding_iid.PAIRS])
@pytest.mark.parametrize(
  'module',
  [decoding_iid, decoding_diverse, decoding_matching, decoding_consistency],
)
def test_every_config_is_accepted(module, pair):
  config = module.get_config(pair)
  own = matching if module is decoding_matching else protocol
  check_config(config, own.FIELDS)
  assert config.target == decoding_iid.PAIRS.get(pair, ('',))[0]
  with pytest.raises(ValueError, match='gpt9'):
    module.get_config('gpt9')


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'datasets': ('gsm8k', 'trivia')}, 'trivia'),
    ({'methods': ('gls', 'magic')}, 'magic'),
    ({'num_drafts': (0, 2)}, 'num_drafts'),
    ({'seeds': 0}, 'seeds'),
    ({'methods': ()}, 'methods'),
    ({'draft_temperatures': ('0.5-1',)}, '0.5-1'),
    ({'draft_temperatures': ('-1.0',)}, 'draft_temperatures'),
    ({'temperature': -1.0}, 'temperature'),
    ({'top_k': 2.5}, 'config.top_k'),
    ({'repetitions': 3}, 'unknown repetitions'),
  ],
)
def test_bad_settings_leave_no_files(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    block_efficiency.run(_config(folder, **changes), folder / 'work')
  assert not (folder / 'work').exists()
