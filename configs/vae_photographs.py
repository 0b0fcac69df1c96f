"""List quantisers with bins on patches of photographs, by what lies beside.

    python scripts/evaluate_compression.py \
        --config configs/vae_photographs.py --workdir runs/photographs

The source is a patch of 16 x 16 pixels of a photograph; a decoder knows
nothing, columns of the patch to the left, or all of it. No VAE is trained.
"""

from ml_collections import config_dict

from configs import vae_digits, vae_mnist_sweep


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = vae_digits.get_config()
  config.train.update(dataset='photographs', num_held_out=3000)
  config.train.model.update(source_shape=(16, 16), side_shape=(16, 16))
  sides = (
    ('none', (1, 1), 0.0),
    ('edge', (16, 1), 0.0),
    ('crop', (16, 16), 0.0),
  )
  vae_mnist_sweep.narrow(config, sides, beta=2.0)
  config.num_messages = (4, 16)
  config.refine.update(
    num_kmeans=21000, classifier_steps=400, steps=400, hidden_size=128
  )
  config.update(num_images=468, num_held_out_images=500)
  return config
