"""Jobs of the Gaussian tables: a scheme at one setting, and how it is run.

A job of any kind gives the same sums (`gaussian_sums`), so that selection and
evaluation (`gaussian_stages`) need not know what stands behind it.

Legend: R trials, J jobs, K decoders, n = 1..K decoders in use.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import bounds
from listcoupling.compression import gaussian, gaussian_grid, gaussian_rivals
from listcoupling.experiments.gaussian_sums import moments

# scheme: (selected by, kind)
RACES = {
  'gls': ('mean_db', 'random'),
  'shared_race': ('mean_db', 'shared'),
  'interval': ('mean_db', 'interval'),
  'interval_mse': ('mse_db', 'interval'),
}
RIVALS = {
  'seed_aware': ('mean_db', 'seed_aware'),
  'modulo': ('mean_db', 'modulo'),
  'modulo_mse': ('mse_db', 'modulo'),
}


class Job(NamedTuple):
  """One setting of one scheme at one number of messages."""

  kind: str  # random, shared, interval, seed_aware, modulo
  num_messages: int
  test_variance: float
  period: float

  @property
  def stage(self) -> str:
    """Jobs of a stage are run together: all races share their arrivals."""
    return self.kind if self.kind in ('seed_aware', 'modulo') else 'races'


def candidates(config) -> list[Job]:
  """Every setting that selection looks at."""
  jobs = []
  wanted = {RACES[s][1] for s in config.schemes if s in RACES}
  for count in config.num_messages:
    for kind in sorted(wanted - {'interval'}):
      jobs += [Job(kind, count, v, 1.0) for v in config.test_variances]
    if 'interval' in wanted:
      jobs += [
        Job('interval', count, v, p)
        for v, p in itertools.product(config.interval_variances, config.periods)
      ]
    if 'seed_aware' in config.schemes:
      jobs += [Job('seed_aware', count, v, 1.0) for v in config.test_variances]
    if {'modulo', 'modulo_mse'} & set(config.schemes):
      jobs += [Job('modulo', count, 1.0, p) for p in config.periods]
  return jobs


def _races_exactly(key, trials, jobs, config):
  """[R, J, K] by the codec itself, one use after the other."""
  num_decoders = jobs[0].test_variance.size
  error = np.empty((len(trials), len(jobs), num_decoders))
  match, bound = np.empty_like(error), np.empty_like(error)
  for j, n in itertools.product(range(len(jobs)), range(num_decoders)):
    job = jobs[j]
    out = gaussian.simulate(
      jax.random.fold_in(key, trials[0]),
      job.test_variance[n],
      job.num_messages,
      num_trials=len(trials),
      num_decoders=n + 1,
      num_candidates=config.num_candidates,
      side_variance=config.side_variance,
      shared_race=job.kind == 'shared',
      label_kind='interval' if job.kind == 'interval' else 'random',
      width=job.period[n] / job.num_messages,
    )
    error[:, j, n], match[:, j, n] = out.squared_error, out.is_match
    bound[:, j, n] = bounds.compression_error_bound(
      out.information_density, job.num_messages
    )
  return moments(error, match, bound)


def _races(key, trials, jobs, config, complete):
  """Sums [J, K, 7] of the codec; variance and period of a job are [K]."""
  if config.exact_codec:
    return _races_exactly(key, trials, jobs, config)
  num_decoders = jobs[0].test_variance.size
  settings = gaussian_grid.join(
    *(
      gaussian_grid.make_settings(
        job.test_variance[None],
        [job.num_messages],
        period=job.period[None] if job.kind == 'interval' else None,
        is_shared=job.kind == 'shared',
        num_decoders=num_decoders,
      )
      for job in jobs
    )
  )
  out = gaussian_grid.simulate(
    key,
    trials,
    settings,
    num_candidates=config.num_candidates,
    side_variance=config.side_variance,
    complete=complete,
  )
  if not complete:
    return moments(out.squared_error, out.is_match)
  bound = np.empty(out.squared_error.shape)
  for j, n in itertools.product(range(len(jobs)), range(num_decoders)):
    density = out.information_density[:, j, n, : n + 1]
    bound[:, j, n] = bounds.compression_error_bound(
      density, jobs[j].num_messages
    )
  return moments(out.squared_error, out.is_match, bound)


def _modulo(key, trials, jobs, config, num_decoders):
  """Sums [J, K, 7]; a job has one width per number of decoders."""
  parts = []
  for job in jobs:
    error = np.empty((len(trials), num_decoders))
    for period in set(job.period.tolist()):
      use = job.period == period
      found = gaussian_rivals.modulo_quantiser(
        key,
        jnp.asarray(trials),
        job.num_messages,
        period / job.num_messages,
        config.side_variance,
        num_decoders=num_decoders,
      )
      error[:, use] = np.asarray(found)[:, use]
    parts.append(moments(error[:, None])[0])
  return np.stack(parts)


def _seed_aware(key, trials, jobs, config, num_decoders):
  """Sums [J, K, 7]; every variance serves all numbers of messages."""
  counts = tuple(config.num_messages)
  errors = np.empty((len(trials), len(jobs), num_decoders))
  for v in sorted({v for job in jobs for v in job.test_variance.tolist()}):
    found = np.asarray(
      gaussian_rivals.seed_aware(
        key,
        jnp.asarray(trials),
        v,
        config.side_variance,
        num_messages=counts,
        num_decoders=num_decoders,
        num_candidates=config.num_candidates,
      )
    )
    for j, job in enumerate(jobs):
      use = job.test_variance == v
      errors[:, j, use] = found[:, counts.index(job.num_messages)][:, use]
  return moments(errors)


def run_jobs(key, trials, jobs, config, *, complete) -> np.ndarray:
  """Sums [J, K, 7] of jobs of any kind on the trials [R] (integers)."""
  num_decoders = max(config.num_decoders)
  jobs = [
    job._replace(
      test_variance=np.broadcast_to(job.test_variance, num_decoders),
      period=np.broadcast_to(job.period, num_decoders),
    )
    for job in jobs
  ]
  sums = np.zeros((len(jobs), num_decoders, 7))
  runners = {
    'modulo': lambda part: _modulo(key, trials, part, config, num_decoders),
    'seed_aware': lambda part: _seed_aware(
      key, trials, part, config, num_decoders
    ),
    'races': lambda part: _races(key, trials, part, config, complete),
  }
  for name in sorted({job.stage for job in jobs}):
    rows = [i for i, job in enumerate(jobs) if job.stage == name]
    sums[rows] = runners[name]([jobs[i] for i in rows])
  return sums
