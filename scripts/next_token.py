"""Couplings of next-token laws along real text, see configs/next_token.py."""

import listcoupling.early_interrupts  # noqa: F401

from absl import flags

from listcoupling.experiments import command, next_token

_CONFIG = command.define_config('configs/next_token.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/next_token', 'Where the results are written.'
)
_SEED = command.define_seed(0, 'Of the positions and of all noise.')


def main(_):
  """Runs the table, prints it and says where it is."""
  rows = next_token.run(_CONFIG.value, _WORKDIR.value, _SEED.value)
  print(next_token.as_text(rows, _CONFIG.value.repetitions))
  print(f'results.csv, results.json, next_token.png are in {_WORKDIR.value}')


if __name__ == '__main__':
  command.run(main)
