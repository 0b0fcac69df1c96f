"""Changes that must not change a text, counted on texts by hand."""

import types

import jax
import numpy as np
import pytest

from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.language import invariance
from tests.experiments.language import fakes


def test_changes_are_counted_token_by_token(monkeypatch):
  target, drafter = fakes.pair()
  plain = np.arange(12).reshape(4, 3)

  def run(key, target, drafters, prompts, lengths, options):
    rows = plain[prompts[:, 0]].copy()
    if options.num_drafts == 2:  # one change that is seen
      rows[prompts[:, 0] == 1, 2] += 1
    return types.SimpleNamespace(tokens=rows)

  margins = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, -2e-4]] + 2 * [[1.0] * 3])
  monkeypatch.setattr(invariance, 'generate', run)
  monkeypatch.setattr(
    invariance.analysis, 'canonical_margins', lambda *_: margins
  )
  rows = invariance.count_changes(
    jax.random.key(0), target, drafter, np.arange(4)[:, None],
    np.ones(4, int), GenerateOptions(), methods=('gumbel_tree', 'gls'),
  )  # fmt: skip
  assert len(rows) == 12 + 10  # two trees of fewer nodes
  for row in rows:
    changed = row['change'] == 'K = 2'
    assert row['identical'] == 12 - changed
    assert row['diverging_rows'] == changed
    if changed and row['method'] == 'gumbel_tree':
      assert row['largest_margin'] == 2e-4
    else:
      assert np.isnan(row['largest_margin'])
  exact = invariance.count_changes(
    jax.random.key(0), target, drafter, np.arange(4)[:, None],
    np.ones(4, int), GenerateOptions(forward_nodes=17), methods=('gls',),
  )  # fmt: skip
  # The number of rows is left as it is.
  names = {row['change'] for row in rows} - {row['change'] for row in exact}
  assert names == {'N = 6', 'N = 11, W = 8', 'two half batches'}


def test_meshes_are_counted_against_plain_sampling_on_one_device(monkeypatch):
  """Here they give another first row to trees on the mesh 'b'."""
  target, _ = fakes.pair()
  text = np.arange(12).reshape(4, 3)
  other = text + [[0, 1, 1]] * (np.arange(4)[:, None] == 0)

  def generate(key, target, drafters, prompts, lengths, options, mesh=None):
    assert (options.method == 'autoregressive') == (not drafters)
    tokens = other if mesh == 'b' and drafters else text
    return types.SimpleNamespace(tokens=tokens)

  margins = np.arange(12).reshape(4, 3) * -1e-4
  monkeypatch.setattr(invariance, 'generate', generate)
  monkeypatch.setattr(
    invariance.analysis, 'canonical_margins', lambda *_: margins
  )
  rows = invariance.count_changes(
    jax.random.key(0), target, target, np.arange(4)[:, None],
    np.ones(4, int), GenerateOptions(), meshes={'first': 'a', 'second': 'b'},
  )  # fmt: skip
  assert [row['identical'] for row in rows] == [12, 12, 12, 10]
  assert rows[3]['method'] == 'gumbel_tree' and rows[3]['change'] == 'second'
  assert rows[3]['largest_margin'] == 1e-4 and rows[3]['diverging_rows'] == 1


@pytest.mark.parametrize('dtype, wrong', [(None, 2), ('float32', 1)])
def test_what_rounding_does_not_explain_is_a_number_to_exit_with(dtype, wrong):
  rows = [
    dict(
      method='gumbel_tree', diverging_rows=np.int64(1), largest_margin=margin
    )
    for margin in np.array([1e-7, 1.0])
  ]
  found = invariance.unexplained(rows, dtype)
  assert found == wrong and type(found) is int
