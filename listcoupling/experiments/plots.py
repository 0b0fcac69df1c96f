"""One style of the figures.

Figures are drawn without pyplot, so that importing this sets no global state
and needs no display.
"""

import contextlib
import io
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from listcoupling import files

# Okabe and Ito's palette, told apart with any colour vision.
BLACK, ORANGE, SKY, GREEN = '#000000', '#E69F00', '#56B4E9', '#009E73'
BLUE, RED, PINK = '#0072B2', '#D55E00', '#CC79A7'
INDIGO = '#332288'  # of Tol's palette, for a curve more
STYLE = {
  'font.size': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.color': '0.9',
  'grid.linewidth': 0.6,
  'axes.axisbelow': True,
  'lines.linewidth': 1.4,
  'lines.markersize': 4,
  'legend.fontsize': 8,
  'legend.frameon': False,
  'legend.handlelength': 3,  # shows dashes
  'savefig.dpi': 200,
}


@contextlib.contextmanager
def figure(path: str | os.PathLike, size=(5.2, 3.6)):
  """Yields a `Figure` in the shared style; writes it at the end.

  Args:
    path: PNG (or any format matplotlib knows), replaced in one step; the same
      figure as PDF lies beside it.
    size: width and height in inches.
  """
  with matplotlib.rc_context(STYLE):
    canvas = Figure(figsize=size, layout='constrained')
    yield canvas
    write(canvas, path)


def write(canvas: Figure, path: str | os.PathLike) -> None:
  """Writes a figure to `path`, PNG or the like, and as PDF beside it."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  for each in (path, path.with_suffix('.pdf')):
    drawn = io.BytesIO()  # a writer of PDF hides what a full disk says
    canvas.savefig(drawn, format=each.suffix[1:])
    with files.replacing(each) as new:
      new.write_bytes(drawn.getvalue())


class Curve(NamedTuple):
  """How one curve is drawn; no line or no marker is None."""

  label: str
  color: str
  line: Any = '-'
  marker: str | None = None
  hollow: bool = False  # the marker

  def of_rows(
    self, axes, rows, x: str, y: str, *, errors: float = 1, **changes
  ) -> None:
    """Draws column y of rows against x, bars of so many standard errors."""
    style = dict(
      label=self.label,
      color=self.color,
      linestyle=self.line or 'none',
      marker=self.marker,
    )
    if self.hollow:
      style['markerfacecolor'] = 'white'
    axes.errorbar(
      [row[x] for row in rows],
      [row[y] for row in rows],
      [errors * (row.get(f'{y}_se') or 0) for row in rows],
      **style | changes,
    )

  def others(self, axes, rows, x: str, mean: str, worst: str) -> None:
    """Draws thin lines of the columns of the mean and of the worst decoder."""
    for name, line in ((mean, ':'), (worst, '--')):
      values = [row[name] for row in rows]
      at = [row[x] for row in rows]
      axes.plot(at, values, ls=line, lw=0.8, color=self.color)


@contextlib.contextmanager
def panels(
  path: str | os.PathLike,
  rows: Sequence[Mapping[str, Any]],
  across: str | None,
  *,
  down: str | None = None,
  title: Callable[[Mapping[str, Any]], str] = lambda row: '',
  labels: tuple[str, str],
  size=(2.7, 2.8),
  sharey=True,
) -> Iterator[list[tuple]]:
  """A figure of panels, one for each value of a column.

  One legend beside them has each name once.

  Args:
    path: see `figure`.
    rows: of a table.
    across: column whose values stand side by side; None: one panel.
    down: column whose values stand one below the other.
    title: of a panel, from its first row.
    labels: of the axes x and y.
    size: of a panel, in inches.
    sharey: whether all panels have one scale.

  Yields:
    Pairs of axes and the rows that they show.
  """
  groups = {}
  for row in rows:
    place = tuple(
      None if name is None else row[name] for name in (down, across)
    )
    groups.setdefault(place, []).append(row)
  lines, columns = (list(dict.fromkeys(part)) for part in zip(*groups))
  whole = 2.0 + size[0] * len(columns), 0.4 + size[1] * len(lines)
  with figure(path, whole) as canvas:
    grid = canvas.subplots(
      len(lines), len(columns), squeeze=False, sharey=sharey
    )
    shown = []
    for axes, place in zip(grid.flat, itertools.product(lines, columns)):
      own = groups.get(place)
      axes.set_visible(own is not None)
      if own:
        axes.set_title(title(own[0]))
        shown.append((axes, own))
    for axes in grid[-1]:
      axes.set_xlabel(labels[0])
    for axes in grid[:, 0]:
      axes.set_ylabel(labels[1])
    yield shown
    _name_curves(canvas, shown)


def _name_curves(canvas: Figure, shown: Sequence[tuple]) -> None:
  """One legend beside all panels: each name once, as it was first drawn."""
  named = {}
  for axes, _ in shown:
    handles, labels = axes.get_legend_handles_labels()
    # Lines without their bars, which hide the markers; matplotlib lists curves
    # with bars behind all others.
    lines = [getattr(each, 'lines', [each])[0] for each in handles]
    places = map(axes.get_children().index, lines)
    for _, name, line in sorted(zip(places, labels, lines)):
      named.setdefault(name, line)
  if named:
    canvas.legend(list(named.values()), list(named), loc='outside right upper')


def columns(
  rows: Sequence[Mapping[str, Any]],
  path: str | os.PathLike,
  *,
  x: str,
  curves: Mapping[str, Curve],
  across: str | None = None,
  doubling: bool = False,
  **how: Any,
) -> None:
  """Draws columns of a table against another one, with standard errors.

  Args:
    rows: of the table.
    path: see `figure`.
    x: column; whole numbers have a tick each, from nine on the first and every
      fifth.
    curves: by column, those that the rows have are drawn.
    across: see `panels`.
    doubling: x is a scale of powers of two, with ticks at them, and the curves
      stand a little apart, so that their bars do.
    **how: see `panels`.
  """
  with panels(path, rows, across, **how) as shown:
    for axes, own in shown:
      drawn = [name for name in curves if name in own[0]]
      each = _apart(own, x, len(drawn)) if doubling else [own] * len(drawn)
      for name, moved in zip(drawn, each):
        curves[name].of_rows(axes, moved, x, name)
      at = [row[x] for row in own]
      if doubling:
        axes.set_xscale('log', base=2)
        axes.set_xticks([n for n in at if n & (n - 1) == 0] or at)
        axes.xaxis.set_major_formatter('{x:.0f}')
      elif all(isinstance(value, int) for value in at):
        few = len(at) <= 8
        axes.set_xticks([n for n in at if few or n == at[0] or n % 5 == 0])


def _apart(rows, x: str, count: int) -> Iterator[list[dict]]:
  """Rows for each of `count` curves, x moved by less than the gaps in it."""
  gap = np.diff(np.log2(sorted({row[x] for row in rows}))).min(initial=1)
  step = min(0.03, 0.7 * gap / count)  # octaves
  for place in range(count):
    factor = 2 ** (step * (place - (count - 1) / 2))
    yield [row | {x: row[x] * factor} for row in rows]
