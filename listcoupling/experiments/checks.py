"""Draws of the couplings and of their noise against what theory says.

Legend: N atoms, K drafts, V vocabulary.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from listcoupling import (
  bounds,
  coupling,
  gumbel,
  rejection,
  tables,
  weighted_minhash,
)
from listcoupling.gumbel import Domain
from listcoupling.tables import Column

EXACT_COLUMNS = (
  Column('law', 'law'),
  Column('K', 'num_drafts'),
  Column('sampled', 'sampled', '.5f'),
  Column('exact', 'exact', '.5f'),
  Column('bound', 'bound', '.5f'),
  Column('z', 'z', '.2f'),
)
TAIL_COLUMNS = (
  Column('noise', 'noise'),
  Column('draws', 'draws'),
  Column('tail', 'tail', '.5f'),
  Column('z', 'z', '.1f'),
  Column('spread, p', 'spread', '.3g'),
)
_BATCH = 10_000  # draws at a time
_VOCAB, _TAIL = 151_936, 0.01


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
  key = gumbel.seed_key(seed)
  laws_key = gumbel.domain_key(key, Domain.LAWS, num_atoms)
  laws = gumbel.exponential(laws_key, 2 * num_atoms).reshape(2, num_atoms)
  p, q = laws / laws.sum(axis=-1, keepdims=True)
  keys = jax.random.split(gumbel.domain_key(key, Domain.TRIALS), trials)
  rows = []
  for name, count, function, theory in _couplings(p, q, num_drafts):
    row = {'coupling': name, 'num_drafts': count, 'theory': theory}
    if function is not None:
      row |= _sampled_coupling(function, keys, jnp.log(p), jnp.log(q))
    rows.append(row)
  columns = (
    Column('coupling', 'coupling'),
    Column('K', 'num_drafts'),
    Column('sampled', 'sampled', '.4f'),
    Column('theory', 'theory', '.4f'),
    Column('bits', 'bits', '.1f'),
  )
  return (
    f'One pair of Dirichlet(1) laws on {num_atoms} atoms, TV = '
    f'{float(bounds.total_variation(p, q)):.4f}, {trials} draws, seed {seed}\n'
    + tables.as_text(rows, columns)
  )


def _couplings(p, q, num_drafts):
  """Yields name, K, sampler (or None) and what theory says (or None)."""
  largest = 1 - float(bounds.total_variation(p, q))
  yield 'maximal', 1, rejection.maximal_coupling, largest
  low = functools.partial(
    weighted_minhash.low_communication_coupling, max_bits=200
  )
  yield 'low communication', 1, low, largest
  exact = float(bounds.gumbel_coupling_probability(p, q))
  yield 'Gumbel', 1, coupling.gumbel_coupling, exact
  exact = float(bounds.weighted_minhash_probability(p, q))
  yield 'Weighted MinHash', 1, weighted_minhash.weighted_minhash_coupling, exact
  lists = (
    ('GLS', coupling.gumbel_list_sampling, bounds.list_matching_probability),
    ('SpecInfer', rejection.specinfer_step, None),
    ('SpecTr', rejection.spectr_step, None),
    ('optimum, iid drafts', None, bounds.optimal_list_acceptance),
    ('shared-race list', coupling.shared_race_list_sampling, None),
    (
      'optimum, top-K',
      None,
      functools.partial(bounds.optimal_list_acceptance, replace=False),
    ),
  )
  for name, function, theory in lists:
    if function is not None:
      function = functools.partial(function, num_drafts=num_drafts)
    value = None if theory is None else float(theory(p, q, num_drafts))
    yield name, num_drafts, function, value


def _sampled_coupling(function, keys, log_p, log_q) -> dict:
  sample = jax.jit(jax.vmap(function, (0, None, None)))(keys, log_p, log_q)
  row = {}
  if not hasattr(sample, 'is_match'):
    sample, bits = sample
    row['bits'] = float(jnp.mean(bits))
  rate = float(jnp.mean(sample.is_match))
  return row | {
    'sampled': rate,
    'sampled_se': tables.binomial_error(rate, len(keys)),
  }


def exact_rows(seed: int, *, trials: int) -> list[dict]:
  """Matches of GLS, drawn and exact, on laws of several kinds.

  Args:
    seed: of the laws and the draws.
    trials: draws per row.

  Returns:
    A row for each pair of laws and each K: `sampled` with its standard error,
    `exact`, `bound` (Theorem 1), and `z`, sampled minus exact in standard
    errors.
  """
  rows = []
  for name, p, q, counts in _laws(seed):
    for count in counts:
      rate = _match_rate(seed, p, q, count, trials)
      exact = float(bounds.list_matching_probability(p, q, count))
      error = tables.binomial_error(exact, trials)
      rows.append(
        dict(
          law=name,
          num_drafts=count,
          sampled=rate,
          sampled_se=error,
          exact=exact,
          bound=float(bounds.list_matching_bound(p, q, count)),
          z=(rate - exact) / error,
        )
      )
  return rows


def _laws(seed: int):
  """Yields name, draft law [N] or [K, N], target law [N], numbers of drafts."""
  rng = np.random.default_rng(seed)
  few = (1, 2, 4, 8)
  p, q = rng.dirichlet(np.ones(10), 2)
  yield 'Dirichlet(1), N=10', p, q, few
  p, q = rng.dirichlet(np.full(10, 0.2), 2)
  yield 'Dirichlet(.2), N=10', p, q, few
  yield 'two atoms', np.array([0.9, 0.1]), np.array([0.3, 0.7]), few
  z, e = rng.standard_normal((2, 100))
  p, q = np.exp(2 * z + e), np.exp(2 * z)
  yield 'peaked, N=100', p / p.sum(), q / q.sum(), few
  drafts = rng.dirichlet(np.ones(10), 4)
  yield '4 different drafts', drafts, rng.dirichlet(np.ones(10)), (4,)


def _match_rate(seed, p, q, num_drafts, trials) -> float:
  """Share of draws whose target is in the list."""
  draw = functools.partial(
    coupling.gumbel_list_sampling,
    draft_logits=jnp.log(p),
    target_logits=jnp.log(q),
    num_drafts=num_drafts,
  )

  @jax.jit
  def matches(keys):
    return jax.lax.map(lambda k: draw(k).is_match, keys, batch_size=_BATCH)

  key = gumbel.domain_key(gumbel.seed_key(seed), Domain.TRIALS, num_drafts)
  return float(np.mean(matches(jax.random.split(key, trials))))


def tail_rows(seed: int, *, trials: int) -> Iterator[dict]:
  """Races at vocabulary scale, and the noise that fails there beside them.

  One token holds .99, the others share .01. A race must end among them in .01
  of the draws, and evenly (chi-square over 16 spans of ids).

  Args:
    seed: of the races.
    trials: races per kind of noise.

  Yields:
    A row for each kind: share `tail` of the others, its standard score `z`,
    and the p-value of their `spread`.
  """
  key = gumbel.domain_key(gumbel.seed_key(seed), Domain.TRIALS)
  for name, (draw, draws) in _noises().items():
    keys = jax.random.split(key, trials // draws)
    drawn = jax.jit(lambda keys, draw=draw: jax.lax.map(draw, keys))(keys)
    samples = np.asarray(drawn).ravel()
    others = samples[samples != 0]
    share = others.size / samples.size
    spans = np.bincount((others - 1) * 16 // (_VOCAB - 1), minlength=16)
    yield dict(
      noise=name,
      draws=samples.size,
      tail=share,
      z=(share - _TAIL) / tables.binomial_error(_TAIL, samples.size),
      spread=float(stats.chisquare(spans).pvalue),
    )


def _noises() -> dict:
  """Function of a key, and how many races it runs, by name."""
  rest = jnp.full(_VOCAB, np.log(_TAIL / (_VOCAB - 1)))
  law, flat = rest.at[0].set(np.log(1 - _TAIL)), jnp.zeros(_VOCAB)
  tiny = np.finfo(np.float32).tiny
  lists = functools.partial(coupling.gumbel_list_sampling, num_drafts=8)

  def race(noise):
    return lambda key: gumbel.race(noise(key), law)[None]

  return {
    'listcoupling.gumbel': (
      race(lambda key: gumbel.exponential(key, _VOCAB)),
      1,
    ),
    'GLS, target of K = 8': (lambda key: lists(key, flat, law).target[None], 8),
    'GLS, proposals, K = 8': (lambda key: lists(key, law, flat).proposals, 8),
    'jax.random.gumbel': (
      race(lambda key: jnp.exp(-jax.random.gumbel(key, (_VOCAB,)))),
      1,
    ),
    '-log(uniform(tiny))': (
      race(
        lambda key: -jnp.log(jax.random.uniform(key, (_VOCAB,), minval=tiny))
      ),
      1,
    ),
    'jax.random.exponential': (
      race(lambda key: jax.random.exponential(key, (_VOCAB,))),
      1,
    ),
  }
