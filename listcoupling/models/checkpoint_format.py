"""Hugging Face directories: file names and names of the tensors.

Layouts are those of the `transformers` library: linear weights are [out, in],
heads are contiguous blocks of rows, rotary pairs are (i, i + E / 2). Names are
those of `families`.

Legend: D hidden size, J key/value heads, G query heads per key head, E head
size, F perceptron size, V vocabulary.
"""

import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from listcoupling import files
from listcoupling.models.families import FAMILIES
from listcoupling.models.transformer_config import TransformerConfig

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


class Part(NamedTuple):
  """Rows of a stored tensor.

  Attributes:
    name: of the tensor.
    start: its first row.
    rows: how many.
    copies: times that the parameter has each entry of its first output axis.
  """

  name: str
  start: int
  rows: int
  copies: int = 1


class Leaf(NamedTuple):
  """One parameter and the stored tensors it is made of.

  Attributes:
    path: keys into the parameter tree.
    shape: of the parameter.
    parts: rows of stored tensors.
    inputs: axis of the parameter that is the last one of the stored tensors; 0
      or -1, None for vectors. The other axes are the stored rows.
    axis: of these other axes, the one along which the parts lie.
  """

  path: tuple[str, ...]
  shape: tuple[int, ...]
  parts: tuple[Part, ...]
  inputs: int | None = None
  axis: int = 0

  @property
  def _outputs(self) -> tuple[int, ...]:
    """The axes that are stored as rows."""
    if self.inputs is None:
      return self.shape
    return self.shape[1:] if self.inputs == 0 else self.shape[:-1]

  def _size(self, part: Part) -> int:
    """How far a part reaches along `axis`."""
    outputs = self._outputs
    return part.rows * part.copies * outputs[self.axis] // math.prod(outputs)

  def _rows(self, part: Part) -> np.ndarray:
    """The row of a part that each of its outputs is stored in."""
    first, *rest = self._outputs
    dims = [first // part.copies, *rest]
    dims[self.axis] = part.rows // (math.prod(dims) // dims[self.axis])
    return np.arange(part.rows).reshape(dims).repeat(part.copies, axis=0)

  @property
  def tensors(self) -> dict[str, tuple[int, ...]]:
    """Shape of every stored tensor, by name."""
    width = () if self.inputs is None else (self.shape[self.inputs],)
    return {x.name: (x.start + x.rows, *width) for x in self.parts}

  def read(self, fetch: Callable, index: tuple[slice, ...] | None = None):
    """The parameter, or a block of it.

    Args:
      fetch: (name, slice of rows) -> these rows of a stored tensor.
      index: of the block, a slice per axis; None reads all.

    Returns:
      numpy array. Of the tensors only the rows between the first and the last
      one of the block are read.
    """
    index = index or (slice(None),) * len(self.shape)
    index = [slice(*x.indices(n)) for x, n in zip(index, self.shape)]
    columns = None if self.inputs is None else index.pop(self.inputs)
    wanted, offset, blocks = index[self.axis], 0, []
    for part in self.parts:
      size = self._size(part)
      first, last = max(wanted.start - offset, 0), wanted.stop - offset
      offset += size
      if first >= min(last, size):
        continue
      block = list(index)
      block[self.axis] = slice(first, min(last, size))
      rows = self._rows(part)[tuple(block)]
      low, high = int(rows.flat[0]), int(rows.flat[-1]) + 1
      data = fetch(part.name, slice(part.start + low, part.start + high))
      if rows.size != high - low:
        data = data[rows.reshape(-1) - low]
      data = data if columns is None else data[:, columns]
      blocks.append(data.reshape(*rows.shape, *data.shape[1:]))
    whole = blocks[0]
    if len(blocks) > 1:
      whole = np.concatenate(blocks, axis=self.axis)
    return np.moveaxis(whole, -1, 0) if self.inputs == 0 else whole

  def split(self, value: np.ndarray) -> dict[str, np.ndarray]:
    """The stored tensors of a parameter; `read` undone.

    Raises:
      ValueError: for a parameter of another shape.
    """
    if value.shape != self.shape:
      raise ValueError(
        f'params{list(self.path)} has shape {value.shape}, the config asks for '
        f'{self.shape}.'
      )
    if self.inputs == 0:
      value = np.moveaxis(value, 0, -1)
    ends = np.cumsum([self._size(part) for part in self.parts])
    stored = {}
    for part, cut in zip(self.parts, np.split(value, ends[:-1], self.axis)):
      rows = cut.reshape(part.rows, *self.tensors[part.name][1:])
      stored.setdefault(part.name, []).append(rows)
    return {
      name: np.ascontiguousarray(np.concatenate(rows))
      for name, rows in stored.items()
    }


def parameter_table(config: TransformerConfig, copies: int = 1) -> list[Leaf]:
  """Every parameter of a config with its names in `transformers`.

  Args:
    config: as it is stored.
    copies: times that the parameters have each key head.
  """
  c = config
  embed = (c.vocab_size, c.hidden_size)

  def table(path, name):
    return Leaf((path,), embed, (Part(name, 0, c.vocab_size),), -1)

  norm = Part('model.norm.weight', 0, c.hidden_size)
  leaves = [table('embed', 'model.embed_tokens.weight')]
  for layer in range(c.num_layers):
    leaves += _layer_table(c, layer, copies)
  leaves.append(Leaf(('final_norm',), (c.hidden_size,), (norm,)))
  if not c.tie_embeddings:
    leaves.append(table('head', 'lm_head.weight'))
  return leaves


def _parts(outputs, tensors, times) -> tuple[Part, ...]:
  """Outputs by name, one behind the other where they share a tensor."""
  ends, found = {}, []
  for name, tensor in tensors.items():
    repeats = times.get(name, 1)
    rows = outputs[name] // repeats
    found.append(Part(tensor, ends.get(tensor, 0), rows, repeats))
    ends[tensor] = ends.get(tensor, 0) + rows
  return tuple(found)


def _layer_table(config, layer: int, copies: int) -> list[Leaf]:
  """Leaves of one layer."""
  c, names = config, FAMILIES[config.family or 'llama'].names
  d, f, e = c.hidden_size, c.intermediate_size, c.head_dim
  j = c.num_kv_heads * copies
  g = c.num_heads // j
  repeated = ['key', 'value'] + ['key_norm'] * (c.qk_norm == 'all')
  times = dict.fromkeys(repeated, copies)

  def parts(kind, stored):
    prefix = f'model.layers.{layer}.'
    tensors = {name: f'{prefix}{names[name]}.{kind}' for name in stored}
    return _parts(stored, tensors, times)

  def vector(name, *shape):
    stored = {name: math.prod(shape)}
    return Leaf((f'layer_{layer}', name), shape, parts('weight', stored))

  def linear(name, inputs, outputs, stored, bias, axis=0):
    path = (f'layer_{layer}', name)
    kernel = Leaf(path, (inputs, *outputs), parts('weight', stored), 0, axis)
    if not bias:
      return [kernel]
    path = (f'layer_{layer}', f'{name}_bias')
    return [kernel, Leaf(path, outputs, parts('bias', stored), None, axis)]

  qkv = {'query': j * g * e, 'key': j * e, 'value': j * e}
  out, down = {'attention_out': d}, {'down': d}
  leaves = [
    vector('attention_norm', d),
    *linear('qkv', d, (j, g + 2, e), qkv, c.qkv_bias, axis=1),
    *linear('attention_out', j * g * e, (d,), out, c.out_bias),
    vector('perceptron_norm', d),
    *linear('gate_up', d, (2, f), {'gate': f, 'up': f}, c.perceptron_bias),
    *linear('down', f, (d,), down, c.perceptron_bias),
  ]
  if c.qk_norm == 'head':
    leaves += [vector('query_norm', e), vector('key_norm', e)]
  if c.qk_norm == 'all':
    leaves += [vector('query_norm', j, g, e), vector('key_norm', j, e)]
  return leaves


def read_json(path: pathlib.Path) -> dict:
  """A JSON object of a model directory, or an error that says what to do."""
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing; a model directory holds config.json and '
      f'{WEIGHTS} (or {INDEX} and its shards).'
    )
  return files.read_json(path, max_bytes=_MAX_JSON)
