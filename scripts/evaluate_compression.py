"""Trains the image codec and tabulates it, see configs/vae_digits.py."""

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
  rows = images.evaluate(_CONFIG.value, _WORKDIR.value, _SEED.value)
  print(tables.as_text(rows, images.COLUMNS))


if __name__ == '__main__':
  command.run(main)
