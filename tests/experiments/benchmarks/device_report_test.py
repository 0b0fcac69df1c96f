"""The device report: every section in small, failures, time that is up."""

import functools
import json
import pathlib
import subprocess
import sys

import jax
import pytest

from listcoupling.decoding import tuning
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import device_report, speed
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig

ROOT = pathlib.Path(__file__).resolve().parents[3]
# What a machine with an accelerator need not have.
_ABSENT = ('ml_collections', 'tensorflow_datasets', 'tensorboardX', 'sklearn')


@pytest.fixture
def report(tmp_path):
  return tmp_path / 'device_report.json'


_FEW = GenerateOptions(max_new_tokens=8, cache_length=64)
_RATES = dict(batches=(2,), methods=('gumbel_tree',), options=_FEW)
_ATTENTION = dict(shape=(1, 1, 1, 2, 640))
_SMALL = {
  'sampler': dict(batch=8, vocab_size=1000),
  'attention': _ATTENTION,
  'parity': dict(new_tokens=64),
  'rates': _RATES,
  'rates_full': dict(_RATES, prompt=56),
  'prefill': dict(shapes=((2, 63),)),  # the program of plain `rates`
  'gaussian': dict(trials=8),
  'vae': dict(images=4, kind='dense', hidden_size=8),
  'tune_8': dict(batch=2, options=_FEW),
}


def test_a_small_run_measures_every_section(tmp_path, report, monkeypatch):
  config = TransformerConfig(64, 16, 2, 2, 1, 8, 32)
  pair = random_pair(jax.random.key(0), config, draft_layers=1, gain=0.1)
  monkeypatch.setattr(device_report, '_pair', lambda: pair)
  monkeypatch.setattr(device_report.pretrained, 'shipped_pair', lambda: pair)
  race = {'race': speed._DRAWS['race']}
  monkeypatch.setattr(speed, '_DRAWS', race)  # the others have their own test
  monkeypatch.setattr(tuning, 'GRID', ((4, 4, 16),))
  monkeypatch.setattr(tuning, 'COSTS', ())
  for name, sizes in _SMALL.items():
    make = functools.partial(device_report.SECTIONS[name], **sizes)
    monkeypatch.setitem(device_report.SECTIONS, name, make)
  rows = {}
  run = device_report.run(tmp_path, seconds=1e6, only=list(_SMALL))
  for name, rows[name], ended in run:
    assert not ended, (name, ended)
  assert list(rows) == list(_SMALL) and all(rows.values())
  kinds = {name.partition('_')[0] for name in device_report.SECTIONS}
  assert {name.partition('_')[0] for name in rows} == kinds
  for row in rows['parity']:
    assert row['diverging_rows'] == 0
    assert row['identical'] == row['tokens'] == 4 * 64
  for name in ('rates', 'rates_full'):
    for row in rows[name]:
      assert 1 <= row['block_efficiency'] <= 5
  assert {row['num_drafts'] for row in rows['sampler']} == {1, 4}
  plain, tree, chosen = rows['tune_8']
  assert (plain['num_nodes'], tree['num_nodes']) == (0, 16)
  assert chosen['method'] in (plain['method'], tree['method'])
  assert json.loads(report.read_text())['rates']['compile_seconds'] > 0


def test_a_tpu_is_timed_with_splash_attention_too(monkeypatch):
  seen = []

  def attend(*arrays):
    seen.append([x.shape for x in arrays])
    return arrays[0]

  monkeypatch.setattr(device_report.attention_splash, 'attend', attend)
  monkeypatch.setattr(
    device_report.kernels, 'at_hand', lambda name, **_: name == 'tpu'
  )
  table = device_report.attention(**_ATTENTION)
  assert [x['what'] for x in table.settings] == [
    'attention', 'splash attention'
  ]  # fmt: skip
  assert table.row(table.settings[1])['milliseconds'] > 0
  cache = (1, 1, 640, 128)
  own = [(1, 1, 2, 128), cache, cache, (1, 1, 640), (1,)]
  assert seen == [own] * device_report._LAYERS


def test_programs_are_compiled_before_the_first_row():
  done = []
  table = speed.Table(speed.grid(x=(1, 2)), lambda x: done.append(x) or {})
  table = device_report._warmed(table, [lambda: done.append('compiled')])
  assert [table.row(setting) for setting in table.settings] == table.settings
  assert done == ['compiled', 1, 2]


def test_a_failure_is_told_and_time_that_is_up_ends_the_run(
  tmp_path, report, monkeypatch
):
  measured = []

  def measure(number):
    measured.append(number)
    if number == 2 and len(measured) == 2:
      raise ValueError('no such kernel')
    return {'twice': 2 * number}

  for name, numbers in (('a', (1, 2)), ('b', (3,))):
    table = speed.Table(speed.grid(number=numbers), measure)
    monkeypatch.setitem(device_report.SECTIONS, name, lambda table=table: table)

  def run(seconds):
    return {
      name: ([row['twice'] for row in rows], ended)
      for name, rows, ended in device_report.run(
        tmp_path, seconds=seconds, only=('a', 'b')
      )
    }

  found = run(-1.0)
  assert not measured and [rows for rows, _ in found.values()] == [[], []]
  assert all('no time is left' in ended for _, ended in found.values())
  found = run(1e6)
  assert found['b'] == ([6], '') and found['a'][0] == [2]
  assert 'ValueError: no such kernel (' in found['a'][1]
  assert json.loads(report.read_text())['a']['ended'] == found['a'][1]
  # What is missing is measured by the next run, and nothing else.
  assert run(1e6) == {'a': ([2, 4], ''), 'b': ([6], '')}
  assert measured == [1, 2, 3, 2]


def test_it_needs_nothing_that_a_bare_machine_lacks():
  block = ''.join(f'sys.modules[{name!r}] = None\n' for name in _ABSENT)
  code = (
    f'import sys\n{block}'
    'from listcoupling import command\n'
    'from listcoupling.experiments.benchmarks import device_report\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, check=False
  )
  assert done.returncode == 0, done.stderr.decode()
