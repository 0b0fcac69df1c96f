"""Trains the image codec and tabulates it, see configs/vae_digits.py.

A config with `sides` gives one table for all kinds of side information, see
configs/vae_mnist_sweep.py.
"""

import listcoupling.early_interrupts  # noqa: F401

from absl import flags

from listcoupling.experiments import command, images, tables

_CONFIG = command.define_config('configs/vae_digits.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/digits', 'Model, table and pictures.'
)
_SEED = command.define_seed(0, 'Of the evaluation.')


def main(argv):
  """Fills the table and prints it."""
  del argv
  config, given = _CONFIG.value, (_WORKDIR.value, _SEED.value)
  if 'sides' in config:
    print(tables.as_text(images.sweep(config, *given), images.SWEEP_COLUMNS))
  else:
    print(tables.as_text(images.evaluate(config, *given), images.COLUMNS))


if __name__ == '__main__':
  command.run(main)
