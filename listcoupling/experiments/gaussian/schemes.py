"""Schemes of the Gaussian tables: their settings, runs and sums over trials.

A job is one scheme at one setting. Jobs of any kind give the same sums, so that
selection and evaluation (`table`) need not know what stands behind them. Sums
of chunks and of repeats add; a table of 10^6 trials is a few numbers. Those of
one setting: count, matches and the bound of Proposition 4 (NaN where there is
none); then, for the best of the decoders in use, for their mean and for the
worst of them: sum of dB, of its square, of the squared error, of its square.

Legend: R trials, J jobs, K decoders, n = 1..K decoders in use.
"""

import itertools
from typing import NamedTuple

import numpy as np

from listcoupling import bounds, tables
from listcoupling.compression import (
  gaussian,
  gaussian_baselines,
  lattices,
  poisson_functional,
)

# scheme: (selected by, kind)
RACES = {
  'gls': ('mean_db', 'random'),
  'shared_race': ('mean_db', 'shared'),
  'interval': ('mean_db', 'interval'),
  'interval_mse': ('mse_db', 'interval'),
  'interval_groups': ('mean_db', 'interval_groups'),
  'interval_groups_mse': ('mse_db', 'interval_groups'),
}
LATTICES = {
  'lattice': ('mean_db', 'lattice'),
  'lattice_mse': ('mse_db', 'lattice'),
  'lattice_blind': ('mse_db', 'lattice_blind'),
}
BASELINES = {
  'seed_aware': ('mean_db', 'seed_aware'),
  'modulo': ('mean_db', 'modulo'),
  'modulo_mse': ('mse_db', 'modulo'),
}
SELECTED = RACES | LATTICES | BASELINES  # by (score, kind)
SPREAD = 1.6, 1.25  # of source and noise
CELL_POINTS = 32  # of a cell's conditional mean, in one dimension

# Which of the n decoders, and the prefix of its columns.
DECODERS = {'best': '', 'mean': 'average_', 'worst': 'worst_'}
_REDUCE = (np.nanmin, np.nanmean, np.nanmax)
SIZE = 3 + 4 * len(DECODERS)


class Job(NamedTuple):
  """One setting of one scheme at one number of messages."""

  kind: str  # the second entry of a scheme
  num_messages: int
  test_variance: float = 1.0
  period: float = 1.0
  reach: int = 0  # of `lattices.reconstruct`
  believed: float = 1.0  # see `gaussian.simulate_lattice`

  @property
  def stage(self) -> str:
    """Jobs of a stage are run together: all races share their arrivals."""
    if self.kind.startswith('lattice'):
      return 'lattice'
    return self.kind if self.kind in ('seed_aware', 'modulo') else 'races'


def candidates(config) -> list[Job]:
  """Every setting that selection looks at."""
  jobs = []
  wanted = sorted({SELECTED[s][1] for s in config.schemes if s in SELECTED})
  grids = {
    'interval': itertools.product(config.interval_variances, config.periods),
    'modulo': itertools.product((1.0,), config.periods),
    'lattice': itertools.product(
      (1.0,), config.lattice_periods, (0, 1), config.believed_variances
    ),
    'iid': itertools.product(config.test_variances, (1.0,)),
  }
  grids = {name: list(grid) for name, grid in grids.items()}
  for count, kind in itertools.product(config.num_messages, wanted):
    grid = grids.get(kind.split('_')[0], grids['iid'])
    jobs += [Job(kind, count, *setting) for setting in grid]
  return jobs


def run_jobs(key, trials, jobs, config, *, complete) -> np.ndarray:
  """Sums [J, K, SIZE] of jobs of any kind on the trials [R] (integers)."""
  num_decoders = max(config.num_decoders)
  jobs = [
    Job(*job[:2], *(np.broadcast_to(x, num_decoders) for x in job[2:]))
    for job in jobs
  ]
  sums = np.zeros((len(jobs), num_decoders, SIZE))
  for name in sorted({job.stage for job in jobs}):
    rows = [i for i, job in enumerate(jobs) if job.stage == name]
    part = [jobs[i] for i in rows]
    sums[rows] = _STAGES[name](key, trials, part, config, complete)
  return sums


