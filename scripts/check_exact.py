"""Exact matching probability against draws of Gumbel-max list sampling.

    python scripts/check_exact.py --trials 1000000

Prints one line per law and K: the sampled rate and its standard error, the
exact probability, the bound of Theorem 1, and the standard score of the
difference between the first two.
"""

import listcoupling.early_exits  # noqa: F401

from absl import flags

from listcoupling import command, tables
from listcoupling.experiments import toy

_TRIALS = flags.DEFINE_integer(
  'trials', 10**6, 'Draws per line.', lower_bound=1
)
_SEED = command.define_seed(0, 'Of the laws and the draws.')


def main(_):
  """Prints the table."""
  rows = toy.exact_rows(_SEED.value, trials=_TRIALS.value)
  print(tables.as_text(rows, toy.EXACT_COLUMNS))
  worst = max(abs(row['z']) for row in rows)
  if worst > 5:
    raise SystemExit(f'off by {worst:.1f} standard errors')


if __name__ == '__main__':
  command.run(main)
