"""Tables of the Gaussian source: Rowan, Phan, Khisti (2025), section 5.

Every (scheme, K, L) has its variance v of the test channel (and its width of
intervals) chosen on selection trials and is then evaluated on trials of
another key, so that the best of many is not reported by its luck. Trials of
one key share source, side information, candidates and races across settings.
The races are simulated in law by their first arrivals (`compression.arrivals`)
or, with `exact_codec`, by the codec itself on all N candidates.

Rows: no message; gls (the paper); shared_race (its baseline); the same races
with interval labels, width and v chosen for mean-dB (`interval`) or for the
mean squared error (`interval_mse`); a decoder that knows the encoder's cells
(`seed_aware`); a dithered modulo quantiser, chosen for either (`modulo`,
`modulo_mse`); and limits on the mean squared error.
"""

import itertools
import pathlib

import jax
import numpy as np
import tqdm

from listcoupling.compression import arrivals, gaussian, gaussian_rivals
from listcoupling.experiments import (
  gaussian_plots,
  gaussian_stages,
  gaussian_sums,
  results,
  resume,
)

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
SCHEMES = (
  'no_message',
  *gaussian_stages.RACES,
  *gaussian_stages.RIVALS,
  'limit',
)


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  lists = ('num_decoders', 'num_messages', 'test_variances')
  for name in (*lists, 'interval_variances', 'periods'):
    if not len(config[name]) or min(config[name]) <= 0:
      raise ValueError(f'{name} must hold positive values, got {config[name]}.')
  for name in ('num_candidates', 'selection_trials', 'trials', 'chunk'):
    if config[name] < 2:
      raise ValueError(f'{name} must be at least 2, got {config[name]}.')
  if config.seed_aware_trials < 2 or config.repeats < 1:
    raise ValueError(
      'seed_aware_trials must be at least 2 and repeats at least 1, got '
      f'{config.seed_aware_trials} and {config.repeats}.'
    )
  if not 0 < config.side_variance:
    raise ValueError(
      f'side_variance must be positive, got {config.side_variance}.'
    )
  unknown = set(config.schemes) - set(SCHEMES)
  if unknown:
    raise ValueError(f'schemes must be among {SCHEMES}, got {sorted(unknown)}.')
  if not config.exact_codec and config.num_candidates % arrivals.BLOCK:
    raise ValueError(
      f'num_candidates must be a multiple of {arrivals.BLOCK} unless '
      f'exact_codec, got {config.num_candidates}.'
    )


def decibels(squared_error) -> dict[str, float]:
  """Both readings of distortion in dB, with standard errors.

  Args:
    squared_error: [R], more than one.

  Returns:
    mean_db, mean_db_se, mse_db, mse_db_se; see `gaussian_sums.figures`.

  Example:
    >>> round(decibels(np.array([.1, .1]))["mse_db"], 6)
    -10.0
  """
  error = np.asarray(squared_error)
  return gaussian_sums.figures(
    gaussian_sums.moments(error[:, None, None])[0, 0]
  )


def _repeat(config, workdir, seed, repeat, progress):
  """Chosen jobs by (scheme, L) and their sums [K, 7] of one repeat."""
  keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), repeat))
  jobs = gaussian_stages.candidates(config)
  if not jobs:
    return {}, {}
  sums = gaussian_stages.accumulate(
    workdir / f'selection_{repeat}.json',
    keys[0],
    config.selection_trials,
    jobs,
    config,
    progress,
    complete=False,
  )
  chosen = gaussian_stages.select(jobs, sums, config)
  found = {}
  for name, total in (
    ('races', config.trials),
    ('seed_aware', config.seed_aware_trials),
    ('modulo', config.trials),
  ):
    part = {
      place: job
      for place, job in chosen.items()
      if (job.kind if job.kind in ('seed_aware', 'modulo') else 'races') == name
    }
    if not part:
      continue
    sums = gaussian_stages.accumulate(
      workdir / f'{name}_{repeat}.json',
      keys[1],
      total,
      list(part.values()),
      config,
      progress,
      complete=True,
    )
    found.update(zip(part, sums))
  return chosen, found


def _no_message(config, seed, repeat):
  """Sums [7] by number of decoders, on the trials of the evaluation."""
  keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), repeat))
  return {
    n: gaussian_sums.moments(
      np.asarray(
        gaussian.simulate_no_message(
          keys[1],
          num_trials=config.trials,
          num_decoders=n,
          side_variance=config.side_variance,
        )
      )[:, None, None]
    )[0, 0]
    for n in config.num_decoders
  }


