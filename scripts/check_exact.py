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

_TRIALS = flags.DEFINE_integer(
  'trials', 10**6, 'Draws per line.', lower_bound=1
)
_SEED = command.define_seed(0, 'Of the laws and the draws.')
_BATCH = 10_000


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
  worst = 0.0
  trials = _TRIALS.value
  print(f'{"law":<20}{"K":>3}{"sampled":>20}{"exact":>10}{"bound":>10}{"z":>7}')
  for name, p, q, counts in laws(_SEED.value):
    for count in counts:
      rate = match_rate(_SEED.value, p, q, count, trials)
      exact = float(bounds.list_matching_probability(p, q, count))
      bound = float(bounds.list_matching_bound(p, q, count))
      error = tables.binomial_error(exact, trials)
      worst = max(worst, abs(rate - exact) / error)
      print(
        f'{name:<20}{count:>3}{rate:>11.5f} ±{error:.5f}{exact:>10.5f}'
        f'{bound:>10.5f}{(rate - exact) / error:>7.2f}'
      )
  if worst > 5:
    raise SystemExit(f'off by {worst:.1f} standard errors')


if __name__ == '__main__':
  command.run(main)
