"""List quantisers with bins on MNIST, by how much a decoder knows.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/vae_mnist_sweep.py --workdir runs/mnist_sweep

The source is the right half of an image; a decoder knows nothing, a crop of the
left half, the whole of it, or a noisy copy of the source. For bins of 1, 2 and
4 codewords; "chosen" is the size that was best on 500 images held out. No VAE
is trained: --config.schemes="('list_quantiser','lattice')" does. At the beta of
configs/vae_mnist.py it would leave all to a half that is known: its latents
would say nothing.
"""

from ml_collections import config_dict

from configs import vae_mnist


def narrow(config: config_dict.ConfigDict, sides, beta: float) -> None:
  """Makes of a table one column of each of many, by side information."""
  config.sides = sides
  config.schemes = ('list_quantiser',)
  config.betas = (beta,)
  config.refine.betas = ()
  config.num_decoders = (2,)
  config.num_messages = (4, 16)
  config.num_groups = (1, 2)
  config.bin_sizes = (1, 2, 4)
  config.num_repeats = 2


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = vae_mnist.get_config()
  sides = (
    ('none', (1, 1), 0.0),
    ('crop', (7, 7), 0.0),
    ('crop', (14, 7), 0.0),
    ('edge', (28, 4), 0.0),
    ('crop', (28, 14), 0.0),
    ('noisy', (28, 14), 0.5),
  )
  narrow(config, sides, beta=0.3)
  return config
