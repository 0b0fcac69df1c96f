"""Tiny checkpoints and what the transformers library computes with them.

  python -m tests.models.make_fixtures [DIRECTORY]

Needs torch and transformers (pip install -e '.[baselines]'); the files it
writes do not. Each folder of `fixtures` is a checkpoint as transformers saves
it and `expected.npz`: prompts, logits in float32, greedy continuations. Weights
are random, far from their initial scale, so that every path through the net
shows: norms away from one, biases away from zero.
"""

import copy
import pathlib
import sys

import numpy as np

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'
LENGTHS = (5, 14, 9)
NEW_TOKENS = 56
MARGIN = 2e-3  # the best token leads by this much at every greedy step
DISTINCT = 15  # tokens in each greedy row: no net that repeats itself

_SIZES = dict(
  vocab_size=89,
  hidden_size=32,
  intermediate_size=40,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  max_position_embeddings=128,
  pad_token_id=0,
  bos_token_id=1,
)
_LLAMA3 = dict(
  rope_type='llama3',
  rope_theta=500.0,
  factor=4.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=64,
)
# name -> class, its options, stored dtype, largest shard
CASES = {
  'llama_sharded': (
    'Llama',
    dict(rope_parameters=_LLAMA3, tie_word_embeddings=False, rms_norm_eps=1e-5),
    'float32',
    '40KB',
  ),
  'qwen2_bfloat16': (
    'Qwen2',
    dict(tie_word_embeddings=True, rope_parameters=None),
    'bfloat16',
    '1GB',
  ),
  'qwen3': (
    'Qwen3',
    dict(tie_word_embeddings=True, head_dim=12),
    'float32',
    '1GB',
  ),
  'mistral_dynamic': (
    'Mistral',
    dict(
      sliding_window=None,
      rope_parameters=dict(rope_type='dynamic', rope_theta=500.0, factor=2.0),
    ),
    'bfloat16',
    '1GB',
  ),
  'mistral_window': ('Mistral', dict(sliding_window=6), 'bfloat16', '1GB'),
  'qwen2_window_yarn': (
    'Qwen2',
    dict(
      use_sliding_window=True,
      sliding_window=5,
      max_window_layers=1,
      rope_parameters=dict(
        rope_type='yarn',
        rope_theta=100.0,
        factor=4.0,
        original_max_position_embeddings=32,
        beta_fast=4.0,
      ),
    ),
    'bfloat16',
    '1GB',
  ),
  'phi3_longrope': (
    'Phi3',
    dict(
      max_position_embeddings=384,
      original_max_position_embeddings=96,
      partial_rotary_factor=0.75,
      rope_parameters=dict(
        rope_type='longrope',
        rope_theta=100.0,
        partial_rotary_factor=0.75,
        short_factor=[1.0, 1.2, 1.7],
        long_factor=[1.1, 2.0, 4.0],
      ),
    ),
    'bfloat16',
    '1GB',
  ),
  'smollm3': (
    'SmolLM3',
    dict(
      no_rope_layer_interval=2,
      attention_bias=True,
      mlp_bias=True,
      hidden_act='gelu_pytorch_tanh',
      tie_word_embeddings=False,
    ),
    'bfloat16',
    '1GB',
  ),
  'olmo2': (
    'Olmo2',
    dict(attention_bias=True, hidden_act='gelu', rms_norm_eps=1e-3),
    'bfloat16',
    '1GB',
  ),
}


_QKV = ('q_proj', 'k_proj', 'v_proj')


def random_model(case: str, seed: int = 0):
  """A transformers model of a case, weights rounded to the stored dtype."""
  import torch
  import transformers

  family, options, dtype, _ = CASES[case]
  config = getattr(transformers, f'{family}Config')(**_SIZES | options)
  config.eos_token_id = None  # the library fills in a Llama's
  torch.manual_seed(seed)
  model = getattr(transformers, f'{family}ForCausalLM')(config)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      noise = torch.randn_like(weight)
      if 'norm' in name:
        weight.copy_(1 + 0.4 * noise)
      elif 'embed' in name or 'head' in name:
        # Small beside the layers: a tied head would only echo its input. Norms
        # behind the layers make these as large as one.
        large = family == 'Olmo2' and 'embed' in name
        weight.copy_((1.0 if large else 0.05) * noise)
      else:
        size = weight.shape[-1] ** -0.5
        if 'bias' in name:  # what every token gets must not drown the rest
          size = 0.3 if name.split('.')[-2] in _QKV else 0.06
        weight.copy_(noise * size)
    model.model.norm.weight.mul_(10)
    for weight in model.parameters():
      weight.copy_(weight.to(getattr(torch, dtype)).float())
  return model.eval()


