"""Language models as Hugging Face directories, in and out.

A directory holds config.json (model_type llama, qwen2 or qwen3), weights in
model.safetensors or in shards with model.safetensors.index.json, and perhaps
tokenizer.json. Names and layouts are those of the `transformers` library:
linear weights are [out, in], heads are contiguous blocks of rows, rotary pairs
are (i, i + E / 2). Weights are read one leaf at a time; pickles are refused.

Legend: D hidden size, H query heads, J key/value heads, E head size,
F perceptron size, V vocabulary.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
import tokenizers

from listcoupling.decoding import language_model
from listcoupling.models import transformer

SHIPPED = pathlib.Path(__file__).parent / 'shipped'

_WEIGHTS = 'model.safetensors'
_INDEX = 'model.safetensors.index.json'
_TOKENIZER = 'tokenizer.json'
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


def _read_json(path: pathlib.Path) -> dict:
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing; a model directory holds config.json and '
      f'{_WEIGHTS} (or {_INDEX} and its shards).'
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
  raw = _read_json(path)
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


def _hub_directory(name: str) -> pathlib.Path:
  """Downloads (or finds in the hub's cache) what a model needs."""
  import huggingface_hub

  patterns = ['config.json', '*.safetensors', _INDEX, _TOKENIZER]
  try:
    return pathlib.Path(
      huggingface_hub.snapshot_download(name, allow_patterns=patterns)
    )
  except Exception as error:  # one remedy for every way the hub can fail
    raise FileNotFoundError(
      f'{name!r} is neither a directory here nor reachable on the Hugging '
      f'Face hub ({type(error).__name__}). Where there is network, download '
      f'{", ".join(patterns)} of https://huggingface.co/{name} into a '
      'directory, bring it here and give its path.'
    ) from error


def _find_directory(name) -> pathlib.Path:
  directory = pathlib.Path(name)
  if directory.is_dir():
    return directory
  text = os.fspath(name)
  if re.fullmatch(r'\w[\w.-]*/\w[\w.-]*', text) and not directory.exists():
    return _hub_directory(text)
  raise FileNotFoundError(
    f'{text!r} is not a directory; give a directory with config.json and '
    f"{_WEIGHTS}, or a hub name such as 'Qwen/Qwen2.5-0.5B'."
  )


def _weight_files(directory: pathlib.Path) -> list[pathlib.Path]:
  if (directory / _WEIGHTS).is_file():
    return [directory / _WEIGHTS]
  if (directory / _INDEX).is_file():
    index = _read_json(directory / _INDEX)
    names = sorted(set(index.get('weight_map', {}).values()))
    for name in names:
      if pathlib.PurePath(name).name != name:
        raise ValueError(
          f'{directory / _INDEX} names {name!r}; shards must lie beside it.'
        )
      if not (directory / name).is_file():
        raise FileNotFoundError(
          f'{directory / name} is missing, named by {_INDEX}; download it.'
        )
    return [directory / name for name in names]
  pickles = sorted(
    path.name
    for path in directory.iterdir()
    if path.suffix in ('.bin', '.pt', '.pth', '.ckpt')
  )
  if pickles:
    raise ValueError(
      f'{directory} holds only pickled weights ({", ".join(pickles)}), which '
      f"can run code when read; convert them to {_WEIGHTS} with transformers' "
      'save_pretrained(safe_serialization=True).'
    )
  raise FileNotFoundError(
    f'{directory} holds neither {_WEIGHTS} nor {_INDEX}; download the weights.'
  )


def _open_tensors(directory: pathlib.Path, stack) -> dict:
  """Tensor name -> open file that holds it; nothing is read yet."""
  owner = {}
  for path in _weight_files(directory):
    try:
      file = stack.enter_context(safetensors.safe_open(path, framework='np'))
    except (safetensors.SafetensorError, OSError) as error:
      raise ValueError(
        f'{path} is truncated or no safetensors file ({error}); download it '
        'again.'
      ) from error
    owner.update(dict.fromkeys(file.keys(), file))
  return owner


def _check_tensors(owner: dict, table: list[Leaf], directory) -> None:
  """Same names and shapes on both sides, or ValueError."""
  wanted = {n: s for leaf in table for n, s in zip(leaf.names, leaf.shapes)}
  missing = sorted(wanted.keys() - owner.keys())
  # A tied head is sometimes stored, old Llamas store constant frequencies.
  extra = sorted(
    name
    for name in owner.keys() - wanted.keys()
    if name != 'lm_head.weight' and not name.endswith('rotary_emb.inv_freq')
  )
  for problem, names in (('lacks', missing), ('has unknown', extra)):
    if names:
      raise ValueError(
        f'{directory} {problem} {len(names)} tensors: {names[:4]}; config.json '
        'and weights must belong together.'
      )
  for name, shape in wanted.items():
    stored = tuple(owner[name].get_slice(name).get_shape())
    if stored != shape:
      raise ValueError(
        f'{directory}: {name} has shape {list(stored)}, config.json asks for '
        f'{list(shape)}; they must belong together.'
      )


def _read_leaf(owner: dict, leaf: Leaf, dtype) -> jax.Array:
  parts = [owner[name].get_tensor(name) for name in leaf.names]
  parts = [part.T if leaf.transpose else part for part in parts]
  return jnp.asarray(np.concatenate(parts, axis=-1), dtype=dtype)


def _read_tokenizer(directory: pathlib.Path, vocab_size: int):
  path = directory / _TOKENIZER
  if not path.is_file():
    return None
  try:
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
  except Exception as error:  # the library raises bare Exception
    raise ValueError(
      f'{path} is not a tokenizer file ({error}); download it again.'
    ) from error
  largest = max(tokenizer.get_vocab(True).values(), default=-1)
  if largest >= vocab_size:
    raise ValueError(
      f"{path} has token ids up to {largest}, the model's vocabulary has "
      f'{vocab_size}; they must belong together.'
    )
  return tokenizer


def load_pretrained(
  directory_or_hub_name, *, dtype=jnp.float32
) -> language_model.LanguageModel:
  """A language model from a Hugging Face directory or hub name.

  Args:
    directory_or_hub_name: path, or 'owner/name' to download (or take from
      the hub's cache) when no such directory exists.
    dtype: float type of parameters, activations and cache.

  Returns:
    LanguageModel; its tokenizer is None without tokenizer.json.

  Raises:
    FileNotFoundError: directory or files are missing, hub not reachable.
    ValueError: unsupported architecture or dtype, tensors missing, unknown or
      of a wrong shape, truncated or pickled weights, tokenizer larger than
      the vocabulary.

  Example:
    >>> model = load_pretrained(SHIPPED / "target")
    >>> model.config.vocab_size
    1024
  """
  dtype = jnp.dtype(dtype)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f'dtype must be a float type, got {dtype.name}.')
  directory = _find_directory(directory_or_hub_name)
  config = read_config(directory / 'config.json', dtype=dtype.name)
  tokenizer = _read_tokenizer(directory, config.vocab_size)
  table = parameter_table(config)
  params = {}
  with contextlib.ExitStack() as stack:
    owner = _open_tensors(directory, stack)
    _check_tensors(owner, table, directory)
    for leaf in table:
      node = params
      for name in leaf.path[:-1]:
        node = node.setdefault(name, {})
      node[leaf.path[-1]] = _read_leaf(owner, leaf, dtype)
  return transformer.make_language_model(config, params, tokenizer)


