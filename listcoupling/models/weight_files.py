"""Named weights, of a directory or in memory: checked, read leaf by leaf.

Of files only safetensors are read: a header with names, types and shapes, then
plain numbers. Pickles are named and refused. Every complaint names the file,
the tensor and what to do.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from listcoupling.models import checkpoint_format

_PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle')
# Spelling of safetensors -> what it is read as.
_FLOATS = {
  'F64': jnp.dtype(jnp.float32),
  'F32': jnp.dtype(jnp.float32),
  'F16': jnp.dtype(jnp.float16),
  'BF16': jnp.dtype(jnp.bfloat16),
}


_SPELLING = {
  'float64': 'F64',
  'float32': 'F32',
  'float16': 'F16',
  'bfloat16': 'BF16',
}


class Stored(NamedTuple):
  """Where a tensor is, and what its header says of it."""

  path: pathlib.Path | str
  shape: tuple[int, ...]
  dtype: str  # as safetensors spell it


class Source(NamedTuple):
  """Named tensors that have not been read yet.

  Attributes:
    headers: by name.
    fetch: (name, slice of rows) -> these rows, in memory of their own.
  """

  headers: dict[str, Stored]
  fetch: Callable[[str, slice], np.ndarray]


def find(directory: pathlib.Path) -> list[pathlib.Path]:
  """The safetensors files of a directory, one or its shards."""
  if (directory / checkpoint_format.WEIGHTS).is_file():
    return [directory / checkpoint_format.WEIGHTS]
  if (directory / checkpoint_format.INDEX).is_file():
    return _shards(directory / checkpoint_format.INDEX)
  pickles = sorted(
    path.name for path in directory.iterdir() if path.suffix in _PICKLES
  )
  if pickles:
    raise ValueError(
      f'{directory} holds only pickled weights ({", ".join(pickles)}), which '
      f'can run code when read; convert them to {checkpoint_format.WEIGHTS} '
      "with the transformers library's save_pretrained."
    )
  raise FileNotFoundError(
    f'{directory} holds neither {checkpoint_format.WEIGHTS} nor '
    f'{checkpoint_format.INDEX}; download the weights.'
  )


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
  weight_map = checkpoint_format.read_json(index).get('weight_map')
  if not isinstance(weight_map, dict) or not weight_map:
    raise ValueError(f'{index} has no weight_map; download it again.')
  names = sorted({str(name) for name in weight_map.values()})
  there = {path.name for path in index.parent.iterdir() if path.is_file()}
  for name in names:
    if pathlib.PurePath(name).name != name or not name.endswith('.safetensors'):
      raise ValueError(
        f'{index} names {name[:80]!r}; shards must be safetensors files and '
        'lie beside it.'
      )
    if name not in there:
      raise FileNotFoundError(
        f'{index.parent / name[:80]} is missing, named by '
        f'{checkpoint_format.INDEX}; download it.'
      )
  return [index.parent / name for name in names]


def in_memory(tensors: Mapping[str, jax.Array | np.ndarray]) -> Source:
  """The source of arrays at hand."""
  headers = {}
  for name, value in tensors.items():
    dtype = str(getattr(value, 'dtype', type(value).__name__))
    shape = tuple(np.shape(value))
    headers[name] = Stored('tensors', shape, _SPELLING.get(dtype, dtype))
  # A copy: what a parameter is made of is its own from then on.
  return Source(headers, lambda name, rows: np.array(tensors[name][rows]))


def in_directory(directory: pathlib.Path) -> Source:
  """The source of a directory with weights; no numbers are read yet.

  Args:
    directory: with weights.

  Raises:
    FileNotFoundError: weights or a shard are missing.
    ValueError: pickled or truncated weights, a tensor stored twice.
  """
  owner = {}
  for path in find(directory):
    try:
      with safetensors.safe_open(path, framework='np') as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        headers = {
          name: Stored(path, tuple(part.get_shape()), part.get_dtype())
          for name, part in slices.items()
        }
    except (safetensors.SafetensorError, OSError) as error:
      raise ValueError(
        f'{path} is truncated or no safetensors file ({error}); download it '
        'again.'
      ) from error
    for name in sorted(headers.keys() & owner.keys()):
      raise ValueError(
        f'{name} is in both {owner[name].path} and {path}; keep the files of '
        'one checkpoint.'
      )
    owner |= headers

  def fetch(name, rows):
    # The file is mapped: closed at once, its pages do not add up to a copy.
    with safetensors.safe_open(owner[name].path, framework='np') as file:
      return file.get_slice(name)[rows]

  return Source(owner, fetch)


def common_dtype(source: Source) -> str:
  """The float type that holds every stored tensor; float32 at most."""
  stored = source.headers.values()
  kinds = [_FLOATS[t.dtype] for t in stored if t.dtype in _FLOATS]
  with jax.numpy_dtype_promotion('standard'):  # whatever the caller has set
    return functools.reduce(jnp.promote_types, kinds or [jnp.float32]).name


def check_tensors(
  source: Source,
  table: list[checkpoint_format.Leaf],
  origin: pathlib.Path | str,
) -> None:
  """Same names, shapes and float types on both sides, or ValueError."""
  owner, wanted = source.headers, {}
  for leaf in table:
    wanted |= leaf.tensors
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
        f'{origin} {problem} {len(names)} tensors: {names[:4]}; config.json '
        'and weights must belong together.'
      )
  if 'lm_head.weight' in owner and 'lm_head.weight' not in wanted:
    wanted['lm_head.weight'] = wanted['model.embed_tokens.weight']
    _check_tied(source, wanted['lm_head.weight'])
  for name, shape in wanted.items():
    stored = owner[name]
    if stored.shape != shape:
      raise ValueError(
        f'{stored.path}: {name} has shape {list(stored.shape)}, '
        f'config.json asks for {list(shape)}; they must belong together.'
      )
    if stored.dtype not in _FLOATS:
      raise ValueError(
        f'{stored.path}: {name} holds {stored.dtype}, only '
        f'{", ".join(_FLOATS)} are read; take a checkpoint that is not '
        'quantised.'
      )


def _check_tied(source: Source, shape: tuple[int, ...]) -> None:
  """A head that is stored although config.json ties it must be the embedding.

  Both are read in blocks of rows.
  """
  names = 'lm_head.weight', 'model.embed_tokens.weight'
  head, embedding = (source.headers[name] for name in names)
  same = (
    head.shape == embedding.shape == shape and head.dtype == embedding.dtype
  )
  if same and head.dtype in _FLOATS:
    rows = shape[0]
    blocks = (slice(i, min(i + 4096, rows)) for i in range(0, rows, 4096))
    same = all(
      np.array_equal(*(source.fetch(name, block) for name in names))
      for block in blocks
    )
  if not same:
    raise ValueError(
      f'{head.path}: lm_head.weight is not model.embed_tokens.weight, but '
      'config.json says tie_word_embeddings=true; set it to false, or remove '
      'the tensor.'
    )


def read_leaf(
  source: Source,
  leaf: checkpoint_format.Leaf,
  dtype: str,
  sharding: jax.sharding.Sharding | None = None,
) -> jax.Array:
  """One parameter; with a sharding each of its shards alone, and once."""
  if sharding is None:
    # Cast here and put as it is: else a program is compiled for each shape.
    leaf = leaf.read(source.fetch).astype(jnp.dtype(dtype), copy=False)
    return jax.device_put(leaf)
  blocks = {}  # devices with the same shard share what was read

  def read(index):
    place = tuple((x.start, x.stop) for x in index)
    if place not in blocks:
      block = leaf.read(source.fetch, index)
      blocks[place] = block.astype(jnp.dtype(dtype))  # a copy: `block` goes
    return blocks[place]

  return jax.make_array_from_callback(leaf.shape, sharding, read)
