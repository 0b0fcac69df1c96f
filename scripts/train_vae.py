"""Trains the networks of the image codec, see configs/vae_mnist.py."""

from absl import app, flags
from ml_collections import config_flags

from listcoupling.experiments import command, image_fits

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/vae_digits.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/digits', 'The models go to its model*/.'
)
_SEED = flags.DEFINE_integer('seed', None, 'Instead of config.train.seed.')


def main(argv):
  """Trains; scripts/evaluate_compression.py of this workdir goes on."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  config = _CONFIG.value
  if _SEED.value is not None:
    config.train.seed = _SEED.value
  image_fits.train_models(config, _WORKDIR.value)


if __name__ == '__main__':
  command.run(main)
