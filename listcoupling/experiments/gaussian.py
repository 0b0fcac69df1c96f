"""Tables of the Gaussian source: Rowan, Phan, Khisti (2025), section 5.

Every (scheme, K, L) has its variance v of the test channel (and its width of
intervals) chosen on selection trials and is then evaluated on trials of
another key, so that the best of many is not reported by its luck. Trials of
one key share source, side information, candidates and races across settings.
The races are simulated in law by their first arrivals
(`compression.poisson_functional`).

A job is one scheme at one setting. Jobs of any kind give the same sums, so that
selection and evaluation need not know what stands behind them. Sums of chunks
and of repeats add, and are kept on disk: a run that was stopped goes on where
it was. Those of one setting: count, matches and the bound of Proposition 4 (NaN
where there is none); then, for the best of the decoders in use, for their mean
and for the worst of them: sum of dB, of its square, of the squared error, of
its square.

Rows: no message; gls (the paper); shared_race (its baseline); the same races
with interval labels, width and v chosen for mean-dB (`interval`) or for the
mean squared error (`interval_mse`); a decoder that uses all it knows of the
encoder (`seed_aware`); GLS with interval labels and a group per decoder
(`interval_groups`, `interval_groups_mse`); a dithered lattice whose cosets the
decoders share out (`lattice`, `lattice_mse`), and the same where the last of
the decoders has no side information (`lattice_blind`); a dithered modulo
quantiser, chosen for either (`modulo`, `modulo_mse`); what a scalar quantiser
with a genie could have, the best for either measure (`lloyd_max`), and limits
on the mean squared error. The mean and the worst decoder stand beside the best
in every row, and the paper's own figures (arXiv 2506.05632) beside them.

Legend: R trials, J jobs, K decoders, n = 1..K decoders in use.
"""

import itertools
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from listcoupling import bounds, tables
from listcoupling.compression import (
  gaussian,
  gaussian_baselines,
  lattices,
  poisson_functional,
)
from listcoupling.config_fields import Field
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment, Run
from listcoupling.gumbel import Domain, domain_key, seed_key
from listcoupling.tables import Column

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


SCHEMES = ('no_message', *SELECTED, 'limit')
_COUNTS = Field(int, least=1, many=True)
_POSITIVE = Field(float, above=0, many=True)
FIELDS = {
  'num_decoders': _COUNTS,
  'num_messages': _COUNTS,
  'schemes': Field(str, among=SCHEMES, many=True),
  'test_variances': _POSITIVE,
  'interval_variances': _POSITIVE,
  'periods': _POSITIVE,
  'lattice_periods': _POSITIVE,
  'believed_variances': _POSITIVE,
  'num_candidates': Field(int, least=2),
  'side_variance': Field(float, above=0),
  'selection_trials': Field(int, least=2),
  'trials': Field(int, least=2),
  'seed_aware_trials': Field(int, least=2),
  'lattice_trials': Field(int, least=2),
  'repeats': Field(int, least=1),
  'chunk': Field(int, least=2),
  'cpu_devices': Field(int, least=0),
}
COLUMNS = (
  Column('scheme', 'scheme'),
  Column('K', 'num_decoders'),
  Column('L', 'num_messages'),
  Column('mean dB', 'mean_db', '.2f'),
  Column('paper', 'paper_mean_db', '.2f'),
  Column('MSE dB', 'mse_db', '.2f'),
  Column('of the mean', 'average_mse_db', '.2f', error=False),
  Column('of the worst', 'worst_mse_db', '.2f', error=False),
  Column('P[error]', 'error_rate', '.3f', error=False),
  Column('Prop. 4', 'error_bound', '.3f'),
  Column('v', 'test_variance'),
  Column('period', 'period'),
)
# arXiv 2506.05632, distortion in dB as the mean of decibels: (scheme, K, L).
PAPER_DB = {
  (scheme, num_decoders, 2**bits): db
  for (scheme, num_decoders), row in {
    ('gls', 1): (-9.70, -12.75, -16.01, -19.55, -23.40, -27.35),
    ('gls', 2): (-15.21, -18.34, -21.70, -25.39, -28.86, -31.47),
    ('shared_race', 2): (-12.51, -15.99, -19.48, -23.15, -27.20, -30.78),
  }.items()
  for bits, db in enumerate(row, 1)
} | {('no_message', 1, 1): -10.28, ('no_message', 2, 1): -15.19}
_CURVES = {
  'gls': plots.Curve('GLS, iid labels (paper)', plots.RED, '-', 'o'),
  'shared_race': plots.Curve('shared race (paper)', plots.ORANGE, '--', 's'),
  'interval': plots.Curve('interval labels', plots.BLUE, '-', '^'),
  'interval_mse': plots.Curve('interval labels, for MSE', plots.SKY, '-', 'v'),
  'interval_groups': plots.Curve(
    'interval labels, groups', plots.BLUE, '--', '<'
  ),
  'lattice': plots.Curve('lattice', plots.BLACK, '-', 'P'),
  'lattice_mse': plots.Curve('lattice, for MSE', plots.BLACK, '--', 'X'),
  'seed_aware': plots.Curve('decoder knows the seed', plots.GREEN, '-', 'D'),
  'modulo': plots.Curve('modulo quantiser', plots.PINK, '--', 'x'),
  'modulo_mse': plots.Curve('modulo quantiser, for MSE', plots.PINK, ':', '+'),
  'lloyd_max': plots.Curve('scalar, with a genie', '0.5', ':'),
  # For one decoder it is that of Wyner and Ziv.
  'limit_list': plots.Curve('limit', plots.BLACK, ':'),
}
# What the best decoder should reach: a scheme, its measure, what it is held
# against, the decibels it may be above that, and whether K = 1 counts, where
# groups are none.
_CLAIMS = (
  ('lattice', 'mean_db', 'lloyd_max', 4.5, True),
  ('lattice_mse', 'mse_db', 'lloyd_max', 5.5, True),
  ('lattice_mse', 'mse_db', 'modulo_mse', 0.0, True),
  ('lattice_mse', 'mse_db', 'interval_mse', 0.0, True),
  ('lattice_mse', 'mse_db', 'interval_groups_mse', 0.0, True),
  ('interval_groups', 'mean_db', 'interval', 0.0, False),
  ('interval_groups_mse', 'mse_db', 'interval_mse', 0.0, False),
)
# Whose mean and worst decoder are drawn, too: more would hide each other.
_SPREAD = ('gls', 'interval_mse', 'lattice_mse')