def _bound(information_density, jobs):
  """Bound of Proposition 4 [R, J, K]; the same for any number of groups."""
  count = information_density.shape[2]
  bound = np.empty(information_density.shape[:3])
  for j, n in itertools.product(range(len(jobs)), range(count)):
    bound[:, j, n] = bounds.compression_error_bound(
      information_density[:, j, n, : n + 1], jobs[j].num_messages
    )
  return bound


def _races(key, trials, jobs, config, complete):
  """Sums [J, K, SIZE] of the codec; variance and period of a job are [K]."""
  num_decoders = jobs[0].test_variance.size
  settings = poisson_functional.join(
    *(
      poisson_functional.make_settings(
        job.test_variance[None],
        [job.num_messages],
        period=job.period[None] if 'interval' in job.kind else None,
        is_shared=job.kind == 'shared',
        num_groups='all' if job.kind == 'interval_groups' else 1,
        num_decoders=num_decoders,
      )
      for job in jobs
    )
  )
  out = poisson_functional.simulate(
    key, trials, settings, num_candidates=config.num_candidates,
    side_variance=config.side_variance, complete=complete,
  )  # fmt: skip
  bound = _bound(out.information_density, jobs) if complete else None
  return moments(out.squared_error, out.is_match, bound)


def _lattice(key, trials, jobs, config, complete):
  """Sums [J, K, SIZE]; each number of decoders has a code of its own.

  A failure may be rarer than one in all selection trials and yet decide the
  mean squared error: there they are drawn more often and weighted back.
  """
  num_decoders = jobs[0].period.size
  spread = (1.0, 1.0) if complete else SPREAD
  sums = np.empty((len(jobs), num_decoders, SIZE))
  for (j, job), n in itertools.product(enumerate(jobs), range(num_decoders)):
    side = np.full(n + 1, config.side_variance, np.float32)
    if job.kind == 'lattice_blind':
      side[n] = np.inf
    code = lattices.make_code(
      'Z', job.num_messages, num_groups=n + 1, num_points=CELL_POINTS
    )
    error, weight = gaussian.simulate_lattice(
      key, trials, code, job.period[n], num_decoders=n + 1, side_variance=side,
      reach=int(job.reach[n]), believed_variance=job.believed[n],
      spread=spread,
    )  # fmt: skip
    error, weight = (np.asarray(x)[:, None, None] for x in (error, weight))
    sums[j, n] = moments(error, weight=weight)[0, 0]
  return sums


def lattice_errors(
  key, total, code, period, side_variance, *,
  believed_variance=1.0, spread=(1.0, 1.0),
):  # fmt: skip
  """Errors [R, K] and weights [R] of `gaussian.simulate_lattice`, in chunks.

  Args:
    key: typed key of the trials.
    total: R.
    code: see `lattices.make_code`.
    period: likewise.
    side_variance: [K].
    believed_variance: likewise.
    spread: likewise.
  """
  parts = [
    gaussian.simulate_lattice(
      key, np.arange(start, min(start + 10_000, total)), code, period,
      num_decoders=len(side_variance), side_variance=side_variance,
      believed_variance=believed_variance, spread=spread,
    )
    for start in range(0, total, 10_000)
  ]  # fmt: skip
  error, weight = (np.concatenate(x).astype(np.float64) for x in zip(*parts))
  return error, weight


def _modulo(key, trials, jobs, config, complete):
  """Sums [J, K, SIZE]; a job has one width per number of decoders."""
  del complete
  num_decoders, parts = jobs[0].period.size, []
  for job in jobs:
    error = np.empty((len(trials), num_decoders, num_decoders))
    for period in set(job.period.tolist()):
      use = job.period == period
      each = gaussian_baselines.modulo_quantiser(
        key, trials, job.num_messages, period / job.num_messages,
        config.side_variance, num_decoders=num_decoders,
      )  # fmt: skip
      error[:, use] = by_list_size(each)[:, use]
    parts.append(moments(error[:, None])[0])
  return np.stack(parts)


