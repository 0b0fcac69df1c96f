"""Trains the networks of the image codec, see configs/vae_mnist.py."""

import listcoupling.early_interrupts  # noqa: F401

from absl import flags

from listcoupling import command
from listcoupling.experiments import images

_CONFIG = command.define_config('configs/vae_digits.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/digits', 'The models go to its model*/.'
)
_SEED = command.define_seed(None, 'Instead of config.train.seed.')


def main(argv):
  """Trains; scripts/evaluate_compression.py of this workdir goes on."""
  del argv
  config = _CONFIG.value
  if _SEED.value is not None:
    config.train.seed = _SEED.value
  images.train_models(config, _WORKDIR.value)


if __name__ == '__main__':
  command.run(main)