def shipped_pair():
  """The (target, drafter) that the library ships; one tokenizer serves both.

  Example:
    >>> target, drafter = shipped_pair()
  """
  return load_pretrained(SHIPPED / 'target'), load_pretrained(
    SHIPPED / 'drafter'
  )


def _config_json(model: language_model.LanguageModel, dtype: str) -> dict:
  c = model.config
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


def _named_tensors(model, table) -> dict[str, np.ndarray]:
  tensors = {}
  for leaf in table:
    value = model.params
    for name in leaf.path:
      value = value[name]
    value = np.asarray(value)
    sizes = [shape[0] if leaf.transpose else shape[-1] for shape in leaf.shapes]
    parts = np.split(value, np.cumsum(sizes)[:-1], axis=-1)
    for name, shape, part in zip(leaf.names, leaf.shapes, parts):
      part = np.ascontiguousarray(part.T if leaf.transpose else part)
      if part.shape != shape:
        raise ValueError(
          f'params{list(leaf.path)} gives {name} of shape {part.shape}, the '
          f'config asks for {shape}.'
        )
      tensors[name] = part
  return tensors


def save_pretrained(model: language_model.LanguageModel, directory) -> None:
  """Writes a directory that `load_pretrained` and `transformers` read.

  Args:
    model: of this library's transformer; weights keep their dtype.
    directory: made if missing. Files are written beside and renamed, so a
      reader never sees half a file.

  Raises:
    ValueError: another kind of model, a config that no family has, or a
      directory that holds a sharded checkpoint.

  Example:
    >>> target, _ = shipped_pair()
    >>> save_pretrained(target, "/tmp/target")
  """
  if not isinstance(model.config, transformer.TransformerConfig):
    raise ValueError(
      'Only transformers can be saved, got a config of type '
      f'{type(model.config).__name__}.'
    )
  if model.config.qkv_bias and model.config.qk_norm:
    raise ValueError(
      'No Hugging Face family has both qkv_bias and qk_norm; leave one out.'
    )
  directory = pathlib.Path(directory)
  if (directory / _INDEX).exists():
    raise ValueError(
      f'{directory} holds a sharded checkpoint; choose another directory.'
    )
  tensors = _named_tensors(model, parameter_table(model.config))
  dtype = np.asarray(model.params['embed']).dtype.name
  directory.parent.mkdir(parents=True, exist_ok=True)
  beside = pathlib.Path(
    tempfile.mkdtemp(prefix=f'.{directory.name}.', dir=directory.parent)
  )
  try:
    config = json.dumps(_config_json(model, dtype), indent=2) + '\n'
    (beside / 'config.json').write_text(config)
    metadata = {'format': 'pt'}  # transformers refuses a file without it
    safetensors.numpy.save_file(tensors, beside / _WEIGHTS, metadata=metadata)
    if model.tokenizer is not None:
      model.tokenizer.save(str(beside / _TOKENIZER))
    _move_into_place(beside, directory)
  finally:
    shutil.rmtree(beside, ignore_errors=True)


def _move_into_place(beside: pathlib.Path, directory: pathlib.Path) -> None:
  """One rename for a new directory, one per file for an existing one."""
  beside.chmod(0o755)  # mkdtemp and safetensors make private files
  for path in beside.iterdir():
    path.chmod(0o644)
  if not directory.exists():
    beside.rename(directory)
    return
  if not (beside / _TOKENIZER).exists():
    (directory / _TOKENIZER).unlink(missing_ok=True)
  for path in sorted(beside.iterdir()):
    path.replace(directory / path.name)
