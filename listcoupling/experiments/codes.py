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
from typing import Any

import numpy as np

from listcoupling import tables
from listcoupling.compression import binary, distortion, lattices
from listcoupling.compression import gaussian as source
from listcoupling.config_fields import Field
from listcoupling.experiments import gaussian, plots
from listcoupling.experiments.run import Experiment
from listcoupling.tables import Column

_CHUNK = 10_000  # trials of a compiled call; Ctrl-C is heard between two
_POSITIVE = Field(float, above=0, many=True)
_TRIALS = Field(int, least=2)
_OTHERS = (  # columns of distortions in decibels, beside the best decoder's
  Column('of the mean', 'average_mse_db', '.2f', error=False),
  Column('of the worst', 'worst_mse_db', '.2f', error=False),
)


def _cases(numbers: Field) -> Callable[[Any], None]:
  """The field of cases (L, a number for each of K decoders)."""
  numbers = numbers._replace(many=True)

  def is_case(case):
    try:
      count, known = case
    except (TypeError, ValueError):
      return False
    return Field(int, least=1).allows(count) and numbers.allows(known)

  def check(cases):
    wrong = [cases]
    if isinstance(cases, (tuple, list)) and cases:
      wrong = [case for case in cases if not is_case(case)]
    if wrong:
      raise ValueError(
        'config.cases must hold pairs: number of messages, then, decoder by '
        'decoder, the variance of its side information, or how often its '
        f'channel flips a bit, {numbers}; got {wrong[0]!r}.'
      )

  return check


def _group_jobs(config) -> dict[str, tuple]:
  """Name -> (L, a number for each decoder, G), for each G that divides K."""
  return {
    f'{count}: {known}/{num_groups}': (count, known, num_groups)
    for count, known in config.cases
    for num_groups in range(1, len(known) + 1)
    if len(known) % num_groups == 0
  }


def _filled(jobs: Mapping[str, tuple], compute: Callable):
  """Answer of `prepare`: compute(*job) of each job gives its row."""

  def fill(record):
    rows = record.rows(jobs, lambda job: compute(*job), key='job')
    record.note(table=rows)
    return rows

  return {}, fill


def _first_columns(count, numbers, num_groups, name) -> dict:
  """The first columns of a row."""
  return {
    'num_messages': count,
    name: ' '.join(f'{x:g}' for x in numbers),
    'num_decoders': len(numbers),
    'num_groups': num_groups,
  }


def _plot(rows, path, *, case, curves, others, unit) -> None:
  """Distortion against G, a line for each case.

  On the left the best decoder, the least ringed; on the right the others.

  Args:
    rows: of the table.
    path: of the figure.
    case: column that says what the decoders know.
    curves: by column of the best decoder.
    others: columns of the mean and of the worst decoder, {} for the best's.
    unit: of the distortion.
  """
  shown = [
    row | {'case': f'{row["num_messages"]} messages: {row[case]}', 'is_best': x}
    for row in rows
    for x in (True, False)
  ]
  with plots.panels(
    path,
    shown,
    'is_best',
    down='case',
    title=lambda row: (
      row['case'] if row['is_best'] else 'mean dotted, worst dashed'
    ),
    labels=('groups; the best is ringed', unit),
    size=(2.9, 1.9),
    sharey=False,
  ) as panels:
    for axes, own in panels:
      for name, curve in curves.items():
        if own[0]['is_best']:
          _draw_best(axes, own, name, curve)
        else:
          names = (other.format(name) for other in others)
          curve.others(axes, own, 'num_groups', *names)
      groups = [row['num_groups'] for row in own]
      axes.set_xscale('log', base=2)
      axes.set_xticks(groups, groups)
      axes.minorticks_off()


def _draw_best(axes, rows, name, curve) -> None:
  curve.of_rows(axes, rows, 'num_groups', name)
  least = min(rows, key=lambda row: row[name])
  ring = dict(marker='o', ms=9, mfc='none', c=plots.RED, clip_on=False)
  axes.plot(least['num_groups'], least[name], **ring)


