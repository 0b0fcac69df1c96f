"""Weights of a Hugging Face directory: found, checked, read leaf by leaf.

Only safetensors are read: a header with names, types and shapes, then plain
numbers. Pickles are named and refused. Every complaint names the file, the
tensor and what to do.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from listcoupling.models import checkpoint_format as form

_PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle')
# Spelling of safetensors -> what it is read as.
_FLOATS = {
  'F64': jnp.dtype(jnp.float32),
  'F32': jnp.dtype(jnp.float32),
  'F16': jnp.dtype(jnp.float16),
  'BF16': jnp.dtype(jnp.bfloat16),
}


class Stored(NamedTuple):
  """Where a tensor is, and what its header says of it."""

  path: pathlib.Path
  shape: tuple[int, ...]
  dtype: str  # as safetensors spell it


def find(directory: pathlib.Path) -> list[pathlib.Path]:
  """The safetensors files of a directory, one or its shards."""
  if (directory / form.WEIGHTS).is_file():
    return [directory / form.WEIGHTS]
  if (directory / form.INDEX).is_file():
    return _shards(directory / form.INDEX)
  pickles = sorted(
    path.name for path in directory.iterdir() if path.suffix in _PICKLES
  )
  if pickles:
    raise ValueError(
      f'{directory} holds only pickled weights ({", ".join(pickles)}), which '
      f'can run code when read; convert them to {form.WEIGHTS} with the '
      "transformers library's save_pretrained."
    )
  raise FileNotFoundError(
    f'{directory} holds neither {form.WEIGHTS} nor {form.INDEX}; download the '
    'weights.'
  )


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
  weight_map = form.read_json(index).get('weight_map')
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
        f'{index.parent / name[:80]} is missing, named by {form.INDEX}; '
        'download it.'
      )
  return [index.parent / name for name in names]


def read_headers(directory: pathlib.Path) -> dict[str, Stored]:
  """Tensor name -> where and what it is; no numbers are read yet.

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
  return owner


def common_dtype(owner: dict[str, Stored]) -> str:
  """The float type that holds every stored tensor; float32 at most."""
  kinds = [_FLOATS[t.dtype] for t in owner.values() if t.dtype in _FLOATS]
  return functools.reduce(jnp.promote_types, kinds or [jnp.float32]).name


def check_tensors(
  owner: dict[str, Stored], table: list[form.Leaf], directory
) -> None:
  """Same names, shapes and float types on both sides, or ValueError."""
  wanted = {}
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
        f'{directory} {problem} {len(names)} tensors: {names[:4]}; config.json '
        'and weights must belong together.'
      )
  if 'lm_head.weight' in owner and 'lm_head.weight' not in wanted:
    wanted['lm_head.weight'] = wanted['model.embed_tokens.weight']
    _check_tied(owner, wanted['lm_head.weight'])
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


def _check_tied(owner: dict[str, Stored], shape) -> None:
  """A head that is stored although config.json ties it must be the embedding.

  Both are read in blocks of rows.
  """
  head, embedding = owner['lm_head.weight'], owner['model.embed_tokens.weight']
  same = (
    head.shape == embedding.shape == shape and head.dtype == embedding.dtype
  )
  if same and head.dtype in _FLOATS:
    with (
      safetensors.safe_open(head.path, framework='np') as one,
      safetensors.safe_open(embedding.path, framework='np') as other,
    ):
      one = one.get_slice('lm_head.weight')
      other = other.get_slice('model.embed_tokens.weight')
      same = all(
        np.array_equal(one[rows], other[rows])
        for start in range(0, shape[0], 4096)
        for rows in [slice(start, min(start + 4096, shape[0]))]
      )
  if not same:
    raise ValueError(
      f'{head.path}: lm_head.weight is not model.embed_tokens.weight, but '
      'config.json says tie_word_embeddings=true; set it to false, or remove '
      'the tensor.'
    )


def read_leaf(
  owner: dict[str, Stored],
  leaf: form.Leaf,
  dtype: str,
  sharding: jax.sharding.Sharding | None = None,
) -> jax.Array:
  """One parameter; with a sharding each of its shards alone."""

  def fetch(name, rows):
    # The file is mapped: closed at once, its pages do not add up to a copy.
    with safetensors.safe_open(owner[name].path, framework='np') as file:
      return file.get_slice(name)[rows]

  if sharding is None:
    return jnp.asarray(leaf.read(fetch), dtype=dtype)
  return jax.make_array_from_callback(
    leaf.shape,
    sharding,
    lambda index: leaf.read(fetch, index).astype(jnp.dtype(dtype)),
  )
