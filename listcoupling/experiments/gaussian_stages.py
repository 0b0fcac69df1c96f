"""Selection and evaluation of one repeat of the Gaussian tables.

Selection picks, for every scheme, number of messages L and of decoders n, the
setting with the least distortion on selection trials; evaluation runs it on
trials of another key. Either goes through its trials in chunks and keeps sums
on disk, so that a run that was stopped goes on where it was.

Legend: R trials, J jobs, K decoders, n = 1..K decoders in use.
"""

import itertools

import jax
import numpy as np

from listcoupling.compression import gaussian
from listcoupling.experiments import gaussian_jobs, results
from listcoupling.experiments.gaussian_jobs import BASELINES, RACES, Job
from listcoupling.experiments.gaussian_sums import (
  by_list_size,
  figures,
  moments,
)
from listcoupling.gumbel import Domain, domain_key, seed_key


def trial_keys(seed: int, repeat: int) -> tuple[jax.Array, jax.Array]:
  """Typed keys of the selection's and of the evaluation's trials."""
  key = domain_key(seed_key(seed), Domain.REPEAT, repeat)
  return domain_key(key, Domain.SELECTION), domain_key(key, Domain.ASSESSMENT)


def accumulate(path, key, total, jobs, config, progress, *, complete):
  """Sums over `total` trials in chunks; resumes from `path`.

  Args:
    path: JSON file of the sums so far.
    key: typed key of the trials.
    total: number of trials.
    jobs: what to run.
    config: see configs/gaussian.py.
    progress: called with the number of trials done.
    complete: see `poisson_functional.simulate`.

  Returns:
    [J, K, SIZE].
  """
  done, sums = 0, 0.0
  if path.exists():
    kept = results.read_json(path)
    done = kept['done']
    sums = np.array([float(x) for x in kept['sums']], np.float64).reshape(
      kept['shape']
    )
    progress(done)
  while done < total:
    stop = min(done + config.chunk, total)
    sums = sums + gaussian_jobs.run_jobs(
      key, np.arange(done, stop), jobs, config, complete=complete
    )
    progress(stop - done)
    done = stop
    kept = {'done': done, 'shape': sums.shape, 'sums': sums.ravel()}
    results.write_json(path, kept)
  return sums


def select(jobs, sums, config) -> dict[tuple[str, int], Job]:
  """The best setting of each (scheme, L); variance and period are [K]."""
  chosen = {}
  num_decoders = max(config.num_decoders)
  schemes = RACES | BASELINES
  for scheme, count in itertools.product(config.schemes, config.num_messages):
    if scheme not in schemes:
      continue
    score, kind = schemes[scheme]
    rows = [
      i
      for i, job in enumerate(jobs)
      if (job.kind, job.num_messages) == (kind, count)
    ]
    best = [
      min(rows, key=lambda i, n=n: figures(sums[i, n])[score])
      for n in range(num_decoders)
    ]
    chosen[scheme, count] = Job(
      kind,
      count,
      np.array([jobs[i].test_variance for i in best]),
      np.array([jobs[i].period for i in best]),
    )
  return chosen


def run_repeat(config, workdir, seed, repeat, progress):
  """Selects the settings and evaluates them.

  Args:
    config: see configs/gaussian.py.
    workdir: where the sums of each stage are kept.
    seed: of every random number.
    repeat: from 0.
    progress: called with the number of trials done.

  Returns:
    Chosen jobs by (scheme, L), variance and period [K], and their sums
    [K, SIZE] on the trials of the evaluation.
  """
  selection_key, key = trial_keys(seed, repeat)
  jobs = gaussian_jobs.candidates(config)
  if not jobs:
    return {}, {}

  def sums(stage, key, total, jobs, complete):
    path = workdir / f'{stage}_{repeat}.json'
    return accumulate(
      path, key, total, jobs, config, progress, complete=complete
    )

  first = sums('selection', selection_key, config.selection_trials, jobs, False)
  chosen = select(jobs, first, config)
  totals = {
    'races': config.trials,
    'seed_aware': config.seed_aware_trials,
    'modulo': config.trials,
  }
  found = {}
  for stage, total in totals.items():
    part = {place: job for place, job in chosen.items() if job.stage == stage}
    if part:
      found |= zip(part, sums(stage, key, total, list(part.values()), True))
  return chosen, found


def no_message(config, seed, repeat) -> dict[int, np.ndarray]:
  """Sums [SIZE] by number of decoders, on the trials of the evaluation."""
  error = gaussian.simulate_no_message(
    trial_keys(seed, repeat)[1],
    num_trials=config.trials,
    num_decoders=max(config.num_decoders),
    side_variance=config.side_variance,
  )
  sums = moments(by_list_size(error)[:, None])[0]
  return {n: sums[n - 1] for n in config.num_decoders}