def _prepare(config, seed):
  """Fills the table repeat by repeat; more may be asked for later."""
  if config.num_candidates % poisson_functional.BLOCK:
    raise ValueError(
      f'config.num_candidates must be a multiple of {poisson_functional.BLOCK}'
      f', got {config.num_candidates}.'
    )

  def fill(record):
    repeats, none, rows = [], [], []
    stages = config.selection_trials + 2 * config.trials
    stages += config.seed_aware_trials + config.lattice_trials
    total = config.repeats * stages
    record.deal(
      range(config.repeats),
      lambda repeat: run_repeat(config, record, seed, repeat, lambda _: None),
    )
    with tqdm.tqdm(total=total, desc='gaussian', unit='trial') as progress:
      for repeat in range(config.repeats):
        repeats.append(
          run_repeat(config, record, seed, repeat, progress.update)
        )
        if 'no_message' in config.schemes:
          none.append(no_message(config, seed, repeat))
        rows = make_rows(config, repeats, none)
        record.write(rows)
    record.note(table=rows)
    return rows

  return {}, fill


def trial_keys(seed: int, repeat: int) -> tuple[jax.Array, jax.Array]:
  """Typed keys of the selection's and of the evaluation's trials."""
  key = domain_key(seed_key(seed), Domain.REPEAT, repeat)
  return domain_key(key, Domain.SELECTION), domain_key(key, Domain.ASSESSMENT)


def accumulate(
  record: Run, name, key, total, jobs, config, progress, *, complete
):
  """Sums over `total` trials in chunks; goes on from those kept before.

  Args:
    record: where the sums so far are kept.
    name: under which.
    key: typed key of the trials.
    total: number of trials.
    jobs: what to run.
    config: see configs/gaussian.py.
    progress: called with the number of trials done.
    complete: see `poisson_functional.simulate`.

  Returns:
    [J, K, SIZE].
  """
  kept = record.load(name) or {'done': 0, 'sums': 0.0}
  done, sums = int(kept['done']), kept['sums']
  progress(done)
  while done < total:
    stop = min(done + config.chunk, total)
    sums = sums + run_jobs(
      key, np.arange(done, stop), jobs, config, complete=complete
    )
    progress(stop - done)
    done = stop
    record.save(name, {'done': done, 'sums': sums})
  return sums


