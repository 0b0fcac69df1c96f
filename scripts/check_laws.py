"""Laws of the races at vocabulary scale, with the noise that fails beside.

    python scripts/check_laws.py --trials 20000

One token holds .99, the other 151,935 share .01. A race must end in the tail
in .01 of the draws, and its tail samples must be spread evenly (chi-square
over 16 spans of ids).
"""

import listcoupling.early_interrupts  # noqa: F401

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy import stats

from listcoupling import command, coupling, gumbel, tables
from listcoupling.gumbel import Domain

_TRIALS = flags.DEFINE_integer(
  'trials', 20_000, 'Races per kind of noise.', lower_bound=8
)
_SEED = command.define_seed(0, 'Of the races.')
_VOCAB = 151_936
_TAIL = 0.01


def _law():
  tail = jnp.full(_VOCAB, np.log(_TAIL / (_VOCAB - 1)))
  return tail.at[0].set(np.log(1 - _TAIL))


def _race(noise):
  return lambda key: gumbel.race(noise(key), _law())[None]


_TINY = np.finfo(np.float32).tiny
_KINDS = {
  'listcoupling.gumbel': _race(lambda key: gumbel.exponential(key, _VOCAB)),
  'GLS, target of K = 8': lambda key: coupling.gumbel_list_sampling(
    key, jnp.zeros(_VOCAB), _law(), num_drafts=8
  ).target[None],
  'GLS, proposals, K = 8': lambda key: (
    coupling.gumbel_list_sampling(
      key, _law(), jnp.zeros(_VOCAB), num_drafts=8
    ).proposals
  ),
  'jax.random.gumbel': _race(
    lambda key: jnp.exp(-jax.random.gumbel(key, (_VOCAB,)))
  ),
  '-log(uniform(tiny))': _race(
    lambda key: -jnp.log(jax.random.uniform(key, (_VOCAB,), minval=_TINY))
  ),
  'jax.random.exponential': _race(
    lambda key: jax.random.exponential(key, (_VOCAB,))
  ),
}


def main(_):
  """One line per kind of noise."""
  print(f'{"noise":<24}{"draws":>8}{"tail":>9}{"z":>8}{"spread, p":>12}')
  for name, draw in _KINDS.items():
    trials = _TRIALS.value // (8 if 'K = 8' in name else 1)
    key = gumbel.domain_key(gumbel.seed_key(_SEED.value), Domain.TRIALS)
    keys = jax.random.split(key, trials)
    drawn = jax.jit(lambda keys, draw=draw: jax.lax.map(draw, keys))(keys)
    samples = np.asarray(drawn).ravel()
    tail = samples[samples != 0]
    error = tables.binomial_error(_TAIL, samples.size)
    z = (tail.size / samples.size - _TAIL) / error
    spans = np.bincount((tail - 1) * 16 // (_VOCAB - 1), minlength=16)
    spread = stats.chisquare(spans).pvalue
    print(
      f'{name:<24}{samples.size:>8}{tail.size / samples.size:>9.5f}{z:>8.1f}'
      f'{spread:>12.3g}'
    )


if __name__ == '__main__':
  command.run(main)
