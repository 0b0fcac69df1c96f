import types

import jax
import numpy as np
import pytest
from rouge_score import rouge_scorer

from configs import decoding_consistency
from listcoupling import tables
from listcoupling.data.prompt_choice import Batch
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.language import consistency
from listcoupling.experiments.language.protocol import Job
from tests.experiments.language import fakes


def _config(folder, **changes):
  settings = dict(
    methods=('single', 'gumbel_tree'),
    datasets=('gsm8k',),
  )
  config = decoding_consistency.get_config()
  return fakes.config_of(folder, config, **{**settings, **changes})


def test_invariant_schemes_write_the_same_text(folder):
  config, work = _config(folder), folder / 'work'
  rows = {row['method']: row for row in consistency.run(config, work, 2)}
  same = rows['gumbel_tree']
  assert same['rouge_l'] == same['same_tokens'] == 1
  assert same['rouge_l_se'] == 0
  assert rows['single']['same_tokens'] < 0.9  # the drafter did change
  assert rows['single']['rouge_l'] < 1
  assert rows['single']['draft_temperatures'] == '1.0 then 0.5'
  assert rows['single']['prompts'] == 5 and rows['single']['seeds'] == 2
  before = (work / 'batches.csv').read_bytes()
  again = consistency.run(config, work, 2)
  assert again == list(rows.values())
  assert (work / 'batches.csv').read_bytes() == before
  assert tables.read_csv(work / 'results.csv') == again
  text = consistency.run.as_text(again).splitlines()
  assert text[0].startswith('gsm8k: 5 prompts, 0 of them cut')
  assert text[3].split() == 'gumbel_tree 1.0000 ± 0.0000 100.0% ± 0.0%'.split()


def test_texts_that_read_alike_may_differ_in_tokens(monkeypatch):
  found = {'1.0': [[0, 1], [2, 3]], '0.5': [[0, 1], [2, 4]]}
  monkeypatch.setattr(
    consistency, 'continuations', lambda setup, job, t: found[t]
  )
  tokenizer = types.SimpleNamespace(decode=lambda ids: 'one text')
  setup = types.SimpleNamespace(
    target=types.SimpleNamespace(tokenizer=tokenizer)
  )
  batch = Batch(np.arange(2), 2)
  job = Job('gsm8k', 0, 0, batch, None, 'gls')
  config = decoding_consistency.get_config()
  row = consistency.measure(setup, config, job, None)
  assert row == {'rouge_l': [1, 1], 'same': [1, 0]}


def test_rouge_is_the_package_and_equal_texts_are_equal():
  texts = 'the cat sat on the mat', 'the cat lay on a mat'
  scorer = rouge_scorer.RougeScorer(['rougeL'])
  expected = scorer.score(*texts)['rougeL'].fmeasure
  assert consistency.rouge_l(*texts) == expected == pytest.approx(4 / 6)
  assert consistency.rouge_l('+ -', '+ -') == 1
  assert consistency.rouge_l('', '') == 1
  assert consistency.rouge_l('+ -', '- +') == 0


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'draft_temperatures': ('1.0',)}, 'draft_temperatures'),
    ({'num_drafts': (2, 4)}, 'num_drafts'),
  ],
)
def test_bad_settings_leave_no_files(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    consistency.run(_config(folder, **changes), folder / 'work')
  assert not (folder / 'work').exists()


def test_changes_are_counted_token_by_token(monkeypatch):
  target, drafter = fakes.pair()
  plain = np.arange(12).reshape(4, 3)

  def run(key, target, drafters, prompts, lengths, options):
    rows = plain[prompts[:, 0]].copy()
    if options.num_drafts == 2:  # one change that is seen
      rows[prompts[:, 0] == 1, 2] += 1
    return types.SimpleNamespace(tokens=rows)

  margins = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, -2e-4]] + 2 * [[1.0] * 3])
  monkeypatch.setattr(consistency, 'generate', run)
  monkeypatch.setattr(
    consistency.analysis, 'canonical_margins', lambda *_: margins
  )
  rows = consistency.count_changes(
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
  exact = consistency.count_changes(
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
  monkeypatch.setattr(consistency, 'generate', generate)
  monkeypatch.setattr(
    consistency.analysis, 'canonical_margins', lambda *_: margins
  )
  rows = consistency.count_meshes(
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
  found = consistency.unexplained(rows, dtype)
  assert found == wrong and type(found) is int
