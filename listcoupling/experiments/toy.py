"""Toy laws: Fig. 6 of Rowan, Phan, Khisti (arXiv 2506.05632), and more.

Mean acceptance over random pairs of laws against the number of drafts K: GLS
sampled, exact and bounded (Theorem 1), the shared-race list, SpecInfer and
SpecTr sampled, and the largest acceptance any scheme can have, with and
without replacement. Standard errors are over pairs: they tell how far another
set of pairs would be, while the methods of one table see the same pairs.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import (
  bounds,
  gumbel,
  rejection,
  tables,
)
from listcoupling.config_fields import Field
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment
from listcoupling.gumbel import Domain
from listcoupling.tables import Column

SAMPLED = ('gls', 'shared_race', 'specinfer', 'spectr')
COMPUTED = (
  'gls_exact',
  'gls_bound',
  'optimum',
  'optimum_without_replacement',
)
METHODS = SAMPLED + COMPUTED
PAIRS = ('dirichlet', 'peaked')
FIELDS = {
  'pairs': Field(str, among=PAIRS),
  'num_pairs': Field(int, least=2),
  'num_atoms': Field(int, least=2),
  'num_drafts': Field(int, least=1, many=True),
  'trials': Field(int, least=2),
}
COLUMNS = (
  Column('K', 'num_drafts'),
  *(
    Column(name.replace('_without_replacement', ', top-K'), name, '.4f')
    for name in METHODS
  ),
)
# Lines are computed, markers sampled.
_CURVES = {
  'optimum_without_replacement': plots.Curve(
    'optimum, without replacement', plots.BLACK, (0, (1, 1.5))
  ),
  'optimum': plots.Curve('optimum, iid drafts', plots.BLACK),
  'shared_race': plots.Curve('shared-race list', plots.GREEN, marker='s'),
  'spectr': plots.Curve('SpecTr', plots.SKY, None, '^'),
  'specinfer': plots.Curve('SpecInfer', plots.ORANGE, None, 'v'),
  'gls': plots.Curve('GLS, sampled', plots.RED, None, 'o'),
  'gls_exact': plots.Curve('GLS, exact', plots.RED),
  'gls_bound': plots.Curve('GLS, Theorem 1', plots.RED, '--'),
}


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
  limit = min(num_drafts, p.shape[1])  # more draws than atoms add nothing
  functions = (
    functools.partial(bounds.list_matching_probability, num_drafts=num_drafts),
    functools.partial(bounds.list_matching_bound, num_drafts=num_drafts),
    functools.partial(bounds.optimal_list_acceptance, num_drafts=num_drafts),
    functools.partial(
      bounds.optimal_list_acceptance, num_drafts=limit, replace=False
    ),
  )
  return np.stack([jax.vmap(f)(p, q) for f in functions], axis=-1)


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
  table = tables.means(dict(zip(METHODS, values.T, strict=True)))
  # What sampling alone leaves between gls and gls_exact.
  errors = [tables.binomial_error(rate, config.trials) for rate in rates[:, 0]]
  table['gls_sampling_se'] = float(np.linalg.norm(errors) / len(errors))
  return table


def _prepare(config, seed):
  def fill(run):
    jobs = {count: count for count in sorted(config.num_drafts)}
    compute = functools.partial(row, seed, config)
    return run.rows(jobs, compute, key='num_drafts')

  return {}, fill


def plot(rows: list[dict], path) -> None:
  """Mean acceptance against the number of drafts K."""
  counts = [row['num_drafts'] for row in rows]
  with plots.figure(path, size=(6.4, 3.8)) as canvas:
    axes = canvas.add_subplot()
    for name, curve in _CURVES.items():
      color = 'white' if name == 'gls' else curve.color
      values = [row[name] for row in rows]
      curve.draw(axes, counts, values, markerfacecolor=color)
    exact, error = (
      np.array([row[name] for row in rows])
      for name in ('gls_exact', 'gls_exact_se')
    )
    axes.fill_between(
      counts,
      exact - error,
      exact + error,
      color=plots.RED,
      alpha=0.15,
      linewidth=0,
    )
    axes.set_xlabel('number of drafts $K$')
    axes.set_ylabel('mean acceptance probability')
    few = len(counts) <= 8
    axes.set_xticks([k for k in counts if few or k == counts[0] or k % 5 == 0])
    axes.set_ylim(top=1.01)
    plots.legend(canvas)


TABLE = Experiment(
  FIELDS,
  _prepare,
  functools.partial(tables.as_text, columns=COLUMNS),
  {'toy.png': plot},
)
run = TABLE.run  # run(config, workdir, seed) -> rows
