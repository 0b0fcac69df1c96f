"""Hugging Face directories: file names and names of the tensors.

Names and layouts are those of the `transformers` library for model_type llama,
qwen2 and qwen3: linear weights are [out, in], heads are contiguous blocks of
rows, rotary pairs are (i, i + E / 2).

Legend: D hidden size, H query heads, J key/value heads, G = H / J, E head size,
F perceptron size, V vocabulary.
"""

import pathlib
from typing import NamedTuple

import numpy as np

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
    names: tensor names, in this order.
    shapes: stored shapes.
    shape: of the parameter.
    transpose: whether tensors are stored as [out, in].
    groups: the outputs of every tensor are cut into so many equal parts, and
      part i of all tensors come before part i + 1 of any.
  """

  path: tuple[str, ...]
  names: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  shape: tuple[int, ...]
  transpose: bool = False
  groups: int = 1

  def join(self, tensors) -> np.ndarray:
    """The parameter from its stored tensors."""
    cut = [x.reshape(self.groups, -1, *x.shape[1:]) for x in tensors]
    whole = cut[0] if len(cut) == 1 else np.concatenate(cut, axis=1)
    whole = whole.reshape(-1, *tensors[0].shape[1:])
    return (whole.T if self.transpose else whole).reshape(self.shape)

  def split(self, value: np.ndarray) -> list[np.ndarray]:
    """The stored tensors of a parameter; `join` undone.

    Raises:
      ValueError: for a parameter of another shape.
    """
    if value.shape != self.shape:
      raise ValueError(
        f'params{list(self.path)} has shape {value.shape}, the config asks for '
        f'{self.shape}.'
      )
    if self.transpose:
      value = value.reshape(self.shape[0], -1).T
    rows = sum(shape[0] for shape in self.shapes)
    cut = value.reshape(self.groups, rows // self.groups, *self.shapes[0][1:])
    ends = np.cumsum([shape[0] // self.groups for shape in self.shapes])
    parts = np.split(cut, ends[:-1], axis=1)
    return [
      np.ascontiguousarray(part.reshape(shape))
      for part, shape in zip(parts, self.shapes)
    ]


def parameter_table(config: transformer.TransformerConfig) -> list[Leaf]:
  """Every parameter of a config with its names in `transformers`."""
  c = config
  d, f, e, j = c.hidden_size, c.intermediate_size, c.head_dim, c.num_kv_heads
  rows = (c.num_heads * e, j * e, j * e)
  heads = (j, c.num_heads // j + 2, e)
  embed = (c.vocab_size, d)
  table = [Leaf(('embed',), ('model.embed_tokens.weight',), (embed,), embed)]
  for i in range(c.num_layers):

    def leaf(name, stored, shapes, shape, *layout, i=i):
      names = tuple(f'model.layers.{i}.{x}' for x in stored)
      return Leaf((f'layer_{i}', name), names, tuple(shapes), shape, *layout)

    def vector(name, stored, size):
      return leaf(name, [stored], [(size,)], (size,))

    qkv = [f'self_attn.{x}_proj' for x in 'qkv']
    weights, biases = ([f'{x}.{y}' for x in qkv] for y in ('weight', 'bias'))
    out, down = 'self_attn.o_proj.weight', 'mlp.down_proj.weight'
    gate_up = ['mlp.gate_proj.weight', 'mlp.up_proj.weight']
    table += [
      vector('attention_norm', 'input_layernorm.weight', d),
      leaf('qkv', weights, [(r, d) for r in rows], (d, *heads), True, j),
      leaf('attention_out', [out], [(d, rows[0])], (rows[0], d), True),
      vector('perceptron_norm', 'post_attention_layernorm.weight', d),
      leaf('gate_up', gate_up, 2 * [(f, d)], (d, 2, f), True),
      leaf('down', [down], [(d, f)], (f, d), True),
    ]
    if c.qkv_bias:
      table.append(
        leaf('qkv_bias', biases, [(r,) for r in rows], heads, False, j)
      )
    if c.qk_norm:
      table.append(vector('query_norm', 'self_attn.q_norm.weight', e))
      table.append(vector('key_norm', 'self_attn.k_norm.weight', e))
  table.append(Leaf(('final_norm',), ('model.norm.weight',), ((d,),), (d,)))
  if not c.tie_embeddings:
    table.append(Leaf(('head',), ('lm_head.weight',), (embed,), embed))
  return table


def read_json(path: pathlib.Path) -> dict:
  """A JSON object of a model directory, or an error that says what to do."""
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing; a model directory holds config.json and '
      f'{WEIGHTS} (or {INDEX} and its shards).'
    )
  return files.read_json(path, max_bytes=_MAX_JSON)
