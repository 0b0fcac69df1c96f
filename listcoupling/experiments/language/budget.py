"""Methods at equal numbers of target nodes: tokens per target call.

A target call judges n nodes besides the root, whoever fills them: a best-first
tree, one chain of n tokens, or K chains of n / K, of which the best K is told.
Beside them stand what the pair of laws allows one draft: the overlap 1 - TV,
which a rejection scheme reaches, and the probability that a race matches. The
row of plain sampling carries both, at the tokens of its own texts.

Legend: n nodes, K drafts, L draft length, B prompts, T tokens of a batch.
"""

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from listcoupling import bounds, standard_errors
from listcoupling.config_fields import Field
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.language import matching, protocol
from listcoupling.tables import Column

PLAIN = 'autoregressive'
TREE = 'gumbel_tree'
_BEAM, _DEPTH = 8, 32  # at most, of the tree
FIELDS = protocol.SHARED | {
  'num_nodes': Field(int, least=1, many=True),
  'temperatures': Field(float, least=0, many=True),
  'distinct': Field(str, among=tuple(METHODS), many=True, empty=True),
  'drafter_bits': Field(int, among=(0, 4, 8)),
}
COLUMNS = (
  Column('T', 'temperature', '.1f'),
  Column('n', 'num_nodes'),
  Column('method', 'method'),
  Column('distinct', 'distinct'),
  Column('K', 'num_drafts'),
  Column('L', 'draft_length'),
  Column('tokens per call', 'tokens_per_call', '.2f'),
  Column('tree ahead by', 'tree_lead', '+.2f'),
  Column('race', 'race', '.3f', error=False),
  Column('1 - TV', 'overlap', '.3f', error=False),
  Column('same text', 'same_text', '.0%'),
  Column('tokens/s', 'tokens_per_second', '.0f'),
)
LEGEND = textwrap.fill(
  'The best shape of each method; distinct: drafts without replacement; tree '
  'ahead by: on the same prompts. The text of a race is a function of seed and '
  'target, so that a draft is only a guess of it, right with the probability '
  'of the race; a scheme that may reject takes its text from the draft with '
  '1 - TV.',
  width=79,
)


class Setting(NamedTuple):
  """One way to fill the nodes."""

  method: str
  num_nodes: int  # 0 for plain sampling
  num_drafts: int
  draft_length: int
  distinct: bool  # drafts after the root without replacement
  temperature: float

  @property
  def name(self) -> str:
    """For jobs."""
    method = f'{self.method}{"-distinct" * self.distinct}'
    return f'{method}-n{self.num_nodes}-K{self.num_drafts}-T{self.temperature}'


def settings_of(config) -> dict[str, Setting]:
  """Plain sampling, then every shape of every method by nodes; by name."""
  rows = []
  for temperature in config.temperatures:
    rows.append(_plain(temperature))
    rows += [
      Setting(method, nodes, width, length, distinct, temperature)
      for nodes in config.num_nodes
      for method in config.methods
      if METHODS[method].drafts
      for width, length in shapes(method, nodes, config.num_drafts)
      for distinct in (False, True)
      if not distinct or (method in config.distinct and width > 1)
    ]
  return {row.name: row for row in rows}


def _plain(temperature) -> Setting:
  return Setting(PLAIN, 0, 0, 0, False, temperature)


