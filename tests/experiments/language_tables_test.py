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
from listcoupling.data.prompt_choice import Batch
from listcoupling.decoding.generate import generate
from listcoupling.experiments import (
  consistency,
  language_cells,
  language_setup,
  language_summary,
  language_tables,
  matching,
  results,
)
from listcoupling.experiments.language_cells import Cell
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
    language_cells,
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
  record['environment'] = 'elsewhere'
  results.write_json(work / 'results.json', record)
  # Resumed: nothing is run again, and nothing changes.
  assert language_tables.run(config, work, 7) == rows
  assert not calls
  again = results.read_json(work / 'results.json')
  assert again['environment'] == 'elsewhere'
  config.top_k = 7
  with pytest.raises(ValueError, match=r'config\.top_k'):
    language_tables.run(config, work, 7)
  text = language_tables.as_text(rows).splitlines()
  assert text[0].startswith('gsm8k: 5 prompts, 0 of them cut')
  assert (
    text[1].split() == 'method K draft T BE prompts - SpecInfer TR%'.split()
  )
  assert text[3].startswith('gls') and f'{mean:.3f} ± {error:.3f}' in text[3]
  assert text[5].startswith('mbpp: 5 prompts')


@pytest.mark.parametrize('policy, counts', [('cut', (5, 0)), ('drop', (0, 1))])
def test_long_prompts_are_told(folder, policy, counts):
  config = _config(folder, max_prompt_tokens=2, long_prompts=policy)
  if policy == 'drop':
    path = folder / 'gsm8k' / 'test.jsonl'
    path.write_text('{"question": "a"}\n{"question": "abc"}\n')
    config.templates.gsm8k = '{question}'
    config.datasets = ('gsm8k',)
  setup = language_setup.prepare(config)
  row = language_setup.with_prompt_counts(
    setup, [{'dataset': 'gsm8k', 'prompts': 5}]
  )[0]
  assert (row['prompts_cut'], row['prompts_dropped']) == counts
  line = language_setup.prompt_lines([row])['gsm8k']
  assert f'{counts[0]} of them cut' in line and f'{counts[1]} more' in line


def test_no_program_is_timed_cold(folder, monkeypatch):
  path = folder / 'mbpp' / 'mbpp.jsonl'
  lines = (
    f'{{"task_id": {n}, "text": "{"a" * 150}"}}\n' for n in range(11, 16)
  )
  path.write_text(''.join(lines))
  seen = []

  def measure(setup, cell, *, warm_up):
    size = cell.batch.size
    seen.append((cell.dataset, cell.setting.method, warm_up))
    figures = _found(' '.join('3' * size), ' '.join('2' * size), 10.0)
    return {**figures, 'rows': ''}

  monkeypatch.setattr(language_tables, 'measure', measure)
  language_tables.run(_config(folder), folder / 'work')
  # The longer prompts of the second data set are a program of their own.
  warm = [(name, method) for name, method, cold in seen if cold]
  names = [(n, m) for n in ('gsm8k', 'mbpp') for m in ('single', 'gls')]
  assert warm == names and len(seen) == 2 * 2 * 2 * 2


def test_a_run_belongs_to_its_models_and_machine(folder, monkeypatch):
  config = _config(folder)
  own = language_setup.prepare(config).identity
  assert own == language_setup.prepare(config).identity
  target, drafter = language_fakes.pair()
  changed = target._replace(config='another')
  with monkeypatch.context() as patch:
    patch.setattr(language_setup, '_load_pair', lambda config: (target, target))
    other = language_setup.prepare(config).identity
    assert {n for n in own if own[n] != other[n]} == {'drafter'}
  ours, theirs = (
    language_setup._identity(model, drafter, {}) for model in (target, changed)
  )
  assert {n for n in ours if ours[n] != theirs[n]} == {'target_config'}
  monkeypatch.setattr(language_setup.jax, '__version__', '0')
  monkeypatch.setattr(language_setup.listcoupling, '__version__', '0')
  other = language_setup.prepare(config).identity
  assert {n for n in own if own[n] != other[n]} == {'jax', 'library'}
  device = language_setup.jax.devices()[0]
  assert device.platform in own['device']
  assert device.device_kind in own['device']


def test_check_sums_see_every_value():
  first = np.zeros(5000, np.float32)
  second = first.copy()
  second[-1] = 1
  sums = [language_setup._digest([a]) for a in (first, second, first.copy())]
  assert sums[0] == sums[2] != sums[1]
  # Zeros of another type or shape have the same bytes.
  for other in (first.view(np.int32), first.reshape(2, -1)):
    assert language_setup._digest([other]) != sums[0]


def _cell(setting, seed=0, rows=(0, 1), number=0):
  batch = Batch(np.array(rows), len(rows))
  return Cell('gsm8k', seed, number, batch, setting, setting.name)


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
      tokens = {single: '8 10', gls: '7 13', rival: '6 12'}[setting]
      found.append(_found(tokens, '4 5', rate * speed))
  rows = language_summary.summarize(cells, found, decoding_iid.get_config())
  percents = [row['token_rate_percent'] for row in rows]
  np.testing.assert_allclose(percents, [0, 20, -10])
  efficiency = [row['block_efficiency'] for row in rows]
  np.testing.assert_allclose(efficiency, [2, 20 / 9, 2])
  assert rows[1]['minus_specinfer'] == pytest.approx(2 / 9)
  # (tokens - ratio calls) / 27 is ∓17/9/27 of a prompt for gls, ∓2/27 for its
  # rival, three prompts each way; 6/5 for the mean that was estimated.
  scale = (6 * 6 / 5) ** 0.5 / 27
  ours, theirs = rows[1], rows[2]
  assert ours['block_efficiency_prompt_se'] == pytest.approx(17 / 9 * scale)
  assert theirs['block_efficiency_prompt_se'] == pytest.approx(2 * scale)
  paired, apart = (2 - 17 / 9) * scale, np.hypot(2, 17 / 9) * scale
  assert ours['minus_specinfer_se'] == pytest.approx(paired)
  with pytest.raises(AssertionError):  # control: as if prompts were others
    assert ours['minus_specinfer_se'] == pytest.approx(apart)
  assert rows[0]['minus_specinfer'] is None
  assert rows[1]['block_efficiency_se'] is None  # one seed
  assert rows[1]['acceptance_rate'] == pytest.approx(0.5)
  counts = {'prompts_cut': 31, 'prompts_dropped': 2}
  shown = language_summary.as_text([{**row, **counts} for row in rows])
  lines = shown.splitlines()
  assert lines[0].startswith('gsm8k: 6 prompts, 31 of them cut at the left; 2')
  assert lines[3].split()[2:] == '2.222 ± 0.188 +0.222 ± 0.011 20.0'.split()
  assert lines[2].split()[2:] == ['2.000', '±', '0.000', '0.0']


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
