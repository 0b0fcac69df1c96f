"""Tables of the Gaussian source: Rowan, Phan, Khisti (2025), section 5.

Every (scheme, K, L) has its variance v of the test channel (and its width of
intervals) chosen on selection trials and is then evaluated on trials of
another key, so that the best of many is not reported by its luck. Trials of
one key share source, side information, candidates and races across settings.
The races are simulated in law by their first arrivals
(`compression.poisson_functional`) or, with `exact_codec`, by the codec itself
on all N candidates.

Rows: no message; gls (the paper); shared_race (its baseline); the same races
with interval labels, width and v chosen for mean-dB (`interval`) or for the
mean squared error (`interval_mse`); a decoder that knows the encoder's cells
(`seed_aware`); a dithered modulo quantiser, chosen for either (`modulo`,
`modulo_mse`); and limits on the mean squared error.
"""

import pathlib

import numpy as np
import tqdm

from listcoupling.compression import poisson_functional
from listcoupling.experiments import (
  gaussian_jobs,
  gaussian_plots,
  gaussian_rows,
  gaussian_stages,
  gaussian_sums,
  results,
  resume,
)

SCHEMES = (
  'no_message',
  *gaussian_jobs.RACES,
  *gaussian_jobs.BASELINES,
  'limit',
)
as_text = gaussian_rows.as_text


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
  if (
    not config.exact_codec and config.num_candidates % poisson_functional.BLOCK
  ):
    raise ValueError(
      f'num_candidates must be a multiple of {poisson_functional.BLOCK} unless '
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
    gaussian_sums.moments(error[:, None, None, None])[0, 0]
  )


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
  repeats, none, rows = [], [], []
  stages = config.selection_trials + 2 * config.trials
  total = config.repeats * (stages + config.seed_aware_trials)
  with tqdm.tqdm(total=total, desc='gaussian', unit='trial') as progress:
    for repeat in range(config.repeats):
      repeats.append(
        gaussian_stages.run_repeat(
          config, workdir, seed, repeat, progress.update
        )
      )
      if 'no_message' in config.schemes:
        none.append(gaussian_stages.no_message(config, seed, repeat))
      rows = gaussian_rows.make_rows(config, repeats, none)
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
