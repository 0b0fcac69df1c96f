"""The drafter that the library ships: 0.2 million parameters, distilled.

  python scripts/train_lm.py --config configs/lm_drafter.py \
    --workdir runs/drafter

Two CPU cores, alone: about 5 minutes. Expected: see
listcoupling/models/shipped/README.md. Give --config.teacher=DIR to distil from
another target.
"""

import ml_collections

from configs import lm_target
from listcoupling.models import pretrained


def get_config() -> ml_collections.ConfigDict:
  """The target's settings, a smaller model, the shipped target as teacher."""
  config = lm_target.get_config()
  config.model.update(
    hidden_size=96,
    num_layers=1,
    num_heads=3,
    num_kv_heads=1,
    intermediate_size=256,
  )
  config.teacher = str(pretrained.SHIPPED / 'target')
  config.distillation = 0.8
  config.num_steps = 800
  config.learning_rate = 5e-3
  config.warmup_steps = 80
  return config
