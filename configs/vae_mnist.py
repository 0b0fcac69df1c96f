"""Codec on MNIST: right halves, 7 x 7 crops of the left halves.

    LISTCOUPLING_DATA=... python scripts/compress_images.py \
        --config configs/vae_mnist.py --workdir /tmp/mnist

Small networks, for a CPU: 5 to 9 minutes of training on two cores, one of
evaluation on 1000 test images. The paper's sizes are the defaults of
`listcoupling.models.vae.VAEConfig`; one beta serves every rate, where the
paper picks the best of five. Expected MSE of the best decoder (standard error
.001), the paper's figures in brackets:

    messages  gls, K = 1     gls, K = 4     shared race, K = 4
    4         .088 (.103)    .059 (.075)    .075 (.089)
    16        .076 (.085)    .050 (.067)    .064 (.075)
    64        .060 (.069)    .041 (.056)    .049 (.064)

Without a message: mean image .072, side information alone .068 (K = 1) and
.061 (K = 4). k-means with 4, 16, 64 codewords: .059, .047, .037, so random
labels beat plain k-means at K = 4 and 4 messages at best.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = config_dict.ConfigDict()
  config.train = config_dict.create(
    dataset='mnist',
    data_dir='',
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
  config.num_decoders = (1, 2, 4)
  config.num_messages = (4, 8, 16, 32, 64)
  config.schemes = ('gls', 'shared_race', 'cells')
  config.num_candidates = 512
  config.num_images = 1000
  return config
