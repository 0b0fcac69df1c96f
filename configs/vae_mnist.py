"""Codec on MNIST: right halves, 7 x 7 crops of the left halves.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/vae_mnist.py --workdir runs/mnist

Small dense networks, for a CPU. On one core of two: 3 to 6 minutes of training
per beta, a quarter of a minute per list quantiser (12), lattice (20) and number
of messages of `gls_kmeans` (5), 2 minutes of evaluation on 1000 test images.
55,000 images to train on, 5,000 held out for the choice of beta and N; figures
in docs/results.md.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = config_dict.ConfigDict()
  config.train = config_dict.create(
    dataset='mnist',
    data_dir='',
    num_held_out=5000,
    side_kind='crop',
    side_noise=0.0,
    flip=False,
    seed=0,
    model=dict(
      source_shape=(28, 14),
      side_shape=(7, 7),
      latent_size=4,
      kind='dense',
      hidden_size=256,
      side_features=128,
      estimator_size=128,
      dropout_rate=0.0,
    ),
    beta=2.0,
    batch_size=64,
    steps=20000,
    steps_per_call=500,
    learning_rate=1e-3,
    final_rate=0.05,
    estimator_loss='contrastive',
    num_negatives=31,
  )
  config.betas = (4.0, 2.0, 0.5)
  config.num_decoders = (1, 2, 3, 4)
  config.num_messages = (4, 8, 16, 32, 64)
  config.num_groups = (1,)
  config.bin_sizes = (1,)
  config.schemes = (
    'gls', 'shared_race', 'gls_kmeans', 'lattice', 'list_quantiser',
  )  # fmt: skip
  config.num_candidates = (32, 128, 512)
  config.refine = config_dict.create(
    betas=(2.0,),
    num_images=16000,
    num_kmeans=20000,
    num_candidates=512,
    classifier_steps=1500,
    steps=2000,
    batch_size=64,
    learning_rate=1e-3,
    mean_weight=0.1,  # of the mean decoder in the loss
    hidden_size=256,
  )
  config.num_images = 1000
  config.num_held_out_images = 500
  config.num_repeats = 5
  return config
