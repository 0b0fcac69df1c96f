"""Groups of decoders on a binary source: between one for all and one for each.

A nested code of Reed and Muller serves K decoders behind binary symmetric
channels, L messages, G groups (`compression.binary`). Each (case, G) takes the
bins that are best for the best decoder. All figures are exact sums.

Legend: n bits, K decoders, L messages, G groups, B words of a bin.
"""

import functools

import numpy as np

from listcoupling import tables
from listcoupling.compression import binary
from listcoupling.config_fields import Field
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment
from listcoupling.tables import Column

FIELDS = {
  'num_bits': Field(int, least=1),
  'cases': Field(str, many=True),
}
COLUMNS = (
  Column('L', 'num_messages'),
  Column('p', 'flip_probabilities'),
  Column('G', 'num_groups'),
  Column('B', 'bin_size'),
  Column('best', 'best', '.4f'),
  Column('mean', 'mean', '.4f'),
  Column('worst', 'worst', '.4f'),
)


def parse(case: str) -> tuple[int, list[float]]:
  """L and the probabilities [K] of "4: .1 .1 .4 .5".

  Raises:
    ValueError: for anything else.

  Example:
    >>> parse('4: .1 .5')
    (4, [0.1, 0.5])
  """
  count, _, flips = case.partition(':')
  try:
    flips, count = [float(x) for x in flips.split()], int(count)
  except ValueError:
    count = 0
  if count < 1 or not flips or not all(0 <= p <= 0.5 for p in flips):
    raise ValueError(
      'config.cases must be like "4: .1 .1 .4 .5": messages, then for each '
      f'decoder how often its channel flips a bit, 0 to .5, got {case!r}.'
    )
  return count, flips


def _rows(num_bits: int, case: str, num_groups: int) -> list[dict]:
  """A row of the best bins; none where G groups have no words for them."""
  count, flips = parse(case)
  sizes = [
    2**b
    for b in range(num_bits + 1)
    if (count * num_groups) << b <= 2**num_bits
  ]
  found = []
  for size in sizes:
    words = binary.nested_words(num_bits, count, num_groups, size)
    found.append((binary.errors(words, flips, num_bits), size))
  if not found:
    return []
  errors, size = min(found)
  row = {
    'num_messages': count,
    'flip_probabilities': ' '.join(f'{p:g}' for p in flips),
    'num_decoders': len(flips),
    'num_groups': num_groups,
    'bin_size': size,
    **errors._asdict(),
  }
  return [row]


def _prepare(config, seed):
  """One row for each case and each G that divides K and is a power of two."""
  del seed  # nothing is drawn
  sizes = {case: len(parse(case)[1]) for case in config.cases}
  for case in config.cases:
    binary.nested_words(config.num_bits, parse(case)[0], 1, 1)  # refuses them

  def fill(run):
    work = [
      (f'{case}/{num_groups}', (case, num_groups))
      for case, size in sizes.items()
      for num_groups in range(1, size + 1)
      if size % num_groups == 0 and num_groups & (num_groups - 1) == 0
    ]
    return run.results(work, lambda job: _rows(config.num_bits, *job))

  return {}, fill


def plot(rows: list[dict], path) -> None:
  """Error of the best decoder against G, a panel for each case."""
  cases = [(r['num_messages'], r['flip_probabilities']) for r in rows]
  different = list(dict.fromkeys(cases))
  width = min(4, len(different))
  height = -(-len(different) // width)
  with plots.figure(path, size=(2.4 * width, 2.2 * height)) as canvas:
    axes = canvas.subplots(height, width, squeeze=False)
    for ax in axes.flat[len(different) :]:
      ax.set_visible(False)
    for ax, (count, flips) in zip(axes.flat, different):
      here = [r for r, own in zip(rows, cases) if own == (count, flips)]
      groups, best = zip(*((r['num_groups'], r['best']) for r in here))
      plots.Curve('best decoder', plots.BLUE, marker='o').draw(ax, groups, best)
      least = int(np.argmin(best))
      ax.plot(groups[least], best[least], 'o', ms=9, mfc='none', c=plots.RED)
      ax.set_xscale('log', base=2)
      ax.set_xticks(groups, groups)
      ax.minorticks_off()
      short = flips.replace('0.', '.')
      ax.set_title(f'{count} messages, p = {short}', fontsize=7)
    for ax in axes[:, 0]:
      ax.set_ylabel('share of wrong bits')
    canvas.supxlabel('groups; the best is ringed', fontsize=9)


TABLE = Experiment(
  FIELDS,
  _prepare,
  functools.partial(tables.as_text, columns=COLUMNS),
  {'groups.png': plot},
)
