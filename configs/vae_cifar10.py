"""Codec on CIFAR-10: right halves, 16 x 16 patches of the left halves.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/vae_cifar10.py --workdir runs/cifar10

On the subset of 4,000 images (`data.cifar.read_subset`): 3,200 to train on,
with their mirror images, 400 held out for the choice of settings, 400 to
test. Its figures are not comparable with those of the whole set; for that,
`data.images.prepare_tfds_cifar10`, dataset='cifar10_tfds' and data_dir.

1 minute of training per beta, 7 minutes of one core in all; figures in
docs/results.md.
"""

from ml_collections import config_dict

from configs import vae_mnist


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation, where they are not MNIST's."""
  config = vae_mnist.get_config()
  config.train.update(
    dataset='cifar10_4k',
    num_held_out=400,
    flip=True,
    beta=4.0,
    steps=2500,
    steps_per_call=250,
    learning_rate=5e-4,
  )
  config.train.model.update(
    source_shape=(32, 16, 3), side_shape=(16, 16, 3), dropout_rate=0.2
  )
  config.betas = (8.0, 4.0, 1.0)
  config.refine.update(
    betas=(4.0,),
    num_images=6400,
    num_kmeans=6400,
    num_candidates=256,
    classifier_steps=1000,
    steps=500,
    learning_rate=5e-4,
    hidden_size=128,
  )
  config.num_images = 400
  config.num_held_out_images = 400
  return config
