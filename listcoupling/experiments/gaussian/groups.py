"""How many groups of decoders: between one for all and one for each.

A dithered lattice (`compression.lattices`) with L G cosets serves K decoders
in G groups, decoder k in group k mod G. G = 1 is a codebook for all, G = K one
for each. Where side information differs in quality a group may need a decoder
that can tell the points of a coset apart, and some G in between is best, as
"codebook diversity" in arXiv 2601.10648 for one source over K channels. Each
(case, G) has its period chosen on trials of another key.

Legend: R trials, K decoders, L messages, G groups.
"""

import functools
import itertools

import numpy as np

from listcoupling import tables
from listcoupling.compression import lattices
from listcoupling.config_fields import Field
from listcoupling.experiments import plots
from listcoupling.experiments.gaussian import schemes
from listcoupling.experiments.gaussian.table import trial_keys
from listcoupling.experiments.run import Experiment
from listcoupling.tables import Column

FIELDS = {
  'cases': Field(str, many=True),
  'periods': Field(float, above=0, many=True),
  'believed_variances': Field(float, above=0, many=True),
  'selection_trials': Field(int, least=2),
  'trials': Field(int, least=2),
}
COLUMNS = (
  Column('L', 'num_messages'),
  Column('s', 'side_variances'),
  Column('G', 'num_groups'),
  Column('mean dB', 'mean_db', '.2f'),
  Column('MSE dB', 'mse_db', '.2f'),
  Column('of the mean', 'average_mse_db', '.2f', error=False),
  Column('of the worst', 'worst_mse_db', '.2f', error=False),
)


def parse(case: str) -> tuple[int, np.ndarray]:
  """L and the side variances [K] of "4: .05 .05 5 inf".

  Raises:
    ValueError: for anything else.

  Example:
    >>> parse('4: .5 .5')[0]
    4
  """
  count, _, side = case.partition(':')
  try:
    side = np.array([float(x) for x in side.split()], np.float32)
    count = int(count)
  except ValueError:
    count = 0
  if count < 1 or not len(side) or not np.all(side > 0):
    raise ValueError(
      'config.cases must be like "4: .05 .05 5 inf": messages, then a '
      f'positive variance for each decoder, got {case!r}.'
    )
  return count, side


def _figures(key, total, code, setting, side, spread=(1.0, 1.0)) -> dict:
  """`schemes.figures` of so many trials; a setting is period and prior."""
  error, weight = schemes.lattice_errors(
    key, total, code, setting[0], side, believed_variance=setting[1],
    spread=spread,
  )  # fmt: skip
  sums = schemes.moments(error[:, None, None], weight=weight[:, None, None])
  return schemes.figures(sums[0, 0])


def _row(case, num_groups, keys, config) -> dict:
  count, side = parse(case)
  code = lattices.make_code(
    'Z', count, num_groups=num_groups, num_points=schemes.CELL_POINTS
  )
  settings = list(itertools.product(config.periods, config.believed_variances))
  first = [
    _figures(
      keys[0], config.selection_trials, code, setting, side, schemes.SPREAD
    )
    for setting in settings
  ]
  row = {
    'num_messages': count,
    'side_variances': ' '.join(f'{s:g}' for s in side),
    'num_decoders': side.size,
    'num_groups': num_groups,
    'trials': config.trials,
  }
  for score in ('mean_db', 'mse_db'):  # each at its own setting
    best = int(np.argmin([schemes.cautious(x, score) for x in first]))
    figures = _figures(keys[1], config.trials, code, settings[best], side)
    row |= {name: x for name, x in figures.items() if score in name}
    row[f'{score}_period'], row[f'{score}_believed'] = settings[best]
  return row


def _prepare(config, seed):
  """One row for each case and each number of groups that divides K."""
  sizes = {case: parse(case)[1].size for case in config.cases}
  keys = trial_keys(seed, 0)

  def fill(run):
    work = [
      (f'{case}/{num_groups}', (case, num_groups))
      for case, size in sizes.items()
      for num_groups in range(1, size + 1)
      if size % num_groups == 0
    ]
    return run.results(work, lambda job: [_row(*job, keys, config)])

  return {}, fill


def plot(rows: list[dict], path) -> None:
  """Distortion of the best decoder against G, a panel for each measure."""
  colors = itertools.cycle((plots.RED, plots.BLUE, plots.GREEN, plots.PINK))
  with plots.figure(path, size=(9.0, 3.6)) as canvas:
    axes = canvas.subplots(1, 2)
    cases = [(r['num_messages'], r['side_variances']) for r in rows]
    for case, color in zip(dict.fromkeys(cases), colors):
      curve = plots.Curve(f'L = {case[0]}, s = {case[1]}', color, marker='o')
      here = [row for row, own in zip(rows, cases) if own == case]
      groups = np.log2([r['num_groups'] for r in here])
      for ax, name in zip(axes, ('mean_db', 'mse_db')):
        errors = [r[name + '_se'] for r in here]
        curve.draw(ax, groups, [r[name] for r in here], errors)
    for ax, name in zip(axes, ('mean of decibels', 'mean squared error, dB')):
      ax.set_xlabel('log2 of the number of groups')
      ax.set_ylabel(name)
    plots.name_curves(axes[-1])


TABLE = Experiment(
  FIELDS,
  _prepare,
  functools.partial(tables.as_text, columns=COLUMNS),
  {'groups.png': plot},
)
