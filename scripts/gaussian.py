"""Table of the Gaussian source, see configs/gaussian.py."""

from absl import app, flags
from ml_collections import config_flags

from listcoupling.experiments import gaussian

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/gaussian.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/gaussian', 'Where the results are written.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of every random number.')


def main(argv):
  """Runs the table and prints it."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  rows = gaussian.run(_CONFIG.value, _WORKDIR.value, _SEED.value)
  print(gaussian.as_text(rows))


if __name__ == '__main__':
  app.run(main)
