"""A target for a machine with a GPU: 56 million parameters, bfloat16.

  LISTCOUPLING_DATA=DIR python scripts/train_lm.py \
    --config configs/lm_gpu_target.py --workdir runs/gpu_target \
    --export runs/gpu_pair/target

Not trained yet: its tests trace a full-size step and run two small ones. More
text is one flag away: --data=python,$LISTCOUPLING_DATA/more.txt. Beyond a few
epochs of a few megabytes it would learn its text by heart, so it drops the
learning rate early.
"""

import ml_collections

from configs import lm_pair_target


def get_config() -> ml_collections.ConfigDict:
  """The text of the CPU pair, a model and batches for a GPU."""
  config = lm_pair_target.get_config()
  config.model.update(
    vocab_size=8192,
    hidden_size=640,
    num_layers=10,
    num_heads=10,
    num_kv_heads=5,
    head_dim=64,
    intermediate_size=1792,
    max_positions=4096,
  )
  config.model.dtype = 'bfloat16'  # of activations; weights stay float32
  config.sequence_length = 1024
  config.batch_size = 32
  config.num_steps = 1500
  config.learning_rate = 1e-3
  config.warmup_steps = 100
  config.eval_every = 100
  config.export_dtype = 'bfloat16'
  return config
