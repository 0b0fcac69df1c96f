"""Tables of the Gaussian source, see configs/gaussian.py."""

import listcoupling.early_interrupts  # noqa: F401

import os

import jax
from absl import flags

from listcoupling.experiments import command
from listcoupling.experiments.gaussian import table

_CONFIG = command.define_config('configs/gaussian.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/gaussian', 'Where the results are written; resumed.'
)
_SEED = command.define_seed(0, 'Of every random number.')


def main(_):
  """Runs the tables and prints them."""
  cores = (
    len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1
  )
  wanted = _CONFIG.value.get('cpu_devices') or cores
  jax.config.update('jax_num_cpu_devices', wanted)
  print(table.as_text(table.run(_CONFIG.value, _WORKDIR.value, _SEED.value)))


if __name__ == '__main__':
  command.run(main)
