"""Tables of the Gaussian source, see configs/gaussian.py."""

import os

import jax
from absl import app, flags
from ml_collections import config_flags

from listcoupling.experiments import command, gaussian

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/gaussian.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/gaussian', 'Where the results are written; resumed.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of every random number.')


def main(argv):
  """Runs the tables and prints them."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  config = _CONFIG.value
  cores = (
    len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1
  )
  jax.config.update('jax_num_cpu_devices', config.cpu_devices or cores)
  rows = gaussian.run(config, _WORKDIR.value, _SEED.value)
  print(gaussian.as_text(rows))


if __name__ == '__main__':
  command.run(main)
