"""Tables of the Gaussian source: Rowan, Phan, Khisti (2025), section 5.

Every (scheme, K, L) has its variance v of the test channel (and its width of
intervals) chosen on selection trials and is then evaluated on trials of
another key, so that the best of many is not reported by its luck. Trials of
one key share source, side information, candidates and races across settings.
The races are simulated in law by their first arrivals
(`compression.poisson_functional`).

A job is one scheme at one setting; jobs of any kind give the same sums over
trials (`distortion.moments`), which add over chunks and repeats and are kept on
disk: a run that was stopped goes on where it was.

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

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from listcoupling import bounds, tables
from listcoupling.compression import (
  distortion,
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
from listcoupling.together import leads

SELECTED = {  # scheme: (selected by, kind)
  'gls': ('mean_db', 'random'),
  'shared_race': ('mean_db', 'shared'),
  'interval': ('mean_db', 'interval'),
  'interval_mse': ('mse_db', 'interval'),
  'interval_groups': ('mean_db', 'interval_groups'),
  'interval_groups_mse': ('mse_db', 'interval_groups'),
  'lattice': ('mean_db', 'lattice'),
  'lattice_mse': ('mse_db', 'lattice'),
  'lattice_blind': ('mse_db', 'lattice_blind'),
  'seed_aware': ('mean_db', 'seed_aware'),
  'modulo': ('mean_db', 'modulo'),
  'modulo_mse': ('mse_db', 'modulo'),
}
SCHEMES = ('no_message', *SELECTED, 'limit')
SPREAD = 1.6, 1.25  # of source and noise
CELL_POINTS = 32  # of a cell's conditional mean, in one dimension


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
    """Of `_STAGES`; its jobs run together: all races share their arrivals."""
    stage = self.kind.removesuffix('_blind')
    return stage if stage in _STAGES else 'races'


def _schemes(config) -> list[str]:
  """Those that choose a setting."""
  return [scheme for scheme in config.schemes if scheme in SELECTED]


def candidates(config) -> list[Job]:
  """Every setting that selection looks at."""
  grids = {
    'interval': itertools.product(config.interval_variances, config.periods),
    'modulo': itertools.product((1.0,), config.periods),
    'lattice': itertools.product(
      (1.0,), config.lattice_periods, (0, 1), config.believed_variances
    ),
    'iid': itertools.product(config.test_variances, (1.0,)),
  }
  grids = {name: list(grid) for name, grid in grids.items()}
  kinds = sorted({SELECTED[scheme][1] for scheme in _schemes(config)})
  return [
    Job(kind, count, *setting)
    for count, kind in itertools.product(config.num_messages, kinds)
    for setting in grids.get(kind.split('_')[0], grids['iid'])
  ]


def run_jobs(key, trials, jobs, config, *, complete) -> np.ndarray:
  """Sums [J, K, NUM_SUMS] of jobs of any kind on the trials [R] (integers)."""
  num_decoders = max(config.num_decoders)
  jobs = [
    Job(*job[:2], *(np.broadcast_to(x, num_decoders) for x in job[2:]))
    for job in jobs
  ]
  sums = np.zeros((len(jobs), num_decoders, distortion.NUM_SUMS))
  for name in sorted({job.stage for job in jobs}):
    rows = [i for i, job in enumerate(jobs) if job.stage == name]
    part = [jobs[i] for i in rows]
    sums[rows] = _STAGES[name][0](key, trials, part, config, complete)
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
  """Sums [J, K, NUM_SUMS] of the codec; a job's variance, period are [K]."""
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
  return distortion.moments(out.squared_error, out.is_match, bound)


def _lattice(key, trials, jobs, config, complete):
  """Sums [J, K, NUM_SUMS]; each number of decoders has a code of its own.

  A failure may be rarer than one in all selection trials and yet decide the
  mean squared error: there they are drawn more often and weighted back.
  """
  num_decoders = jobs[0].period.size
  spread = (1.0, 1.0) if complete else SPREAD
  sums = np.empty((len(jobs), num_decoders, distortion.NUM_SUMS))
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
    sums[j, n] = distortion.moments(error, weight=weight)
  return sums


def _modulo(key, trials, jobs, config, complete):
  """Sums [J, K, NUM_SUMS]; a job has one width per number of decoders."""
  del complete

  @functools.cache
  def errors(num_messages, period):
    return gaussian_baselines.modulo_quantiser(
      key, trials, num_messages, period / num_messages, config.side_variance,
      num_decoders=max(config.num_decoders),
    )  # fmt: skip

  return _of_each_n(trials, jobs, 'period', errors)


