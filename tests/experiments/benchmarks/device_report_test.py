"""The device report: every section in small, failures, time that is up."""

import dataclasses
import functools
import pathlib
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from listcoupling import files
from listcoupling.decoding import tuning
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import device_report, speed
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig

ROOT = pathlib.Path(__file__).resolve().parents[3]
# What a machine with an accelerator need not have.
_ABSENT = ('ml_collections', 'tensorflow_datasets', 'tensorboardX', 'sklearn')


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


def test_a_small_run_measures_every_section(tmp_path, monkeypatch):
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


def test_a_tpu_is_timed_with_splash_attention_too(monkeypatch):
  seen = []

  def attend(*arrays):
    seen.append([x.shape for x in arrays])
    return arrays[0]

  def milliseconds(functions, **_):
    functions['all']()
    return {'all': 8.0}

  monkeypatch.setattr(speed, 'milliseconds', milliseconds)
  monkeypatch.setattr(device_report.attention_splash, 'attend', attend)
  monkeypatch.setattr(
    device_report.kernels, 'at_hand', lambda name, **_: name == 'tpu'
  )
  table = device_report.attention(**_ATTENTION)
  assert [x['what'] for x in table.settings] == [
    'attention', 'splash attention'
  ]  # fmt: skip
  row = table.row(table.settings[1])
  assert row['milliseconds'] == 8 / device_report._LAYERS
  cache = (1, 1, 640, 128)
  own = [(1, 1, 2, 128), cache, cache, (1, 1, 640), (1,)]
  assert seen == [own] * device_report._LAYERS


def test_programs_are_compiled_before_the_first_row():
  done = []
  table = speed.Table(speed.grid(x=(1, 2)), lambda x: done.append(x) or {})
  table = device_report._warmed(table, [lambda: done.append('compiled')])
  assert [table.row(setting) for setting in table.settings] == table.settings
  assert done == ['compiled', 1, 2]


def test_who_stops_while_programs_are_compiled_does_not_wait_for_all():
  begun, ended, release = [], [], threading.Event()
  others = set(threading.enumerate())

  def stop():
    raise KeyboardInterrupt

  def compiled():
    begun.append(1)
    release.wait(5)
    ended.append(1)

  table = speed.Table([{}], dict)
  table = device_report._warmed(table, [stop] + 30 * [compiled])
  with pytest.raises(KeyboardInterrupt):
    table.row({})
  assert not ended
  release.set()
  for thread in set(threading.enumerate()) - others:
    thread.join()
  assert len(begun) == len(ended) <= 6  # one of each thread


def test_programs_that_are_compiled_are_counted():
  def compile_one():
    jax.jit(lambda x: x + 1)(np.ones(3, np.float32))

  with device_report._compiling() as spent:
    compile_one()
  compile_one()
  assert len(spent) == 1


def _note(workdir, section):
  record = files.read_json(workdir / section / 'results.json')
  return record['ended'], record['compile_seconds']


def test_a_failure_is_told_and_time_that_is_up_ends_the_run(
  tmp_path, monkeypatch
):
  measured = []

  def measure(number):
    measured.append(number)
    jax.monitoring.record_event_duration_secs(
      '/jax/core/compile/backend_compile_duration', number
    )
    if number == 2 and len(measured) == 2:
      raise ValueError('no such kernel')
    return {'twice': 2 * number}

  for name, numbers in (('a', (1, 2)), ('b', (3,))):
    table = speed.Table(speed.grid(number=numbers), measure)
    monkeypatch.setitem(device_report.SECTIONS, name, lambda table=table: table)

  def run(seconds, only=('a', 'b')):
    return {
      name: ([row['twice'] for row in rows], ended)
      for name, rows, ended in device_report.run(
        tmp_path, seconds=seconds, only=only
      )
    }

  found = run(-1.0)
  assert not measured and [rows for rows, _ in found.values()] == [[], []]
  assert all('no time is left' in ended for _, ended in found.values())
  found = run(1e6)
  assert found['b'] == ([6], '') and found['a'][0] == [2]
  assert 'ValueError: no such kernel (' in found['a'][1]
  assert _note(tmp_path, 'a') == (found['a'][1], 1 + 2)
  # What is missing is measured by the next run, and nothing else.
  assert run(1e6, only='a') == {'a': ([2, 4], '')}
  assert run(1e6) == {'a': ([2, 4], ''), 'b': ([6], '')}
  assert measured == [1, 2, 3, 2]
  assert _note(tmp_path, 'a') == ('', 1 + 2 + 2)
  assert _note(tmp_path, 'b') == ('', 3)


def test_what_was_measured_until_ctrl_c_is_told(tmp_path, monkeypatch):
  def measure(number):
    jax.monitoring.record_event_duration_secs(
      '/jax/core/compile/backend_compile_duration', 2.0
    )
    if number == 2:
      raise KeyboardInterrupt
    return {}

  table = speed.Table(speed.grid(number=(1, 2)), measure)
  monkeypatch.setitem(device_report.SECTIONS, 'a', lambda: table)
  with pytest.raises(KeyboardInterrupt):
    list(device_report.run(tmp_path, seconds=1e6, only='a'))
  assert _note(tmp_path, 'a') == ('stopped', 4.0)


def test_rows_of_other_sizes_or_machines_are_refused(tmp_path, monkeypatch):
  def section(*, number=1, **sizes):
    own = {'number': number, **sizes}
    return speed.Table(speed.grid(x=(1,)), lambda x: own)

  def run(**sizes):
    made = functools.partial(section, **sizes)
    monkeypatch.setitem(device_report.SECTIONS, 'a', made)
    (found,) = device_report.run(tmp_path, seconds=1e6, only='a')
    return found

  found = run()
  assert run(number=1) == found
  with pytest.raises(ValueError, match=r'arguments\.number \(1, now 2\)'):
    run(number=2)
  with pytest.raises(ValueError, match=r'arguments\.width \(now 3\)'):
    run(width=3)
  wider = dataclasses.replace(device_report._TARGET, hidden_size=4096)
  with monkeypatch.context() as patch:
    patch.setattr(device_report, '_TARGET', wider)
    with pytest.raises(ValueError, match=r'target\.hidden_size'):
      run()
  with monkeypatch.context() as patch:
    patch.setattr(device_report, 'environment', lambda: {'device': 'another'})
    with pytest.raises(ValueError, match=r'environment\.device'):
      run()
  assert run() == found
  kept = tmp_path / 'a' / 'results.csv'
  kept.write_text(kept.read_text().replace('x 1', 'x 2'))
  with pytest.raises(ValueError, match='damaged or was changed'):
    run()


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
