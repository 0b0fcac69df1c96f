"""List quantisers with bins on the CIFAR-10 subset, by adjacent columns.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/vae_cifar10_sweep.py --workdir runs/cifar10_sweep

As configs/vae_mnist_sweep.py; a decoder knows the columns next to the source.
"""

from ml_collections import config_dict

from configs import vae_cifar10, vae_mnist_sweep


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = vae_cifar10.get_config()
  sides = (
    ('none', (1, 1), 0.0),
    ('edge', (32, 1), 0.0),
    ('edge', (32, 4), 0.0),
    ('crop', (16, 16), 0.0),
    ('crop', (32, 16), 0.0),
  )
  vae_mnist_sweep.narrow(config, sides, beta=4.0)
  return config
