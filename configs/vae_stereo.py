"""List quantisers with bins on patches of a scene, by its other view.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/vae_stereo.py --workdir runs/stereo

The source is a patch of 16 x 16 pixels of the left camera; a decoder knows
nothing, or the same place as the right camera saw it, see
`listcoupling.data.stereo`. No VAE is trained.
"""

from ml_collections import config_dict

from configs import vae_photographs


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = vae_photographs.get_config()
  config.train.update(dataset='stereo', num_held_out=3000)
  config.sides = (('none', (1, 1), 0.0), ('crop', (16, 16), 0.0))
  config.refine.num_kmeans = 12000
  config.num_images = 400
  return config
