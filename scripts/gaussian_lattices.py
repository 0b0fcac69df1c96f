"""Lattices on blocks of a Gaussian source, see configs/gaussian_lattices.py."""

from listcoupling.experiments import command
from listcoupling.experiments.gaussian import dimensions

if __name__ == '__main__':
  command.run_table(
    lambda config: dimensions.TABLE,
    config='configs/gaussian_lattices.py',
    workdir='runs/gaussian_lattices',
    seed='Of every random number.',
  )
