"""Table of the Gaussian source: Rowan, Phan, Khisti (2025), section 5.

For every (K, L, scheme) the variance v of the test channel (and the width of
interval labels) is chosen on selection trials, then evaluated on trials of
another key, so that the best of many is not reported by its luck. Trials of
one key share source, side information, candidates and races across settings.
"""

import functools
import itertools
import pathlib

import jax
import numpy as np
import tqdm
from absl import logging

from listcoupling import bounds
from listcoupling.compression import gaussian
from listcoupling.experiments import results

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
SCHEMES = ('gls', 'shared_race', 'interval', 'no_message')
_SELECT = ('mean_db', 'mse_db')


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  for name in ('num_decoders', 'num_messages', 'test_variances'):
    if not len(config[name]) or min(config[name]) <= 0:
      raise ValueError(f'{name} must hold positive values, got {config[name]}.')
  for name in ('num_candidates', 'selection_trials', 'trials'):
    if config[name] < 2:
      raise ValueError(f'{name} must be at least 2, got {config[name]}.')
  if not 0 < config.side_variance:
    raise ValueError(
      f'side_variance must be positive, got {config.side_variance}.'
    )
  unknown = set(config.schemes) - set(SCHEMES)
  if unknown:
    raise ValueError(f'schemes must be among {SCHEMES}, got {sorted(unknown)}.')
  if config.select_by not in _SELECT:
    raise ValueError(
      f'select_by must be one of {_SELECT}, got {config.select_by!r}.'
    )


def decibels(squared_error) -> dict[str, float]:
  """Both readings of distortion in dB, with standard errors.

  Args:
    squared_error: [R], more than one.

  Returns:
    mean_db: mean of 10 log10 of the squared error (the paper's figure);
    mse_db: 10 log10 of the mean squared error, its error by the delta method.

  Example:
    >>> decibels(np.array([.1, .1]))["mse_db"]
    -10.0
  """
  error = np.asarray(squared_error, np.float64)
  log_error = 10 * np.log10(np.maximum(error, 1e-20))
  root = np.sqrt(error.size)
  mean = error.mean()
  return {
    'mean_db': float(log_error.mean()),
    'mean_db_se': float(log_error.std(ddof=1) / root),
    'mse_db': float(10 * np.log10(mean)),
    'mse_db_se': float(10 / np.log(10) * error.std(ddof=1) / root / mean),
  }


