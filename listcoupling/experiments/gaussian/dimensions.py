"""Lattices of two, four and eight dimensions beside the cubic one.

The source is D independent symbols, the message has as many bits per symbol
for every lattice, and the best of K decoders is that of the whole block. Each
lattice has its period chosen on trials of another key and is then compared with
Z^D on the same trials. A better lattice gains twice: in the cells of its
codewords, where A2, D4 and E8 are known to gain .17, .37 and .65 dB in the
limit of small cells (Conway and Sloane, Table 1), and in the cells of a coset,
within which a decoder's estimate must stay.

Legend: R trials, D dimensions, K decoders, L messages.
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

# Lattice: dimensions, known gain of its cells in dB.
KNOWN = {'A2': (2, 0.17), 'D4': (4, 0.37), 'E8': (8, 0.65)}
_POSITIVE = Field(float, above=0, many=True)
FIELDS = {
  'lattices': Field(str, among=tuple(KNOWN), many=True),
  'bits': _POSITIVE,
  'num_decoders': Field(int, least=1, many=True),
  'side_variance': Field(float, above=0),
  'periods': _POSITIVE,
  'believed_variance': Field(float, above=0),
  'cell_points': Field(int, least=1),
  'selection_trials': Field(int, least=2),
  'trials': Field(int, least=2),
}
COLUMNS = (
  Column('K', 'num_decoders'),
  Column('D', 'dimensions'),
  Column('bits', 'bits'),
  Column('lattice', 'lattice'),
  Column('MSE dB', 'mse_db', '.2f'),
  Column('of the mean', 'average_mse_db', '.2f', error=False),
  Column('of the worst', 'worst_mse_db', '.2f', error=False),
  Column('ahead, dB', 'ahead_db', '.2f'),
  Column('cells alone', 'known_db', '.2f'),
  Column('period', 'period'),
)


def _code(lattice, bits, num_decoders, config):
  """The code of a lattice at so many bits per symbol; None if there is none."""
  size = KNOWN[lattice][0] if lattice in KNOWN else int(lattice[1:])
  count = 2 ** (bits * size)
  if count != int(count):
    return None
  name = lattice if lattice in KNOWN else 'Z'
  try:
    return lattices.make_code(
      name, int(count), num_groups=num_decoders, size=size,
      num_points=config.cell_points,
    )  # fmt: skip
  except ValueError:  # no such sublattice
    return None


def _errors(key, total, code, period, num_decoders, config, spread=(1.0, 1.0)):
  return schemes.lattice_errors(
    key, total, code, period,
    np.full(num_decoders, config.side_variance, np.float32),
    believed_variance=config.believed_variance if num_decoders > 1 else 1.0,
    spread=spread,
  )  # fmt: skip


def _choose(key, code, num_decoders, config) -> float:
  """The period whose best decoder errs least, by estimate and its error."""

  # So much less in each dimension that weights vary about as much.
  spread = tuple(1 + (x - 1) / code.size**0.5 for x in schemes.SPREAD)

  def score(period):
    error, weight = _errors(
      key, config.selection_trials, code, period, num_decoders, config, spread
    )
    return sum(tables.mean_error(error.min(1) * weight))

  return min(config.periods, key=score)


def _pair(lattice, bits, num_decoders, keys, config) -> list[dict]:
  """Rows of Z^D and a lattice, on the same trials; none if it has no code."""
  size, known = KNOWN[lattice]
  rows, best = [], []
  for name in (f'Z{size}', lattice):
    code = _code(name, bits, num_decoders, config)
    if code is None:
      return []
    period = _choose(keys[0], code, num_decoders, config)
    error, _ = _errors(
      keys[1], config.trials, code, period, num_decoders, config
    )
    best.append(error.min(1))
    figures = schemes.figures(schemes.moments(error[:, None, None])[0, 0])
    rows.append(
      {
        'num_decoders': num_decoders,
        'dimensions': size,
        'bits': bits,
        'lattice': name,
        'num_messages': code.num_messages,
        'trials': config.trials,
        'period': round(period, 4),
        **{name: x for name, x in figures.items() if 'mse_db' in name},
      }
    )
  ahead, error = _ahead(*best)
  rows[1] |= {'ahead_db': ahead, 'ahead_db_se': error, 'known_db': known}
  return rows


def _ahead(plain, error) -> tuple[float, float]:
  """Decibels between mean errors of the same trials, and the standard error.

  Example:
    >>> round(_ahead(np.array([2., 4.]), np.array([1., 2.]))[0], 2)
    3.01
  """
  each = plain / plain.mean() - error / error.mean()
  decibels = 10 * np.log10(plain.mean() / error.mean())
  return (
    float(decibels),
    float(10 / np.log(10) * each.std(ddof=1) / np.sqrt(len(each))),
  )


def _prepare(config, seed):
  """Two rows for each number of decoders, lattice and rate that it has."""
  keys = trial_keys(seed, 0)

  def fill(run):
    jobs = {
      f'{num_decoders}/{lattice}/{bits}': (lattice, bits, num_decoders)
      for num_decoders, lattice, bits in itertools.product(
        config.num_decoders, config.lattices, config.bits
      )
    }
    rows = run.results(jobs, lambda job: _pair(*job, keys, config))
    run.note(table=rows)
    return rows

  return {}, fill


def plot(rows: list[dict], path) -> None:
  """How far each lattice is ahead, against bits; dotted, of its cells alone."""
  curves = {
    'A2': plots.Curve('A2', plots.BLUE, marker='o'),
    'D4': plots.Curve('D4', plots.RED, marker='s'),
    'E8': plots.Curve('E8', plots.GREEN, marker='D'),
  }
  with plots.panels(
    path,
    rows,
    'num_decoders',
    title=lambda row: f'K = {row["num_decoders"]}',
    labels=('bits per symbol', 'ahead of the cubic lattice, dB'),
  ) as panels:
    for axes, own in panels:
      for lattice, curve in curves.items():
        mine = [row for row in own if row['lattice'] == lattice]
        if mine:
          curve.of_rows(axes, mine, 'bits', 'ahead_db', capsize=2)
          known = mine[0]['known_db']
          axes.axhline(known, color=curve.color, linestyle=':', lw=0.8)


TABLE = Experiment(
  FIELDS,
  _prepare,
  functools.partial(tables.as_text, columns=COLUMNS),
  {'lattices.png': plot},
)
