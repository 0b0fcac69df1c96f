"""Lattices on blocks of a Gaussian source, see configs/gaussian_lattices.py."""

import listcoupling.early_exits  # noqa: F401

from listcoupling import command
from listcoupling.experiments import codes

if __name__ == '__main__':
  command.run_table(
    lambda config: codes.run_lattices,
    config='configs/gaussian_lattices.py',
    workdir='runs/gaussian_lattices',
    seed='Of every random number.',
  )
