"""One style of the figures.

Figures are drawn without pyplot, so that importing this sets no global state
and needs no display.
"""

import contextlib
import os
import pathlib
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
