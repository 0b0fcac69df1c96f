"""Acceptance against the number of drafts on toy laws, see configs/toy.py."""

import listcoupling.early_interrupts  # noqa: F401

from absl import flags

from listcoupling.experiments import command, tables, toy

_CONFIG = command.define_config('configs/toy.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/toy', 'Where the results are written.'
)
_SEED = command.define_seed(0, 'Of the laws and of all noise.')


def main(_):
  """Runs the table, prints it and says where it is."""
  rows = toy.run(_CONFIG.value, _WORKDIR.value, _SEED.value)
  print(tables.as_text(rows, toy.COLUMNS))
  print(f'results.csv, results.json and toy.png are in {_WORKDIR.value}')


if __name__ == '__main__':
  command.run(main)
