"""Groups of decoders on the Gaussian source, see configs/gaussian_groups.py."""

import listcoupling.early_exits  # noqa: F401

from listcoupling import command
from listcoupling.experiments import codes

if __name__ == '__main__':
  command.run_table(
    lambda config: codes.run_groups,
    config='configs/gaussian_groups.py',
    workdir='runs/gaussian_groups',
    seed='Of every random number.',
  )
