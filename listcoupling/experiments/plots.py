"""One style of the figures.

Figures are drawn without pyplot, so that importing this sets no global state
and needs no display.
"""

import contextlib
import os
import pathlib
from typing import Any, NamedTuple

import matplotlib
import numpy as np
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
_LABEL = 7.5  # size of the names at the ends of curves, points


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
      with files.replacing(each) as new:
        canvas.savefig(new)


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


def beside(axes) -> None:
  """The legend, to the right of the axes."""
  axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))


def name_curves(axes) -> None:
  """Names every curve at its end, in its colour, in place of a legend.

  Names that would lie on each other move apart; a thin line leads to each.
  """
  handles = dict(zip(*axes.get_legend_handles_labels()[::-1]))
  lines = {name: getattr(x, 'lines', [x])[0] for name, x in handles.items()}
  ends = {name: _end(line) for name, line in lines.items()}
  ends = {name: end for name, end in ends.items() if end is not None}
  if not ends:
    return
  inside = axes.transAxes.inverted()
  places = [
    inside.transform(lines[name].get_transform().transform(end))[1]
    for name, end in ends.items()
  ]
  height = axes.get_window_extent().height * 72 / axes.figure.dpi  # points
  for (name, end), place in zip(
    ends.items(), spread(np.clip(places, 0, 1), 1.2 * _LABEL / height)
  ):
    color = lines[name].get_color()
    axes.annotate(
      name, end, (1.06, place), lines[name].get_transform(), axes.transAxes,
      color=color, fontsize=_LABEL, va='center', annotation_clip=False,
      arrowprops=dict(
        arrowstyle='-', color=color, lw=0.5, alpha=0.5, shrinkA=0, shrinkB=2
      ),
    )  # fmt: skip


def _end(line):
  """The last finite point of a line, or None."""
  points = np.asarray(line.get_xydata(), float)
  finite = points[np.isfinite(points).all(1)]
  return tuple(finite[-1]) if len(finite) else None


def spread(places, gap: float) -> np.ndarray:
  """Places moved apart to at least `gap`, as little as that takes.

  Args:
    places: [n] numbers.
    gap: least distance between two.

  Returns:
    [n], least squares from `places` in their order.

  Example:
    >>> spread([0.5, 0.5, 3.0], 1.0).tolist()
    [0.0, 1.0, 3.0]
  """
  places = np.asarray(places, float)
  order = np.argsort(places, kind='stable')
  steps = gap * np.arange(len(places))
  blocks = []  # (mean, size): what is too close moves as one
  for value in places[order] - steps:
    blocks.append((value, 1))
    while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
      (a, m), (b, n) = blocks[-2:]
      blocks[-2:] = [((a * m + b * n) / (m + n), m + n)]
  found = np.empty_like(places)
  found[order] = np.repeat(*zip(*blocks)) + steps if blocks else []
  return found