def _errors(key, total, code, setting, side, spread=(1.0, 1.0)):
  """Errors [R, K] and weights [R] of `simulate_lattice`, in chunks.

  Args:
    key: typed key of the trials.
    total: R.
    code: see `lattices.make_code`.
    setting: period and believed variance.
    side: [K] variances of side information.
    spread: see `simulate_lattice`.
  """
  period, believed = setting
  parts = [
    source.simulate_lattice(
      key, np.arange(start, min(start + _CHUNK, total)), code, period,
      num_decoders=len(side), side_variance=side, believed_variance=believed,
      spread=spread,
    )
    for start in range(0, total, _CHUNK)
  ]  # fmt: skip
  error, weight = map(np.concatenate, zip(*parts))
  return error, weight


def _chosen(keys, config, code, side, scores, settings, spread=gaussian.SPREAD):
  """For each score its best setting, with what `_errors` gives for that.

  Settings are chosen on trials of the first key, the errors are of the second.

  Args:
    keys: typed keys of the trials.
    config: says how many there are.
    code: see `lattices.make_code`.
    side: [K] variances of side information.
    scores: see `distortion.choose`.
    settings: pairs of period and believed variance.
    spread: of the trials that choose, see `simulate_lattice`.
  """
  first = [
    distortion.of_trials(
      *_errors(keys[0], config.selection_trials, code, x, side, spread)
    )
    for x in settings
  ]
  for score in scores:
    best = settings[distortion.choose(first, score)]
    yield best, _errors(keys[1], config.trials, code, best, side)


def _group_row(count, variances, num_groups, keys, config) -> dict:
  side, scores = np.array(variances, np.float32), ('mean_db', 'mse_db')
  code = lattices.make_code(
    'Z', count, num_groups=num_groups, num_points=gaussian.CELL_POINTS
  )
  settings = list(itertools.product(config.periods, config.believed_variances))
  row = _first_columns(count, side, num_groups, 'side_variances')
  row['trials'] = config.trials
  for score, (setting, sent) in zip(
    scores, _chosen(keys, config, code, side, scores, settings)
  ):
    figures = distortion.of_trials(*sent).items()
    row |= {name: x for name, x in figures if score in name}
    row[f'{score}_period'], row[f'{score}_believed'] = setting
  return row


def _prepare_groups(config, seed):
  keys = gaussian.trial_keys(seed, 0)
  compute = functools.partial(_group_row, keys=keys, config=config)
  return _filled(_group_jobs(config), compute)


run_groups = Experiment(
  {
    'cases': _cases(Field(float, above=0)),
    'periods': _POSITIVE,
    'believed_variances': _POSITIVE,
    'selection_trials': _TRIALS,
    'trials': _TRIALS,
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
      *_OTHERS,
    ),
  ),
  {
    'groups.png': functools.partial(
      _plot,
      case='side_variances',
      curves={
        'mean_db': plots.Curve('mean of decibels', plots.BLUE, '-', 'o'),
        'mse_db': plots.Curve('mean squared error', plots.GREEN, '-', 's'),
      },
      others=('average_{}', 'worst_{}'),
      unit='distortion, dB',
    )
  },
)


def _binary_row(count, flips, num_groups, num_bits) -> dict:
  """The best bins."""
  size, errors = binary.best_bins(num_bits, count, num_groups, flips)
  row = _first_columns(count, flips, num_groups, 'flip_probabilities')
  return row | {'bin_size': size, **errors._asdict()}


def _prepare_binary_groups(config, seed):
  del seed  # nothing is drawn
  for count, _ in config.cases:  # refuses L and n that have no code
    binary.nested_words(config.num_bits, count, 1, 1)
  jobs = {
    name: (count, flips, num_groups)
    for name, (count, flips, num_groups) in _group_jobs(config).items()
    if num_groups & (num_groups - 1) == 0  # linear codes: powers of two
    and count * num_groups <= 2**config.num_bits
  }
  compute = functools.partial(_binary_row, num_bits=config.num_bits)
  return _filled(jobs, compute)


run_binary_groups = Experiment(
  {
    'num_bits': Field(int, least=1),
    'cases': _cases(Field(float, least=0, most=0.5)),
  },
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
      _plot,
      case='flip_probabilities',
      curves={'best': plots.Curve('best decoder', plots.BLUE, marker='o')},
      others=('mean', 'worst'),
      unit='share of wrong bits',
    )
  },
)


