"""Target of the pair that is trained on worked sums and Python code.

  LISTCOUPLING_DATA=DIR python scripts/train_lm.py \
    --config configs/lm_pair_target.py --workdir runs/pair_target \
    --export runs/pair/target

DIR holds gsm8k/train.jsonl and mbpp/mbpp.jsonl as their authors publish them.
1,967,808 parameters. Nothing of the GSM8K and MBPP test sets (MBPP task ids 11
to 510) or of HumanEval is read.

Two CPU cores: 60 minutes beside other work. Figures are in docs/results.md.
"""

import ml_collections

from configs import lm_target

DATA = (
  '$LISTCOUPLING_DATA/gsm8k/train.jsonl?fields=question+answer',
  '$LISTCOUPLING_DATA/mbpp/mbpp.jsonl?fields=text+code&skip=task_id:11-510',
  'python',
)


def get_config() -> ml_collections.ConfigDict:
  """Settings of `listcoupling.training.language_model`."""
  config = lm_target.get_config()
  config.data = DATA
  config.model.update(
    vocab_size=2048,
    hidden_size=192,
    num_layers=4,
    num_heads=6,
    num_kv_heads=2,
    intermediate_size=512,
  )
  config.sequence_length = 320
  config.batch_size = 6
  config.num_steps = 2200
  config.warmup_steps = 150
  config.checkpoint_every = 100
  config.export_dtype = 'float32'
  return config
