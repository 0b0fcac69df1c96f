"""Plots of the experiments: one style, one function per figure.

Figures are drawn without pyplot, so that importing this sets no global state
and needs no display.
"""

import contextlib
import os

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
def figure(path: str | os.PathLike, size=(5.2, 3.6)):
  """Yields a `Figure` in the shared style; writes it to `path` at the end.

  Args:
    path: PNG (or any format matplotlib knows), replaced in one step.
    size: width and height in inches.
  """
  with matplotlib.rc_context(STYLE):
    canvas = Figure(figsize=size, layout='constrained')
    yield canvas
    with files.replacing(path) as new:
      canvas.savefig(new)


# name: label, colour, line, marker. Lines are computed, markers sampled.
_TOY = {
  'optimum_without_replacement': (
    'optimum, without replacement',
    BLACK,
    (0, (1, 1.5)),
    None,
  ),
  'optimum': ('optimum, iid drafts', BLACK, '-', None),
  'shared_race': ('shared-race list', GREEN, '-', 's'),
  'spectr': ('SpecTr', SKY, 'none', '^'),
  'specinfer': ('SpecInfer', ORANGE, 'none', 'v'),
  'gls': ('GLS, sampled', RED, 'none', 'o'),
  'gls_exact': ('GLS, exact', RED, '-', None),
  'gls_bound': ('GLS, Theorem 1', RED, '--', None),
}


def toy(rows: list[dict], path: str | os.PathLike) -> None:
  """Mean acceptance against the number of drafts K, see `toy.run`."""
  counts = [row['num_drafts'] for row in rows]
  with figure(path, size=(6.4, 3.8)) as canvas:
    axes = canvas.add_subplot()
    for name, (label, color, line, marker) in _TOY.items():
      values = [row[name] for row in rows]
      axes.plot(
        counts,
        values,
        color=color,
        linestyle=line,
        marker=marker,
        markerfacecolor='white' if name == 'gls' else color,
        label=label,
        zorder=3 if marker else 2,
      )
    exact = [row['gls_exact'] for row in rows]
    error = [row['gls_exact_se'] for row in rows]
    axes.fill_between(
      counts,
      [a - b for a, b in zip(exact, error, strict=True)],
      [a + b for a, b in zip(exact, error, strict=True)],
      color=RED,
      alpha=0.15,
      linewidth=0,
    )
    axes.set_xlabel('number of drafts $K$')
    axes.set_ylabel('mean acceptance probability')
    axes.set_xlim(min(counts) - 0.4, max(counts) + 0.4)
    axes.set_xticks(_ticks(counts))
    axes.set_ylim(top=1.01)
    axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))


def block_efficiency(rows: list[dict], path: str | os.PathLike) -> None:
  """Bars of tokens per target call, one per method, with standard errors.

  Args:
    rows: of `decoding.comparison.compare_methods`.
    path: of the PNG.
  """
  with figure(path, size=(5.2, 0.9 + 0.3 * len(rows))) as canvas:
    axes = canvas.subplots()
    axes.grid(axis='y', visible=False)
    names = [row['method'] for row in rows][::-1]
    means = [row['block_efficiency'] for row in rows][::-1]
    errors = [row['block_efficiency_se'] or 0.0 for row in rows][::-1]
    axes.barh(names, means, xerr=errors, color=SKY, height=0.62)
    for place, (mean, error) in enumerate(zip(means, errors)):
      axes.text(mean + error + 0.03, place, f'{mean:.2f}', va='center')
    axes.set_xlabel('tokens per target call')
    axes.set_xlim(0, max(m + e for m, e in zip(means, errors)) * 1.15)
    axes.set_title('Block efficiency on the shipped pair')


def _ticks(counts):
  """The first count and multiples of five, or all if there are few."""
  if len(counts) <= 8:
    return counts
  return [k for k in counts if k == counts[0] or k % 5 == 0]
