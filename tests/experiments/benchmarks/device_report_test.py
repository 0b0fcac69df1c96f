import json
import pathlib
import subprocess
import sys

from listcoupling.experiments.benchmarks import device_report

ROOT = pathlib.Path(__file__).resolve().parents[3]
# What a machine with an accelerator need not have.
_ABSENT = ('ml_collections', 'tensorflow_datasets', 'tensorboardX', 'sklearn')


def test_a_toy_run_measures_every_section(tmp_path):
  path = tmp_path / 'report.json'
  sizes = device_report.TOY
  rows = list(device_report.run(sizes, path, seconds=1e6))
  assert not [row for _, row in rows if 'error' in row], rows
  kept = json.loads(path.read_text())
  assert list(kept['sections']) == list(device_report.SECTIONS)
  assert all(kept['sections'].values())
  for row in kept['sections']['parity']:
    assert row['diverging_rows'] == 0
    assert row['identical'] == row['tokens'] == 4 * 64
  for row in kept['sections']['blocks']:
    assert 1 <= row['tokens_per_block'] <= 3
  (row,) = kept['sections']['tuned']
  assert row['batch'] == 2
  prompts = {row['prompt'] for row in kept['sections']['blocks']}
  assert prompts == {32, 64 - sizes.new_tokens}


def test_a_tpu_is_timed_with_splash_attention_too(monkeypatch):
  seen = []

  def attend(*arrays):
    seen.append([x.shape for x in arrays])
    return arrays[0]

  monkeypatch.setattr(device_report.attention_splash, 'attend', attend)
  monkeypatch.setattr(
    device_report.kernels, 'at_hand', lambda name, **_: name == 'tpu'
  )
  rows = list(device_report.attention(device_report.TOY))
  assert [row['what'] for row in rows] == [
    'attention of 1 tokens', 'splash attention of 1 tokens',
  ]  # fmt: skip
  cache = (1, 1, 640, 128)
  own = [(1, 1, 2, 128), cache, cache, (1, 1, 640), (1,)]
  assert seen == [own] * device_report._LAYERS


def test_the_fastest_setting_is_held_against_plain_sampling(monkeypatch):
  """Rates by hand: the median of each, plain sampling the first."""
  sizes, rates = device_report.TOY, ([10, 12, 30], [15, 18, 19])

  def measure(*arguments):
    return dict(zip(arguments[-1], rates, strict=True))

  monkeypatch.setattr(device_report, '_side_by_side', lambda *_: None)
  monkeypatch.setattr(device_report.tuning, 'measure', measure)
  (row,) = device_report.tuned(sizes)
  assert (row['method'], row['tokens_per_s']) == ('gumbel_tree', 18)
  assert row['to_plain'] == 18 / 12
  tree = device_report.tuning.GRID[0]
  assert (row['nodes'], row['depths']) == (tree[2], tree[1])
  rates = rates[::-1]
  (row,) = device_report.tuned(sizes)
  assert (row['method'], row['nodes'], row['depths']) == (
    'autoregressive', 0, 0,
  )  # fmt: skip
  assert row['to_plain'] == 1


def test_a_failure_is_a_row_and_time_that_is_up_ends_the_run(
  tmp_path, monkeypatch
):
  def broken(sizes):
    yield {'number': 1}
    raise ValueError('no such kernel')

  def whole(sizes):
    yield {'number': 2}
    yield {'number': 3}

  monkeypatch.setattr(device_report, 'SECTIONS', {'a': broken, 'b': whole})
  path = tmp_path / 'report.json'
  run = [
    row
    for _, row in device_report.run(None, path, seconds=1e6, only=('a', 'b'))
  ]
  assert run[0] == {'number': 1} and 'no such kernel' in run[1]['error']
  assert run[2:] == [{'number': 2}, {'number': 3}]
  short = list(device_report.run(None, path, seconds=0.0, only=('a', 'b')))
  assert [sorted(row) for _, row in short] == [['number'], ['cut']]
  assert json.loads(path.read_text())['sections']['a'][1]['cut']


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
