"""Tables 1, 3, 5 and 6 of arXiv 2506.05632: K iid drafts of L = 4 tokens.

  python scripts/evaluate_decoding.py --config configs/decoding_iid.py \
    --workdir runs/decoding_iid

The pair stands after a colon:

  configs/decoding_iid.py            the pair that the library ships
  configs/decoding_iid.py:qwen2.5    Tables 1 and 3: Qwen2.5-7B and 0.5B
  configs/decoding_iid.py:llama2     Llama-2-7B and TinyLlama-1.1B
  configs/decoding_iid.py:llama3     Llama-3.1-8B and Llama-3.2-1B

or in directories: --config.target DIR --config.drafter DIR. With a name the
protocol is the paper's (five data sets, 200 prompts, K = 2, 4, 6, 8, 5 seeds)
and the prompts come from the hub; --prompts FOLDER takes them from files. The
paper's tables of other pairs are of Llama-2 and Llama-3 models; which
checkpoints exactly is not known to us, so these two are our choice.

25 minutes of one core per data set on the pair of configs/lm_pair_target.py and
lm_pair_drafter.py; figures in docs/results.md.
"""

import ml_collections

PAIRS = {
  'qwen2.5': ('Qwen/Qwen2.5-7B', 'Qwen/Qwen2.5-0.5B'),
  'llama2': ('meta-llama/Llama-2-7b-hf', 'TinyLlama/TinyLlama_v1.1'),
  'llama3': ('meta-llama/Llama-3.1-8B', 'meta-llama/Llama-3.2-1B'),
}


def get_config(pair: str = '') -> ml_collections.ConfigDict:
  """Settings of `listcoupling.experiments.language.block_efficiency`."""
  if pair and pair not in PAIRS:
    raise ValueError(f'pair must be one of {", ".join(PAIRS)}, got {pair!r}.')
  config = ml_collections.ConfigDict()
  config.experiment = 'block_efficiency'
  # Directories or hub names; none: the pair that the library ships.
  config.target, config.drafter = PAIRS.get(pair, ('', ''))
  config.dtype = 'bfloat16' if pair else 'float32'

  config.datasets = ('gsm8k', 'humaneval', 'mbpp')
  config.prompts = ''  # folder or file; else the folder in LISTCOUPLING_DATA
  config.source = 'files'  # or 'hub', or 'tfds' (gsm8k and drop)
  config.num_prompts = 100
  config.prompt_seed = 0
  config.max_prompt_tokens = 192
  config.long_prompts = 'cut'  # from the left; or 'drop'
  # '' is the data set's own; else such as 'Q: {question}\\nA:'.
  config.templates = ml_collections.ConfigDict(
    dict(
      gsm8k='',
      humaneval='',
      mbpp='',
      drop='',
      natural_reasoning='',
      wikitext2='',
      tinyshakespeare='',
    )
  )

  config.methods = (
    'single',
    'block',
    'specinfer',
    'spectr',
    'gls',
    'gls_strong',
    'gumbel_chains',
    'gumbel_tree',
    'autoregressive',
  )
  config.num_drafts = (1, 4, 8)  # gls with K = 1 is the row DMS of the paper
  config.draft_length = 4
  config.draft_temperatures = ('',)  # '' is the target's; '0.5/1.0' alternates
  config.single_temperature = ''  # draft temperature of single and block
  config.temperature = 1.0
  config.top_k = 50
  config.max_new_tokens = 64
  # Those that the tokenizer has end a text.
  config.stop_tokens = ('<|endoftext|>', '</s>', '<|end_of_text|>')
  config.seeds = 3
  config.batch_size = 32
  if pair:
    config.datasets = (
      'gsm8k',
      'humaneval',
      'natural_reasoning',
      'mbpp',
      'drop',
    )
    config.source = 'hub'
    config.num_drafts = (1, 2, 4, 6, 8)
    config.num_prompts = 200
    config.seeds = 5
    config.max_prompt_tokens = 1024
    config.max_new_tokens = 128
    config.batch_size = 8
  return config