def shapes(
  method: str, num_nodes: int, widths: Iterable[int]
) -> list[tuple[int, int]]:
  """(K, L) of a method that fill a number of nodes.

  Example:
    >>> shapes('specinfer', 8, (1, 3, 4, 16))
    [(1, 8), (4, 2)]
    >>> shapes('gumbel_tree', 64, ())
    [(8, 32)]
  """
  if METHODS[method].best_first:
    return [(min(_BEAM, num_nodes), min(_DEPTH, num_nodes))]
  if METHODS[method].single_draft:
    return [(1, num_nodes)]
  return [
    (width, num_nodes // width) for width in widths if not num_nodes % width
  ]


def options_of(setup: protocol.Setup, setting: Setting) -> GenerateOptions:
  """Options of a setting."""
  best_first = METHODS[setting.method].best_first
  return dataclasses.replace(
    setup.options,
    method=setting.method,
    temperature=setting.temperature,
    num_drafts=max(setting.num_drafts, 1),
    draft_length=max(setting.draft_length, 1),
    num_nodes=setting.num_nodes if best_first else None,
    replacement=not setting.distinct,
  )


def measure(setup: protocol.Setup, job: protocol.Job, once) -> dict:
  """Columns of a job; plain sampling with its keys is run once for all."""
  setting = job.setting
  place = job.dataset, job.seed, job.number, setting.temperature

  def generate(own):
    return protocol.timed_prompts(setup, job, options_of(setup, own))

  plain = once(place, lambda: generate(_plain(setting.temperature)))
  out = plain if setting.method == PLAIN else generate(setting)
  row = {
    'tokens': out.lengths,
    'calls': out.metrics.target_calls,
    'same': np.all(out.tokens == plain.tokens, axis=1),
    'tokens_per_second': out.metrics.tokens_per_second,
  }
  return row | (_agreement(setup, job) if setting.method == PLAIN else {})


def _agreement(setup, job) -> dict:
  """Overlap and race of one draft: means over tokens for each prompt."""
  rows, *laws = matching.laws_along(setup, job, options_of(setup, job.setting))
  sums = matching.sums(rows, _values(*laws), job.batch.size)
  tokens = sums.pop('tokens')
  return {name: own / tokens for name, own in sums.items()}


@jax.jit
def _values(draft, target):
  def one(pair):
    return {
      'overlap': 1 - bounds.total_variation(*pair),
      'race': bounds.gumbel_coupling_probability(*pair),
    }

  return jax.lax.map(one, (draft, target))


def summarize(groups: dict, place: tuple[str, Setting], setup) -> dict:
  """Columns of a row.

  Returns:
    tokens_per_call with its standard error over prompts (`_se`); tree_lead, how
    far the tree of as many nodes is ahead; tokens_per_second, the median over
    batches; same_text, the share of texts that are those of plain sampling;
    overlap and race, over prompts.
  """
  del setup
  dataset, setting = place
  pairs = groups[place]
  ratio, terms = protocol.tokens_per_call(pairs)
  (same,) = protocol.per_prompt(pairs, ('same',))
  names = 'overlap', 'race'
  plain = groups[dataset, _plain(setting.temperature)]
  agreement = [own.mean(0) for own in protocol.per_prompt(plain, names)]
  rates = [row['tokens_per_second'] for _, row in pairs]
  return {
    'tokens_per_call': float(ratio),
    'tokens_per_call_se': standard_errors.cluster_error(terms),
    **protocol.lead(
      'tree_lead', groups, (dataset, _tree_beside(setting)), place
    ),
    'tokens_per_second': float(np.median(rates)),
    'same_text': float(same.mean()),
    **standard_errors.means(dict(zip(names, agreement))),
  }


def _tree_beside(setting: Setting) -> Setting:
  ((width, length),) = shapes(TREE, setting.num_nodes, ())
  return setting._replace(
    method=TREE, num_drafts=width, draft_length=length, distinct=False
  )


def best_shapes(rows: Iterable[dict]) -> list[dict]:
  """The rows of the best shape of each method, nodes, temperature, data set."""
  names = 'dataset', 'temperature', 'method', 'distinct', 'num_nodes'
  groups = {}
  for row in rows:
    groups.setdefault(tuple(row[name] for name in names), []).append(row)
  return [
    max(own, key=lambda row: row['tokens_per_call']) for own in groups.values()
  ]


def plot(rows: Sequence[dict], path) -> None:
  """Tokens per call of the best shapes: prompts across, temperatures down."""
  with plots.panels(
    path,
    [row for row in best_shapes(rows) if row['num_nodes']],
    'dataset',
    down='temperature',
    title=lambda row: f'{row["dataset"]}, T = {row["temperature"]}',
    labels=('target nodes', 'tokens per target call'),
    size=(2.2, 2.4),
  ) as panels:
    for axes, own in panels:
      lines = {}
      for row in own:
        lines.setdefault((row['method'], row['distinct']), []).append(row)
      for (method, distinct), line in lines.items():
        label = f'{method}{", distinct" * distinct}'
        style = '--' if distinct else '-'
        curve = plots.Curve(label, protocol.COLORS[method], style, 'o')
        curve.of_rows(axes, line, 'num_nodes', 'tokens_per_call')
      nodes = sorted({row['num_nodes'] for row in own})
      axes.set_xscale('log', base=2)
      axes.set_xticks(nodes, nodes)
      axes.minorticks_off()


run = protocol.Table(
  COLUMNS,
  settings_of,
  measure,
  summarize,
  options_of,
  FIELDS,
  shown=best_shapes,
  legend=LEGEND,
  timed=True,
).experiment(budget=plot)
