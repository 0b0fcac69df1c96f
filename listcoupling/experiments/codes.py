"""Codes for K decoders: how many groups, and which lattice.

One message of L reaches K decoders, decoder k in group k mod G. G = 1 is a
codebook for all, G = K one for each. Where side information differs in quality
a group may need a decoder that can tell the words of a bin apart, and some G in
between is best, as "codebook diversity" in arXiv 2601.10648 for one source over
K channels. `run_groups` takes a dithered lattice with L G cosets
(`compression.lattices`) whose period is chosen on trials of another key;
`run_binary_groups` a nested code of Reed and Muller (`compression.binary`)
behind binary symmetric channels, with the bins that are best for the best
decoder, and exact sums for figures.

`run_lattices` sets lattices of two, four and eight dimensions beside the cubic
one. The source is D independent symbols, the message has as many bits per
symbol for every lattice, and the best of K decoders is that of the whole block.
Each lattice has its period chosen on trials of another key and is then compared
with Z^D on the same trials. A better lattice gains twice: in the cells of its
codewords, where A2, D4 and E8 are known to gain .17, .37 and .65 dB in the
limit of small cells (Conway and Sloane, Table 1), and in the cells of a coset,
within which a decoder's estimate must stay.

Legend: R trials, K decoders, L messages, G groups, B words of a bin, D
dimensions.
"""

import functools
import itertools
from collections.abc import Callable, Mapping

import numpy as np

from listcoupling import tables
from listcoupling.compression import binary, lattices
from listcoupling.config_fields import Field
from listcoupling.experiments import gaussian, plots
from listcoupling.experiments.run import Experiment, Run
from listcoupling.tables import Column


def parse(case: str, is_allowed: Callable[[float], bool]) -> tuple:
  """L and a number for each decoder, out of "4: .1 .1 .4 .5".

  Args:
    case: the text.
    is_allowed: says of a number whether it may stand there.

  Raises:
    ValueError: for anything else.

  Example:
    >>> parse('4: .1 .5', lambda x: x > 0)
    (4, [0.1, 0.5])
  """
  count, _, rest = case.partition(':')
  try:
    count, numbers = int(count), [float(x) for x in rest.split()]
  except ValueError:
    count, numbers = 0, []
  if count < 1 or not numbers or not all(map(is_allowed, numbers)):
    raise ValueError(
      'config.cases must be like "4: .1 .1 .4 .5": messages, then for each '
      'decoder the variance of its side information, or how often its channel '
      f'flips a bit (0 to .5), got {case!r}.'
    )
  return count, numbers


def _fill_groups(
  record: Run, sizes: Mapping[str, int], row: Callable[[str, int], dict | None]
) -> list[dict]:
  """A row for each case, of K decoders, and each G that divides K."""
  jobs = {
    f'{case}/{num_groups}': (case, num_groups)
    for case, size in sizes.items()
    for num_groups in range(1, size + 1)
    if size % num_groups == 0
  }
  rows = record.results(jobs, lambda job: [x for x in [row(*job)] if x])
  record.note(table=rows)
  return rows


def _first_columns(count, numbers, num_groups, name) -> dict:
  """The first columns of a row."""
  return {
    'num_messages': count,
    name: ' '.join(f'{x:g}' for x in numbers),
    'num_decoders': len(numbers),
    'num_groups': num_groups,
  }


