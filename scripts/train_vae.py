"""Trains the networks of the image codec, see configs/vae_mnist.py.

python scripts/train_vae.py --config configs/vae_mnist.py --workdir runs/mnist
python scripts/train_vae.py --mesh data=8 ...            on eight devices
"""

import listcoupling.early_exits  # noqa: F401

from absl import flags

from listcoupling import command, command_flags
from listcoupling.training import image_fits

_CONFIG = command.define_config('configs/vae_digits.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/digits', 'The models go to its model*/.'
)
_SEED = command.define_seed(None, 'Instead of config.train.seed.')
_MESH = command_flags.define_mesh()


def main(argv):
  """Trains; scripts/evaluate_compression.py of this workdir goes on."""
  del argv
  config = _CONFIG.value
  if _SEED.value is not None:
    config.train.seed = _SEED.value
  image_fits.train_models(config, _WORKDIR.value, mesh=_MESH())


if __name__ == '__main__':
  command.run(main)
