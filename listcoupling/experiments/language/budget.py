"""Methods at equal numbers of target nodes: tokens per target call.

A target call judges n nodes besides the root, whoever fills them: a best-first
tree, one chain of n tokens, or K chains of n / K, of which the best K is told.
Beside them stand what the pair of laws allows one draft: the overlap 1 - TV,
which a rejection scheme reaches, and the probability that a race matches. The
row of plain sampling carries both, at the tokens of its own texts.

Legend: n nodes, K drafts, L draft length, B prompts, T tokens of a batch.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from listcoupling import bounds, tables
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.language import matching, protocol
from listcoupling.experiments.language.protocol import Job, Setup, Table
from listcoupling.tables import Column
from listcoupling.validation import Field

PLAIN = 'autoregressive'
TREE = 'gumbel_tree'
_BEAM, _DEPTH = 8, 32  # at most, of the tree
# Below a table in which the tree is behind; filled in from a row.
_WHY = (
  'Behind: the text of a race is a function of seed and target, so that a '
  'draft is only a guess of it, right with probability {race:.3f}; a scheme '
  'that may reject takes its text from the draft with {overlap:.3f} (1 - TV). '
  'Columns 1 x n: tokens of one chain if all its drafts matched so often.'
)
FIELDS = protocol.SHARED | {
  'num_nodes': Field(int, least=1, many=True),
  'temperatures': Field(float, least=0, many=True),
  'distinct': Field(str, among=tuple(METHODS), many=True, empty=True),
  'drafter_bits': Field(int, among=(0, 4, 8)),
}
_LEADS = (
  Column('n', 'num_nodes'),
  Column('ahead by', 'gap', '+.2f'),
  Column('of', 'scheme'),
  Column('race, 1 x n', 'race_tokens', '.2f'),
  Column('1 - TV, 1 x n', 'overlap_tokens', '.2f'),
  Column('where', 'where'),
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
  def scheme(self) -> str:
    """The method, for a reader."""
    return f'{self.method}{", distinct" * self.distinct}'

  @property
  def name(self) -> str:
    """For jobs."""
    scheme = self.scheme.replace(', ', '-')
    return f'{scheme}-n{self.num_nodes}-K{self.num_drafts}-T{self.temperature}'


def settings_of(config) -> dict[str, Setting]:
  """Plain sampling, then every shape of every method by nodes; by name."""
  rows = []
  for temperature in config.temperatures:
    rows.append(_plain(temperature))
    rows += [
      Setting(method, nodes, width, length, distinct, temperature)
      for nodes in config.num_nodes
      for method in config.methods
      if method != PLAIN
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


def options_of(setup: Setup, setting: Setting) -> GenerateOptions:
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


def measure(setup: Setup, config, job: Job, once) -> dict:
  """Columns of a job; plain sampling with its keys is run once for all."""
  del config
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
  laws = matching.laws_along(setup, job, options_of(setup, job.setting))
  sums = functools.partial(
    np.bincount, laws.owner, minlength=job.batch.size
  )  # over the tokens of each prompt
  return {
    name: sums(values[: laws.owner.size]) / sums()
    for name, values in _values(laws.draft, laws.target).items()
  }


@jax.jit
def _values(draft, target):
  def one(pair):
    return {
      'overlap': 1 - bounds.total_variation(*pair),
      'race': bounds.gumbel_coupling_probability(*pair),
    }

  return jax.lax.map(one, (draft, target))


def summarize(groups: dict, place: tuple[str, Setting], config) -> dict:
  """Columns of a row.

  Returns:
    tokens_per_call with its standard error over prompts (`_se`);
    tokens_per_second, the median over batches; same_text, the share of texts
    that are those of plain sampling; overlap and race, over prompts.
  """
  del config
  dataset, setting = place
  tokens, calls, same = protocol.per_prompt(
    groups[place], ('tokens', 'calls', 'same')
  )
  names = 'overlap', 'race'
  plain = groups[dataset, _plain(setting.temperature)]
  agreement = [own.mean(0) for own in protocol.per_prompt(plain, names)]
  rates = [row['tokens_per_second'] for _, row in groups[place]]
  return {
    **tables.ratios({'tokens_per_call': tokens.sum(0)}, calls.sum(0)),
    'tokens_per_second': float(np.median(rates)),
    'same_text': float(same.mean()),
    **tables.means(dict(zip(names, agreement))),
  }


def best_shapes(rows: Iterable[dict]) -> list[dict]:
  """The rows of the best shape of each method, nodes, temperature, data set."""
  names = 'dataset', 'temperature', 'method', 'distinct', 'num_nodes'
  best = {}
  for row in rows:
    place = tuple(row[name] for name in names)
    own = best.setdefault(place, row)
    best[place] = max(own, row, key=lambda each: each['tokens_per_call'])
  return list(best.values())


def lead(rows: Sequence[dict]) -> dict:
  """How far the tree is ahead at one number of nodes.

  Args:
    rows: best shapes at these nodes.

  Returns:
    gap, its tokens per call above the best other method's, with the standard
    error of both together (`_se`); that method's scheme and shape; tokens of
    one chain if all its drafts matched as often as race and overlap say.
  """
  tree = next(row for row in rows if row['method'] == TREE)
  other = max(
    (row for row in rows if row['method'] not in (TREE, PLAIN)),
    key=lambda row: row['tokens_per_call'],
  )
  errors = [row['tokens_per_call_se'] or 0.0 for row in (tree, other)]
  gap = tree['tokens_per_call'] - other['tokens_per_call']
  count = tree['num_nodes']
  return {
    'num_nodes': count,
    'gap': gap,
    'gap_se': float(np.hypot(*errors)),
    'scheme': f'{_scheme(other)}, {_shape(other)}',
    'race_tokens': chain_tokens(other['race'], count),
    'overlap_tokens': chain_tokens(other['overlap'], count),
    'where': 'behind' if gap < 0 else 'ahead',
  }


def as_text(rows: Sequence[dict]) -> str:
  """Methods against nodes, the best shape as K x L, by data set."""
  parts = []
  groups = itertools.groupby(
    best_shapes(rows), key=lambda row: (row['dataset'], row['temperature'])
  )
  for (dataset, temperature), own in groups:
    (plain,), schemes = _plain_and_schemes(own)
    parts.append(
      f'{dataset}, temperature {temperature}: {plain["prompts"]} prompts, '
      f'1 - TV {plain["overlap"]:.3f}, race {plain["race"]:.3f}, plain '
      f'{plain["tokens_per_second"]:.0f} tokens/s\n'
      + tables.as_text([_line(name, own) for name, own in schemes.items()])
      + (_leads(plain, schemes) if TREE in schemes else '')
    )
  return '\n\n'.join(parts)


def _plain_and_schemes(rows) -> tuple[list[dict], dict[str, list[dict]]]:
  """Rows of plain sampling, and those of each scheme by its name."""
  plain, schemes = [], {}
  for row in rows:
    if row['method'] == PLAIN:
      plain.append(row)
    else:
      schemes.setdefault(_scheme(row), []).append(row)
  return plain, schemes


def _scheme(row) -> str:
  return Setting(*(row[name] for name in Setting._fields)).scheme


def _shape(row) -> str:
  return f'{row["num_drafts"]} x {row["draft_length"]}'


def _line(name, rows) -> dict:
  line = {'method': name}
  for row in rows:
    error = row['tokens_per_call_se']
    line[f'n = {row["num_nodes"]}'] = (
      f'{row["tokens_per_call"]:.2f}'
      + (f' ± {error:.2f}' if error is not None else '')
      + f' ({_shape(row)}, {row["tokens_per_second"]:.0f}/s)'
    )
  line['same text'] = f'{100 * min(row["same_text"] for row in rows):.0f} %'
  return line


def chain_tokens(match: float, num_nodes: int) -> float:
  """Tokens per call of one chain of n drafts that match alike.

  Args:
    match: probability that a draft is the text's token.
    num_nodes: n.

  Example:
    >>> chain_tokens(0.5, 2)
    1.75
  """
  return sum(match**depth for depth in range(num_nodes + 1))


def _leads(plain, schemes) -> str:
  """The tree's lead at each n, and why it is none where it is behind."""
  by_nodes = {}
  for row in itertools.chain(*schemes.values()):
    by_nodes.setdefault(row['num_nodes'], []).append(row)
  lines = [lead(own) for _, own in sorted(by_nodes.items()) if len(own) > 1]
  told = f'\n{TREE} and the best other\n{tables.as_text(lines, _LEADS)}'
  if any(line['where'] == 'behind' for line in lines):
    told += '\n' + _WHY.format(**plain)
  return told


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
      for scheme, line in _plain_and_schemes(own)[1].items():
        color = protocol.COLORS[line[0]['method']]
        style = '--' if line[0]['distinct'] else '-'
        curve = plots.Curve(scheme, color, style, 'o')
        curve.of_rows(axes, line, 'num_nodes', 'tokens_per_call')
      nodes = sorted({row['num_nodes'] for row in own})
      axes.set_xscale('log', base=2)
      axes.set_xticks(nodes, nodes)
      axes.minorticks_off()


run = (
  Table((), settings_of, measure, summarize, options_of, FIELDS, timed=True)
  .experiment(budget=plot)
  ._replace(as_text=as_text)
)
