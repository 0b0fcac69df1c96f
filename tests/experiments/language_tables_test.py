import pathlib
import subprocess
import sys

import numpy as np
import pytest

from configs import (
  decoding_consistency,
  decoding_diverse,
  decoding_iid,
  decoding_matching,
)
from listcoupling.decoding.generate import generate
from listcoupling.experiments import (
  consistency,
  language_setup,
  language_summary,
  language_tables,
  matching,
  results,
)
from tests.experiments import language_fakes

_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setattr(
    language_setup, '_load_pair', lambda config: language_fakes.pair()
  )
  return language_fakes.write_prompts(tmp_path / 'data')


def _config(folder, **changes):
  settings = dict(methods=('single', 'gls'), num_drafts=(2,), draft_length=2)
  return language_fakes.config_of(folder, **{**settings, **changes})


def test_the_table_is_what_generate_gives_and_a_second_call_repeats_it(
  folder, monkeypatch
):
  config, work = _config(folder), folder / 'work'
  calls = []
  monkeypatch.setattr(
    language_tables,
    'generate',
    lambda *a, **k: calls.append(a) or generate(*a, **k),
  )
  rows = language_tables.run(config, work, 7)
  # Data sets, seeds, batches, methods; each method once more to warm up.
  assert len(calls) == 2 * 2 * 2 * 2 + 2
  assert [row['method'] for row in rows[:2]] == ['single', 'gls']
  stored = results.read_csv(work / 'results.csv')
  assert [{**row, 'draft_temperatures': ''} for row in stored] == rows
  assert (work / 'block_efficiency.png').stat().st_size > 5000
  record = results.read_json(work / 'results.json')
  assert record['prompts']['mbpp']['chosen'] == 5
  # By hand: the same keys, prompt by prompt.
  setup = language_setup.prepare(config)
  choice, found = setup.choices['gsm8k'], []
  options = language_tables.options_of(
    setup, language_tables.Setting('gls', 2, '')
  )
  for seed in (7, 8):
    keys = language_setup.row_keys(seed, 'gsm8k', np.arange(5))
    out = generate(
      keys,
      setup.target,
      [setup.drafter],
      choice.tokens,
      choice.lengths,
      options,
    )
    found.append(out.lengths.sum() / out.metrics.target_calls.sum())
  mean, error = rows[1]['block_efficiency'], rows[1]['block_efficiency_se']
  assert mean == pytest.approx(np.mean(found))
  assert error == pytest.approx(np.std(found, ddof=1) / 2**0.5)
  calls.clear()
  # Resumed: nothing is run again, and nothing changes.
  assert language_tables.run(config, work, 7) == rows
  assert not calls
  config.top_k = 7
  with pytest.raises(ValueError, match=r'config\.top_k'):
    language_tables.run(config, work, 7)
  text = language_tables.as_text(rows).splitlines()
  assert text[0].split() == 'method K draft T gsm8k BE TR% mbpp BE TR%'.split()
  assert text[2].startswith('gls') and f'{mean:.3f} ± {error:.3f}' in text[2]


def _cell(setting, seed=0, rows=(0, 1), number=0):
  batch = language_tables.Batch(np.array(rows), len(rows))
  return language_tables.Cell('gsm8k', seed, number, batch, setting)


def _found(tokens, calls, rate):
  return dict(
    rows='', tokens=tokens, calls=calls, drafted=8, accepted='3 1',
    tokens_per_second=rate,
  )  # fmt: skip


def test_rates_are_compared_within_a_batch():
  single = language_tables.Setting('single', 1, '')
  gls = language_tables.Setting('gls', 2, '')
  rival = language_tables.Setting('specinfer', 2, '')
  cells, found = [], []
  for number, speed in enumerate((1.0, 0.1, 3.0)):  # the machine's
    for setting, rate in ((single, 100), (gls, 120), (rival, 90)):
      rows = (2 * number, 2 * number + 1)
      cells.append(_cell(setting, 0, rows, number))
      more = 2 if setting == gls else 0
      found.append(_found(f'{8 + more} 10', '4 5', rate * speed))
  rows = language_summary.summarize(cells, found, decoding_iid.get_config())
  percents = [row['token_rate_percent'] for row in rows]
  np.testing.assert_allclose(percents, [0, 20, -10])
  efficiency = [row['block_efficiency'] for row in rows]
  np.testing.assert_allclose(efficiency, [2, 20 / 9, 2])
  assert rows[1]['minus_specinfer'] == pytest.approx(2 / 9)
  # Three prompts gain 2 tokens each, three gain none: influences are equal
  # and opposite up to the ratio.
  assert 0 < rows[1]['minus_specinfer_se'] < 0.2
  assert rows[0]['minus_specinfer'] is None
  assert rows[1]['block_efficiency_se'] is None  # one seed
  assert rows[1]['acceptance_rate'] == pytest.approx(0.5)


def test_rows_of_the_tables():
  names = [
    setting.name
    for setting in language_tables.settings_of(decoding_iid.get_config())
  ]
  assert len(names) == len(set(names)) == 3 + 6 * 3
  assert names[:3] == ['single-K1', 'block-K1', 'autoregressive']
  diverse = language_tables.settings_of(decoding_diverse.get_config())
  assert ('spectr', 2, '1.0/1.0') in diverse
  assert ('spectr', 2, '0.5/1.0') not in diverse
  assert ('gls', 2, '0.5/1.0') in diverse
  assert ('single', 1, '1.0') in diverse
  config = decoding_iid.get_config()
  config.methods = ('gls',)  # what rates are compared with is always run
  assert language_tables.settings_of(config)[0].method == 'single'


@pytest.mark.parametrize('pair', ['', *decoding_iid.PAIRS])
@pytest.mark.parametrize(
  'module',
  [decoding_iid, decoding_diverse, decoding_matching, decoding_consistency],
)
def test_every_config_is_accepted(module, pair):
  config = module.get_config(pair)
  language_setup.check_config(config)
  assert config.target == decoding_iid.PAIRS.get(pair, ('',))[0]
  if module is decoding_matching:
    matching.check_config(config)
  if module is decoding_consistency:
    consistency.check_config(config)
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
    ({'target': 'somewhere'}, 'somewhere'),
    ({'draft_temperatures': ('0.5-1',)}, '0.5-1'),
    ({'draft_temperatures': ('-1.0',)}, 'draft_temperatures'),
    ({'temperature': -1.0}, 'temperature'),
  ],
)
def test_bad_settings_leave_no_files(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    language_tables.run(_config(folder, **changes), folder / 'work')
  assert not (folder / 'work').exists()


def test_a_seed_gives_a_prompt_its_own_text():
  keys = language_setup.row_keys(0, 'gsm8k', np.array([3, 1]))
  again = language_setup.row_keys(0, 'gsm8k', np.array([0, 1, 2, 3]))
  assert keys[0] == again[3] and keys[1] == again[1]
  assert keys[1] != language_setup.row_keys(0, 'mbpp', np.array([1]))[0]
  assert keys[1] != language_setup.row_keys(1, 'gsm8k', np.array([1]))[0]


def test_the_command_line_names_what_is_missing(tmp_path):
  done = subprocess.run(
    [
      sys.executable,
      'scripts/evaluate_decoding.py',
      '--config=configs/decoding_diverse.py:llama3',
      f'--workdir={tmp_path / "work"}',
      f'--prompts={tmp_path}',
    ],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert done.returncode != 0 and 'gsm8k/test.jsonl' in done.stderr
  assert not (tmp_path / 'work').exists()
