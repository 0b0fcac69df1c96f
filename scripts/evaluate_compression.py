"""Trains the image codec and tabulates it, see configs/vae_digits.py."""

from absl import app, flags
from ml_collections import config_flags

from listcoupling.experiments import command, images

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/vae_digits.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/digits', 'Model, table and pictures.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the evaluation.')


def main(argv):
  """Runs the table and prints it."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  rows = images.run(_CONFIG.value, _WORKDIR.value, _SEED.value)
  print(images.as_text(rows))


if __name__ == '__main__':
  command.run(main)
