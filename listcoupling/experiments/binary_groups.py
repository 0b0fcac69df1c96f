"""Groups of decoders on a binary source: between one for all and one for each.

A nested code of Reed and Muller serves K decoders behind binary symmetric
channels, L messages, G groups (`compression.binary`). Each (case, G) takes the
bins that are best for the best decoder. All figures are exact sums.

Legend: n bits, K decoders, L messages, G groups, B words of a bin.
"""

import functools
import itertools

from listcoupling import tables
from listcoupling.compression import binary
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment, Field
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


def _row(num_bits: int, case: str, num_groups: int) -> dict | None:
  """The best bins of G groups; None where there are no words for them."""
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
    return None
  errors, size = min(found)
  return {
    'num_messages': count,
    'flip_probabilities': ' '.join(f'{p:g}' for p in flips),
    'num_decoders': len(flips),
    'num_groups': num_groups,
    'bin_size': size,
    **errors._asdict(),
  }


def _prepare(config, seed):
  """One row for each case and each G that divides K and is a power of two."""
  del seed  # nothing is drawn
  sizes = {case: len(parse(case)[1]) for case in config.cases}
  for case in config.cases:
    binary.nested_words(config.num_bits, parse(case)[0], 1, 1)  # refuses them

  def fill(run):
    rows = []
    for case, size in sizes.items():
      for num_groups in (g for g in range(1, size + 1) if size % g == 0):
        if num_groups & (num_groups - 1) == 0:
          rows += filter(None, [_row(config.num_bits, case, num_groups)])
      run.write(rows)
    return rows

  return {}, fill


def plot(rows: list[dict], path) -> None:
  """Error of the best decoder over that of G = 1, a curve for each case."""
  colors = itertools.cycle(
    (plots.RED, plots.BLUE, plots.GREEN, plots.PINK, plots.ORANGE, plots.BLACK)
  )
  with plots.figure(path, size=(7.0, 3.8)) as canvas:
    ax = canvas.subplots()
    cases = [(r['num_messages'], r['flip_probabilities']) for r in rows]
    for (count, flips), color in zip(dict.fromkeys(cases), colors):
      here = [r for r, own in zip(rows, cases) if own == (count, flips)]
      groups = [r['num_groups'] for r in here]
      share = [r['best'] / here[0]['best'] for r in here]
      label = f'L = {count}, p = {flips}'
      plots.Curve(label, color, marker='o').draw(ax, groups, share)
      ax.annotate(
        label, (groups[-1], share[-1]), (6, 0), textcoords='offset points',
        color=color, va='center', annotation_clip=False,
      )  # fmt: skip
    ax.axhline(1, color='0.5', linewidth=0.8)
    ax.set_xscale('log', base=2)
    ax.set_xticks(ticks := sorted({r['num_groups'] for r in rows}), ticks)
    ax.set_xlabel('groups')
    ax.set_ylabel('wrong bits of the best decoder, over those of one group')


TABLE = Experiment(
  FIELDS,
  _prepare,
  functools.partial(tables.as_text, columns=COLUMNS),
  {'groups.png': plot},
)
