"""Couplings on laws by hand, sampled beside what theory says.

`run` is Fig. 6 of Rowan, Phan, Khisti (arXiv 2506.05632), and more: mean
acceptance over random pairs of laws against the number of drafts K: GLS
sampled, exact and bounded (Theorem 1), the shared-race list, SpecInfer and
SpecTr sampled, and the largest acceptance any scheme can have, with and
without replacement. Standard errors are over pairs: they tell how far another
set of pairs would be, while the methods of one table see the same pairs.

`coupling_table` has every coupling on one pair.

Legend: N atoms, K drafts, W the largest K.
"""

import functools
import math
import textwrap

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import (
  bounds,
  coupling,
  gumbel,
  rejection,
  standard_errors,
  tables,
  weighted_minhash,
)
from listcoupling.config_fields import Field
from listcoupling.experiments import plots
from listcoupling.experiments.plots import Curve
from listcoupling.experiments.run import Experiment
from listcoupling.gumbel import Domain
from listcoupling.tables import Column

SAMPLED = ('gls', 'shared_race', 'specinfer', 'spectr')
_largest = bounds.optimal_list_acceptance
# Exact values and bounds, from probabilities.
COMPUTED = {
  'gls_exact': bounds.list_matching_probability,
  'gls_bound': bounds.list_matching_bound,
  'optimum': _largest,
  'optimum_without_replacement': functools.partial(_largest, replace=False),
}
METHODS = (*SAMPLED, *COMPUTED)
PAIRS = ('dirichlet', 'peaked')
FIELDS = {
  'pairs': Field(str, among=PAIRS),
  'num_pairs': Field(int, least=2),
  'num_atoms': Field(int, least=2),
  'num_drafts': Field(int, least=1, many=True),
  'trials': Field(int, least=2),
}
# Lines are computed, markers sampled.
CURVES = {
  'optimum_without_replacement': Curve('optimum, top-K', plots.BLACK, ':'),
  'optimum': Curve('optimum, iid drafts', plots.BLACK),
  'shared_race': Curve('shared-race list', plots.GREEN, marker='s'),
  'spectr': Curve('SpecTr', plots.SKY, None, '^'),
  'specinfer': Curve('SpecInfer', plots.ORANGE, None, 'v'),
  'gls': Curve('GLS, sampled', plots.RED, None, 'o', hollow=True),
  'gls_exact': Curve('GLS, exact', plots.RED),
  'gls_bound': Curve('GLS, Theorem 1', plots.RED, '--'),
}
COLUMNS = (
  Column('K', 'num_drafts'),
  Column('GLS', 'gls', '.3f'),
  Column('shared race', 'shared_race', '.3f'),
  Column('SpecInfer', 'specinfer', '.3f'),
  Column('SpecTr', 'spectr', '.3f'),
  Column('GLS exact', 'gls_exact', '.4f', error=False),
  Column('bound', 'gls_bound', '.4f', error=False),
  Column('optimum', 'optimum', '.4f', error=False),
  Column('top-K', 'optimum_without_replacement', '.4f', error=False),
)
LEGEND = textwrap.fill(
  'Mean acceptance over pairs of laws, sampled, then computed. bound: of GLS, '
  'Theorem 1; optimum: of iid drafts; top-K: of drafts without replacement. ± '
  'is the standard error over pairs, in results.csv of every column: how far '
  'another set of pairs would be, not what sampling leaves; all methods see '
  'the same pairs.',
  width=79,
)
_COUPLING_LEGEND = textwrap.fill(
  '± is the standard error of sampling; theory is exact, blank where none is '
  'known; bits: sent in all, on average. top-K: drafts without replacement.',
  width=79,
)


