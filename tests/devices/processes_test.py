"""Two processes over loopback do what one does, or both refuse."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from listcoupling import files
from listcoupling.experiments.language import protocol
from listcoupling.models import pretrained
from listcoupling.models import vae as vae_models
from listcoupling.training import language_model
from tests.devices import (
  process_table_cases,
  process_training_cases,
  training_cases,
)
from tests.experiments.language import fakes as letters
from tests.training import tiny_text

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Where the processes work."""
  path = tmp_path_factory.mktemp('processes')
  tiny_text.write_text(path / 'text.txt')
  letters.write_prompts(path / 'prompts')
  return path


@pytest.fixture(scope='module')
def results(folder):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  settings = {
    'JAX_PLATFORMS': 'cpu',
    'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo',
    'JAX_NUM_CPU_DEVICES': '1',
  }
  running = [
    subprocess.Popen(
      [
        sys.executable,
        '-m',
        'tests.devices.process_cases',
        *(str(process), str(port), str(folder)),
      ],
      cwd=ROOT,
      env=os.environ | settings,
      stderr=subprocess.PIPE,
      text=True,
    )
    for process in range(2)
  ]
  try:
    for each in running:
      _, errors = each.communicate(timeout=900)
      assert each.returncode == 0, errors[-3000:]
  finally:
    for each in running:
      each.kill()
  return [json.loads((folder / f'{n}.json').read_text()) for n in range(2)]


@pytest.mark.parametrize(
  'name, count, size', [('table data=2', 40, 256), ('network tp=2', 8, 32)]
)
def test_both_processes_have_the_text_of_one(results, name, count, size):
  ours, theirs = (found[name] for found in results)
  assert ours == theirs
  assert ours['lengths'] == [size] * count and len(ours['calls']) == count
  alone = results[0][f'{name.split()[0]} alone']
  differ = sum(x != y for x, y in zip(ours['tokens'], alone, strict=True))
  assert differ <= ('tp' in name)  # sums are split differently


def test_other_arguments_are_refused_by_both(results):
  for found in results:
    assert 'processes 0 and 1' in found['other prompts']
    assert 'different prompts' in found['other prompts']


def test_a_queue_of_other_slots_is_refused_by_both(results):
  for found in results:
    assert 'different batch_size' in found['other slots']
  ours, theirs = (found['no slots in one'] for found in results)
  assert 'batch_size must be at least 1, got 0' in ours
  assert 'process 0 failed' in theirs


def test_an_error_in_one_process_ends_the_call_in_both(results):
  assert 'process 1 failed' in results[0]['bad options']
  assert 'temperature' in results[1]['bad options']
  assert 'process 1 failed' in results[0]['bad text']
  assert 'prompts[1] holds token 16' in results[1]['bad text']
  assert [found['after'] for found in results] == ['', '']


def test_what_does_not_fit_a_mesh_is_refused_by_both(results):
  ours, theirs = (found['refused meshes'] for found in results)
  words = {
    'name': "axis 'model'",
    'batch': '1 prompts cannot be shared',
    'vocabulary': 'vocab_size=127',
    'heads': 'heads=3',
    'mesh of one': 'different mesh',
  }
  for name, word in words.items():
    assert ours[name] == theirs[name] and word in ours[name], name
  for name in ('name', 'batch'):
    assert words[name] in theirs[f'{name} of one']
    assert ours[f'{name} of one'].startswith('process 1 failed')


def test_the_first_clock_counts_for_all(results):
  assert [found['tuned'] for found in results] == ['autoregressive'] * 2


def test_both_processes_train_one_model(results, folder):
  ours, theirs = (found['text'] for found in results)
  assert ours == theirs and ours['shard'] == [280, 8]  # of [280, 16]
  model = pretrained.load_pretrained(folder / 'model')
  assert files.digest(model.params) == ours['digest']
  names = {path.name for path in (folder / 'run').iterdir()}
  assert names == {
    'checkpoints',
    'events',
    'history.json',
    'origin.json',
    'record.json',
    'tokenizer.json',
    'train_config.json',
  }
  assert len(list((folder / 'run/events').iterdir())) == 2  # one a start


