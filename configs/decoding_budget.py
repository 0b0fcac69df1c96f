"""Every method at equal numbers of target nodes, in its best shape.

  python scripts/evaluate_decoding.py --config configs/decoding_budget.py \
    --workdir runs/decoding_budget

A target call judges 8, 16, 32 or 64 nodes: `gumbel_tree` against one chain
under `block`, and against `specinfer` (with and without replacement), `spectr`
and `traversal` in every shape K L = n; two temperatures, three kinds of
questions and two of plain text. The pair stands after a colon, as in
configs/decoding_iid.py; after it, or alone, int8 or int4 takes a copy of the
target with fewer bits for the drafter:

  configs/decoding_budget.py:int8
  configs/decoding_budget.py:qwen2.5-int4

All its 222 programs are kept while it runs: some 6 GB of the host's memory.
Figures and times in docs/results.md.
"""

from configs import decoding_iid

_BITS = {'int8': 8, 'int4': 4}


def get_config(pair: str = ''):
  """Settings of `listcoupling.experiments.language.budget`."""
  *name, bits = pair.split('-') if pair else ('',)
  if bits not in _BITS:
    name, bits = [*name, bits], ''
  config = decoding_iid.get_config('-'.join(name))
  config.experiment = 'budget'
  for unused in (
    'draft_length',
    'draft_temperatures',
    'single_temperature',
    'temperature',
  ):
    del config[unused]
  config.drafter_bits = _BITS.get(bits, 0)
  config.datasets = (
    'gsm8k',
    'humaneval',
    'mbpp',
    'wikitext2',
    'tinyshakespeare',
  )
  config.methods = (
    'autoregressive',
    'gumbel_tree',
    'block',
    'specinfer',
    'spectr',
    'traversal',
  )
  config.distinct = ('specinfer', 'traversal')  # also without replacement
  config.num_nodes = (8, 16, 32, 64)
  config.num_drafts = (1, 2, 4, 8, 16, 32, 64)
  config.temperatures = (0.6, 1.0)
  config.top_k = 0
  config.num_prompts = 32
  config.max_prompt_tokens = 128
  config.seeds = 1
  return config
