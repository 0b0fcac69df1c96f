"""The comparison with transformers: its checkpoints, ratios and files."""

import sys
from unittest import mock

import jax
import numpy as np
import pytest

from listcoupling import command, tables
from listcoupling.experiments.benchmarks import baselines, speed
from listcoupling.models import transformer
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig
from tests.models import limits


@pytest.mark.parametrize(
  'size, digits', [('25M', '2.5e+07'), ('100M', '1.0e+08')]
)
def test_parameter_counts(size, digits):
  shapes = jax.eval_shape(
    lambda key: transformer.init_params(key, speed.SIZES[size]['config']),
    jax.random.key(0),
  )
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert f'{count:.1e}' == digits


def test_ratios_are_to_the_fastest_of_theirs():
  lines = baselines.settings(2)
  assert len(lines) == len(set(lines)) == 16
  figures = {
    line: [baselines.Figure(10.0 * (1 + i), 1.0, e) for e in (2.0, 3.0)]
    for i, line in enumerate(lines)
  }
  rows = [x._asdict() | baselines.compared(figures, x) for x in lines]
  theirs = [row for row in rows if row['library'] == 'transformers']
  alone = [r for r in theirs if r['batch'] == 1 and r['method'] == 'sampling']
  best = max(row['tokens_per_second'] for row in alone)
  ours = next(row for row in rows if row['method'] == 'autoregressive')
  assert ours['to_sampling'] == ours['tokens_per_second'] / best
  assert ours['block_efficiency'] == 2.5
  assert max(row['to_assisted'] or 0 for row in theirs) == 1.0
  assert all(r['to_assisted'] is None for r in rows if r['batch'] == 8)


def _run(sizes, folder):
  made = baselines.table(sizes)
  return speed.run(lambda: made, folder, baselines.versions())


def test_a_run_that_is_cut_off_has_the_sizes_before(tmp_path, monkeypatch):
  lines = baselines.settings(1)
  runs = [baselines.Figure(rate, 2.0, 3.0) for rate in (5.0, 1.0, 4.0)]

  def measure(size, todo):
    if size == '25M':
      raise KeyboardInterrupt
    return dict.fromkeys(todo, runs), {'parameters': 7}

  monkeypatch.setattr(baselines, 'measure', measure)
  monkeypatch.setattr(baselines, 'settings', lambda cores: lines)
  monkeypatch.setattr(baselines.metadata, 'version', lambda name: '1')
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  with pytest.raises(KeyboardInterrupt):
    _run(['1M', '25M'], tmp_path)
  rows = tables.read_csv(tmp_path / 'results.csv')
  assert [row['method'] for row in rows] == [line.method for line in lines]
  assert {(row['size'], row['parameters']) for row in rows} == {('1M', 7)}
  for row in rows:
    found = row['slowest'], row['tokens_per_second'], row['fastest']
    assert found == (1, 4, 5)
  monkeypatch.setattr(baselines, 'measure', None)  # not measured again
  assert _run(['1M'], tmp_path) == rows
  monkeypatch.setattr(baselines.metadata, 'version', lambda name: '0')
  with pytest.raises(ValueError, match='other settings of .*torch'):
    _run(['1M'], tmp_path)


def test_what_cannot_be_compared_is_refused(monkeypatch):
  with pytest.raises(ValueError, match="'7B'"):
    baselines.table(['1M', '7B'])
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  with pytest.raises(ValueError, match="'gpu'.*JAX_PLATFORMS=cpu"):
    baselines.table(['1M'])


def test_a_library_that_is_not_there_is_named(monkeypatch):
  def version(name):
    raise baselines.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(baselines.metadata, 'version', version)
  with pytest.raises(ModuleNotFoundError) as caught:
    baselines.versions()
  assert command._words(caught.value) == (
    "needs torch: pip install 'listcoupling[baselines]'"
  )


def test_torch_has_its_own_threads_again(monkeypatch):
  torch, model = mock.MagicMock(), mock.MagicMock()
  torch.get_num_threads.return_value = 7
  monkeypatch.setitem(sys.modules, 'torch', torch)
  monkeypatch.setitem(sys.modules, 'transformers', mock.MagicMock())
  used = torch.set_num_threads

  def generate(*_, **__):
    assert used.mock_calls == [mock.call(3)]
    raise RuntimeError('out of memory')

  model.generate = generate
  setting = baselines.Setting('transformers', 'sampling', 1, 3, 0)
  with pytest.raises(RuntimeError, match='out of memory'):
    baselines._theirs(model, None, 4, setting, np.ones((1, 2), int), 0)
  assert used.mock_calls == [mock.call(3), mock.call(7)]


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='compares on CPU')
def test_both_libraries_in_one_table(tmp_path, monkeypatch):
  pytest.importorskip('torch', reason="needs pip install -e '.[baselines]'")
  pytest.importorskip(
    'transformers', reason="needs pip install -e '.[baselines]'"
  )
  lines = baselines.settings(1)
  few = [line for line in lines if line.batch == 1 and line.num_drafts < 4]
  few = [few[0], few[1], few[4]]
  monkeypatch.setattr(baselines, 'settings', lambda cores: few)
  monkeypatch.setitem(baselines._EFFORT, '1M', (8, 1))
  rows = _run(['1M'], tmp_path)
  assert tables.read_csv(tmp_path / 'results.csv') == rows
  by_method = {row['method']: row for row in rows}
  assert by_method['sampling']['block_efficiency'] == 1
  assert by_method['assisted, L=4']['block_efficiency'] > 1
  assert by_method['single']['block_efficiency'] > 1
  target = random_pair(jax.random.key(0), **speed.SIZES['1M'])[0]
  tokens = np.random.default_rng(0).integers(
    target.config.vocab_size, size=(2, baselines._PROMPT)
  )
  error = limits.apart(target.config, target.params, tokens)
  for row in rows:
    assert row['logit_difference'] < error
    assert 0.6 < row['overlap'] < 0.9


def test_unequal_checkpoints_stop_the_table(monkeypatch):
  config = TransformerConfig(32, 16, 1, 2, 1, 8, 16)
  params = transformer.init_params(jax.random.key(0), config)
  model = transformer.make_language_model(config, params)
  tokens = np.zeros((2, 4), np.int32)
  causal_logits = jax.jit(transformer.causal_logits, static_argnums=0)
  logits = np.asarray(causal_logits(config, params, tokens))
  near, far = logits + np.float32(9e-4), logits + np.float32(1.1e-3)
  monkeypatch.setattr(baselines, '_logits', lambda *_: near)
  found = baselines.largest_difference(model, None, tokens)
  assert found == abs(near - logits).max()
  monkeypatch.setattr(baselines, '_logits', lambda *_: far)
  with pytest.raises(ValueError, match='logits differ'):
    baselines.largest_difference(model, None, tokens)
