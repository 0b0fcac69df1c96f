"""Codec on scikit-learn's 8 x 8 digits: small enough for any machine.

    python scripts/evaluate_compression.py --config configs/vae_digits.py \
        --workdir runs/digits

Trains and evaluates in two minutes on one busy core. The source is the right
half (8 x 4), the side information of a decoder a 3 x 3 crop of the left half.
Figures are in docs/results.md.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = config_dict.ConfigDict()
  config.train = config_dict.create(
    dataset='digits',
    data_dir='',
    num_held_out=0,
    side_kind='crop',
    side_noise=0.0,
    flip=False,
    seed=0,
    model=dict(
      source_shape=(8, 4),
      side_shape=(3, 3),
      latent_size=4,
      kind='dense',
      hidden_size=128,
      side_features=64,
      estimator_size=64,
      dropout_rate=0.0,
    ),
    beta=0.3,
    batch_size=64,
    steps=2500,
    steps_per_call=500,
    learning_rate=2e-3,
    final_rate=0.05,
    estimator_loss='contrastive',
    num_negatives=31,
  )
  config.betas = ()  # train.beta alone
  config.num_decoders = (1, 2, 4)
  config.num_messages = (4, 16)
  config.num_groups = (1, 2, 4)
  config.bin_sizes = (1,)
  config.schemes = (
    'gls', 'shared_race', 'gls_kmeans', 'lattice', 'list_quantiser',
  )  # fmt: skip
  config.num_candidates = (256,)
  config.refine = config_dict.create(
    betas=(),
    num_images=1437,
    num_kmeans=1437,
    num_candidates=256,
    classifier_steps=500,
    steps=400,
    batch_size=64,
    learning_rate=1e-3,
    mean_weight=0.1,  # of the mean decoder in the loss
    hidden_size=128,
  )
  config.num_images = 360
  config.num_held_out_images = 0
  config.num_repeats = 1
  return config