def _simulate(
  key, trials, config, scheme, num_decoders, num_messages, v, width
):
  """`gaussian.simulate` in equal chunks, one compilation for every size."""
  chunk = min(500, config.selection_trials, config.trials)
  parts = [
    gaussian.simulate(
      jax.random.fold_in(key, i),
      v,
      num_messages,
      num_trials=chunk,
      num_decoders=num_decoders,
      num_candidates=config.num_candidates,
      side_variance=config.side_variance,
      shared_race=scheme == 'shared_race',
      label_kind='interval' if scheme == 'interval' else 'random',
      width=width,
    )
    for i in range(-(-trials // chunk))
  ]
  return jax.tree.map(lambda *x: np.concatenate(x)[:trials], *parts)


def _row(key, config, scheme, num_decoders, num_messages) -> dict:
  """One row of the table: select, then evaluate on fresh trials."""
  run = functools.partial(
    _simulate,
    config=config,
    scheme=scheme,
    num_decoders=num_decoders,
    num_messages=num_messages,
  )
  select_key, evaluate_key = jax.random.split(key)
  widths = config.interval_widths if scheme == 'interval' else (1.0,)
  settings = list(itertools.product(config.test_variances, widths))
  scores = [
    decibels(
      run(select_key, config.selection_trials, v=v, width=w).squared_error
    )[config.select_by]
    for v, w in settings
  ]
  v, width = settings[int(np.argmin(scores))]
  out = run(evaluate_key, config.trials, v=v, width=width)
  rate = out.is_match.mean()
  row = {
    'scheme': scheme,
    'num_decoders': num_decoders,
    'num_messages': num_messages,
    'test_variance': v,
    'interval_width': width if scheme == 'interval' else None,
    'trials': config.trials,
    **decibels(out.squared_error),
    'error_rate': 1 - rate,
    'error_rate_se': np.sqrt(rate * (1 - rate) / config.trials),
    'paper_mean_db': PAPER_DB.get((scheme, num_decoders, num_messages)),
  }
  if scheme == 'gls':  # Proposition 4 is about this scheme alone
    row['error_bound'] = bounds.compression_error_bound(
      out.information_density, num_messages
    ).mean()
  return results.plain(row)


def _no_message_row(key, config, num_decoders) -> dict:
  error = gaussian.simulate_no_message(
    jax.random.split(key)[1],
    num_trials=config.trials,
    num_decoders=num_decoders,
    side_variance=config.side_variance,
  )
  return results.plain(
    {
      'scheme': 'no_message',
      'num_decoders': num_decoders,
      'num_messages': 1,
      'trials': config.trials,
      **decibels(error),
      'paper_mean_db': PAPER_DB.get(('no_message', num_decoders, 1)),
    }
  )


def _jobs(config) -> list[tuple[str, int, int]]:
  """(scheme, K, L) of every row, in the order of the table."""
  jobs = []
  for num_decoders in config.num_decoders:
    if 'no_message' in config.schemes:
      jobs.append(('no_message', num_decoders, 1))
    for num_messages in config.num_messages:
      for scheme in config.schemes:
        if scheme == 'no_message':
          continue
        if scheme == 'shared_race' and num_decoders == 1:
          continue  # the same as gls
        jobs.append((scheme, num_decoders, num_messages))
  return jobs


def _finished(workdir, settings) -> list[dict]:
  """Rows of an earlier run of the same settings, to resume from."""
  try:
    before = results.read_json(workdir / 'results.json')
    if before['config'] == settings:
      return results.read_csv(workdir / 'results.csv')
  except (FileNotFoundError, KeyError):
    pass
  return []


def run(config, workdir, seed: int = 0) -> list[dict]:
  """Computes the table; resumes rows that `workdir` already holds.

  Args:
    config: see configs/gaussian.py.
    workdir: directory for results.csv and results.json.
    seed: of every random number.

  Returns:
    One dictionary per row, the columns of results.csv.

  Raises:
    ValueError: for settings that make no sense.
  """
  check_config(config)
  workdir = pathlib.Path(workdir)
  settings = results.plain({**config.to_dict(), 'seed': seed})
  rows = _finished(workdir, settings)
  done = {(r['scheme'], r['num_decoders'], r['num_messages']) for r in rows}
  key = jax.random.key(seed)
  for job in tqdm.tqdm(_jobs(config), desc='gaussian'):
    if job in done:
      continue
    if job[0] == 'no_message':
      rows.append(_no_message_row(key, config, job[1]))
    else:
      rows.append(_row(key, config, *job))
    logging.info('%s', rows[-1])
    results.write_json(
      workdir / 'results.json',
      {'config': settings, 'environment': results.environment()},
    )
    results.write_csv(workdir / 'results.csv', rows)
  return rows


def as_text(rows) -> str:
  """The table for a terminal."""
  lines = [
    f'{"scheme":12} {"K":>2} {"L":>3} {"v":>6} {"mean dB":>14} {"paper":>7} '
    f'{"MSE dB":>14} {"P[error]":>14} {"Prop. 4":>8}'
  ]
  for row in rows:

    def show(name, width, digits, row=row):
      value = row.get(name)
      return f'{"" if value is None else f"{value:.{digits}f}":>{width}}'

    def pair(name, digits, row=row, show=show):
      if row.get(name) is None:
        return ' ' * 14
      error = row[name + '_se']
      return f'{show(name, 7, digits)} +-{error:4.{digits}f}'

    lines.append(
      f'{row["scheme"]:12} {row["num_decoders"]:2} {row["num_messages"]:3} '
      f'{show("test_variance", 6, 3)} {pair("mean_db", 2)} '
      f'{show("paper_mean_db", 7, 2)} {pair("mse_db", 2)} '
      f'{pair("error_rate", 3)} {show("error_bound", 8, 3)}'
    )
  return '\n'.join(lines)
