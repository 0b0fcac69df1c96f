"""Table, checks and figure of `experiments.next_token`."""

import os

import numpy as np

from listcoupling.experiments import plots

COUPLINGS = ('gumbel', 'minhash')
# Exact values are float32 sums of up to 1e5 terms.
ROUNDING = 2e-6
_EDGES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
_COLUMNS = (
  'total_variation',
  'lower_bound',
  'minhash_exact',
  'minhash',
  'gumbel_exact',
  'gumbel',
  'optimum',
)


def _column(rows, name) -> np.ndarray:
  return np.array([row[name] for row in rows], np.float64)


def _z_scores(rows, name: str, repetitions: int) -> np.ndarray:
  """Sampled minus exact, in standard errors of the exact value; 0 / 0 = 0."""
  exact = np.clip(_column(rows, f'{name}_exact'), 0, 1)
  # Half a repetition: where the exact value is 1, one miss must show.
  variance = np.maximum(exact * (1 - exact), 0.25 / repetitions)
  difference = _column(rows, name) - exact
  return difference / np.sqrt(variance / repetitions)


def summary(rows: list[dict], repetitions: int) -> dict:
  """What the table says as a whole.

  Args:
    rows: of `next_token.run`.
    repetitions: of each sampled rate.

  Returns:
    dict of `mean` and `standard_error` over positions of every column;
    `positions`; `pareto`, the positions where Gumbel matches at least as often
    as Weighted MinHash (exact values, up to rounding), and `smallest_gain`;
    `above_bound`, the positions where both exact values respect
    (1 - TV) / (1 + TV) and 1 - TV; `largest_z` and `root_mean_square_z`,
    sampled against exact in standard errors.
  """
  gain = _column(rows, 'gumbel_exact') - _column(rows, 'minhash_exact')
  inside = [
    (_column(rows, f'{name}_exact') >= _column(rows, 'lower_bound') - ROUNDING)
    & (_column(rows, f'{name}_exact') <= _column(rows, 'optimum') + ROUNDING)
    for name in COUPLINGS
  ]
  scores = np.stack([_z_scores(rows, n, repetitions) for n in COUPLINGS])
  columns = {name: _column(rows, name) for name in _COLUMNS}
  root = np.sqrt(len(rows))
  return {
    'positions': len(rows),
    'mean': {name: c.mean() for name, c in columns.items()},
    'standard_error': {n: c.std(ddof=1) / root for n, c in columns.items()},
    'pareto': int(np.sum(gain >= -ROUNDING)),
    'smallest_gain': gain.min(),
    'above_bound': int(np.sum(inside[0] & inside[1])),
    'largest_z': np.abs(scores).max(),
    'root_mean_square_z': np.sqrt(np.mean(scores**2)),
  }


def _line(label: str, rows: list[dict]) -> str:
  cells = (f'{_column(rows, name).mean():10.4f}' for name in _COLUMNS)
  return f'{label:<12}{len(rows):>4}' + ''.join(cells)


def as_text(rows: list[dict], repetitions: int) -> str:
  """Means by total variation, and the checks, as aligned text."""
  found = summary(rows, repetitions)
  names = 'TV,bound,MinHash,sampled,Gumbel,sampled,1 - TV'.split(',')
  head = f'{"TV":<12}{"n":>4}' + ''.join(f'{name:>10}' for name in names)
  lines = [head]
  distance = _column(rows, 'total_variation')
  for low, high in zip(_EDGES, _EDGES[1:]):
    last = high == _EDGES[-1]
    chosen = (distance >= low) & ((distance < high) | last)
    part = [row for row, take in zip(rows, chosen) if take]
    if part:
      lines.append(_line(f'{low:.1f} to {high:.1f}', part))
  lines.append(_line('all', rows))
  errors = (f'{found["standard_error"][name]:10.4f}' for name in _COLUMNS)
  lines.append(f'{"  ± over n":<16}' + ''.join(errors))
  total = found['positions']
  lines += [
    f'Gumbel >= Weighted MinHash (exact values) at {found["pareto"]} of '
    f'{total} positions; smallest difference {found["smallest_gain"]:.1e}, '
    f'rounding {ROUNDING:.0e}',
    f'both within (1 - TV) / (1 + TV) and 1 - TV at {found["above_bound"]} of '
    f'{total} positions',
    f'sampled against exact, {repetitions} repetitions: largest |z| '
    f'{found["largest_z"]:.2f}, root mean square '
    f'{found["root_mean_square_z"]:.2f}',
  ]
  return '\n'.join(lines)


def plot(rows: list[dict], path: str | os.PathLike) -> None:
  """Match rate against total variation, one point per position.

  Args:
    rows: of `next_token.run`.
    path: of the PNG.
  """
  distance = _column(rows, 'total_variation')
  grid = np.linspace(0, 1, 201)
  styles = (
    ('gumbel', 'Gumbel', plots.RED, 'o'),
    ('minhash', 'Weighted MinHash', plots.BLUE, 's'),
  )
  with plots.figure(path, size=(5.6, 4.2)) as canvas:
    axes = canvas.add_subplot()
    axes.plot(grid, 1 - grid, color=plots.BLACK, label='optimum, $1 - TV$')
    axes.plot(
      grid,
      (1 - grid) / (1 + grid),
      color=plots.BLACK,
      linestyle='--',
      label='bound, $(1 - TV)/(1 + TV)$',
    )
    for name, label, color, marker in styles:
      axes.errorbar(
        distance,
        _column(rows, name),
        yerr=_column(rows, f'{name}_se'),
        linestyle='none',
        marker=marker,
        markerfacecolor='none',
        markeredgewidth=0.9,
        elinewidth=0.8,
        color=color,
        label=f'{label}, sampled',
      )
      axes.plot(
        distance,
        _column(rows, f'{name}_exact'),
        linestyle='none',
        marker='.',
        markersize=2.5,
        color=color,
        label=f'{label}, exact',
      )
    axes.set_xlabel('total variation $TV$ of drafter and target')
    axes.set_ylabel('probability that the tokens match')
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.legend(loc='lower left')
