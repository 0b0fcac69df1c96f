"""The tables of speed and memory, as ratios within one run.

Every time is the median of several runs after compilation, and times that are
compared are taken in turn.
"""

import pathlib
from collections.abc import Sequence

from listcoupling import gumbel
from listcoupling.decoding import text
from listcoupling.experiments.benchmarks import (
  baselines,
  blocks,
  choice,
  cost,
  scaling,
  serving,
  vocabulary,
)
from listcoupling.experiments.benchmarks.timing import Case
from listcoupling.experiments.run import environment, open_run
from listcoupling.gumbel import Domain
from listcoupling.models import pretrained
from listcoupling.models.random_pair import random_pair

# Tables of a pair of models and prompts; the others make their own.
_OF_PAIRS = {
  'decoding': blocks.decoding_cases,
  'overhead': blocks.overhead_cases,
  'capacity': blocks.capacity_cases,
  'serving': serving.serving_cases,
  'tune': choice.choice_cases,
}
_ALONE = {
  'sampler': vocabulary.sampler_cases,
  'vocabulary': vocabulary.vocabulary_cases,
  'scaling': scaling.scaling_cases,
  'costs': cost.paper_cases,
}
TABLES = (*_ALONE, *_OF_PAIRS, 'memory')
SIZES = ('shipped', '25M')
_PROMPTS = (
  'def main(args):\n    ',
  'The with statement is used to',
  'class Parser(object):\n',
  'import os\nimport sys\n',
)


def run(
  table: str, workdir, *, size: str = 'shipped', seed: int = 0
) -> list[dict]:
  """Measures a table row by row; a run that was stopped goes on.

  Args:
    table: of `TABLES`; what is in it says the function of its cases.
    workdir: folder that gets one of the table's name.
    size: of `SIZES`: the shipped pair, or a random one of 25M and 4M.
    seed: of every draw.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: unknown names, or a folder of another machine or version.
  """
  if table not in TABLES or size not in SIZES:
    raise ValueError(
      f'table must be one of {", ".join(TABLES)} and size one of '
      f'{", ".join(SIZES)}, got {table!r} and {size!r}.'
    )
  if table == 'scaling':
    scaling.add_host_devices()
  key = gumbel.seed_key(seed)
  settings = {'table': table, 'size': size, 'seed': seed}
  settings['environment'] = environment()
  with open_run(pathlib.Path(workdir) / table, settings) as record:
    return record.rows(
      _cases(key, table, size), lambda measure: measure(), key='case'
    )


def _cases(key, table, size) -> Sequence[Case]:
  if table in _ALONE:
    return _ALONE[table](key)
  target, drafter = load_pair(key, size)
  if table == 'memory':
    return blocks.memory_cases(key, target, drafter)
  prompts, lengths = text.encode_prompts(
    pretrained.shipped_pair()[0].tokenizer, _PROMPTS
  )
  if table == 'overhead':
    prompts, lengths = prompts[:1], lengths[:1]
  return _OF_PAIRS[table](key, target, drafter, prompts, lengths)


def load_pair(key, size: str):
  """(target, drafter) of `SIZES`; both know the shipped vocabulary."""
  if size == 'shipped':
    return pretrained.shipped_pair()
  own = baselines.SIZES[size]
  return random_pair(
    gumbel.domain_key(key, Domain.MODEL_INIT),
    own.config,
    draft_layers=own.draft_layers,
    gain=own.gain,
  )