def random_pairs(seed: int, config) -> tuple[jax.Array, jax.Array]:
  """Pairs of laws p, q, each [num_pairs, N] float32.

  'dirichlet': both Dirichlet(1), independent. 'peaked': q ~ exp(3 z) and
  p ~ exp(3 z + e) with z, e standard normal.
  """
  key = gumbel.domain_key(gumbel.seed_key(seed), Domain.LAWS)
  shape = 2, config.num_pairs, config.num_atoms
  if config.pairs == 'dirichlet':
    laws = gumbel.exponential(key, math.prod(shape)).reshape(shape)
  else:
    z, e = jax.random.normal(key, shape, jnp.float32)
    laws = jnp.exp(jnp.stack([3 * z + e, 3 * z]))
  p, q = laws / laws.sum(axis=-1, keepdims=True)
  return p, q


def _trial(key, p, q, num_drafts, *, width):
  """Whether each of `SAMPLED` accepts; K <= width is traced."""
  live = jnp.arange(width) < num_drafts  # [W]
  log_p, log_q = jnp.log(p), jnp.log(q)
  noise = gumbel.exponential_streams(key, p.size, width)  # [W, N]
  proposals = gumbel.race(noise, log_p[None])  # iid from p
  mine = jnp.where(live[:, None], noise, jnp.inf)
  gls = gumbel.race(gumbel.earliest(mine), log_q)
  order = jnp.argsort(gumbel.arrival_times(noise[0], log_p))
  first = gumbel.race(noise[0], log_q)
  is_first = order == first.astype(order.dtype)
  # Rejection schemes: the verifier's noise is not the drafts'.
  judge = (
    gumbel.uniform(key, width, gumbel.ACCEPT),
    gumbel.exponential(key, p.size, gumbel.RESIDUAL),
    live,
  )
  drafts = jnp.broadcast_to(p, noise.shape)
  return jnp.stack(
    [
      jnp.any(live & (proposals == gls)),
      jnp.any(is_first & (jnp.arange(p.size) < num_drafts)),
      rejection.specinfer_accept(proposals, drafts, q, *judge)[1],
      rejection.spectr_accept(proposals, p, q, *judge)[1],
    ]
  )


@functools.partial(jax.jit, static_argnames=('trials', 'width'))
def _sampled(key, p, q, num_drafts, *, trials, width):
  """Acceptance rates [pairs, len(SAMPLED)]."""

  def one_pair(pair):
    key, p, q = pair
    keys = jax.random.split(key, trials)
    accepted = jax.vmap(
      functools.partial(_trial, width=width), (0, None, None, None)
    )(keys, p, q, num_drafts)
    return jnp.mean(accepted, axis=0, dtype=jnp.float32)

  return jax.lax.map(one_pair, (jax.random.split(key, len(p)), p, q))


def _computed(p, q, num_drafts) -> np.ndarray:
  """Values of `COMPUTED`, [pairs, len(COMPUTED)]."""
  values = []
  for name, function in COMPUTED.items():
    count = num_drafts
    if name == 'optimum_without_replacement':
      count = min(count, p.shape[1])  # more draws than atoms add nothing
    values.append(jax.vmap(functools.partial(function, num_drafts=count))(p, q))
  return np.stack(values, axis=-1)


def row(seed: int, config, num_drafts: int) -> dict:
  """One row of the table: means over pairs and their standard errors."""
  p, q = random_pairs(seed, config)
  key = gumbel.domain_key(gumbel.seed_key(seed), Domain.TRIALS, num_drafts)
  width = max(config.num_drafts)
  rates = np.asarray(
    _sampled(key, p, q, num_drafts, trials=config.trials, width=width),
    np.float64,
  )
  values = np.concatenate([rates, _computed(p, q, num_drafts)], axis=1)
  table = standard_errors.means(dict(zip(METHODS, values.T, strict=True)))
  # What sampling alone leaves between gls and gls_exact.
  errors = [
    standard_errors.binomial_error(rate, config.trials) for rate in rates[:, 0]
  ]
  table['gls_sampling_se'] = float(np.linalg.norm(errors) / len(errors))
  return table


def _prepare(config, seed):
  def fill(record):
    jobs = {count: count for count in sorted(config.num_drafts)}
    compute = functools.partial(row, seed, config)
    return record.rows(jobs, compute, key='num_drafts')

  return {}, fill


