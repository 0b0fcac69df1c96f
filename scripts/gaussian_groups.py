"""Groups of decoders on the Gaussian source, see configs/gaussian_groups.py."""

import listcoupling.early_interrupts  # noqa: F401

from absl import flags

from listcoupling.experiments import command
from listcoupling.experiments.gaussian import groups

_CONFIG = command.define_config('configs/gaussian_groups.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/gaussian_groups', 'Where the results are written.'
)
_SEED = command.define_seed(0, 'Of every random number.')


def main(_):
  """Runs the table and prints it."""
  print(groups.as_text(groups.run(_CONFIG.value, _WORKDIR.value, _SEED.value)))


if __name__ == '__main__':
  command.run(main)
