"""Two processes over loopback write what one writes, or both refuse."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  folder = tmp_path_factory.mktemp('processes')
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  settings = {
    'JAX_PLATFORMS': 'cpu',
    'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo',
    'XLA_FLAGS': '--xla_force_host_platform_device_count=1',
  }
  paths = [folder / f'{process}.json' for process in range(2)]
  running = [
    subprocess.Popen(
      [
        sys.executable,
        '-m',
        'tests.devices.process_cases',
        *(str(process), str(port), str(path)),
      ],
      cwd=ROOT,
      env=os.environ | settings,
      stderr=subprocess.PIPE,
      text=True,
    )
    for process, path in enumerate(paths)
  ]
  try:
    for each in running:
      _, errors = each.communicate(timeout=900)
      assert each.returncode == 0, errors[-3000:]
  finally:
    for each in running:
      each.kill()
  return [json.loads(path.read_text()) for path in paths]


@pytest.mark.parametrize('name', ['table data=2', 'network tp=2'])
def test_both_processes_have_the_text_of_one(results, name):
  ours, theirs = (found[name] for found in results)
  assert ours == theirs
  assert ours['tokens'] == 8 * 32 and len(ours['calls']) == 8
  assert ours['differ'] <= ('tp' in name)  # sums are split differently


def test_other_arguments_are_refused_by_both(results):
  for found in results:
    assert 'processes 0 and 1' in found['other prompts']
    assert 'different prompts' in found['other prompts']


def test_an_error_in_one_process_ends_the_call_in_both(results):
  assert 'process 1 refuses' in results[0]['bad options']
  assert 'temperature' in results[1]['bad options']
  assert [found['after'] for found in results] == ['', '']


def test_the_first_clock_counts_for_all(results):
  assert [found['tuned'] for found in results] == ['autoregressive'] * 2
