"""Exact matching probability against draws of Gumbel-max list sampling.

    python scripts/check_exact.py --trials 1000000

Prints one line per law and K: the sampled rate and its standard error, the
exact probability, the bound of Theorem 1, and the standard score of the
difference between the first two.
"""

import listcoupling.early_interrupts  # noqa: F401

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from listcoupling import bounds, command, coupling, gumbel, tables
from listcoupling.gumbel import Domain
from listcoupling.tables import Column

_TRIALS = flags.DEFINE_integer(
  'trials', 10**6, 'Draws per line.', lower_bound=1
)
_SEED = command.define_seed(0, 'Of the laws and the draws.')
_BATCH = 10_000
_COLUMNS = (
  Column('law', 'law'),
  Column('K', 'num_drafts'),
  Column('sampled', 'sampled', '.5f'),
  Column('exact', 'exact', '.5f'),
  Column('bound', 'bound', '.5f'),
  Column('z', 'z', '.2f'),
)


def laws(seed: int):
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


def match_rate(seed, p, q, num_drafts, trials) -> float:
  """Share of `trials` draws whose target is in the list."""
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


def main(_):
  """Prints the table."""
  trials, rows = _TRIALS.value, []
  for name, p, q, counts in laws(_SEED.value):
    for count in counts:
      rate = match_rate(_SEED.value, p, q, count, trials)
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
  print(tables.as_text(rows, _COLUMNS))
  worst = max(abs(row['z']) for row in rows)
  if worst > 5:
    raise SystemExit(f'off by {worst:.1f} standard errors')


if __name__ == '__main__':
  command.run(main)
