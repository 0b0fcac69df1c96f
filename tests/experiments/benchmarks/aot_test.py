"""Compiling for chips not at hand, where their compilers are installed."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from listcoupling.decoding.methods import METHODS
from listcoupling.experiments.benchmarks import aot

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


def test_methods_stand_in_for_the_cases():
  assert aot.choose() == list(aot.CASES)
  (blocks,) = aot.choose('blocks of 8 rows')
  cases = aot.choose(methods=['all'], program='span')
  assert [case.options.method for case in cases] == list(METHODS)
  for case in cases:
    assert (case.program, case.most) == ('span', blocks.most)
    assert (case.options.num_drafts == 1) == (
      case.options.method in ('autoregressive', 'single', 'block')
    )
  (chains,) = aot.choose('traversal', ['gls', 'traversal'])
  assert (chains.program, chains.options.method) == ('run', 'traversal')


@pytest.mark.parametrize(
  ('word', 'methods', 'told'),
  [('gpu', [], "'gpu' is in no name"), ('', ['glss'], "called 'glss'; take")],
)
def test_refuses_what_is_not_there(word, methods, told):
  with pytest.raises(ValueError, match=told):
    aot.choose(word, methods)
