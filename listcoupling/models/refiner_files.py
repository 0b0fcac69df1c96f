"""Fits of the refined schemes on disk: codewords, refiner and classifier.

Not in the paper. One safetensors file per number of cells, in the folder
`refined` of an experiment, whose config.json has the sizes. A file is written
beside its place and renamed; its metadata hold a digest of the numbers, so a
damaged one is refused. Files without a digest are checked for names and shapes.

Legend: F cells (codewords), P pixels.
"""

import functools
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

from listcoupling.models import refiner

FOLDER = 'refined'
SETTINGS = 'config.json'
_DIGEST = 'sha256'


class Refined(NamedTuple):
  """What a scheme learned for one number of cells."""

  config: refiner.RefinerConfig
  codewords: np.ndarray  # [F, P]
  params: Any  # of the refiner
  classifier: Any  # of the classifier, or None


def list_path(workdir, num_cells: int) -> pathlib.Path:
  """Where the fit of a list quantiser of L K = `num_cells` cells is kept."""
  return pathlib.Path(workdir) / FOLDER / f'list_{num_cells}.safetensors'


def cells_path(workdir, num_messages: int, beta: float) -> pathlib.Path:
  """Where the fit of `cells` with L labels on the VAE of one beta is kept."""
  name = f'cells_{num_messages}_beta_{beta:g}.safetensors'
  return pathlib.Path(workdir) / FOLDER / name


def config_of(settings: Mapping[str, Any]) -> refiner.RefinerConfig:
  """Sizes of the networks from the settings of an experiment.

  Args:
    settings: "train" and "refine" of the experiment, "num_decoders" a list
      and "most_messages" a number, as config.json of the folder has them.

  Raises:
    ValueError: naming what is missing.
  """
  try:
    model, most = settings['train']['model'], max(settings['num_decoders'])
    return refiner.RefinerConfig(
      model['source_shape'], model['side_shape'],
      num_cells=settings['most_messages'] * most,
      latent_size=model['latent_size'],
      hidden_size=settings['refine']['hidden_size'],
      side_features=model['side_features'],
      max_decoders=most,
    )  # fmt: skip
  except (KeyError, TypeError) as error:
    raise ValueError(f'the settings of the fits lack {error}.') from error


@functools.cache
def _shapes(config: refiner.RefinerConfig) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every tensor but the codewords."""
  table, latents = jnp.zeros((1, *config.source_shape)), config.latent_size
  parts = {
    'refiner': jax.eval_shape(
      lambda key: refiner.init_params(key, config, table), jax.random.key(0)
    ),
    'classifier': jax.eval_shape(
      lambda key: refiner.CellClassifier(config.num_cells).init(
        key, jnp.zeros((1, latents))
      )['params'],
      jax.random.key(0),
    ),
  }
  flat = traverse_util.flatten_dict(parts, sep='/')
  return {name: leaf.shape for name, leaf in flat.items()}


def _digest(flat: Mapping[str, np.ndarray]) -> str:
  found = hashlib.sha256()
  for name in sorted(flat):
    found.update(f'{name} {flat[name].shape};'.encode())
    found.update(np.ascontiguousarray(flat[name]).tobytes())
  return found.hexdigest()


def _check(flat, config) -> None:
  """Raises ValueError for tensors that are not a fit of these sizes."""
  wanted = _shapes(config)
  if not any(name.startswith('classifier/') for name in flat):
    wanted = {k: v for k, v in wanted.items() if k.startswith('refiner/')}
  wrong = sorted(flat.keys() ^ (wanted.keys() | {'codewords'}))
  if wrong:
    raise ValueError(f'it lacks, or has besides, the tensors {wrong[:4]}')
  pixels = int(np.prod(config.source_shape))
  words = flat['codewords'].shape
  if len(words) != 2 or words[1] != pixels or words[0] > config.num_cells:
    raise ValueError(
      f'its codewords have shape {words}, at most {config.num_cells} of '
      f'{pixels} pixels are wanted'
    )
  for name, array in flat.items():
    if name in wanted and array.shape != wanted[name]:
      raise ValueError(
        f'{name} has shape {array.shape}, config.json asks for {wanted[name]}'
      )
    if array.dtype != np.float32 or not np.isfinite(array).all():
      raise ValueError(f'{name} does not hold finite float32 numbers')


def read(path, config: refiner.RefinerConfig) -> Refined:
  """Reads what `write` wrote.

  Args:
    path: the file.
    config: sizes, see `config_of`.

  Returns:
    `Refined`, arrays of numpy.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a damaged file, or one of another kind or of other sizes.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'there is no file {path}.')
  try:
    with safetensors.safe_open(path, framework='np') as file:
      flat = {name: file.get_tensor(name) for name in file.keys()}
      metadata = file.metadata() or {}
    _check(flat, config)
    if metadata.get(_DIGEST) != _digest(flat):
      raise ValueError('its numbers are not those that were written')
  except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
    raise ValueError(
      f'{path} is damaged or not a fit of these sizes: {error}; remove it to '
      'have it fitted again.'
    ) from error
  tree = traverse_util.unflatten_dict(flat, sep='/')
  return Refined(
    config, tree['codewords'], tree['refiner'], tree.get('classifier')
  )


def write(path, refined: Refined) -> None:
  """Writes a fit beside `path` and renames it; the folder is made.

  Raises:
    ValueError: for arrays that are not of the sizes in `refined.config`.
  """
  tree = {'codewords': refined.codewords, 'refiner': refined.params}
  if refined.classifier is not None:
    tree['classifier'] = refined.classifier
  flat = {
    name: np.ascontiguousarray(leaf)
    for name, leaf in traverse_util.flatten_dict(tree, sep='/').items()
  }
  _check(flat, refined.config)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, name = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
  os.close(handle)
  try:
    safetensors_numpy.save_file(flat, name, metadata={_DIGEST: _digest(flat)})
    os.chmod(name, 0o644)
    os.replace(name, path)
  finally:
    pathlib.Path(name).unlink(missing_ok=True)