def select(jobs, sums, config) -> dict[tuple[str, int], Job]:
  """The best setting of each (scheme, L); variance and period are [K]."""
  chosen = {}
  for scheme, count in itertools.product(config.schemes, config.num_messages):
    if scheme not in SELECTED:
      continue
    score, kind = SELECTED[scheme]
    rows = [i for i, job in enumerate(jobs) if job[:2] == (kind, count)]
    best = []
    for each in sums[rows].swapaxes(0, 1):  # [jobs, SIZE] of each n
      scores = [cautious(figures(x), score) for x in each]
      best.append(jobs[rows[int(np.nanargmin(scores))]][2:])
    chosen[scheme, count] = Job(kind, count, *map(np.array, zip(*best)))
  return chosen


def run_repeat(config, record: Run, seed, repeat, progress):
  """Selects the settings and evaluates them.

  Args:
    config: see configs/gaussian.py.
    record: where the sums of each stage are kept.
    seed: of every random number.
    repeat: from 0.
    progress: called with the number of trials done.

  Returns:
    Chosen jobs by (scheme, L), variance and period [K], and their sums
    [K, SIZE] on the trials of the evaluation.
  """
  selection_key, key = trial_keys(seed, repeat)
  jobs = candidates(config)
  if not jobs:
    return {}, {}

  def sums(stage, key, total, jobs, complete):
    name = f'{stage}_{repeat}'
    return accumulate(
      record, name, key, total, jobs, config, progress, complete=complete
    )

  first = sums('selection', selection_key, config.selection_trials, jobs, False)
  chosen = select(jobs, first, config)
  totals = {
    'races': config.trials,
    'seed_aware': config.seed_aware_trials,
    'modulo': config.trials,
    'lattice': config.lattice_trials,
  }
  evaluated = {}
  for stage, total in totals.items():
    part = {place: job for place, job in chosen.items() if job.stage == stage}
    if part:
      evaluated |= zip(part, sums(stage, key, total, list(part.values()), True))
  return chosen, evaluated


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


