"""Drafter for configs/lm_gpu_target.py: 5 million parameters, distilled.

  LISTCOUPLING_DATA=DIR python scripts/train_lm.py \
    --config configs/lm_gpu_drafter.py --workdir runs/gpu_drafter \
    --export runs/gpu_pair/drafter --config.teacher=runs/gpu_pair/target

Not trained yet, see configs/lm_gpu_target.py.
"""

import ml_collections

from configs import lm_gpu_target


def get_config() -> ml_collections.ConfigDict:
  """The target's settings and text, a smaller model, a teacher."""
  config = lm_gpu_target.get_config()
  config.model.update(
    hidden_size=320,
    num_layers=2,
    num_heads=5,
    num_kv_heads=5,
    intermediate_size=896,
  )
  config.teacher = 'runs/gpu_pair/target'
  config.distillation = 0.8
  config.num_steps = 1500
  config.learning_rate = 2e-3
  return config
