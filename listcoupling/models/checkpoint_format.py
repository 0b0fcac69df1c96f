"""Hugging Face directories: file names, config.json, names of the tensors.

Names and layouts are those of the `transformers` library for model_type llama,
qwen2 and qwen3: linear weights are [out, in], heads are contiguous blocks of
rows, rotary pairs are (i, i + E / 2).

Legend: D hidden size, H query heads, J key/value heads, E head size,
F perceptron size, V vocabulary.
"""

import json
import pathlib
from typing import NamedTuple

from listcoupling.models import transformer

WEIGHTS = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
TOKENIZER = 'tokenizer.json'
TOKENIZER_CONFIG = 'tokenizer_config.json'
# Without it transformers guesses a class from the model, which adds tokens.
TOKENIZER_CLASS = """{
  "tokenizer_class": "PreTrainedTokenizerFast",
  "clean_up_tokenization_spaces": false
}
"""
_FAMILIES = ('llama', 'qwen2', 'qwen3')


class Leaf(NamedTuple):
  """One parameter and the stored tensors it is made of.

  Attributes:
    path: keys into the parameter tree.
    names: tensor names, concatenated along the last axis in this order.
    shapes: stored shapes.
    transpose: whether tensors are stored as [out, in].
  """

  path: tuple[str, ...]
  names: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  transpose: bool = False


def parameter_table(config: transformer.TransformerConfig) -> list[Leaf]:
  """Every parameter of a config with its names in `transformers`."""
  c = config
  d, f, e = c.hidden_size, c.intermediate_size, c.head_dim
  rows = (c.num_heads * e, c.num_kv_heads * e, c.num_kv_heads * e)
  qkv_shapes = tuple((r, d) for r in rows)
  embed = (c.vocab_size, d)
  table = [Leaf(('embed',), ('model.embed_tokens.weight',), (embed,))]
  for i in range(c.num_layers):

    def leaf(name, stored, shapes, transpose=False, i=i):
      names = tuple(f'model.layers.{i}.{x}' for x in stored)
      return Leaf((f'layer_{i}', name), names, shapes, transpose)

    qkv = [f'self_attn.{x}_proj' for x in 'qkv']
    table += [
      leaf('attention_norm', ['input_layernorm.weight'], ((d,),)),
      leaf('qkv', [f'{x}.weight' for x in qkv], qkv_shapes, True),
      leaf('attention_out', ['self_attn.o_proj.weight'], ((d, rows[0]),), True),
      leaf('perceptron_norm', ['post_attention_layernorm.weight'], ((d,),)),
      leaf(
        'gate_up',
        ['mlp.gate_proj.weight', 'mlp.up_proj.weight'],
        ((f, d), (f, d)),
        True,
      ),
      leaf('down', ['mlp.down_proj.weight'], ((d, f),), True),
    ]
    if c.qkv_bias:
      names = [f'{x}.bias' for x in qkv]
      table.append(leaf('qkv_bias', names, tuple((r,) for r in rows)))
    if c.qk_norm:
      table.append(leaf('query_norm', ['self_attn.q_norm.weight'], ((e,),)))
      table.append(leaf('key_norm', ['self_attn.k_norm.weight'], ((e,),)))
  table.append(Leaf(('final_norm',), ('model.norm.weight',), ((d,),)))
  if not c.tie_embeddings:
    table.append(Leaf(('head',), ('lm_head.weight',), (embed,)))
  return table


def read_json(path: pathlib.Path) -> dict:
  """A JSON object from a file, or an error that says what to do."""
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing; a model directory holds config.json and '
      f'{WEIGHTS} (or {INDEX} and its shards).'
    )
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(
      f'{path} is not valid JSON ({error}); download it again.'
    ) from error
  if not isinstance(value, dict):
    raise ValueError(f'{path} must hold a JSON object; download it again.')
  return value


