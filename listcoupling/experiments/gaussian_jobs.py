"""Jobs of the Gaussian tables: a scheme at one setting, and how it is run.

A job of any kind gives the same sums (`gaussian_sums`), so that selection and
evaluation (`gaussian_stages`) need not know what stands behind it.

Legend: R trials, J jobs, K decoders, n = 1..K decoders in use.
"""

import itertools
from typing import NamedTuple

import numpy as np

from listcoupling import bounds
from listcoupling.compression import (
  gaussian,
  gaussian_baselines,
  poisson_functional,
)
from listcoupling.experiments.gaussian_sums import SIZE, by_list_size, moments
from listcoupling.gumbel import Domain, domain_key

# scheme: (selected by, kind)
RACES = {
  'gls': ('mean_db', 'random'),
  'shared_race': ('mean_db', 'shared'),
  'interval': ('mean_db', 'interval'),
  'interval_mse': ('mse_db', 'interval'),
}
BASELINES = {
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


def _bound(information_density, jobs):
  """Bound of Proposition 4 [R, J, K]; the same for any number of groups."""
  count = information_density.shape[2]
  bound = np.empty(information_density.shape[:3])
  for j, n in itertools.product(range(len(jobs)), range(count)):
    bound[:, j, n] = bounds.compression_error_bound(
      information_density[:, j, n, : n + 1], jobs[j].num_messages
    )
  return bound


def _races_exactly(key, trials, jobs, config):
  """Sums [J, K, SIZE] by the codec itself, one use after the other."""
  num_decoders = jobs[0].test_variance.size
  shape = len(trials), len(jobs), num_decoders
  error = np.full((*shape, num_decoders), np.nan)
  density, match = error.copy(), np.empty(shape)
  for j, n in itertools.product(range(len(jobs)), range(num_decoders)):
    job = jobs[j]
    out = gaussian.simulate(
      domain_key(key, Domain.REPEAT, int(trials[0])),
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
    error[:, j, n, : n + 1] = out.squared_error
    density[:, j, n, : n + 1] = out.information_density
    match[:, j, n] = out.is_match
  return moments(error, match, _bound(density, jobs))


def _races(key, trials, jobs, config, complete):
  """Sums [J, K, SIZE] of the codec; variance and period of a job are [K]."""
  if config.exact_codec:
    return _races_exactly(key, trials, jobs, config)
  num_decoders = jobs[0].test_variance.size
  settings = poisson_functional.join(
    *(
      poisson_functional.make_settings(
        job.test_variance[None],
        [job.num_messages],
        period=job.period[None] if job.kind == 'interval' else None,
        is_shared=job.kind == 'shared',
        num_decoders=num_decoders,
      )
      for job in jobs
    )
  )
  out = poisson_functional.simulate(
    key,
    trials,
    settings,
    num_candidates=config.num_candidates,
    side_variance=config.side_variance,
    complete=complete,
  )
  bound = _bound(out.information_density, jobs) if complete else None
  return moments(out.squared_error, out.is_match, bound)


def _modulo(key, trials, jobs, config, num_decoders):
  """Sums [J, K, SIZE]; a job has one width per number of decoders."""
  parts = []
  for job in jobs:
    error = np.empty((len(trials), num_decoders, num_decoders))
    for period in set(job.period.tolist()):
      use = job.period == period
      each = gaussian_baselines.modulo_quantiser(
        key,
        trials,
        job.num_messages,
        period / job.num_messages,
        config.side_variance,
        num_decoders=num_decoders,
      )
      error[:, use] = by_list_size(each)[:, use]
    parts.append(moments(error[:, None])[0])
  return np.stack(parts)


def _seed_aware(key, trials, jobs, config, num_decoders):
  """Sums [J, K, SIZE]; every variance serves all numbers of messages."""
  counts = tuple(config.num_messages)
  errors = np.empty((len(trials), len(jobs), num_decoders, num_decoders))
  for v in sorted({v for job in jobs for v in job.test_variance.tolist()}):
    each = by_list_size(
      gaussian_baselines.seed_aware(
        key,
        trials,
        v,
        config.side_variance,
        num_messages=counts,
        num_decoders=num_decoders,
        num_candidates=config.num_candidates,
      )
    )
    for j, job in enumerate(jobs):
      use = job.test_variance == v
      errors[:, j, use] = each[:, counts.index(job.num_messages)][:, use]
  return moments(errors)


def run_jobs(key, trials, jobs, config, *, complete) -> np.ndarray:
  """Sums [J, K, SIZE] of jobs of any kind on the trials [R] (integers)."""
  num_decoders = max(config.num_decoders)
  jobs = [
    job._replace(
      test_variance=np.broadcast_to(job.test_variance, num_decoders),
      period=np.broadcast_to(job.period, num_decoders),
    )
    for job in jobs
  ]
  sums = np.zeros((len(jobs), num_decoders, SIZE))
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
