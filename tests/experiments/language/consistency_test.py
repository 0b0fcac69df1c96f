import types

import numpy as np
import pytest
from rouge_score import rouge_scorer

from configs import decoding_consistency
from listcoupling import tables
from listcoupling.data.prompt_choice import Batch
from listcoupling.experiments.language import consistency
from listcoupling.experiments.language.protocol import Job, Once
from tests import statistics
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
  assert rows['single']['same_tokens'] < 1  # the drafter did change
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
    target=types.SimpleNamespace(tokenizer=tokenizer),
    config=decoding_consistency.get_config(),
  )
  batch = Batch(np.arange(2), 2)
  job = Job('gsm8k', 0, 0, batch, None)
  row = consistency.measure(setup, job, Once())
  assert row == {'rouge_l': [1, 1], 'same': [1, 0]}


def test_rouge_is_the_package_and_equal_texts_are_equal():
  texts = 'the cat sat on the mat', 'the cat lay on a mat'
  scorer = rouge_scorer.RougeScorer(['rougeL'])
  expected = scorer.score(*texts)['rougeL'].fmeasure
  assert consistency.rouge_l(*texts) == expected
  # Precision and recall are 4 of 6; their product, its double, sum and ratio.
  error = statistics.rounding(6, 4 / 6, np.float64)
  assert expected == pytest.approx(4 / 6, rel=0, abs=error)
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
