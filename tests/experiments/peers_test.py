"""The comparison with transformers: its checkpoints, ratios and files."""

import functools
import types

import jax
import numpy as np
import pytest

from listcoupling.experiments import (
  peer_checkpoints,
  peer_library,
  peer_rows,
  peers,
  results,
)
from listcoupling.models import transformer


def test_random_pair_has_the_size_and_agrees():
  target, drafter = peer_checkpoints.random_pair('1M', jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(target.params))
  assert 0.8e6 < count < 1.3e6
  tokens = np.random.default_rng(0).integers(0, 1024, (2, 24))
  assert 0.6 < peer_checkpoints.overlap(target, drafter, tokens) < 0.9
  assert peer_checkpoints.overlap(target, target, tokens) > 1 - 1e-5
  logits = jax.jit(transformer.causal_logits, static_argnums=0)
  q = jax.nn.softmax(logits(target.config, target.params, tokens))
  # No echo of the last token: the law depends on the text.
  assert np.take_along_axis(q, tokens[..., None], -1).mean() < 0.1


def test_parameter_counts():
  for size, about in {'25M': 25e6, '100M': 100e6}.items():
    shapes = jax.eval_shape(
      lambda key, size=size: transformer.init_params(
        key, peer_checkpoints.SIZES[size]
      ),
      jax.random.key(0),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert abs(count / about - 1) < 0.1, (size, count)


def test_ratios_are_to_the_fastest_of_theirs():
  lines = peers.settings(2)
  assert len(lines) == len(set(lines)) == 16
  figures = {
    line: [peers.Figure(10.0 * (1 + i), 1.0, e) for e in (2.0, 3.0)]
    for i, line in enumerate(lines)
  }
  rows = peer_rows.summary(figures, {'size': 'x'})
  theirs = [row for row in rows if row['library'] == 'transformers']
  alone = [r for r in theirs if r['batch'] == 1 and r['method'] == 'sampling']
  best = max(row['tokens_per_second'] for row in alone)
  ours = next(row for row in rows if row['method'] == 'autoregressive')
  assert ours['to_sampling'] == ours['tokens_per_second'] / best
  assert ours['block_efficiency'] == 2.5
  assert max(row['to_assisted'] or 0 for row in theirs) == 1.0
  assert all(r['to_assisted'] is None for r in rows if r['batch'] == 8)


def test_bad_size_is_refused_before_anything_is_written(tmp_path):
  with pytest.raises(ValueError, match="'7B'"):
    peers.tables(['1M', '7B'], tmp_path)
  with pytest.raises(ValueError, match="'7B'"):
    peer_checkpoints.write('7B', tmp_path)
  assert not list(tmp_path.iterdir())


def test_another_backend_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  with pytest.raises(ValueError, match="'gpu'.*JAX_PLATFORMS=cpu"):
    peers.tables(['1M'], tmp_path)
  with pytest.raises(ValueError, match="'gpu'"):
    peers.table('1M', tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='compares on CPU')
def test_both_libraries_in_one_table(tmp_path, monkeypatch):
  pytest.importorskip('torch', reason="needs pip install -e '.[peers]'")
  pytest.importorskip('transformers', reason="needs pip install -e '.[peers]'")
  lines = peers.settings(1)
  few = [line for line in lines if line.batch == 1 and line.num_drafts < 4]
  few = [few[0], few[1], few[4]]
  monkeypatch.setattr(peers, 'settings', lambda cores: few)
  monkeypatch.setattr(peers, '_EFFORT', {'1M': (8, 1)})
  own = peer_rows.stamp()
  other = own.replace('torch ', 'torch 0.')
  old = [('25M', own), ('100M', other), ('shipped', None), ('1M', own)]
  results.write_csv(
    tmp_path / 'peers.csv', [dict(size=size, stamp=mark) for size, mark in old]
  )
  logged = []
  monkeypatch.setattr(
    peer_rows.logging, 'warning', lambda line, *args: logged.append(line % args)
  )
  rows = peers.tables(['1M'], tmp_path)
  assert [row['size'] for row in rows] == ['25M'] + 3 * ['1M']
  assert len(logged) == 1 and 'dropped 2 rows' in logged[0]
  stored = results.read_csv(tmp_path / 'peers.csv')
  assert stored[1]['method'] == 'sampling'
  assert {row['stamp'] for row in stored} == {own}
  assert all(0.6 < row['overlap'] < 0.9 for row in stored[1:])
  assert 'torch' in results.read_json(tmp_path / 'peers.json')
  by_method = {row['method']: row for row in rows[1:]}
  assert by_method['sampling']['block_efficiency'] == 1
  assert by_method['assisted, L=4']['block_efficiency'] > 1
  assert by_method['single']['block_efficiency'] > 1
  assert all(row['logit_difference'] < 1e-4 for row in rows[1:])


def test_unequal_checkpoints_stop_the_table(monkeypatch):
  target, _ = peer_checkpoints.random_pair('1M', jax.random.key(0))
  sides = {
    name: types.SimpleNamespace(target=target)
    for name in ('listcoupling', 'transformers')
  }
  tokens = np.zeros((2, 24), np.int32)

  def theirs(model, tokens, shift):
    logits = transformer.causal_logits(model.config, model.params, tokens)
    return np.asarray(logits) + shift

  own = functools.partial(theirs, shift=1e-5)
  monkeypatch.setattr(peer_library, 'logits', own)
  assert peers._difference(sides, tokens) < 1e-4
  own = functools.partial(theirs, shift=1e-2)
  monkeypatch.setattr(peer_library, 'logits', own)
  with pytest.raises(ValueError, match='logits differ'):
    peers._difference(sides, tokens)
