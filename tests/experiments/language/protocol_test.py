"""Shared by the language tables: whose run it is, prompts, keys, pairs."""

import pathlib
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from configs import (
  decoding_budget,
  decoding_consistency,
  decoding_iid,
  decoding_matching,
)
from listcoupling.experiments.language import (
  block_efficiency,
  budget,
  consistency,
  matching,
  protocol,
)
from tests.experiments.language import fakes

_ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize('policy, counts', [('cut', (5, 0)), ('drop', (0, 1))])
def test_long_prompts_are_told(folder, policy, counts):
  config = fakes.config_of(folder, max_prompt_tokens=2, long_prompts=policy)
  if policy == 'drop':
    path = folder / 'gsm8k' / 'test.jsonl'
    path.write_text('{"question": "a"}\n{"question": "abc"}\n')
    config.templates.gsm8k = '{question}'
    config.datasets = ('gsm8k',)
  choice = protocol.prepare(config).choices['gsm8k']
  assert (choice.num_cut, choice.num_dropped) == counts
  row = {
    'dataset': 'gsm8k',
    'prompts': 5,
    'prompts_cut': counts[0],
    'prompts_dropped': counts[1],
  }
  table = protocol.Table((), None, None, None)
  line = table._as_text([row]).splitlines()[0]
  assert f'{counts[0]} of them cut' in line and f'{counts[1]} more' in line


def test_a_run_belongs_to_its_models_and_machine(folder, monkeypatch):
  setup = protocol.prepare(fakes.config_of(folder))
  own = protocol._identity(setup)
  target, drafter = fakes.pair()

  def changed(target, drafter):
    other = setup._replace(target=target, drafter=drafter)
    other = protocol._identity(other)
    return {name for name in other if own[name] != other[name]}

  assert changed(target, drafter) == set()
  assert changed(target, target) == {'drafter'}
  params = target.params.at[0, 0, 0].add(1e-6)
  assert changed(target._replace(params=params), drafter) == {'target'}
  assert changed(target._replace(config='another'), drafter) == {'target'}
  monkeypatch.setattr(protocol.jax, '__version__', '0')
  monkeypatch.setattr(protocol.listcoupling, '__version__', '0')
  assert changed(target, drafter) == {'jax', 'library'}
  device = protocol.jax.devices()[0]
  assert device.platform in own['device']
  assert device.device_kind in own['device']


def test_a_seed_gives_a_prompt_its_own_text():
  keys = protocol.row_keys(0, 'gsm8k', np.array([3, 1]))
  again = protocol.row_keys(0, 'gsm8k', np.array([0, 1, 2, 3]))
  assert keys[0] == again[3] and keys[1] == again[1]
  assert keys[1] != protocol.row_keys(0, 'mbpp', np.array([1]))[0]
  assert keys[1] != protocol.row_keys(1, 'gsm8k', np.array([1]))[0]


@pytest.mark.parametrize(
  'table, file, timed',
  [
    (block_efficiency, decoding_iid, True),
    (budget, decoding_budget, True),
    (matching, decoding_matching, False),
    (consistency, decoding_consistency, False),
  ],
  ids=['block_efficiency', 'budget', 'matching', 'consistency'],
)
def test_rates_are_measured_on_one_device(folder, table, file, timed):
  class Stop(Exception):
    pass

  def rows(jobs, compute, **settings):
    seen.append(settings['timed'])
    raise Stop

  seen = []
  config = fakes.config_of(folder, file.get_config(), datasets=('gsm8k',))
  _, fill = table.run.prepare(config, 0)
  with pytest.raises(Stop):
    fill(types.SimpleNamespace(rows=rows))
  assert seen == [timed]


def test_models_go_to_a_device_and_not_to_a_platform(folder):
  setup = protocol.prepare(fakes.config_of(folder))
  (device,) = jax.devices()[:1]
  for none in (None, device.platform):
    assert setup.on(none) is setup
  moved = setup.on(device).target.params
  assert moved.devices() == {device}


def test_a_pair_is_named_by_both_or_neither():
  config = decoding_iid.get_config()
  config.target = 'somewhere'
  with pytest.raises(ValueError, match="'somewhere' and drafter ''"):
    protocol.load_pair(config)


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
