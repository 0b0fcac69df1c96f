"""Codec on CIFAR-10: right halves, 16 x 16 patches of the left halves.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/vae_cifar10.py --workdir runs/cifar10

On the subset of 4,000 images (`data.cifar.read_subset`): 3,200 to train on,
with their mirror images, 400 held out for the choice of settings, 400 to
test. Its figures are not comparable with those of the whole set; for that,
`data.images.prepare_tfds_cifar10`, dataset='cifar10_tfds' and data_dir.

1 minute of training per beta, 7 minutes of one core in all. Squared error per
pixel and colour of the best decoder (standard error .0007 to .0014):

    K  messages  gls    GLS k-means  list quantiser  k-means
    1  4         .0469  .0393        .0386           .0441
    1  16        .0437  .0334        .0329           .0359
    1  64        .0386  .0307        .0297           .0315
    2  4         .0412  .0365        .0356
    2  16        .0385  .0321        .0311
    2  64        .0346  .0298        .0287
    4  4         .0368  .0347        .0326
    4  16        .0337  .0311        .0296
    4  64        .0317  .0292        .0278

Mean image .0649; without a message .0473, .0429, .0403 (K = 1, 2, 4).
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = config_dict.ConfigDict()
  config.train = config_dict.create(
    dataset='cifar10_4k',
    data_dir='',
    num_held_out=400,
    side_kind='crop',
    side_noise=0.0,
    flip=True,
    seed=0,
    model=dict(
      source_shape=(32, 16, 3),
      side_shape=(16, 16, 3),
      latent_size=4,
      kind='dense',
      hidden_size=256,
      side_features=128,
      estimator_size=128,
      dropout_rate=0.2,
    ),
    beta=4.0,
    batch_size=64,
    steps=2500,
    steps_per_call=250,
    learning_rate=5e-4,
    final_rate=0.05,
    estimator_loss='contrastive',
    num_negatives=31,
  )
  config.betas = (8.0, 4.0, 1.0)
  config.num_decoders = (1, 2, 3, 4)
  config.num_messages = (4, 8, 16, 32, 64)
  config.num_groups = (1,)
  config.bin_sizes = (1,)
  config.schemes = ('gls', 'shared_race', 'gls_kmeans', 'list_quantiser')
  config.num_candidates = (32, 128, 512)
  config.refine = config_dict.create(
    betas=(4.0,),
    num_images=6400,
    num_kmeans=6400,
    num_candidates=256,
    classifier_steps=1000,
    steps=500,
    batch_size=64,
    learning_rate=5e-4,
    hidden_size=128,
  )
  config.num_images = 400
  config.num_held_out_images = 400
  config.num_repeats = 5
  return config