def make_rows(config, repeats, no_message=()) -> list[dict]:
  """Rows of the table.

  Args:
    config: see configs/gaussian.py.
    repeats: values of `run_repeat`.
    no_message: values of `no_message`; no such row without.

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
      sums = [evaluated[place][n - 1] for _, evaluated in repeats]
      jobs = [chosen[place] for chosen, _ in repeats]
      rows.append(_row(scheme, n, count, sums, jobs))
  if 'limit' in config.schemes:
    rows += _limit_rows(config)
  return rows


def _row(scheme, num_decoders, num_messages, sums, jobs=()) -> dict:
  """One row from the sums [SIZE] and the choices of every repeat."""
  each = [figures(x) for x in sums]
  row = {
    'scheme': scheme,
    'num_decoders': num_decoders,
    'num_messages': num_messages,
    'repeats': len(sums),
    'trials': int(sum(x[0] for x in sums)),
    **figures(np.sum(sums, 0)),
    'paper_mean_db': PAPER_DB.get((scheme, num_decoders, num_messages)),
  }
  if scheme == 'shared_race':  # Proposition 4 is about a race for each
    row.pop('error_bound', None)
  if len(each) > 1:
    for name in ('mean_db', 'mse_db'):
      spread = np.std([x[name] for x in each], ddof=1)
      row[f'{name}_spread'] = float(spread)
  n = num_decoders - 1
  show = ' '.join
  if jobs and jobs[0].stage in ('races', 'seed_aware'):
    row['test_variance'] = show(f'{j.test_variance[n]:g}' for j in jobs)
  if jobs and not np.all(jobs[0].period == 1):
    row['period'] = show(f'{j.period[n]:.4g}' for j in jobs)
  if jobs and jobs[0].stage == 'lattice':
    row['believed_variance'] = show(f'{j.believed[n]:g}' for j in jobs)
  return row


def _limit_rows(config) -> list[dict]:
  rows = []
  for n, count in itertools.product(config.num_decoders, config.num_messages):
    mse = gaussian_baselines.list_mse_limit(count, n, config.side_variance)
    known = 1 / (1 + n / config.side_variance)
    limits = {
      'lloyd_max': gaussian_baselines.lloyd_max_mse(count * n, known),
      'limit_list': mse,
    }
    if n == 1:
      limits['limit_wyner_ziv'] = gaussian_baselines.wyner_ziv_mse(
        count, config.side_variance
      )
    own = {
      name: {
        'scheme': name,
        'num_decoders': n,
        'num_messages': count,
        'mse_db': float(10 * np.log10(mse)),
      }
      for name, mse in limits.items()
    }
    own['lloyd_max']['mean_db'] = gaussian_baselines.log_quantiser_db(
      count * n, known
    )
    rows += own.values()
  return rows


def as_text(rows) -> str:
  """The table for a terminal."""
  lines = *_below_no_message(rows), *_beyond_the_bound(rows), *_claims(rows)
  return '\n'.join([tables.as_text(rows, COLUMNS), *lines])


def _claims(rows) -> list[str]:
  """Of how many cells (K, L) each of `_CLAIMS` is true, and of which not."""
  table = {(r['scheme'], r['num_decoders'], r['num_messages']): r for r in rows}
  lines = []
  for scheme, name, other, most, with_one in _CLAIMS:
    cells = [
      place[1:]
      for place in table
      if place[0] == scheme
      and (other, *place[1:]) in table
      and (with_one or place[1] > 1)
    ]
    if not cells:
      continue
    gaps, missed = [], []
    for cell in cells:
      pair = [table[x, *cell] for x in (scheme, other)]
      gap = pair[0][name] - pair[1][name]
      gaps.append(gap)
      if gap > most:
        error = np.hypot(*(row.get(f'{name}_se') or 0 for row in pair))
        missed.append(f'K={cell[0]} L={cell[1]} ({gap:+.2f} ± {error:.2f})')
    what = f'within {most:g} dB of' if most else 'ahead of'
    lines.append(
      f'{scheme}: {what} {other} in {name} in {len(cells) - len(missed)} of '
      f'{len(cells)} cells, by {min(gaps):+.2f} to {max(gaps):+.2f} dB'
      + (f'; not at {", ".join(missed)}' if missed else '')
    )
  return lines


def _beyond_the_bound(rows) -> list[str]:
  """Where trials miss more than by Proposition 4, proved for iid labels."""
  lines = []
  for scheme in RACES:
    own = [r for r in rows if r['scheme'] == scheme]
    own = [r for r in own if r.get('error_bound') is not None]
    if own:
      beyond = sum(
        r['error_rate'] > r['error_bound'] + 5 * r['error_rate_se'] for r in own
      )
      lines.append(
        f'{scheme}: P[error] above Proposition 4 in {beyond} of {len(own)} rows'
      )
  return lines


def _below_no_message(rows) -> list[str]:
  """Where the mean squared error stays below that of no message."""
  table = {
    (r['scheme'], r['num_decoders'], r['num_messages']): r['mse_db']
    for r in rows
  }
  lines = []
  for scheme in (*RACES, *LATTICES):
    own = [place for place in table if place[0] == scheme and place[2] >= 4]
    own = [p for p in own if ('no_message', p[1], 1) in table]
    if own:
      below = [p for p in own if table[p] < table['no_message', p[1], 1]]
      lines.append(
        f'{scheme}: MSE below no message in {len(below)} of {len(own)} rows '
        'of at least 2 bits'
      )
  return lines


def plot(rows: list[dict], path) -> None:
  """Fig. 2 of the paper and its twin in mean squared error, a column per K.

  Thin lines in the latter are the mean (dotted) and the worst decoder (dashed).
  """
  counts = sorted({row['num_decoders'] for row in rows})
  with plots.figure(path, size=(2.6 * len(counts) + 1.6, 6.0)) as canvas:
    axes = canvas.subplots(2, len(counts), sharex=True, squeeze=False)
    for column, n in enumerate(counts):
      here = [row for row in rows if row['num_decoders'] == n]
      for ax, name in zip(axes[:, column], ('mean_db', 'mse_db')):
        _draw(ax, here, name)
      axes[0, column].set_title(f'K = {n}')
      axes[1, column].set_xlabel('bits per message')
    axes[0, 0].set_ylabel('mean of decibels')
    axes[1, 0].set_ylabel(
      'mean squared error, dB;\nthin: mean and worst decoder'
    )
    for ax in axes[:, -1]:
      plots.name_curves(ax)


def _draw(ax, rows, name):
  for scheme, curve in _CURVES.items():
    part = [r for r in rows if r['scheme'] == scheme and name in r]
    if not part:
      continue
    bits = np.log2([r['num_messages'] for r in part])
    errors = [r.get(name + '_se') for r in part]
    curve.draw(ax, bits, [r[name] for r in part], errors)
    if scheme in _SPREAD and name == 'mse_db' and part[0]['num_decoders'] > 1:
      for column, line in (('average_mse_db', ':'), ('worst_mse_db', '--')):
        values = [r[column] for r in part]
        ax.plot(bits, values, ls=line, lw=0.8, color=curve.color)
  for row in rows:
    if row['scheme'] == 'no_message':
      ax.axhline(row[name], color='0.5', linestyle='-.', label='no message')


run = Experiment(
  FIELDS,
  _prepare,
  as_text,
  {'rate_distortion.png': plot},
  may_change=('config.repeats', 'config.cpu_devices'),
)