def _seed_aware(key, trials, jobs, config, complete):
  """Sums [J, K, NUM_SUMS]; every variance serves all numbers of messages."""
  del complete
  counts = tuple(config.num_messages)

  @functools.cache
  def by_messages(v):
    return gaussian_baselines.seed_aware(
      key, trials, v, config.side_variance, num_messages=counts,
      num_decoders=max(config.num_decoders),
      num_candidates=config.num_candidates,
    )  # fmt: skip

  return _of_each_n(
    trials,
    jobs,
    'test_variance',
    lambda count, v: by_messages(v)[:, counts.index(count)],
  )


def _of_each_n(trials, jobs, name, simulate) -> np.ndarray:
  """Sums [J, K, NUM_SUMS] of decoders that know no n, which has its own value.

  Args:
    trials: [R].
    jobs: [J].
    name: of the field [K] of a job that is simulated.
    simulate: (L, a value of it) -> squared errors [R, K].
  """
  num_decoders = getattr(jobs[0], name).size
  shape = len(trials), len(jobs), num_decoders, num_decoders
  errors = np.full(shape, np.nan)
  for j, job in enumerate(jobs):
    for n, value in enumerate(getattr(job, name).tolist()):
      each = np.asarray(simulate(job.num_messages, value))
      errors[:, j, n, : n + 1] = each[:, : n + 1]
  return distortion.moments(errors)


# Stage: sums of its jobs, and the field of the number of their trials.
_STAGES = {
  'races': (_races, 'trials'),
  'seed_aware': (_seed_aware, 'seed_aware_trials'),
  'modulo': (_modulo, 'trials'),
  'lattice': (_lattice, 'lattice_trials'),
}


