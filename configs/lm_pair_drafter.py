"""Drafter of the pair, distilled from its target.

  LISTCOUPLING_DATA=DIR python scripts/train_lm.py \
    --config configs/lm_pair_drafter.py --workdir runs/pair_drafter \
    --export runs/pair/drafter --config.teacher=runs/pair/target

Run configs/lm_pair_target.py first. 434,560 parameters. Two CPU cores beside
other work: 7 minutes. Figures are in docs/results.md.
"""

import ml_collections

from configs import lm_pair_target


def get_config() -> ml_collections.ConfigDict:
  """The target's settings and text, a smaller model, a teacher."""
  config = lm_pair_target.get_config()
  config.model.update(
    hidden_size=128,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=320,
  )
  config.teacher = 'runs/pair/target'
  config.distillation = 0.8
  config.num_steps = 640
  config.learning_rate = 5e-3
  config.warmup_steps = 64
  return config
