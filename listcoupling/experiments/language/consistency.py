"""Table 9 of arXiv 2506.05632: does the text change when the drafter does?

Every prompt is continued twice with the same seed, the drafter's temperature
changed in between, and the two texts are compared by ROUGE-L. A scheme that is
drafter invariant in the strong sense writes the same text twice; canonical
noise should score 1 up to the rounding of the networks, see
`listcoupling.decoding.invariance`.
"""

import functools

from listcoupling import standard_errors
from listcoupling.decoding.methods import METHODS
from listcoupling.experiments.language import protocol
from listcoupling.tables import Column

COLUMNS = (
  Column('method', 'method'),
  Column('ROUGE-L', 'rouge_l', '.4f'),
  Column('same tokens', 'same_tokens', '.1%'),
)


@functools.cache
def _scorer():
  from rouge_score import rouge_scorer

  return rouge_scorer.RougeScorer(['rougeL'])


def rouge_l(first: str, second: str) -> float:
  """ROUGE-L F-measure of two texts; equal texts have 1, even without words.

  Words are runs of letters and digits, lower-cased, as in the rouge-score
  package.

  Example:
    >>> round(rouge_l('two plus two is four', 'two plus one is three'), 4)
    0.6
  """
  if first == second:
    return 1.0
  return _scorer().score(first, second)['rougeL'].fmeasure


def continuations(setup, job: protocol.Job, draft: str) -> list[list[int]]:
  """Token ids of the new text of every row, under one draft temperature."""
  setting = job.setting._replace(draft_temperatures=draft)
  out = protocol.continue_prompts(
    setup, job, protocol.options_of(setup, setting)
  )
  rows = list(zip(out.tokens, out.lengths))[: job.batch.size]
  return [tokens[:count].tolist() for tokens, count in rows]


def measure(setup: protocol.Setup, job: protocol.Job, once) -> dict:
  """Columns of a job: ROUGE-L of the texts, equality of the token ids."""
  del once
  drafts = setup.config.draft_temperatures
  runs = (continuations(setup, job, each) for each in drafts)
  pairs, decode = list(zip(*runs)), setup.target.tokenizer.decode
  return {
    'rouge_l': [rouge_l(decode(a), decode(b)) for a, b in pairs],
    'same': [float(a == b) for a, b in pairs],
  }


def settings_of(config) -> dict[str, protocol.Setting]:
  """The rows of the table: one K, two draft temperatures."""
  for name, count in (('draft_temperatures', 2), ('num_drafts', 1)):
    if len(config[name]) != count:
      raise ValueError(
        f'config.{name} must hold {count} here, got {config[name]}.'
      )
  texts = ' then '.join(config.draft_temperatures)
  return {
    method: protocol.Setting(
      method, 1 if METHODS[method].single_draft else config.num_drafts[0], texts
    )
    for method in config.methods
  }


def summarize(groups: dict, place: tuple, setup) -> dict:
  """Columns of a row: means of the seeds' means and standard errors."""
  del setup
  rouge, same = protocol.per_prompt(groups[place], ('rouge_l', 'same'))
  return standard_errors.means(
    {'rouge_l': rouge.mean(1), 'same_tokens': same.mean(1)}
  )


plot = functools.partial(
  protocol.bars, column='rouge_l', title='ROUGE-L of two runs', size=2.2
)
run = protocol.Table(COLUMNS, settings_of, measure, summarize).experiment(
  consistency=plot
)