def _row(scheme, num_decoders, num_messages, sums, jobs=()) -> dict:
  """One row from the sums [7] of every repeat, and what was chosen in each."""
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
    mse = gaussian_rivals.list_mse_limit(count, n, config.side_variance)
    found = {'limit_list': mse}
    if n == 1:
      found['limit_wyner_ziv'] = gaussian_rivals.wyner_ziv_mse(
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


def _rows(config, seed, repeats) -> list[dict]:
  """Rows of the table from the chosen jobs and sums of each repeat."""
  rows, none = [], []
  if 'no_message' in config.schemes:
    none = [_no_message(config, seed, r) for r in range(len(repeats))]
  for n in config.num_decoders:
    if none:
      rows.append(_row('no_message', n, 1, [x[n] for x in none]))
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


def run(config, workdir, seed: int = 0) -> list[dict]:
  """Computes the table; resumes what `workdir` already holds.

  More repeats may be asked for of a workdir that has fewer.

  Args:
    config: see configs/gaussian.py.
    workdir: directory for results.csv, results.json, rate_distortion.png and
      the sums of each stage.
    seed: of every random number.

  Returns:
    One dictionary per row, the columns of results.csv.

  Raises:
    ValueError: for settings that make no sense, or a workdir of another run.
  """
  check_config(config)
  workdir = pathlib.Path(workdir)
  settings = results.plain({**config.to_dict(), 'seed': seed})
  resume.claim(
    workdir / 'settings.json',
    {name: x for name, x in settings.items() if name != 'repeats'},
    work=[workdir / 'selection_0.json', workdir / 'results.csv'],
  )
  repeats, rows = [], []
  stages = config.selection_trials + 2 * config.trials
  total = config.repeats * (stages + config.seed_aware_trials)
  with tqdm.tqdm(total=total, desc='gaussian', unit='trial') as progress:
    for repeat in range(config.repeats):
      repeats.append(_repeat(config, workdir, seed, repeat, progress.update))
      rows = _rows(config, seed, repeats)
      results.write_csv(workdir / 'results.csv', rows)
      results.write_json(
        workdir / 'results.json',
        {
          'config': settings,
          'repeats_done': len(repeats),
          'environment': results.environment(),
        },
      )
      gaussian_plots.rate_distortion(rows, workdir / 'rate_distortion.png')
  return rows


def as_text(rows) -> str:
  """The table for a terminal."""
  lines = [
    f'{"scheme":15} {"K":>2} {"L":>3} {"mean dB":>15} {"paper":>7} '
    f'{"MSE dB":>15} {"P[error]":>8} {"Prop. 4":>7}  v, width'
  ]
  for row in rows:

    def show(name, width, digits, row=row):
      value = row.get(name)
      return f'{"" if value is None else f"{value:.{digits}f}":>{width}}'

    def pair(name, row=row, show=show):
      if row.get(name) is None:
        return ' ' * 15
      error = row.get(name + '_se')
      error = ' ' * 7 if error is None else f'+-{error:5.3f}'
      return f'{show(name, 7, 2)} {error}'

    lines.append(
      f'{row["scheme"]:15} {row["num_decoders"]:2} {row["num_messages"]:3} '
      f'{pair("mean_db")} {show("paper_mean_db", 7, 2)} {pair("mse_db")} '
      f'{show("error_rate", 8, 3)} {show("error_bound", 7, 3)}  '
      f'{row.get("test_variance", "")} {row.get("width", "")}'.rstrip()
    )
  return '\n'.join(lines + _verdict(rows))


def _verdict(rows) -> list[str]:
  """Where the mean squared error stays below that of no message."""
  table = {
    (r['scheme'], r['num_decoders'], r['num_messages']): r['mse_db']
    for r in rows
  }
  lines = []
  for scheme in gaussian_stages.RACES:
    cells = [place for place in table if place[0] == scheme and place[2] >= 4]
    cells = [p for p in cells if ('no_message', p[1], 1) in table]
    if cells:
      below = [p for p in cells if table[p] < table['no_message', p[1], 1]]
      lines.append(
        f'{scheme}: MSE below no message in {len(below)} of {len(cells)} cells '
        'of at least 2 bits'
      )
  return lines