_COUNTS = Field(int, least=1, many=True)
_POSITIVE = Field(float, above=0, many=True)
_TRIALS = Field(int, least=2)
FIELDS = {
  'num_decoders': _COUNTS,
  'num_messages': _COUNTS,
  'schemes': Field(str, among=SCHEMES, many=True),
  'test_variances': _POSITIVE,
  'interval_variances': _POSITIVE,
  'periods': _POSITIVE,
  'lattice_periods': _POSITIVE,
  'believed_variances': _POSITIVE,
  'num_candidates': _TRIALS,
  'side_variance': Field(float, above=0),
  'selection_trials': _TRIALS,
  'trials': _TRIALS,
  'seed_aware_trials': _TRIALS,
  'lattice_trials': _TRIALS,
  'repeats': Field(int, least=1),
  'chunk': _TRIALS,
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
_EXPECTED = (
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
    one = functools.partial(run_repeat, config, record, seed)
    record.deal(range(config.repeats), one)
    repeats = []
    for i in range(config.repeats):
      repeats.append(one(i))
      rows = make_rows(config, repeats)
      record.write(rows)
    record.note(table=rows)
    return rows

  return {}, fill


def trial_keys(seed: int, repeat: int) -> tuple[jax.Array, jax.Array]:
  """Typed keys of the selection's and of the evaluation's trials."""
  key = domain_key(seed_key(seed), Domain.REPEAT, repeat)
  return domain_key(key, Domain.SELECTION), domain_key(key, Domain.ASSESSMENT)


def accumulate(
  record: Run, name: str, key, total: int, jobs, config, *, complete: bool
) -> np.ndarray:
  """Sums [J, K, NUM_SUMS] over `total` trials, kept after each chunk of them.

  Args:
    record: where the sums so far are kept.
    name: under which.
    key: typed key of the trials.
    total: number of trials.
    jobs: what to run.
    config: see configs/gaussian.py.
    complete: see `poisson_functional.simulate`.
  """
  kept = record.load(name) or {'done': 0, 'sums': 0.0}
  done, sums = int(kept['done']), kept['sums']
  with tqdm.tqdm(
    total=total,
    initial=done,
    desc=name,
    unit='trial',
    disable=done == total or not leads(),
  ) as bar:
    while done < total:
      stop = min(done + config.chunk, total)
      trials = np.arange(done, stop)
      sums = sums + run_jobs(key, trials, jobs, config, complete=complete)
      bar.update(stop - done)
      done = stop
      record.save(name, {'done': done, 'sums': sums})
  return sums


def select(jobs, sums, config) -> dict[tuple[str, int], Job]:
  """The best setting of each (scheme, L); variance and period are [K]."""
  chosen = {}
  for scheme, count in itertools.product(_schemes(config), config.num_messages):
    score, kind = SELECTED[scheme]
    rows = [i for i, job in enumerate(jobs) if job[:2] == (kind, count)]
    best = []
    for each in sums[rows].swapaxes(0, 1):  # [jobs, NUM_SUMS] of each n
      place = distortion.choose(list(map(distortion.figures, each)), score)
      best.append(jobs[rows[place]][2:])
    chosen[scheme, count] = Job(kind, count, *map(np.array, zip(*best)))
  return chosen


def run_repeat(config, record: Run, seed: int, repeat: int):
  """Selects the settings and evaluates them.

  Args:
    config: see configs/gaussian.py.
    record: where the sums of each stage are kept.
    seed: of every random number.
    repeat: from 0.

  Returns:
    Chosen jobs by (scheme, L), variance and period [K]; and sums [K, NUM_SUMS]
    on the trials of the evaluation, those without a message at L = 1.
  """
  selection_key, key = trial_keys(seed, repeat)
  evaluated, chosen, jobs = {}, {}, candidates(config)

  def sums(stage, *args, complete):
    name = f'{stage}_{repeat}'
    return accumulate(record, name, *args, config, complete=complete)

  if 'no_message' in config.schemes:
    error = gaussian.simulate_no_message(
      key, num_trials=config.trials, num_decoders=max(config.num_decoders),
      side_variance=config.side_variance,
    )  # fmt: skip
    error = distortion.by_list_size(error)
    evaluated['no_message', 1] = distortion.moments(error)
  if jobs:
    first = sums(
      'selection', selection_key, config.selection_trials, jobs, complete=False
    )
    chosen = select(jobs, first, config)
  for stage, (_, trials) in _STAGES.items():
    part = {place: job for place, job in chosen.items() if job.stage == stage}
    if part:
      jobs = list(part.values())
      found = sums(stage, key, config[trials], jobs, complete=True)
      evaluated |= zip(part, found)
  return chosen, evaluated


def make_rows(config, repeats) -> list[dict]:
  """Rows of the table, one per (scheme, n, L), from values of `run_repeat`."""
  rows = []
  places = itertools.product(config.num_messages, _schemes(config))
  places = [(scheme, count) for count, scheme in places]
  for n in config.num_decoders:
    for scheme, count in [('no_message', 1), *places]:
      if (scheme, count) not in repeats[0][1]:
        continue
      if scheme == 'shared_race' and n == 1:
        continue  # the same as gls
      sums = [evaluated[scheme, count][n - 1] for _, evaluated in repeats]
      jobs = [chosen.get((scheme, count)) for chosen, _ in repeats]
      rows.append(_row(scheme, n, count, sums, jobs))
  if 'limit' in config.schemes:
    rows += _limit_rows(config)
  return rows


def _row(scheme, num_decoders, num_messages, sums, jobs) -> dict:
  """One row from sums [NUM_SUMS] and the choice, or None, of every repeat."""
  row = {
    'scheme': scheme,
    'num_decoders': num_decoders,
    'num_messages': num_messages,
    'repeats': len(sums),
    'trials': int(sum(x[0] for x in sums)),
    **distortion.figures(np.sum(sums, 0)),
    'paper_mean_db': PAPER_DB.get((scheme, num_decoders, num_messages)),
  }
  if scheme == 'shared_race':  # Proposition 4 is about a race for each
    row.pop('error_bound', None)
  if jobs[0] is None:
    return row

  def shown(name, spec):
    numbers = (getattr(job, name)[num_decoders - 1] for job in jobs)
    return ' '.join(format(x, spec) for x in numbers)

  if jobs[0].stage in ('races', 'seed_aware'):
    row['test_variance'] = shown('test_variance', 'g')
  if not np.all(jobs[0].period == 1):
    row['period'] = shown('period', '.4g')
  if jobs[0].stage == 'lattice':
    row['believed_variance'] = shown('believed', 'g')
  return row


def _limit_rows(config) -> list[dict]:
  rows = []
  for n, count in itertools.product(config.num_decoders, config.num_messages):
    side = config.side_variance
    levels, known = count * n, 1 / (1 + n / side)
    limits = {
      'lloyd_max': gaussian_baselines.lloyd_max_mse(levels, known),
      'limit_list': gaussian_baselines.list_mse_limit(count, n, side),
    }
    if n == 1:
      limits['limit_wyner_ziv'] = gaussian_baselines.wyner_ziv_mse(count, side)
    for name, mse in limits.items():
      row = {'scheme': name, 'num_decoders': n, 'num_messages': count}
      row['mse_db'] = float(10 * np.log10(mse))
      if name == 'lloyd_max':
        row['mean_db'] = gaussian_baselines.log_quantiser_db(levels, known)
      rows.append(row)
  return rows


def as_text(rows) -> str:
  """The table for a terminal, and where it is not as it should be."""
  table = {(r['scheme'], r['num_decoders'], r['num_messages']): r for r in rows}
  lines = [tables.as_text(rows, COLUMNS)]
  lines += _below_no_message(table)
  lines += _beyond_the_bound(rows)
  lines += _met(table)
  return '\n'.join(lines)


def _below_no_message(table) -> Iterator[str]:
  """In how many rows a scheme has less error than without a message."""
  for scheme in SELECTED:
    below = []
    for (own, n, count), row in table.items():
      plain = table.get(('no_message', n, 1))
      if own == scheme and count >= 4 and plain is not None:
        below.append(row['mse_db'] < plain['mse_db'])
    if below:
      yield (
        f'{scheme}: MSE below no message in {sum(below)} of {len(below)} rows '
        'of at least 2 bits'
      )


def _beyond_the_bound(rows) -> Iterator[str]:
  """In how many rows with a bound, proved for iid labels, it is exceeded."""
  for scheme in SELECTED:
    beyond = []
    for row in rows:
      if row['scheme'] == scheme and row.get('error_bound') is not None:
        most = row['error_bound'] + 5 * row['error_rate_se']
        beyond.append(row['error_rate'] > most)
    if beyond:
      yield (
        f'{scheme}: P[error] above Proposition 4 in {sum(beyond)} of '
        f'{len(beyond)} rows'
      )


def _met(table) -> Iterator[str]:
  """Of how many settings (K, L) each of `_EXPECTED` holds, and of which not."""
  for scheme, name, other, most, with_one in _EXPECTED:
    gaps, missed = [], []
    for (own, n, count), row in table.items():
      beside = table.get((other, n, count))
      if own != scheme or beside is None or (n == 1 and not with_one):
        continue
      gaps.append(row[name] - beside[name])
      if gaps[-1] > most:
        error = np.hypot(*(x.get(f'{name}_se') or 0 for x in (row, beside)))
        missed.append(f'K={n} L={count} ({gaps[-1]:+.2f} ± {error:.2f})')
    if gaps:
      what = f'within {most:g} dB of' if most else 'ahead of'
      yield (
        f'{scheme}: {what} {other} in {name} in {len(gaps) - len(missed)} of '
        f'{len(gaps)} settings, by {min(gaps):+.2f} to {max(gaps):+.2f} dB'
        + (f'; not at {", ".join(missed)}' if missed else '')
      )


def plot(rows: list[dict], path) -> None:
  """Fig. 2 of the paper and its twin in mean squared error, a column per K.

  Thin lines in the latter are the mean (dotted) and the worst decoder (dashed).
  """
  kinds = {'mean_db': 'mean of decibels', 'mse_db': 'mean squared error'}
  shown = [
    row | {'kind': kind, 'bits': np.log2(row['num_messages'])}
    for kind in kinds
    for row in rows
    if row.get(kind) is not None
  ]
  with plots.panels(
    path,
    sorted(shown, key=lambda row: row['num_decoders']),
    'num_decoders',
    down='kind',
    title=lambda row: f'K = {row["num_decoders"]}, {kinds[row["kind"]]}',
    labels=('bits per message', 'dB; thin: mean and worst decoder'),
    sharey=False,
  ) as panels:
    for axes, own in panels:
      _draw(axes, own, own[0]['kind'])


def _draw(axes, rows, kind) -> None:
  for scheme, curve in _CURVES.items():
    own = [row for row in rows if row['scheme'] == scheme]
    if own:
      curve.of_rows(axes, own, 'bits', kind)
    if scheme in _SPREAD and kind == 'mse_db' and rows[0]['num_decoders'] > 1:
      curve.others(axes, own, 'bits', 'average_mse_db', 'worst_mse_db')
  for row in rows:
    if row['scheme'] == 'no_message':
      axes.axhline(row[kind], color='0.5', linestyle='-.', label='no message')


run = Experiment(
  FIELDS,
  _prepare,
  as_text,
  {'rate_distortion.png': plot},
  may_change=('config.repeats', 'config.cpu_devices'),
)
