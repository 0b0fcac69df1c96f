"""Trains the image codec and tabulates it, see configs/vae_digits.py.

A config with `sides` gives one table for all kinds of side information, see
configs/vae_mnist_sweep.py.
"""

import listcoupling.early_exits  # noqa: F401

from listcoupling import command
from listcoupling.experiments import images

if __name__ == '__main__':
  command.run_table(
    lambda config: images.run_sweep if 'sides' in config else images.run,
    config='configs/vae_digits.py',
    workdir='runs/digits',
    seed='Of the evaluation; training has config.train.seed.',
  )