# Mean acceptance against the number of drafts K.
plot = functools.partial(
  plots.columns,
  x='num_drafts',
  curves=CURVES,
  labels=(
    'number of drafts $K$ (points a little apart)',
    'mean acceptance, one standard error over pairs',
  ),
  doubling=True,
  size=(4.4, 3.4),
)


def as_text(rows) -> str:
  """The table for a terminal, and what ± is."""
  return f'{tables.as_text(rows, COLUMNS)}\n\n{LEGEND}'


run = Experiment(FIELDS, _prepare, as_text, {'toy.png': plot})

_COUPLING_COLUMNS = (
  Column('coupling', 'coupling'),
  Column('K', 'num_drafts'),
  Column('sampled', 'sampled', '.4f'),
  Column('theory', 'theory', '.4f'),
  Column('bits', 'bits', '.1f'),
)
_low = functools.partial(
  weighted_minhash.low_communication_coupling, max_bits=200
)
_minhash = weighted_minhash.weighted_minhash_coupling


def _overlap(p, q):
  return 1 - bounds.total_variation(p, q)


# K, what draws, and what theory says of the matches; None is unknown.
_SCHEMES = {
  'maximal': (1, rejection.maximal_coupling, _overlap),
  'low communication': (1, _low, _overlap),
  'Gumbel': (1, coupling.gumbel_coupling, bounds.gumbel_coupling_probability),
  'Weighted MinHash': (1, _minhash, bounds.weighted_minhash_probability),
  'GLS': (4, coupling.gumbel_list_sampling, COMPUTED['gls_exact']),
  'SpecInfer': (4, rejection.specinfer_step, bounds.specinfer_probability),
  'SpecTr': (4, rejection.spectr_step, bounds.spectr_probability),
  'optimum, iid drafts': (4, None, COMPUTED['optimum']),
  'shared-race list': (4, coupling.shared_race_list_sampling, None),
  'optimum, top-K': (4, None, COMPUTED['optimum_without_replacement']),
}
_BATCH = 10_000  # draws at a time


def coupling_table(seed: int, *, trials: int = 2000) -> str:
  """How often each coupling matches on one pair of Dirichlet(1) laws.

  Args:
    seed: of the pair and of all noise.
    trials: draws per coupling.

  Returns:
    Lines of text: sampled rate with its standard error beside what theory
    says, and the bits sent.
  """
  num_atoms = 10
  key = gumbel.seed_key(seed)
  laws_key = gumbel.domain_key(key, Domain.LAWS, num_atoms)
  laws = gumbel.exponential(laws_key, 2 * num_atoms).reshape(2, num_atoms)
  p, q = laws / laws.sum(axis=-1, keepdims=True)
  # A list of 0 is no row of `run`, whose trials hang from their K.
  keys = jax.random.split(gumbel.domain_key(key, Domain.TRIALS, 0), trials)
  rows = []
  for name, (count, draw, theory) in _SCHEMES.items():
    lists = {} if count == 1 else {'num_drafts': count}
    row = {'coupling': name, 'num_drafts': count}
    if draw is not None:
      row |= _drawn(functools.partial(draw, **lists), keys, p, q)
    if theory is not None:
      row['theory'] = float(theory(p, q, **lists))
    rows.append(row)
  return (
    f'One pair of Dirichlet(1) laws on {num_atoms} atoms, TV = '
    f'{float(bounds.total_variation(p, q)):.4f}, {trials} draws, seed {seed}\n'
    f'{tables.as_text(rows, _COUPLING_COLUMNS)}\n\n{_COUPLING_LEGEND}'
  )


def _drawn(function, keys, p, q) -> dict:
  """Share of draws that match, with its error; mean bits if any are sent."""
  logits = jnp.log(p), jnp.log(q)

  @jax.jit
  def draw(keys):
    return jax.lax.map(lambda k: function(k, *logits), keys, batch_size=_BATCH)

  sample = draw(keys)
  row = {}
  if not hasattr(sample, 'is_match'):
    sample, bits = sample
    row['bits'] = float(jnp.mean(bits))
  rate = float(np.mean(sample.is_match))
  error = standard_errors.binomial_error(rate, len(keys))
  return row | {'sampled': rate, 'sampled_se': error}
