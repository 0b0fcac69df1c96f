"""Hugging Face directories: file names and names of the tensors.

Names and layouts are those of the `transformers` library for model_type llama,
qwen2 and qwen3: linear weights are [out, in], heads are contiguous blocks of
rows, rotary pairs are (i, i + E / 2).

Legend: D hidden size, H query heads, J key/value heads, E head size,
F perceptron size, V vocabulary.
"""

import pathlib
from typing import NamedTuple

from listcoupling import files
from listcoupling.models import transformer

WEIGHTS = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
GENERATION = 'generation_config.json'
TOKENIZER = 'tokenizer.json'
TOKENIZER_CONFIG = 'tokenizer_config.json'
_MAX_JSON = 1 << 26  # bytes; the largest index of shards has 10 MB
# Without it transformers guesses a class from the model, which adds tokens.
TOKENIZER_CLASS = """{
  "tokenizer_class": "PreTrainedTokenizerFast",
  "clean_up_tokenization_spaces": false
}
"""


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
  """A JSON object of a model directory, or an error that says what to do."""
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing; a model directory holds config.json and '
      f'{WEIGHTS} (or {INDEX} and its shards).'
    )
  return files.read_json(path, max_bytes=_MAX_JSON)
