"""Compiling for chips not at hand, where their compilers are installed."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
_OWN = ROOT / '.venv-aot' / 'bin' / 'python'  # what `make aot` builds


def _python() -> str:
  compilers = ('libtpu', 'jax_cuda13_plugin')
  if all(importlib.util.find_spec(name) for name in compilers):
    return sys.executable
  if not _OWN.exists():
    pytest.skip('no compilers of TPU and CUDA: run make aot first')
  return str(_OWN)


def test_figures_of_a_prefill_for_h100(tmp_path):
  done = subprocess.run(
    [
      _python(),
      'scripts/aot.py',
      '--only=prefill of 32',
      '--target_layers=1',
      '--drafter_layers=1',
      f'--workdir={tmp_path}',
    ],
    cwd=ROOT,
    env={'PYTHONPATH': str(ROOT), 'PATH': ''},
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode in (0, 1), done.stderr
  assert ('ABOVE' in done.stdout) == bool(done.returncode)
  (row,) = json.loads((tmp_path / 'figures.json').read_text())
  # Weights and caches of all layers, 16.3 + 9.4 GB, and the temporaries.
  assert 25.5 < row['all_gb'] - row['temporary_gb'] < 26.5
  assert row['temporary_gb'] > 0.1 and row['long_sorts'] == 0
  assert row['largest_collective_mb'] == 0
