"""Codec on MNIST: right halves, 7 x 7 crops of the left halves.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/vae_mnist.py --workdir runs/mnist

Small dense networks, for a CPU: 3 to 8 minutes of training per beta, half a
minute per list quantiser, one to two per number of messages of `cells`, two
of evaluation on 1000 test images, on two busy cores. 55,000 images to train
on, 5,000 held out for the choice of beta and N. Expected squared error per
pixel of the best decoder (standard error .0005 to .0008), the paper's figures
in brackets:

    messages  gls, K = 1    K = 2         K = 4         list, K = 1 2 4
    4         .089 (.103)   .073 (.086)   .060 (.075)   .0574 .0514 .0458
    16        .075 (.085)   .060 (.073)   .049 (.067)   .0460 .0407 .0359
    64        .058 (.069)   .048 (.064)   .042 (.056)   .0359 .0322 .0293

Without side information: mean image .0718; k-means with 4, 16, 64 codewords
.0592, .0470, .0365. Without a message: .0682, .0644, .0611 (K = 1, 2, 4).
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = config_dict.ConfigDict()
  config.train = config_dict.create(
    dataset='mnist',
    data_dir='',
    num_held_out=5000,
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
  config.schemes = ('gls', 'shared_race', 'cells', 'list_quantiser')
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
    hidden_size=256,
  )
  config.num_images = 1000
  config.num_held_out_images = 500
  config.num_repeats = 5
  return config