def _plot_groups(rows, path, *, case: str, curves, unit: str) -> None:
  """Distortion against G, a column for each case.

  Above the best decoder, the least ringed; below the mean and the worst.

  Args:
    rows: of the table.
    path: PNG file.
    case: column that says what the decoders know.
    curves: column of the best decoder -> its curve and the columns of the mean
      and of the worst.
    unit: of the distortion.
  """
  panels = {}
  for row in rows:
    panels.setdefault((row['num_messages'], row[case]), []).append(row)
  width = min(4, len(panels))
  height = -(-len(panels) // width)
  with plots.figure(path, size=(2.4 * width, 3.8 * height + 0.3)) as canvas:
    axes = canvas.subplots(2 * height, width, squeeze=False)
    for place in range(width * height):
      line, column = divmod(place, width)
      pair = axes[2 * line : 2 * line + 2, column]
      if place < len(panels):
        _draw(pair, list(panels.values())[place], case, curves)
      else:
        for ax in pair:
          ax.set_visible(False)
    for ax, kind in zip(axes[:, 0], itertools.cycle(_KINDS)):
      ax.set_ylabel(f'{unit},\n{kind}', fontsize=8)
    if len(curves) > 1:
      plots.name_curves(axes[0, min(width, len(panels)) - 1])
    canvas.supxlabel('groups; the best is ringed', fontsize=9)


_KINDS = 'best decoder', 'mean dotted, worst dashed'


def _draw(pair, own, case, curves) -> None:
  """One case, see `_plot_groups`."""
  groups = [row['num_groups'] for row in own]
  for name, (curve, mean, worst) in curves.items():
    best = [row[name] for row in own]
    curve.draw(pair[0], groups, best, [row.get(f'{name}_se') for row in own])
    least = int(np.argmin(best))
    ring = dict(marker='o', ms=9, mfc='none', c=plots.RED, clip_on=False)
    pair[0].plot(groups[least], best[least], **ring)
    for other, line in ((mean, ':'), (worst, '--')):
      values = [row[other] for row in own]
      pair[1].plot(groups, values, curve.marker, ls=line, c=curve.color, ms=3)
  for ax in pair:
    ax.set_xscale('log', base=2)
    ax.set_xticks(groups, groups)
    ax.minorticks_off()
  short = own[0][case].replace('0.', '.')
  pair[0].set_title(f'{own[0]["num_messages"]} messages: {short}', fontsize=7)


def _group_figures(key, total, code, setting, side, spread=(1.0, 1.0)):
  """`gaussian.figures` of so many trials; a setting is period and prior."""
  error, weight = gaussian.lattice_errors(
    key, total, code, setting[0], side, believed_variance=setting[1],
    spread=spread,
  )  # fmt: skip
  sums = gaussian.moments(error[:, None, None], weight=weight[:, None, None])
  return gaussian.figures(sums[0, 0])


def _group_row(case, num_groups, keys, config) -> dict:
  count, variances = parse(case, _is_variance)
  side = np.array(variances, np.float32)
  code = lattices.make_code(
    'Z', count, num_groups=num_groups, num_points=gaussian.CELL_POINTS
  )
  settings = list(itertools.product(config.periods, config.believed_variances))
  first = [
    _group_figures(
      keys[0], config.selection_trials, code, setting, side, gaussian.SPREAD
    )
    for setting in settings
  ]
  row = _first_columns(count, side, num_groups, 'side_variances')
  row['trials'] = config.trials
  for score in ('mean_db', 'mse_db'):  # each at its own setting
    best = settings[
      int(np.argmin([gaussian.cautious(x, score) for x in first]))
    ]
    figures = _group_figures(keys[1], config.trials, code, best, side)
    row |= {name: x for name, x in figures.items() if score in name}
    row[f'{score}_period'], row[f'{score}_believed'] = best
  return row


def _is_variance(number: float) -> bool:
  return number > 0


def _prepare_groups(config, seed):
  sizes = {case: len(parse(case, _is_variance)[1]) for case in config.cases}
  row = functools.partial(
    _group_row, keys=gaussian.trial_keys(seed, 0), config=config
  )
  return {}, functools.partial(_fill_groups, sizes=sizes, row=row)


run_groups = Experiment(
  {
    'cases': Field(str, many=True),
    'periods': Field(float, above=0, many=True),
    'believed_variances': Field(float, above=0, many=True),
    'selection_trials': Field(int, least=2),
    'trials': Field(int, least=2),
  },
  _prepare_groups,
  functools.partial(
    tables.as_text,
    columns=(
      Column('L', 'num_messages'),
      Column('s', 'side_variances'),
      Column('G', 'num_groups'),
      Column('mean dB', 'mean_db', '.2f'),
      Column('MSE dB', 'mse_db', '.2f'),
      Column('of the mean', 'average_mse_db', '.2f', error=False),
      Column('of the worst', 'worst_mse_db', '.2f', error=False),
    ),
  ),
  {
    'groups.png': functools.partial(
      _plot_groups,
      case='side_variances',
      curves={
        name: (plots.Curve(*style), f'average_{name}', f'worst_{name}')
        for name, style in (
          ('mean_db', ('mean of decibels', plots.BLUE, '-', 'o')),
          ('mse_db', ('mean squared error', plots.GREEN, '-', 's')),
        )
      },
      unit='distortion, dB',
    )
  },
)


def _binary_row(case, num_groups, num_bits) -> dict | None:
  """The best bins; None where G groups have no words for them."""
  count, flips = parse(case, _is_flip)
  if num_groups & (num_groups - 1):
    return None  # linear codes have powers of two
  found = []
  for size in (2**b for b in range(num_bits + 1)):
    if count * num_groups * size <= 2**num_bits:
      words = binary.nested_words(num_bits, count, num_groups, size)
      found.append((binary.errors(words, flips, num_bits), size))
  if not found:
    return None
  errors, size = min(found)
  row = _first_columns(count, flips, num_groups, 'flip_probabilities')
  return row | {'bin_size': size, **errors._asdict()}


def _is_flip(number: float) -> bool:
  return 0 <= number <= 0.5


def _prepare_binary_groups(config, seed):
  del seed  # nothing is drawn
  sizes = {case: len(parse(case, _is_flip)[1]) for case in config.cases}
  for case in sizes:  # refuses L and n that have no code
    binary.nested_words(config.num_bits, parse(case, _is_flip)[0], 1, 1)
  row = functools.partial(_binary_row, num_bits=config.num_bits)
  return {}, functools.partial(_fill_groups, sizes=sizes, row=row)


run_binary_groups = Experiment(
  {'num_bits': Field(int, least=1), 'cases': Field(str, many=True)},
  _prepare_binary_groups,
  functools.partial(
    tables.as_text,
    columns=(
      Column('L', 'num_messages'),
      Column('p', 'flip_probabilities'),
      Column('G', 'num_groups'),
      Column('B', 'bin_size'),
      Column('best', 'best', '.4f'),
      Column('mean', 'mean', '.4f'),
      Column('worst', 'worst', '.4f'),
    ),
  ),
  {
    'groups.png': functools.partial(
      _plot_groups,
      case='flip_probabilities',
      curves={
        'best': (
          plots.Curve('best decoder', plots.BLUE, marker='o'),
          'mean',
          'worst',
        )
      },
      unit='share of wrong bits',
    )
  },
)


# Lattice: dimensions, known gain of its cells in dB.
KNOWN = {'A2': (2, 0.17), 'D4': (4, 0.37), 'E8': (8, 0.65)}
_POSITIVE = Field(float, above=0, many=True)
_LATTICE_FIELDS = {
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
_LATTICE_COLUMNS = (
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


def _code_of(lattice, bits, num_decoders, config):
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


def _lattice_errors(
  key, total, code, period, num_decoders, config, spread=(1.0, 1.0)
):
  return gaussian.lattice_errors(
    key, total, code, period,
    np.full(num_decoders, config.side_variance, np.float32),
    believed_variance=config.believed_variance if num_decoders > 1 else 1.0,
    spread=spread,
  )  # fmt: skip


def _choose_period(key, code, num_decoders, config) -> float:
  """The period whose best decoder errs least, by estimate and its error."""

  # So much less in each dimension that weights vary about as much.
  spread = tuple(1 + (x - 1) / code.size**0.5 for x in gaussian.SPREAD)

  def score(period):
    error, weight = _lattice_errors(
      key, config.selection_trials, code, period, num_decoders, config, spread
    )
    return sum(tables.mean_error(error.min(1) * weight))

  return min(config.periods, key=score)


def _lattice_rows(lattice, bits, num_decoders, keys, config) -> list[dict]:
  """Rows of Z^D and a lattice, on the same trials; none if it has no code."""
  size, known = KNOWN[lattice]
  rows, best = [], []
  for name in (f'Z{size}', lattice):
    code = _code_of(name, bits, num_decoders, config)
    if code is None:
      return []
    period = _choose_period(keys[0], code, num_decoders, config)
    error, _ = _lattice_errors(
      keys[1], config.trials, code, period, num_decoders, config
    )
    best.append(error.min(1))
    figures = gaussian.figures(gaussian.moments(error[:, None, None])[0, 0])
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


def _prepare_lattices(config, seed):
  """Two rows for each number of decoders, lattice and rate that it has."""
  keys = gaussian.trial_keys(seed, 0)

  def fill(record):
    jobs = {
      f'{num_decoders}/{lattice}/{bits}': (lattice, bits, num_decoders)
      for num_decoders, lattice, bits in itertools.product(
        config.num_decoders, config.lattices, config.bits
      )
    }
    rows = record.results(jobs, lambda job: _lattice_rows(*job, keys, config))
    record.note(table=rows)
    return rows

  return {}, fill


def _plot_lattices(rows: list[dict], path) -> None:
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


run_lattices = Experiment(
  _LATTICE_FIELDS,
  _prepare_lattices,
  functools.partial(tables.as_text, columns=_LATTICE_COLUMNS),
  {'lattices.png': _plot_lattices},
)
