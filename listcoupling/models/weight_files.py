"""Weights of a Hugging Face directory: found, checked, read leaf by leaf.

Only safetensors are read: a header with names, types and shapes, then plain
numbers. Pickles are named and refused. Every complaint names the file, the
tensor and what to do.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from listcoupling.models import checkpoint_format as form

_PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle')
_FLOATS = ('F64', 'F32', 'F16', 'BF16')


class Stored(NamedTuple):
  """Where a tensor is."""

  path: pathlib.Path
  file: Any  # an open safetensors file

  def shape(self, name: str) -> tuple[int, ...]:
    """The stored shape."""
    return tuple(self.file.get_slice(name).get_shape())

  def dtype(self, name: str) -> str:
    """The stored type, as safetensors spell it."""
    return self.file.get_slice(name).get_dtype()


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
  for name in names:
    if pathlib.PurePath(name).name != name or not name.endswith('.safetensors'):
      raise ValueError(
        f'{index} names {name!r}; shards must be safetensors files and lie '
        'beside it.'
      )
    if not (index.parent / name).is_file():
      raise FileNotFoundError(
        f'{index.parent / name} is missing, named by {form.INDEX}; download it.'
      )
  return [index.parent / name for name in names]


def open_tensors(directory: pathlib.Path, stack) -> dict[str, Stored]:
  """Tensor name -> the open file that holds it; nothing is read yet.

  Args:
    directory: with weights.
    stack: ExitStack that closes the files.

  Raises:
    FileNotFoundError: weights or a shard are missing.
    ValueError: pickled or truncated weights, a tensor stored twice.
  """
  owner = {}
  for path in find(directory):
    try:
      file = stack.enter_context(safetensors.safe_open(path, framework='np'))
    except (safetensors.SafetensorError, OSError) as error:
      raise ValueError(
        f'{path} is truncated or no safetensors file ({error}); download it '
        'again.'
      ) from error
    for name in file.keys():
      if name in owner:
        raise ValueError(
          f'{name} is in both {owner[name].path} and {path}; keep the files of '
          'one checkpoint.'
        )
      owner[name] = Stored(path, file)
  return owner


def check_tensors(
  owner: dict[str, Stored], table: list[form.Leaf], directory
) -> None:
  """Same names, shapes and float types on both sides, or ValueError."""
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
    stored = owner[name]
    if stored.shape(name) != shape:
      raise ValueError(
        f'{stored.path}: {name} has shape {list(stored.shape(name))}, '
        f'config.json asks for {list(shape)}; they must belong together.'
      )
    if stored.dtype(name) not in _FLOATS:
      raise ValueError(
        f'{stored.path}: {name} holds {stored.dtype(name)}, only '
        f'{", ".join(_FLOATS)} are read; take a checkpoint that is not '
        'quantised.'
      )


def read_leaf(owner: dict[str, Stored], leaf: form.Leaf, dtype) -> jax.Array:
  """One parameter from its stored tensors; nothing else is in memory."""
  parts = [owner[name].file.get_tensor(name) for name in leaf.names]
  parts = [part.T if leaf.transpose else part for part in parts]
  return jnp.asarray(np.concatenate(parts, axis=-1), dtype=dtype)
