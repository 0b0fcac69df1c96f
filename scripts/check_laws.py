"""Laws of the races at vocabulary scale, with the noise that fails beside.

    python scripts/check_laws.py --trials 20000

One token holds .99, the other 151,935 share .01. A race must end in the tail
in .01 of the draws, and its tail samples must be spread evenly (chi-square
over 16 spans of ids).
"""

import listcoupling.early_exits  # noqa: F401

from absl import flags

from listcoupling import command, tables
from listcoupling.experiments import toy

_TRIALS = flags.DEFINE_integer(
  'trials', 20_000, 'Races per kind of noise.', lower_bound=8
)
_SEED = command.define_seed(0, 'Of the races.')


def main(_):
  """Prints the table."""
  rows = toy.tail_rows(_SEED.value, trials=_TRIALS.value)
  print(tables.as_text(list(rows), toy.TAIL_COLUMNS))


if __name__ == '__main__':
  command.run(main)