def _seed_aware(key, trials, jobs, config, complete):
  """Sums [J, K, SIZE]; every variance serves all numbers of messages."""
  del complete
  counts, num_decoders = tuple(config.num_messages), jobs[0].period.size
  errors = np.empty((len(trials), len(jobs), num_decoders, num_decoders))
  for v in sorted({v for job in jobs for v in job.test_variance.tolist()}):
    each = gaussian_baselines.seed_aware(
      key, trials, v, config.side_variance, num_messages=counts,
      num_decoders=num_decoders, num_candidates=config.num_candidates,
    )  # fmt: skip
    each = by_list_size(each)
    for j, job in enumerate(jobs):
      use = job.test_variance == v
      errors[:, j, use] = each[:, counts.index(job.num_messages)][:, use]
  return moments(errors)


_STAGES = {
  'lattice': _lattice,
  'modulo': _modulo,
  'seed_aware': _seed_aware,
  'races': _races,
}


def by_list_size(squared_error) -> np.ndarray:
  """[..., K] of decoders that know no n -> [..., K, K] by (n, k); NaN: none."""
  error = np.asarray(squared_error, np.float64)
  used = np.tri(error.shape[-1], dtype=bool)
  return np.where(used, error[..., None, :], np.nan)


def moments(squared_error, match=None, bound=None, weight=1.0) -> np.ndarray:
  """Sums [J, K, SIZE] over R trials: what every figure needs.

  Args:
    squared_error: [R, J, K, K] by (n, k), NaN for k >= n.
    match: [R, J, K].
    bound: [R, J, K].
    weight: [R, J, K], of mean 1, for trials of importance sampling.
  """
  error = np.asarray(squared_error, np.float64)
  db = 10 * np.log10(np.maximum(error, 1e-20))
  shape = error.shape[1:-1]
  sums = [
    np.full(shape, float(len(error))),
    *(
      np.full(shape, np.nan) if x is None else np.sum(x, 0, dtype=float)
      for x in (match, bound)
    ),
  ]
  for reduce in _REDUCE:
    for value in (reduce(db, -1), reduce(error, -1)):  # [R, J, K]
      value = value * weight
      sums += [value.sum(0), (value**2).sum(0)]
  return np.stack(sums, -1)


def _mean_and_error(total, square, count):
  mean = total / count
  variance = max(square / count - mean**2, 0)
  return mean, np.sqrt(variance / max(count - 1, 1))


def cautious(row, score: str) -> float:
  """A figure and its standard error: what a choice goes by.

  The mean squared error hangs on failures that few trials see; the setting
  that happened to see none would be chosen by the figure alone.
  """
  return row[score] + row[f'{score}_se']


def figures(sums) -> dict[str, float]:
  """Distortions, error rate and bound from `moments` of one setting [SIZE].

  Returns:
    mean_db: mean of 10 log10 of the squared error of the best decoder (the
    paper's figure); mse_db: 10 log10 of its mean squared error; standard
    errors of both, the latter's by the delta method; the same for the mean and
    the worst decoder, with the prefixes of `DECODERS`; error_rate; error_bound
    (Proposition 4).

  Example:
    >>> round(figures(moments(np.full((2, 1, 1, 1), .1))[0, 0])["mse_db"], 6)
    -10.0
  """
  count, match, bound, *rest = np.asarray(sums, float)
  row = {}
  for prefix, part in zip(DECODERS.values(), np.reshape(rest, (-1, 4))):
    db, db_se = _mean_and_error(*part[:2], count)
    error, error_se = _mean_and_error(*part[2:], count)
    row |= {
      f'{prefix}mean_db': db,
      f'{prefix}mean_db_se': db_se,
      f'{prefix}mse_db': 10 * np.log10(error),
      f'{prefix}mse_db_se': 10 / np.log(10) * error_se / error,
    }
  if not np.isnan(match):
    rate = 1 - match / count
    row['error_rate'] = rate
    row['error_rate_se'] = tables.binomial_error(rate, count)
  if not np.isnan(bound):
    row['error_bound'] = bound / count
  return {name: float(value) for name, value in row.items()}