def _rope_scaling(raw: dict, path) -> tuple[float, transformer.RopeScaling]:
  """(theta, scaling) from either spelling: rope_scaling or rope_parameters."""
  rope = raw.get('rope_scaling') or raw.get('rope_parameters') or {}
  theta = rope.get('rope_theta', raw.get('rope_theta', 10000.0))
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if rope.get('partial_rotary_factor', 1.0) != 1.0:
    raise ValueError(
      f'{path} rotates a part of each head (partial_rotary_factor='
      f'{rope["partial_rotary_factor"]}); only 1.0 is supported.'
    )
  if kind == 'default':
    return float(theta), None
  if kind not in ('linear', 'llama3'):
    raise ValueError(
      f"{path} asks for rope scaling {kind!r}; supported are 'default', "
      "'linear' and 'llama3'."
    )
  options = {}
  if kind == 'llama3':
    options = dict(
      low_freq_factor=float(rope['low_freq_factor']),
      high_freq_factor=float(rope['high_freq_factor']),
      original_max_positions=int(rope['original_max_position_embeddings']),
    )
  scaling = transformer.RopeScaling(kind, float(rope['factor']), **options)
  return float(theta), scaling


def _refuse_unsupported(raw: dict, path) -> None:
  family = raw.get('model_type')
  if family not in _FAMILIES:
    raise ValueError(
      f'{path} has model_type {family!r}; supported are {list(_FAMILIES)}.'
    )
  wanted = {
    'hidden_act': 'silu',
    'attention_bias': False,
    'mlp_bias': False,
    'use_sliding_window': False,
  }
  for name, value in wanted.items():
    if raw.get(name, value) != value:
      raise ValueError(
        f'{path} has {name}={raw[name]!r}; only {value!r} is supported.'
      )


def read_config(path, *, dtype='float32') -> transformer.TransformerConfig:
  """TransformerConfig from a config.json.

  Args:
    path: of the file.
    dtype: of activations and cache.

  Returns:
    TransformerConfig.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not JSON, or a model this library does not implement.
  """
  path = pathlib.Path(path)
  raw = read_json(path)
  _refuse_unsupported(raw, path)
  try:
    theta, scaling = _rope_scaling(raw, path)
    heads, hidden = raw['num_attention_heads'], raw['hidden_size']
    qwen3 = raw['model_type'] == 'qwen3'
    return transformer.TransformerConfig(
      vocab_size=raw['vocab_size'],
      hidden_size=hidden,
      num_layers=raw['num_hidden_layers'],
      num_heads=heads,
      num_kv_heads=raw.get('num_key_value_heads') or heads,
      head_dim=raw.get('head_dim') or (128 if qwen3 else hidden // heads),
      intermediate_size=raw['intermediate_size'],
      rope_theta=theta,
      rope_scaling=scaling,
      rms_eps=raw.get('rms_norm_eps', 1e-6),
      tie_embeddings=raw.get('tie_word_embeddings', False),
      qkv_bias=raw['model_type'] == 'qwen2',
      qk_norm=qwen3,
      max_positions=raw.get('max_position_embeddings', 2048),
      dtype=dtype,
    )
  except KeyError as error:
    raise ValueError(
      f'{path} has no {error.args[0]!r}; download it again.'
    ) from error


def config_json(config: transformer.TransformerConfig, dtype: str) -> dict:
  """What config.json says of a config with weights of type `dtype`."""
  c = config
  family = 'qwen2' if c.qkv_bias else 'qwen3' if c.qk_norm else 'llama'
  names = {'llama': 'Llama', 'qwen2': 'Qwen2', 'qwen3': 'Qwen3'}
  raw = {
    'architectures': [f'{names[family]}ForCausalLM'],
    'model_type': family,
    'vocab_size': c.vocab_size,
    'hidden_size': c.hidden_size,
    'num_hidden_layers': c.num_layers,
    'num_attention_heads': c.num_heads,
    'num_key_value_heads': c.num_kv_heads,
    'head_dim': c.head_dim,
    'intermediate_size': c.intermediate_size,
    'hidden_act': 'silu',
    'rope_theta': c.rope_theta,
    'rms_norm_eps': c.rms_eps,
    'tie_word_embeddings': c.tie_embeddings,
    'max_position_embeddings': c.max_positions,
    'torch_dtype': dtype,
    # Left out, transformers fills in the ids of the original Llama.
    'bos_token_id': None,
    'eos_token_id': None,
  }
  if c.rope_scaling is not None:
    s = c.rope_scaling
    raw['rope_scaling'] = {'rope_type': s.kind, 'factor': s.factor}
    if s.kind == 'llama3':
      raw['rope_scaling'] |= {
        'low_freq_factor': s.low_freq_factor,
        'high_freq_factor': s.high_freq_factor,
        'original_max_position_embeddings': s.original_max_positions,
      }
  return raw
