"""How many groups of decoders: between one for all and one for each.

One message of L reaches K decoders, decoder k in group k mod G. G = 1 is a
codebook for all, G = K one for each. Where side information differs in quality
a group may need a decoder that can tell the words of a bin apart, and some G in
between is best, as "codebook diversity" in arXiv 2601.10648 for one source over
K channels.

`GAUSSIAN` is a dithered lattice with L G cosets (`compression.lattices`) whose
period is chosen on trials of another key. `BINARY` is a nested code of Reed and
Muller (`compression.binary`) behind binary symmetric channels, with the bins
that are best for the best decoder; its figures are exact sums.

Legend: K decoders, L messages, G groups, B words of a bin.
"""

import functools
import itertools
from collections.abc import Callable, Mapping

import numpy as np

from listcoupling import tables
from listcoupling.compression import binary, lattices
from listcoupling.config_fields import Field
from listcoupling.experiments import plots
from listcoupling.experiments.gaussian import schemes
from listcoupling.experiments.gaussian.table import trial_keys
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


def _fill(
  run: Run, sizes: Mapping[str, int], row: Callable[[str, int], dict | None]
) -> list[dict]:
  """A row for each case, of K decoders, and each G that divides K."""
  jobs = {
    f'{case}/{num_groups}': (case, num_groups)
    for case, size in sizes.items()
    for num_groups in range(1, size + 1)
    if size % num_groups == 0
  }
  rows = run.results(jobs, lambda job: [x for x in [row(*job)] if x])
  run.note(table=rows)
  return rows


def _place(count, numbers, num_groups, name) -> dict:
  """The first columns of a row."""
  return {
    'num_messages': count,
    name: ' '.join(f'{x:g}' for x in numbers),
    'num_decoders': len(numbers),
    'num_groups': num_groups,
  }


def _plot(rows, path, *, case: str, curves, unit: str) -> None:
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
      axes[0, 0].legend(fontsize=7)
    canvas.supxlabel('groups; the best is ringed', fontsize=9)


_KINDS = 'best decoder', 'mean dotted, worst dashed'


def _draw(pair, own, case, curves) -> None:
  """One case, see `_plot`."""
  groups = [row['num_groups'] for row in own]
  for name, (curve, mean, worst) in curves.items():
    best = [row[name] for row in own]
    curve.draw(pair[0], groups, best, [row.get(f'{name}_se') for row in own])
    least = int(np.argmin(best))
    pair[0].plot(groups[least], best[least], 'o', ms=9, mfc='none', c=plots.RED)
    for other, line in ((mean, ':'), (worst, '--')):
      values = [row[other] for row in own]
      pair[1].plot(groups, values, curve.marker, ls=line, c=curve.color, ms=3)
  for ax in pair:
    ax.set_xscale('log', base=2)
    ax.set_xticks(groups, groups)
    ax.minorticks_off()
  short = own[0][case].replace('0.', '.')
  pair[0].set_title(f'{own[0]["num_messages"]} messages: {short}', fontsize=7)


def _gaussian_figures(key, total, code, setting, side, spread=(1.0, 1.0)):
  """`schemes.figures` of so many trials; a setting is period and prior."""
  error, weight = schemes.lattice_errors(
    key, total, code, setting[0], side, believed_variance=setting[1],
    spread=spread,
  )  # fmt: skip
  sums = schemes.moments(error[:, None, None], weight=weight[:, None, None])
  return schemes.figures(sums[0, 0])


def _gaussian_row(case, num_groups, keys, config) -> dict:
  count, variances = parse(case, _is_variance)
  side = np.array(variances, np.float32)
  code = lattices.make_code(
    'Z', count, num_groups=num_groups, num_points=schemes.CELL_POINTS
  )
  settings = list(itertools.product(config.periods, config.believed_variances))
  first = [
    _gaussian_figures(
      keys[0], config.selection_trials, code, setting, side, schemes.SPREAD
    )
    for setting in settings
  ]
  row = _place(count, side, num_groups, 'side_variances')
  row['trials'] = config.trials
  for score in ('mean_db', 'mse_db'):  # each at its own setting
    best = settings[int(np.argmin([schemes.cautious(x, score) for x in first]))]
    figures = _gaussian_figures(keys[1], config.trials, code, best, side)
    row |= {name: x for name, x in figures.items() if score in name}
    row[f'{score}_period'], row[f'{score}_believed'] = best
  return row


def _is_variance(number: float) -> bool:
  return number > 0


def _prepare_gaussian(config, seed):
  sizes = {case: len(parse(case, _is_variance)[1]) for case in config.cases}
  row = functools.partial(
    _gaussian_row, keys=trial_keys(seed, 0), config=config
  )
  return {}, functools.partial(_fill, sizes=sizes, row=row)


GAUSSIAN = Experiment(
  {
    'cases': Field(str, many=True),
    'periods': Field(float, above=0, many=True),
    'believed_variances': Field(float, above=0, many=True),
    'selection_trials': Field(int, least=2),
    'trials': Field(int, least=2),
  },
  _prepare_gaussian,
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
      _plot,
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
  row = _place(count, flips, num_groups, 'flip_probabilities')
  return row | {'bin_size': size, **errors._asdict()}


def _is_flip(number: float) -> bool:
  return 0 <= number <= 0.5


def _prepare_binary(config, seed):
  del seed  # nothing is drawn
  sizes = {case: len(parse(case, _is_flip)[1]) for case in config.cases}
  for case in sizes:  # refuses L and n that have no code
    binary.nested_words(config.num_bits, parse(case, _is_flip)[0], 1, 1)
  row = functools.partial(_binary_row, num_bits=config.num_bits)
  return {}, functools.partial(_fill, sizes=sizes, row=row)


BINARY = Experiment(
  {'num_bits': Field(int, least=1), 'cases': Field(str, many=True)},
  _prepare_binary,
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
      _plot,
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
