"""Acceptance against the number of drafts on toy laws, see configs/toy.py."""

from absl import app, flags
from ml_collections import config_flags

from listcoupling.experiments import command, toy

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/toy.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/toy', 'Where the results are written.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the laws and of all noise.')


def main(argv):
  """Runs the table, prints it and says where it is."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  rows = toy.run(_CONFIG.value, _WORKDIR.value, _SEED.value)
  print(toy.as_text(rows))
  print(f'results.csv, results.json and toy.png are in {_WORKDIR.value}')


if __name__ == '__main__':
  command.run(main, resumes=True)
