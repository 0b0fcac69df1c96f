"""Methods at equal numbers of target nodes: tokens per target call.

A target call judges n nodes besides the root, whoever fills them: a best-first
tree, one chain of n tokens, or K chains of n / K, of which the best K is told.
Beside them stand what the pair of laws allows one draft: the overlap 1 - TV,
which a rejection scheme reaches, and the probability that a race matches. The
row of plain sampling carries both, at the tokens of its own texts.

Legend: n nodes, K drafts, L draft length, B prompts, T tokens of a batch.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from listcoupling import bounds, tables
from listcoupling.config_fields import Field
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.language import matching, protocol
from listcoupling.experiments.language.protocol import Job, Setup, Table

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
_LEFT_OUT = (
  'draft_length',
  'draft_temperatures',
  'single_temperature',
  'temperature',
)
FIELDS = {
  name: field
  for name, field in protocol.FIELDS.items()
  if name not in _LEFT_OUT
} | {
  'num_nodes': Field(int, least=1, many=True),
  'temperatures': Field(float, least=0, many=True),
  'distinct': Field(str, among=tuple(METHODS), many=True, empty=True),
  'drafter_bits': Field(int, among=(0, 4, 8)),
}


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


def settings_of(config) -> list[Setting]:
  """Plain sampling, then every shape of every method by nodes."""
  rows = []
  for temperature in config.temperatures:
    rows.append(Setting(PLAIN, 0, 0, 0, False, temperature))
    rows += [
      Setting(method, nodes, width, length, distinct, temperature)
      for nodes in config.num_nodes
      for method in config.methods
      if method != PLAIN
      for width, length in shapes(method, nodes, config.num_drafts)
      for distinct in (False, True)
      if not distinct or (method in config.distinct and width > 1)
    ]
  return rows


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


def _measure(setup: Setup, config, jobs: Sequence[Job]):
  del config, jobs
  plain = {}  # of the batch at hand

  def compute(job):
    place = job.dataset, job.seed, job.number, job.setting.temperature
    if place not in plain:
      plain.clear()
      plain[place] = _generate(setup, job, PLAIN)
    return measure(setup, job, plain[place])

  return compute


def _generate(setup, job, method):
  setting = job.setting._replace(method=method, distinct=False)
  if method == job.setting.method:
    setting = job.setting
  options = options_of(setup, setting)
  plain = method == PLAIN
  return protocol.continue_prompts(setup, job, options, plain=plain)


def measure(setup: Setup, job: Job, plain) -> dict:
  """Columns of a job.

  Args:
    setup: of `protocol.prepare`.
    job: what to run.
    plain: `Generation` of plain sampling with the same keys.
  """
  method = job.setting.method
  out = plain if method == PLAIN else _generate(setup, job, method)
  real = slice(job.batch.size)
  same = np.all(out.tokens == plain.tokens, axis=1)
  row = {
    'tokens': tables.join(out.lengths[real]),
    'calls': tables.join(out.metrics.target_calls[real]),
    'same': tables.join(same[real].astype(int)),
    'tokens_per_second': out.metrics.tokens_per_second,
  }
  return row | (_agreement(setup, job) if method == PLAIN else {})


def _agreement(setup, job) -> dict:
  """Overlap and race of one draft: means over tokens for each prompt."""
  options = options_of(setup, job.setting)
  setup = setup._replace(options=options)
  laws = matching.laws_along(setup, *matching.write_text(setup, job), options)
  overlap, race = _values(laws.draft, laws.target)
  return {
    name: tables.join(
      [
        np.mean(np.asarray(values)[: laws.owner.size][laws.owner == row])
        for row in range(job.batch.size)
      ]
    )
    for name, values in (('overlap', overlap), ('race', race))
  }


@jax.jit
def _values(draft, target):
  def one(pair):
    return (
      1 - bounds.total_variation(*pair),
      bounds.gumbel_coupling_probability(*pair),
    )

  return jax.lax.map(one, (draft, target))


def summarize(groups: dict, place: tuple[str, Setting], config) -> dict:
  """One row: a setting on one data set.

  Returns:
    tokens_per_call with its standard error over prompts (`_se`);
    tokens_per_second, the median over batches; same_text, the share of texts
    that are those of plain sampling; overlap and race, over prompts.
  """
  del config
  dataset, setting = place
  own = protocol.per_prompt(groups[place], ('tokens', 'calls', 'same'))
  tokens, calls = own['tokens'].sum(0), own['calls'].sum(0)
  plain = Setting(PLAIN, 0, 0, 0, False, setting.temperature)
  agreement = protocol.per_prompt(groups[dataset, plain], ('overlap', 'race'))
  terms = tables.ratio_terms(tokens, calls)
  return {
    'dataset': dataset,
    **setting._asdict(),
    'tokens_per_call': float(tokens.sum() / calls.sum()),
    'tokens_per_call_se': tables.cluster_error(terms),
    'tokens_per_second': float(
      np.median([row['tokens_per_second'] for _, row in groups[place]])
    ),
    'same_text': float(own['same'].mean()),
    **tables.means({name: each.mean(0) for name, each in agreement.items()}),
    'prompts': tokens.size,
  }


def best_shapes(rows: Iterable[dict]) -> list[dict]:
  """The rows of the best shape of each method, nodes, temperature, data set."""
  best = {}
  for row in rows:
    names = 'dataset', 'temperature', 'method', 'distinct', 'num_nodes'
    key = tuple(row[name] for name in names)
    if key not in best or (
      row['tokens_per_call'] > best[key]['tokens_per_call']
    ):
      best[key] = row
  return list(best.values())


def lead(rows: Sequence[dict]) -> tuple[float, float, dict]:
  """How far the tree is ahead at one number of nodes.

  Args:
    rows: best shapes at these nodes.

  Returns:
    Its tokens per call above the best other method's, the standard error of
    both together, and that method's row.
  """
  tree = next(row for row in rows if row['method'] == TREE)
  other = max(
    (row for row in rows if row['method'] not in (TREE, PLAIN)),
    key=lambda row: row['tokens_per_call'],
  )
  errors = [row['tokens_per_call_se'] or 0.0 for row in (tree, other)]
  return (
    tree['tokens_per_call'] - other['tokens_per_call'],
    float(np.hypot(*errors)),
    other,
  )


def _blocks(rows):
  """(data set, temperature) and its best shapes, one after another."""
  groups = itertools.groupby(
    best_shapes(rows), key=lambda row: (row['dataset'], row['temperature'])
  )
  return [(place, list(group)) for place, group in groups]


def as_text(rows: Sequence[dict]) -> str:
  """Methods against nodes, the best shape as K x L, by data set."""
  parts = []
  for (dataset, temperature), own in _blocks(rows):
    plain = next(row for row in own if row['method'] == PLAIN)
    lines = [
      f'{dataset}, temperature {temperature}: {plain["prompts"]} prompts, '
      f'1 - TV {plain["overlap"]:.3f}, race {plain["race"]:.3f}, plain '
      f'{plain["tokens_per_second"]:.0f} tokens/s'
    ]
    schemes = _by_scheme(row for row in own if row['method'] != PLAIN)
    lines.append(
      tables.as_text([_line(name, found) for name, found in schemes.items()])
    )
    if TREE in schemes:
      lines.append(_leads(own))
    parts.append('\n'.join(lines))
  return '\n\n'.join(parts)


def _by_scheme(rows) -> dict[str, list[dict]]:
  schemes = {}
  for row in rows:
    schemes.setdefault(_setting(row).scheme, []).append(row)
  return schemes


def _setting(row) -> Setting:
  return Setting(*(row[name] for name in Setting._fields))


def _line(name, rows) -> dict:
  line = {'method': name}
  for row in rows:
    error = row['tokens_per_call_se']
    line[f'n = {row["num_nodes"]}'] = (
      f'{row["tokens_per_call"]:.2f}'
      + (f' ± {error:.2f}' if error is not None else '')
      + f' ({row["num_drafts"]} x {row["draft_length"]}, '
      f'{row["tokens_per_second"]:.0f}/s)'
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


def _leads(rows) -> str:
  """The tree's lead at each n, and why it is none where it is behind."""
  lines = []
  for count in sorted({row['num_nodes'] for row in rows} - {0}):
    own = [row for row in rows if row['num_nodes'] == count]
    if len(own) > 1:
      gap, error, other = lead(own)
      shape = f'{other["num_drafts"]} x {other["draft_length"]}'
      lines.append(
        {
          'n': count,
          'ahead by': f'{gap:+.2f} ± {error:.2f}',
          'of': f'{_setting(other).scheme}, {shape}',
          'race, 1 x n': f'{chain_tokens(other["race"], count):.2f}',
          '1 - TV, 1 x n': f'{chain_tokens(other["overlap"], count):.2f}',
          'where': 'behind' if gap < 0 else 'ahead',
        }
      )
  told = f'{TREE} and the best other\n{tables.as_text(lines)}'
  if any(line['where'] == 'behind' for line in lines):
    told += '\n' + _WHY.format(**rows[0])
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
      for scheme, line in _by_scheme(own).items():
        color = protocol.COLORS[line[0]['method']]
        style = '--' if line[0]['distinct'] else '-'
        curve = plots.Curve(scheme, color, style, 'o')
        curve.of_rows(axes, line, 'num_nodes', 'tokens_per_call')
      nodes = sorted({row['num_nodes'] for row in own})
      axes.set_xscale('log', base=2)
      axes.set_xticks(nodes, nodes)
      axes.minorticks_off()


run = (
  Table(
    (),
    protocol.checked(settings_of, options_of),
    _measure,
    summarize,
    FIELDS,
    timed=True,
  )
  .experiment(budget=plot)
  ._replace(as_text=as_text)
)
