"""Rows of the Gaussian tables: from sums to figures, and the text of them.

Beside the figures of Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5,
stand the paper's own and the limits on the mean squared error.
"""

import itertools

import numpy as np

from listcoupling.compression import gaussian_baselines
from listcoupling.experiments import gaussian_jobs, gaussian_sums, results

# arXiv 2506.05632, distortion in dB as the mean of decibels: (scheme, K, L).
PAPER_DB = {
  **{
    ('gls', 1, 2**i): db
    for i, db in enumerate((-9.70, -12.75, -16.01, -19.55, -23.40, -27.35), 1)
  },
  **{
    ('gls', 2, 2**i): db
    for i, db in enumerate((-15.21, -18.34, -21.70, -25.39, -28.86, -31.47), 1)
  },
  **{
    ('shared_race', 2, 2**i): db
    for i, db in enumerate((-12.51, -15.99, -19.48, -23.15, -27.20, -30.78), 1)
  },
  ('no_message', 1, 1): -10.28,
  ('no_message', 2, 1): -15.19,
}


def _row(scheme, num_decoders, num_messages, sums, jobs=()) -> dict:
  """One row from the sums [SIZE] and the choices of every repeat."""
  each = [gaussian_sums.figures(x) for x in sums]
  row = {
    'scheme': scheme,
    'num_decoders': num_decoders,
    'num_messages': num_messages,
    'repeats': len(sums),
    'trials': int(sum(x[0] for x in sums)),
    **gaussian_sums.figures(np.sum(sums, 0)),
    'paper_mean_db': PAPER_DB.get((scheme, num_decoders, num_messages)),
  }
  if scheme != 'gls':  # Proposition 4 is about this scheme alone
    row.pop('error_bound', None)
  if len(each) > 1:
    for name in ('mean_db', 'mse_db'):
      spread = np.std([x[name] for x in each], ddof=1)
      row[f'{name}_spread'] = float(spread)
  n = num_decoders - 1
  show = ' '.join
  if jobs and not scheme.startswith('modulo'):
    row['test_variance'] = show(f'{j.test_variance[n]:g}' for j in jobs)
  if jobs and jobs[0].kind in ('interval', 'modulo'):
    row['width'] = show(f'{j.period[n] / num_messages:.4g}' for j in jobs)
  return results.plain(row)


def _limit_rows(config) -> list[dict]:
  rows = []
  for n, count in itertools.product(config.num_decoders, config.num_messages):
    mse = gaussian_baselines.list_mse_limit(count, n, config.side_variance)
    found = {'limit_list': mse}
    if n == 1:
      found['limit_wyner_ziv'] = gaussian_baselines.wyner_ziv_mse(
        count, config.side_variance
      )
    rows += [
      {
        'scheme': name,
        'num_decoders': n,
        'num_messages': count,
        'mse_db': float(10 * np.log10(mse)),
      }
      for name, mse in found.items()
    ]
  return rows


def make_rows(config, repeats, no_message=()) -> list[dict]:
  """Rows of the table.

  Args:
    config: see configs/gaussian.py.
    repeats: of each, what `gaussian_stages.run_repeat` returns.
    no_message: of each, what `gaussian_stages.no_message` returns; no such
      row without.

  Returns:
    One dictionary per (scheme, n, L), the columns of results.csv.
  """
  rows = []
  for n in config.num_decoders:
    if no_message:
      rows.append(_row('no_message', n, 1, [x[n] for x in no_message]))
    for count, scheme in itertools.product(config.num_messages, config.schemes):
      place = scheme, count
      if not repeats or place not in repeats[0][0]:
        continue
      if scheme == 'shared_race' and n == 1:
        continue  # the same as gls
      sums = [found[place][n - 1] for _, found in repeats]
      jobs = [chosen[place] for chosen, _ in repeats]
      rows.append(_row(scheme, n, count, sums, jobs))
  if 'limit' in config.schemes:
    rows += _limit_rows(config)
  return rows


def _number(row, name, width: int, digits: int) -> str:
  value = row.get(name)
  return f'{"" if value is None else f"{value:.{digits}f}":>{width}}'


def _with_error(row, name) -> str:
  if row.get(name) is None:
    return ' ' * 15
  error = row.get(f'{name}_se')
  error = ' ' * 7 if error is None else f'+-{error:5.3f}'
  return f'{_number(row, name, 7, 2)} {error}'


def as_text(rows) -> str:
  """The table for a terminal."""
  lines = [
    f'{"scheme":15} {"K":>2} {"L":>3} {"mean dB":>15} {"paper":>7} '
    f'{"MSE dB":>15} {"P[error]":>8} {"Prop. 4":>7}  v, width'
  ]
  for row in rows:
    parts = (
      f'{row["scheme"]:15} {row["num_decoders"]:2} {row["num_messages"]:3}',
      _with_error(row, 'mean_db'),
      _number(row, 'paper_mean_db', 7, 2),
      _with_error(row, 'mse_db'),
      _number(row, 'error_rate', 8, 3),
      _number(row, 'error_bound', 7, 3),
      f' {row.get("test_variance", "")} {row.get("width", "")}',
    )
    lines.append(' '.join(parts).rstrip())
  return '\n'.join(lines + _verdict(rows))


def _verdict(rows) -> list[str]:
  """Where the mean squared error stays below that of no message."""
  table = {
    (r['scheme'], r['num_decoders'], r['num_messages']): r['mse_db']
    for r in rows
  }
  lines = []
  for scheme in gaussian_jobs.RACES:
    cells = [place for place in table if place[0] == scheme and place[2] >= 4]
    cells = [p for p in cells if ('no_message', p[1], 1) in table]
    if cells:
      below = [p for p in cells if table[p] < table['no_message', p[1], 1]]
      lines.append(
        f'{scheme}: MSE below no message in {len(below)} of {len(cells)} cells '
        'of at least 2 bits'
      )
  return lines
