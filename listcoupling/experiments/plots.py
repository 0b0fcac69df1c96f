"""One style of the figures.

Figures are drawn without pyplot, so that importing this sets no global state
and needs no display.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from listcoupling import files

# Okabe and Ito's palette, told apart with any colour vision.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK = (
  '#000000',
  '#E69F00',
  '#56B4E9',
  '#009E73',
  '#0072B2',
  '#D55E00',
  '#CC79A7',
)
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
  'legend.frameon': False,
  'savefig.dpi': 200,
}


@contextlib.contextmanager
def figure(path: str | os.PathLike, size=(5.2, 3.6), *, print_too=True):
  """Yields a `Figure` in the shared style; writes it to `path` at the end.

  Args:
    path: PNG (or any format matplotlib knows), replaced in one step.
    size: width and height in inches.
    print_too: whether a PDF for print is written beside it.
  """
  paths = [pathlib.Path(path)]
  if print_too:
    paths.append(paths[0].with_suffix('.pdf'))
  with matplotlib.rc_context(STYLE):
    canvas = Figure(figsize=size, layout='constrained')
    yield canvas
    for each in paths:
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

  def draw(self, axes, x, y, error=None, **changes) -> None:
    """Draws points (x, y) with bars of `error`, None where it is unknown."""
    if error is not None:
      error = [each or 0.0 for each in error]
    style = dict(
      label=self.label,
      color=self.color,
      linestyle=self.line or 'none',
      marker=self.marker,
    )
    axes.errorbar(x, y, error, **style | changes)

  def of_rows(self, axes, rows, x: str, y: str, **changes) -> None:
    """Draws column y of rows, with its standard error, against column x."""
    errors = [row.get(f'{y}_se') for row in rows]
    values = [row[y] for row in rows]
    self.draw(axes, [row[x] for row in rows], values, errors, **changes)


@contextlib.contextmanager
def panels(
  path: str | os.PathLike,
  rows: Sequence[Mapping[str, Any]],
  across: str,
  *,
  down: str | None = None,
  title: Callable[[Mapping[str, Any]], str],
  labels: tuple[str, str],
  size=(2.7, 2.8),
  sharey=True,
) -> Iterator[list[tuple]]:
  """A figure of panels, one for each value of a column, with one legend.

  Args:
    path: see `figure`.
    rows: of a table.
    across: column whose values stand side by side.
    down: column whose values stand one below the other.
    title: of a panel, from its first row.
    labels: of the axes x and y.
    size: of a panel, in inches.
    sharey: whether all panels have one scale.

  Yields:
    Pairs of axes and the rows that they show.
  """
  cells = {}
  for row in rows:
    cells.setdefault((row[down] if down else 0, row[across]), []).append(row)
  lines, columns = (list(dict.fromkeys(part)) for part in zip(*cells))
  whole = 2.0 + size[0] * len(columns), 0.4 + size[1] * len(lines)
  with figure(path, whole) as canvas:
    grid = canvas.subplots(
      len(lines), len(columns), squeeze=False, sharey=sharey
    )
    places = {
      (line, column): grid[lines.index(line)][columns.index(column)]
      for line, column in cells
    }
    for cell, axes in places.items():
      axes.set_title(title(cells[cell][0]))
    for axes in set(grid.flat) - set(places.values()):
      axes.set_visible(False)
    for axes in grid[-1]:
      axes.set_xlabel(labels[0])
    for axes in grid[:, 0]:
      axes.set_ylabel(labels[1])
    yield [(axes, cells[cell]) for cell, axes in places.items()]
    legend(canvas)


def legend(canvas) -> None:
  """One legend of all axes, to their right."""
  handles = {}
  for axes in canvas.axes:
    handles |= dict(zip(*reversed(axes.get_legend_handles_labels())))
  if handles:
    canvas.legend(handles.values(), handles.keys(), loc='outside right center')
