"""Tables of the Gaussian source, see configs/gaussian.py."""

import listcoupling.early_exits  # noqa: F401

import os

import jax

from listcoupling import command
from listcoupling.experiments import gaussian


def _choose(config):
  """The table; trials are spread over devices, which nothing has used yet."""
  own = hasattr(os, 'sched_getaffinity')
  cores = len(os.sched_getaffinity(0)) if own else 1
  wanted = config.get('cpu_devices') or cores
  jax.config.update('jax_num_cpu_devices', wanted)
  return gaussian.run


if __name__ == '__main__':
  command.run_table(
    _choose,
    config='configs/gaussian.py',
    workdir='runs/gaussian',
    seed='Of every random number.',
  )
