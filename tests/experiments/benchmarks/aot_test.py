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
  # Weights and caches of all layers, to half a unit of the last digit of each,
  # and the temporaries.
  assert abs(row['all_gb'] - row['temporary_gb'] - (16.22 + 9.70)) < 2 * 0.005
  assert row['temporary_gb'] > 0.1 and row['long_sorts'] == 0
  assert row['largest_collective_mb'] == 0


def test_methods_stand_in_for_the_cases():
  assert aot.choose() == list(aot.CASES)
  cases = aot.choose(methods=['all'], program='span')
  assert [case.options.method for case in cases] == list(METHODS)
  for case in cases:
    assert case.program == 'span'
    # Laws of every method; no limits that were measured for one of them. The
    # keys of a layer are 8 rows of one head, 4096 entries of 128 bfloat16.
    assert case.most == {
      'collective-permute_mb': 0,
      'largest_collective_mb': 8 * 4096 * 128 * 2 / 2e6,
      'serial_loops': 0,
      'long_sorts': 0,
    }
    assert (case.options.num_drafts == 1) == (
      case.options.method in ('autoregressive', 'single', 'block')
    )
  (chains,) = aot.choose('traversal', ['gls', 'traversal'])
  assert (chains.program, chains.options.method) == ('run', 'traversal')


def test_sums_of_the_models_on_paper():
  """The drafter has no sums of heads: its 2 key heads stay whole."""
  (tree,) = aot.choose('blocks of 8 rows')
  target, drafter = 8 * 33 * 3584 * 2, 8 * (5 + 8) * 896 * 2
  for layers in ((2, 2), (28, 24)):
    expected = (1 + 2 * layers[0]) * target + (1 + layers[1]) * drafter
    assert aot.sums_mb(tree, layers) == expected / 1e6
  plain, one = aot.choose(methods=['autoregressive', 'block'])
  assert aot.sums_mb(plain, (2, 2)) == 5 * target // 33 / 1e6
  expected = 5 * target * 5 // 33 + 3 * drafter * 6 // 13
  assert aot.sums_mb(one, (2, 2)) == expected / 1e6
  assert aot.sums_mb(tree._replace(tp=1), (2, 2)) == 0
  # One more sum of the smallest kind is above the ceiling.
  smallest = 8 * 5 * 896 * 2 / 1e6
  figures = dict.fromkeys(tree.most, 0) | {'beside_sums_mb': smallest}
  (told,) = aot.over(tree, figures)
  assert 'beside_sums_mb is 0.0717, at most 0.05' in told


@pytest.mark.parametrize(
  ('word', 'methods', 'told'),
  [('gpu', [], "'gpu' is in no name"), ('', ['glss'], "called 'glss'; take")],
)
def test_refuses_what_is_not_there(word, methods, told):
  with pytest.raises(ValueError, match=told):
    aot.choose(word, methods)
