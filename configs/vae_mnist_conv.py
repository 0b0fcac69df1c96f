"""The paper's networks on MNIST: convolutions of 128 channels.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/vae_mnist_conv.py --workdir runs/mnist_conv

Sizes, optimiser and grids of arXiv 2506.05632, section 5 and its appendix, as
far as they fit each other (see `listcoupling.models.vae`): Adam 1e-3 with
betas .9 and .99, batches of 64, 30 epochs of the 55,000 images not held out,
dropout .5, cross-entropy of pairs for the estimator. Meant for a GPU.
"""

from ml_collections import config_dict

from configs import vae_mnist


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = vae_mnist.get_config()
  config.train.model.kind = 'conv'
  config.train.model.channels = 128
  config.train.model.hidden_size = 512
  config.train.model.dropout_rate = 0.5
  config.train.estimator_loss = 'bce'
  config.train.steps = 30 * 55_000 // 64
  config.train.steps_per_call = 859  # an epoch
  config.train.final_rate = 1.0
  config.betas = (0.15, 0.35, 0.55, 0.75, 0.95)
  config.refine.betas = (0.95,)
  config.num_candidates = (128, 256, 512, 1024, 2048, 4096)
  return config