def test_an_interrupt_of_one_process_stops_both_after_the_same_step(results):
  # It comes in the third step, the others know at the end of the fourth.
  assert results[0]['text']['stopped'] == ['3', '4']


def test_what_two_processes_kept_goes_on_in_one(results, folder):
  together = results[0]['text']['losses']
  shutil.rmtree(folder / 'run/checkpoints/6')
  config = process_training_cases.text_config(folder)
  error = training_cases.apart_later(config, folder / 'run')
  found = language_model.train_and_evaluate(config, folder / 'run')
  alone = [row['train'] for row in found.record['history']]
  assert alone[0] == together[0] and together[1] < together[0]
  assert abs(alone[1] - together[1]) < error < together[0] - together[1]


def test_both_processes_train_one_image_codec(results, folder):
  ours, theirs = (found['images'] for found in results)
  assert ours == theirs and ours['same']
  params, _, _ = vae_models.load(folder / 'images' / vae_models.FILE)
  assert files.digest(jax.tree.map(np.asarray, params)) == ours['digest']
  history = files.read_json(folder / 'images/history.json', list)
  assert [row['step'] for row in history] == [2, 4]


def test_trainings_that_differ_are_refused_by_both(results):
  for found in results:
    assert found['refused']['settings'].startswith('processes 0 and 1 were')
    assert 'different config' in found['refused']['settings']
    assert 'give --mesh' in found['refused']['no mesh']
    assert 'no device of process 1' in found['refused']['one process']
    assert 'different mesh' in found['refused']['flags']
    assert not found['refused']['written']
  ours, theirs = (found['refused']['batch'] for found in results)
  assert 'batch_size=3' in ours and 'process 0 failed' in theirs


def test_two_processes_fill_a_table_as_one_does(results, folder, tmp_path):
  ours, theirs = (found['tables'] for found in results)
  assert ours['made'] == ['a', 'c', 'e', 0, 2]
  assert theirs['made'] == ['b', 'd', 1]
  process_table_cases.synthetic(tmp_path / 'alone')
  for name in ('results.csv', 'all.csv'):
    alone = (tmp_path / 'alone' / name).read_bytes()
    for other in ('together', 'stopped'):
      assert (folder / other / name).read_bytes() == alone, (other, name)


@pytest.mark.parametrize('name', ['toy', 'language'])
def test_a_table_of_two_processes_has_the_bytes_of_one(
  results, folder, tmp_path, name, monkeypatch
):
  monkeypatch.setattr(protocol, 'load_pair', protocol.load_pair)  # put back
  alone = tmp_path / name
  if name == 'language':
    process_table_cases.language_table(folder / 'prompts', alone)
  else:
    process_table_cases.toy_table(alone)
  names = sorted(path.name for path in alone.glob('*.csv'))
  assert 'results.csv' in names
  ways = [name, 'language on a mesh'] if name == 'language' else [name]
  for way in ways:
    for each in names:
      assert (folder / way / each).read_bytes() == (alone / each).read_bytes()


def test_a_row_that_both_make_is_ended_before_a_stop_and_kept_once(results):
  for found in (each['tables'] for each in results):
    assert found['shared'] == ['a', 'b', 'stopped', 'b', 'c', 'd', 'e']
    assert [row['process'] for row in found['shared rows']] == [0] * 5
    assert 'no device of process 1' in found['one process']


def test_a_table_that_one_process_stops_is_stopped_and_resumed(results):
  ours, theirs = (found['tables'] for found in results)
  assert 'What is done is kept' in ours['stopped'] == theirs['stopped']
  assert ours['kept'] == theirs['kept'] and ours['kept'].count('\n') == 3
  # The two of the round that was stopped come again.
  assert ours['resumed'] == ['c', 'e', 0, 2]
  assert theirs['resumed'] == ['d', 1]


def test_tables_that_differ_are_refused_by_both(results):
  ours, theirs = (found['tables'] for found in results)
  for found in (ours, theirs):
    assert 'different settings' in found['settings'] and not found['written']
  assert theirs['failed'] == 'a number is missing'
  assert ours['failed'] == 'process 1 failed; its own message says why.'
