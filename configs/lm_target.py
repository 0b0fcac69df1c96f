"""The target model that the library ships: 1.27 million parameters.

  python scripts/train_lm.py --config configs/lm_target.py --workdir runs/target

Two CPU cores, alone: about 12 minutes. Expected: see
listcoupling/models/shipped/README.md.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Settings of `listcoupling.training.language_model`."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.model = ml_collections.ConfigDict(
    dict(
      vocab_size=1024,
      hidden_size=160,
      num_layers=4,
      num_heads=4,
      num_kv_heads=2,
      head_dim=32,
      intermediate_size=448,
      max_positions=2048,
    )
  )
  config.data = ()  # sources; empty: the text of this Python
  config.tokenizer = ''  # path; empty: the teacher's, else one is trained
  config.held_out_fraction = 0.05  # of the documents
  config.teacher = ''  # directory of the model to distil from
  config.distillation = 0.0  # share of KL(teacher || model) in the loss

  config.sequence_length = 384
  config.batch_size = 8
  config.num_steps = 1200
  config.learning_rate = 3e-3
  config.warmup_steps = 150
  config.weight_decay = 0.1
  config.clip_norm = 1.0
  config.eval_every = 200
  config.eval_windows = 64
  config.checkpoint_every = 200
  config.log_every = 20
  config.export_dtype = 'bfloat16'
  return config
