"""Language models as Hugging Face directories, in and out.

A directory holds config.json, weights in model.safetensors or in shards with
model.safetensors.index.json, and perhaps tokenizer.json, exactly as the
`transformers` library writes them (see `checkpoint_format` and
`config_format`). Weights are read one leaf at a time (`weight_files`); pickles
are refused.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import tokenizers
from jax.sharding import Mesh, NamedSharding

from listcoupling import files, gumbel, hub, together
from listcoupling.decoding import language_model, placement
from listcoupling.models import (
  checkpoint_format,
  config_format,
  quantised,
  sharding,
  transformer,
  weight_files,
)
from listcoupling.models.transformer_config import TransformerConfig

SHIPPED = pathlib.Path(__file__).parent / 'shipped'
_SHORT_DTYPES = {
  'fp32': 'float32',
  'bf16': 'bfloat16',
  'fp16': 'float16',
  'half': 'float16',
}


def read_tokenizer(path) -> tokenizers.Tokenizer:
  """The tokenizer of a file; truncation and padding saved with it are off.

  Args:
    path: of a tokenizer.json.

  Raises:
    ValueError: it holds none; the message names the file.

  Example:
    >>> read_tokenizer(SHIPPED / 'target' / 'tokenizer.json').get_vocab_size()
    1024
  """
  files.check_regular(path)
  try:
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
  except BaseException as error:  # bare Exception, or a panic of its Rust
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
      raise
    raise ValueError(
      f'{path} is damaged: not a tokenizer file ({str(error)[:200]}); download '
      'it again, or put back the one that the model was trained with.'
    ) from error
  # What its last user had set is no part of the model: prompts stay whole.
  tokenizer.no_truncation()
  tokenizer.no_padding()
  return tokenizer


def _find_tokenizer(directory: pathlib.Path, vocab_size: int):
  path = directory / checkpoint_format.TOKENIZER
  if not path.exists():
    return None
  tokenizer = read_tokenizer(path)
  largest = max(tokenizer.get_vocab(True).values(), default=-1)
  if largest >= vocab_size:
    raise ValueError(
      f"{path} has token ids up to {largest}, the model's vocabulary has "
      f'{vocab_size}; they must belong together.'
    )
  return tokenizer


def _dtype_name(dtype, source: weight_files.Source) -> str:
  """'float32', 'bfloat16' or 'float16' of what a caller may write."""
  if isinstance(dtype, str):
    if dtype == 'auto':
      return weight_files.common_dtype(source)
    dtype = _SHORT_DTYPES.get(dtype, dtype)
  try:
    name = jnp.dtype(dtype).name if dtype is not None else None
  except TypeError:
    name = None
  if name not in _SHORT_DTYPES.values():
    raise ValueError(
      f"dtype must be 'float32', 'bfloat16', 'float16' or 'auto' (the "
      f"checkpoint's), got {dtype!r}."
    )
  return name


def load_pretrained(
  directory_or_hub_name, *, dtype=jnp.float32, mesh=None, strict=True
) -> language_model.LanguageModel:
  """A language model from a Hugging Face directory or hub name.

  Args:
    directory_or_hub_name: path, or 'owner/name' to download (or take from
      the hub's cache) when no such directory exists.
    dtype: float type of parameters, activations and cache: a dtype, its name
      (also 'bf16', 'fp16', 'fp32'), or 'auto', the checkpoint's.
    mesh: of devices, with axes 'data', 'fsdp', 'tp'; each reads its own shards
      of every parameter, see `sharding`. None: one device.
    strict: False keeps a size that the mesh does not divide whole on every
      device, and key heads as many as they are.

  Returns:
    LanguageModel; its tokenizer is None without tokenizer.json.

  Raises:
    FileNotFoundError: directory or files are missing, hub not reachable.
    ValueError: unsupported architecture or dtype, tensors missing, unknown or
      of a wrong shape, truncated or pickled weights, tokenizer larger than
      the vocabulary, a mesh that does not divide the model.

  Example:
    >>> model = load_pretrained(SHIPPED / "target")
    >>> model.config.vocab_size
    1024
  """
  directory = hub.find_directory(directory_or_hub_name)
  config = config_format.read_config(directory / 'config.json')
  source = weight_files.in_directory(directory)
  config = _checked(config, source, dtype, directory)
  tokenizer = _find_tokenizer(directory, config.vocab_size)
  return _read(config, source, mesh, tokenizer, strict)


def from_tensors(
  config, tensors, *, dtype=jnp.float32, mesh=None, tokenizer=None
) -> language_model.LanguageModel:
  """A language model from arrays that are already in memory.

  Args:
    config: mapping with the entries of a config.json, 'model_type' among them.
    tensors: mapping of names, those of the `transformers` library, to arrays
      of numpy or JAX; linear weights are [out, in].
    dtype: as in `load_pretrained`.
    mesh: as in `load_pretrained`.
    tokenizer: a `tokenizers.Tokenizer`, or None.

  Returns:
    LanguageModel.

  Raises:
    ValueError: as `load_pretrained`.

  Example:
    >>> import json, safetensors.numpy
    >>> config = json.loads((SHIPPED / 'drafter/config.json').read_text())
    >>> path = SHIPPED / 'drafter/model.safetensors'
    >>> tensors = safetensors.numpy.load_file(path)
    >>> from_tensors(config, tensors).config.vocab_size
    1024
  """
  for name, value in (('config', config), ('tensors', tensors)):
    if not isinstance(value, Mapping):
      raise ValueError(f'{name} must be a mapping, got {type(value).__name__}.')
  strange = [name for name in tensors if not isinstance(name, str)]
  if strange:
    raise ValueError(f'tensors are named by strings, got {strange[0]!r:.80}.')
  if not isinstance(tokenizer, tokenizers.Tokenizer | None):
    raise ValueError(
      'tokenizer must be a tokenizers.Tokenizer or None, got '
      f'{type(tokenizer).__name__}.'
    )
  source = weight_files.in_memory(tensors)
  config = config_format.from_entries(config, 'config')
  config = _checked(config, source, dtype, 'tensors')
  return _read(config, source, mesh, tokenizer)


def _checked(config, source: weight_files.Source, dtype, origin):
  """The config in a dtype that the source, which must fit it, can have."""
  config = dataclasses.replace(config, dtype=_dtype_name(dtype, source))
  weight_files.check_tensors(
    source, checkpoint_format.parameter_table(config), origin
  )
  return config


def _read(config, source: weight_files.Source, mesh, tokenizer, strict=True):
  """The language model of checked weights."""
  table, places = checkpoint_format.parameter_table(config), None
  if mesh is not None:
    mesh = placement.standard_mesh(mesh)
    table, config, places = _lay_out(config, mesh, strict)
  params = {}
  for leaf in table:
    node = params
    for name in leaf.path[:-1]:
      node = node.setdefault(name, {})
    place = _at(places, leaf.path) if places else None
    node[leaf.path[-1]] = weight_files.read_leaf(
      source, leaf, config.dtype, place
    )
  return transformer.make_language_model(config, params, tokenizer)


def _lay_out(config: TransformerConfig, mesh: Mesh, strict: bool):
  """(table, config, tree of shardings) of a model on a mesh."""
  copies = sharding.key_head_copies(config, mesh) if strict else 1
  table = checkpoint_format.parameter_table(config, copies)
  heads = config.num_kv_heads * copies
  config = dataclasses.replace(config, num_kv_heads=heads)
  shapes = jax.eval_shape(
    functools.partial(transformer.init_params, config=config),
    gumbel.seed_key(0),
  )
  sizes = sharding.shared_sizes(config, mesh, strict=strict)
  specs = sharding.specs(shapes, sizes)
  place = functools.partial(NamedSharding, mesh)
  return table, config, jax.tree.map(place, specs)


def _at(tree, path: tuple[str, ...]):
  return functools.reduce(lambda node, name: node[name], path, tree)


def shipped_pair():
  """The (target, drafter) that the library ships; one tokenizer serves both.

  1.3 and 0.2 million parameters, trained on the text of Python's own library;
  data and figures are in shipped/README.md.

  Returns:
    Two `LanguageModel` in float32.

  Example:
    >>> target, drafter = shipped_pair()
    >>> target.config.vocab_size, drafter.config.vocab_size
    (1024, 1024)
  """
  return load_pretrained(SHIPPED / 'target'), load_pretrained(
    SHIPPED / 'drafter'
  )


def _named_tensors(model, table, writes: bool) -> dict[str, np.ndarray]:
  """Tensors by their name in the file; none where another process writes."""
  tensors = {}
  for leaf in table:
    whole = placement.fetch(_at(model.params, leaf.path))
    if writes:
      tensors |= leaf.split(whole)
  return tensors


def save_pretrained(model: language_model.LanguageModel, directory) -> None:
  """Writes a directory that `load_pretrained` and `transformers` read.

  Args:
    model: of this library's transformer; weights keep their dtype. Where
      several processes share them, each makes the same call and process 0
      writes.
    directory: made if missing. Files are written beside and renamed, so a
      reader never sees half a file.

  Raises:
    ValueError: another kind of model, a config that no family has, or a
      directory that holds a sharded checkpoint.
    OSError: it could not be written.

  Example:
    >>> target, _ = shipped_pair()
    >>> save_pretrained(target, 'target')
  """
  if not isinstance(model, language_model.LanguageModel):
    raise ValueError(
      f'model must be a LanguageModel, got a {type(model).__name__}.'
    )
  config = model.config
  if not isinstance(config, TransformerConfig):
    raise ValueError(
      'Only transformers can be saved, got a config of type '
      f'{type(config).__name__}.'
    )
  if quantised.is_quantised(model.params):
    raise ValueError(
      'a quantised model is not saved: save the float model it was made of, '
      'and quantise that after loading.'
    )
  directory = pathlib.Path(directory)
  if (directory / checkpoint_format.INDEX).exists():
    raise ValueError(
      f'{directory} holds a sharded checkpoint; choose another directory.'
    )
  raw = config_format.config_json(
    model.config, model.params['embed'].dtype.name
  )
  config = dataclasses.replace(model.config, family=raw['model_type'])
  shared = not all(
    getattr(leaf, 'is_fully_addressable', True)
    for leaf in jax.tree.leaves(model.params)
  )
  writes = not shared or together.leads()
  tensors = _named_tensors(
    model, checkpoint_format.parameter_table(config), writes
  )
  with together.agreed(shared) as agree:
    if writes:
      _write(raw, tensors, model.tokenizer, directory)
    agree(directory='written')


def _write(raw, tensors, tokenizer, directory: pathlib.Path) -> None:
  with files.folder_beside(directory) as beside:
    files.write_json(beside / 'config.json', raw)
    metadata = {'format': 'pt'}  # transformers refuses a file without it
    safetensors.numpy.save_file(
      tensors, beside / checkpoint_format.WEIGHTS, metadata=metadata
    )
    if tokenizer is not None:
      tokenizer.save(str(beside / checkpoint_format.TOKENIZER))
      (beside / checkpoint_format.TOKENIZER_CONFIG).write_text(
        checkpoint_format.TOKENIZER_CLASS
      )
    _move_into_place(beside, directory)


def _move_into_place(beside: pathlib.Path, directory: pathlib.Path) -> None:
  """One rename for a new directory, one per file for an existing one."""
  for path in beside.iterdir():
    path.chmod(0o644)  # safetensors makes private files
  if not directory.exists():
    beside.rename(directory)
    return
  for name in (
    checkpoint_format.GENERATION,
    checkpoint_format.TOKENIZER,
    checkpoint_format.TOKENIZER_CONFIG,
  ):
    if not (beside / name).exists():
      (directory / name).unlink(missing_ok=True)
  # Without config.json nothing loads: half-way there is no model, not a mix.
  (directory / 'config.json').unlink(missing_ok=True)
  for path in sorted(beside.iterdir(), key=lambda p: p.name == 'config.json'):
    path.replace(directory / path.name)
