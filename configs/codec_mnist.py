"""The codec of right halves of MNIST digits that the library ships.

    LISTCOUPLING_DATA=... python scripts/evaluate_compression.py \
        --config configs/codec_mnist.py --workdir runs/codec_mnist

A list quantiser of 16 messages, 4 bits, to 2 decoders that know the left half,
with bins of 4 codewords; beside it the same without bins, the plain list
quantiser. For decoders that know nothing add
--config.sides="(('none',(1,1),0.),)" --config.bin_sizes="(1,)". Figures and
times are in the model card, listcoupling/image_codec/shipped/README.md.
"""

from ml_collections import config_dict

from configs import vae_mnist_sweep


def get_config() -> config_dict.ConfigDict:
  """Settings of training and evaluation."""
  config = vae_mnist_sweep.get_config()
  config.sides = (('crop', (28, 14), 0.0),)
  config.num_messages = (16,)
  config.num_groups = (1,)
  config.bin_sizes = (1, 4)
  config.refine.update(steps=4000, classifier_steps=4000, batch_size=128)
  return config