def random_prompts(seed: int = 0) -> np.ndarray:
  """[3, 14] token ids; LENGTHS of each row count, the rest is padding."""
  rng = np.random.default_rng(seed)
  prompts = rng.integers(2, 89, (len(LENGTHS), max(LENGTHS)))
  return np.where(np.arange(max(LENGTHS)) < np.c_[list(LENGTHS)], prompts, 0)


def peer_logits(model, tokens: np.ndarray, lengths=LENGTHS) -> np.ndarray:
  """[B, S, V] float32 of a right-padded batch, as transformers has them."""
  import torch

  mask = np.arange(tokens.shape[1]) < np.c_[list(lengths)]
  with torch.no_grad():
    return model(
      torch.tensor(tokens), attention_mask=torch.tensor(mask.astype(int))
    ).logits.numpy()


def peer_greedy(model, prompts: np.ndarray, stop_tokens=(), lengths=LENGTHS):
  """Greedy continuations by transformers: a list of rows."""
  import torch
  import transformers

  options = transformers.GenerationConfig(
    do_sample=False,
    max_new_tokens=NEW_TOKENS,
    eos_token_id=list(stop_tokens) or None,
    pad_token_id=0,
  )
  rows = []
  for row, length in zip(prompts, lengths):
    ids = torch.tensor(row[None, :length])
    out = model.generate(
      ids, attention_mask=torch.ones_like(ids), generation_config=options
    )
    rows.append(out[0, length:].numpy())
  return rows


def _smallest_margin(model, prompts, greedy):
  """The least lead of the best token over the second along the rows."""
  leads = []
  for row, length, new in zip(prompts, LENGTHS, greedy):
    line = np.concatenate([row[:length], new])[None]
    logits = peer_logits(model, line, [line.shape[1]])[0, length - 1 : -1]
    best = np.sort(logits, axis=-1)
    leads.append(best[:, -1] - best[:, -2])
  return float(np.min(leads))


def save(case: str, model, directory, stop_tokens=()) -> None:
  """Writes the checkpoint as the transformers library does."""
  import torch

  _, _, dtype, shard = CASES[case]
  # A copy: there and back would round the rotary frequencies as well.
  model = copy.deepcopy(model).to(getattr(torch, dtype))
  model.generation_config.eos_token_id = list(stop_tokens) or None
  model.save_pretrained(directory, max_shard_size=shard)


def make(case: str, directory: pathlib.Path) -> None:
  """One fixture folder: the first seed whose greedy choices are clear."""
  prompts = random_prompts()
  for seed in range(100):
    model = random_model(case, seed)
    greedy = np.stack(peer_greedy(model, prompts))
    distinct = [len(set(row)) for row in greedy.tolist()]
    lead = _smallest_margin(model, prompts, greedy)
    if min(distinct) >= DISTINCT and lead >= MARGIN:
      break
  else:
    raise ValueError(f'{case}: no seed has clear and varied greedy rows.')
  stop_tokens = [int(greedy[0, 7]), int(greedy[1, 20])]
  stopped = peer_greedy(model, prompts, stop_tokens)
  save(case, model, directory, stop_tokens)
  np.savez_compressed(
    directory / 'expected.npz',
    prompts=prompts.astype(np.int32),
    lengths=np.int32(LENGTHS),
    logits=peer_logits(model, prompts),
    greedy=greedy.astype(np.int32),
    stop_tokens=np.int32(stop_tokens),
    stopped_lengths=np.int32([len(row) for row in stopped]),
  )
  print(f'{case}: seed {seed}, {distinct} distinct tokens per greedy row')


if __name__ == '__main__':
  root = pathlib.Path(sys.argv[1]) if sys.argv[1:] else FIXTURES
  for name in CASES:
    make(name, root / name)