# Lattice: dimensions, known gain of its cells in dB, curve.
KNOWN = {
  'A2': (2, 0.17, plots.Curve('A2', plots.BLUE, marker='o')),
  'D4': (4, 0.37, plots.Curve('D4', plots.RED, marker='s')),
  'E8': (8, 0.65, plots.Curve('E8', plots.GREEN, marker='D')),
}


def _codes(num_decoders, lattice, bits, config) -> dict | None:
  """Z^D and a lattice, by the prefix of their columns; None without a code."""
  size = KNOWN[lattice][0]
  count = 2 ** (bits * size)
  if count != int(count):
    return None
  try:
    return {
      prefix: lattices.make_code(
        base, int(count), num_groups=num_decoders, size=size,
        num_points=config.cell_points,
      )
      for prefix, base in (('cubic_', 'Z'), ('', lattice))
    }  # fmt: skip
  except ValueError:  # no such sublattice
    return None


def _lattice_row(num_decoders, lattice, bits, keys, config) -> dict:
  """A lattice and Z^D on the same trials."""
  size, known, _ = KNOWN[lattice]
  codes = _codes(num_decoders, lattice, bits, config)
  side = np.full(num_decoders, config.side_variance, np.float32)
  believed = config.believed_variance if num_decoders > 1 else 1.0
  settings = [(period, believed) for period in config.periods]
  # So much less in each dimension that weights vary about as much.
  spread = tuple(1 + (x - 1) / size**0.5 for x in gaussian.SPREAD)
  row = {
    'num_decoders': num_decoders,
    'dimensions': size,
    'bits': bits,
    'lattice': lattice,
    'num_messages': codes[''].num_messages,
    'trials': config.trials,
  }
  best = []
  for prefix, code in codes.items():
    ((setting, sent),) = _chosen(
      keys, config, code, side, ('mse_db',), settings, spread
    )
    best.append(sent[0].min(1))
    row[f'{prefix}period'] = round(setting[0], 4)
    figures = distortion.of_trials(*sent).items()
    row |= {prefix + name: x for name, x in figures if 'mse_db' in name}
  row['ahead_db'], row['ahead_db_se'] = distortion.gain(*best)
  return row | {'known_db': known}


def _prepare_lattices(config, seed):
  """A row for each number of decoders, lattice and rate that it has."""
  jobs = {
    '/'.join(map(str, job)): job
    for job in itertools.product(
      config.num_decoders, config.lattices, config.bits
    )
    if _codes(*job, config)
  }
  keys = gaussian.trial_keys(seed, 0)
  compute = functools.partial(_lattice_row, keys=keys, config=config)
  return _filled(jobs, compute)


def _plot_lattices(rows: list[dict], path) -> None:
  """How far each lattice is ahead, against bits; dotted, of its cells alone."""
  with plots.panels(
    path,
    rows,
    'num_decoders',
    title=lambda row: f'K = {row["num_decoders"]}',
    labels=('bits per symbol', 'ahead of the cubic lattice, dB'),
  ) as panels:
    for axes, own in panels:
      for lattice, (_, known, curve) in KNOWN.items():
        if mine := [row for row in own if row['lattice'] == lattice]:
          curve.of_rows(axes, mine, 'bits', 'ahead_db', capsize=2)
          axes.axhline(known, color=curve.color, linestyle=':', lw=0.8)


run_lattices = Experiment(
  {
    'lattices': Field(str, among=tuple(KNOWN), many=True),
    'bits': _POSITIVE,
    'num_decoders': Field(int, least=1, many=True),
    'side_variance': Field(float, above=0),
    'periods': _POSITIVE,
    'believed_variance': Field(float, above=0),
    'cell_points': Field(int, least=1),
    'selection_trials': _TRIALS,
    'trials': _TRIALS,
  },
  _prepare_lattices,
  functools.partial(
    tables.as_text,
    columns=(
      Column('K', 'num_decoders'),
      Column('D', 'dimensions'),
      Column('bits', 'bits'),
      Column('lattice', 'lattice'),
      Column('Z^D, MSE dB', 'cubic_mse_db', '.2f'),
      Column('MSE dB', 'mse_db', '.2f'),
      *_OTHERS,
      Column('ahead, dB', 'ahead_db', '.2f'),
      Column('cells alone', 'known_db', '.2f'),
      Column('period', 'period'),
    ),
  ),
  {'lattices.png': _plot_lattices},
)
