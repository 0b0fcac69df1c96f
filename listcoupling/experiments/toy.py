"""Toy laws: Fig. 6 of Rowan, Phan, Khisti (arXiv 2506.05632), and more.

Mean acceptance over random pairs of laws against the number of drafts K: GLS
sampled, exact and bounded (Theorem 1), the shared-race list, SpecInfer and
SpecTr sampled, and the largest acceptance any scheme can have, with and
without replacement. Standard errors are over pairs: they tell how far another
set of pairs would be, while the methods of one table see the same pairs.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import (
  bounds,
  coupling,
  gumbel,
  rejection,
  weighted_minhash,
)
from listcoupling.experiments import cells, plots, results

SAMPLED = ('gls', 'shared_race', 'specinfer', 'spectr')
COMPUTED = (
  'gls_exact',
  'gls_bound',
  'optimum',
  'optimum_without_replacement',
)
METHODS = SAMPLED + COMPUTED
PAIRS = ('dirichlet', 'peaked')
_SHORT = {'optimum_without_replacement': 'optimum, top-K'}


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  for name in ('num_pairs', 'num_atoms', 'trials'):
    if not isinstance(config[name], int) or config[name] < 2:
      raise ValueError(f'{name} must be an int >= 2, got {config[name]!r}.')
  if not config.num_drafts or min(config.num_drafts) < 1:
    raise ValueError(
      f'num_drafts must hold numbers >= 1, got {config.num_drafts}.'
    )
  if config.pairs not in PAIRS:
    raise ValueError(f'pairs must be one of {PAIRS}, got {config.pairs!r}.')


def random_pairs(seed: int, config) -> tuple[np.ndarray, np.ndarray]:
  """Pairs of laws p, q, each [num_pairs, N] float32.

  'dirichlet': both Dirichlet(1), independent. 'peaked': q ~ exp(3 z) and
  p ~ exp(3 z + e) with z, e standard normal.
  """
  rng = np.random.default_rng(seed)
  shape = (config.num_pairs, config.num_atoms)
  if config.pairs == 'dirichlet':
    laws = rng.standard_exponential((2, *shape))
  else:
    z, e = rng.standard_normal((2, *shape))
    laws = np.exp(np.stack([3 * z + e, 3 * z]))
  p, q = laws / laws.sum(axis=-1, keepdims=True)
  return p.astype(np.float32), q.astype(np.float32)


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
      jnp.any((order == first) & (jnp.arange(p.size) < num_drafts)),
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
  key = jax.random.fold_in(jax.random.key(seed), num_drafts)
  rates = np.asarray(
    _sampled(
      key,
      p,
      q,
      num_drafts,
      trials=config.trials,
      width=max(config.num_drafts),
    ),
    np.float64,
  )
  values = np.concatenate([rates, _computed(p, q, num_drafts)], axis=1)
  table = {}
  for name, column in zip(METHODS, values.T, strict=True):
    table[name] = column.mean()
    table[f'{name}_se'] = column.std(ddof=1) / np.sqrt(len(column))
  # What sampling alone leaves between gls and gls_exact.
  variance = rates[:, 0] * (1 - rates[:, 0]) / config.trials
  table['gls_sampling_se'] = np.sqrt(variance.sum()) / len(variance)
  return table


def run(config, workdir, seed: int) -> list[dict]:
  """Fills the table row by row and plots it.

  Writes results.csv, results.json and toy.png into `workdir`. Rows that a
  previous run with the same settings and seed left there are kept.

  Args:
    config: see configs/toy.py.
    workdir: directory, made if absent.
    seed: of the pairs and of all noise.

  Returns:
    The rows, by K.

  Raises:
    ValueError: for settings that make no sense, or a workdir of others.
  """
  check_config(config)
  workdir = pathlib.Path(workdir)
  settings = results.plain({'config': config, 'seed': seed})
  rows = cells.fill(
    workdir,
    settings,
    [(k, k) for k in sorted(set(config.num_drafts))],
    functools.partial(row, seed, config),
    table='results.csv',
    key='num_drafts',
  )
  plots.toy(rows, workdir / 'toy.png')
  return rows


def as_text(rows: list[dict]) -> str:
  """The table as aligned text."""
  lines = [
    '  K ' + ''.join(f'{_SHORT.get(name, name):>15}' for name in METHODS)
  ]
  for entry in rows:
    values = (f'{entry[m]:8.4f} ±{entry[f"{m}_se"]:.4f}' for m in METHODS)
    lines.append(f'{entry["num_drafts"]:3d} ' + ''.join(values))
  return '\n'.join(lines)


def coupling_table(
  seed: int, *, num_atoms: int = 10, num_drafts: int = 4, trials: int = 2000
) -> str:
  """How often each coupling matches on one pair of Dirichlet(1) laws.

  Args:
    seed: of the pair and of all noise.
    num_atoms: N.
    num_drafts: K of the lists.
    trials: draws per coupling.

  Returns:
    Lines of text: sampled rate with its standard error beside what theory
    says ('>=' a bound), and the bits sent.

  Example:
    >>> table = coupling_table(0, trials=10)  # doctest: +SKIP
  """
  p, q = np.random.default_rng(seed).dirichlet(np.ones(num_atoms), 2)
  logits = jnp.log(jnp.array([p, q], jnp.float32))
  keys = jax.random.split(jax.random.key(seed), trials)
  count = num_drafts
  largest = 1 - bounds.total_variation(p, q)
  pairs = (
    ('maximal', rejection.maximal_coupling, largest),
    ('low communication', None, largest),
    (
      'Gumbel',
      coupling.gumbel_coupling,
      bounds.gumbel_coupling_probability(p, q),
    ),
    (
      'Weighted MinHash',
      weighted_minhash.weighted_minhash_coupling,
      bounds.weighted_minhash_probability(p, q),
    ),
  )
  optimum = bounds.optimal_list_acceptance
  lists = (
    (
      'GLS',
      coupling.gumbel_list_sampling,
      bounds.list_matching_probability(p, q, count),
    ),
    ('SpecInfer', rejection.specinfer_step, None),
    ('SpecTr', rejection.spectr_step, None),
    ('optimum, iid drafts', None, optimum(p, q, count)),
    ('shared-race list', coupling.shared_race_list_sampling, None),
    ('optimum, top-K', None, optimum(p, q, count, replace=False)),
  )
  lines = [
    f'One pair of Dirichlet(1) laws on {num_atoms} atoms, TV = '
    f'{1 - float(largest):.4f}, {trials} draws, seed {seed}',
    f'{"coupling":<22}{"K":>3}{"sampled":>18}{"theory":>10}{"bits":>8}',
  ]
  low = functools.partial(
    weighted_minhash.low_communication_coupling, max_bits=200
  )
  for name, function, theory in pairs:
    lines.append(_line(name, 1, function or low, theory, keys, logits))
  for name, function, theory in lists:
    if function is not None:
      function = functools.partial(function, num_drafts=count)
    lines.append(_line(name, count, function, theory, keys, logits))
  return '\n'.join(lines)


def _line(name, num_drafts, function, theory, keys, logits) -> str:
  rate, bits = '', ''
  if function is not None:
    mapped = jax.jit(jax.vmap(function, (0, None, None)))
    sample = mapped(keys, *logits)
    if not hasattr(sample, 'is_match'):
      sample, sent = sample
      bits = f'{float(jnp.mean(sent)):.1f}'
    mean = float(jnp.mean(sample.is_match))
    rate = f'{mean:.4f} ± {np.sqrt(mean * (1 - mean) / len(keys)):.4f}'
  theory = '' if theory is None else f'{float(theory):.4f}'
  return f'{name:<22}{num_drafts:>3}{rate:>18}{theory:>10}{bits:>8}'
