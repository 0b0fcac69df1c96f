"""Networks of the compressor, read from the folder of a training.

A workdir of scripts/train_vae.py has one VAE, one of
scripts/evaluate_compression.py several (a beta each) and in `refined` the fits
of `cells` and `list_quantiser`, a file per number of cells.

Legend: K decoders, L messages.
"""

import functools
import json
import pathlib
import re
from collections.abc import Callable

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from listcoupling.compression import container
from listcoupling.experiments import results
from listcoupling.experiments.compress_models import (
  Model,
  make_cells_model,
  make_list_model,
  make_model,
)
from listcoupling.models import refiner_files
from listcoupling.training import vae as training


def _load_vae(directory: pathlib.Path) -> Model:
  """The last checkpoint of one training."""
  config, model_config = _read_config(directory)
  shapes = jax.eval_shape(
    lambda: training.init_state(jax.random.key(0), config, model_config)
  )  # nothing is compiled or drawn: the numbers come from the checkpoint
  state = jax.tree.map(
    lambda x: jax.device_put(np.zeros(x.shape, x.dtype)), shapes
  )
  checkpoints = (directory / 'checkpoints').absolute()
  if not checkpoints.is_dir():
    raise FileNotFoundError(f'{checkpoints} is missing; train first.')
  with ocp.CheckpointManager(checkpoints) as manager:
    step = manager.latest_step()
    if step is None:
      raise FileNotFoundError(f'{checkpoints} holds no checkpoint.')
    if step < config.steps:
      raise FileNotFoundError(
        f'{checkpoints} is at step {step}, {config.steps} are needed: train on.'
      )
    state = manager.restore(step, args=ocp.args.StandardRestore(state))
  return make_model(model_config, state.params)


def _vae_folders(directory: pathlib.Path) -> dict[float, pathlib.Path]:
  """beta -> folder of its training."""
  places = [directory / 'model', directory, *directory.glob('model_beta_*')]
  found = [p for p in places if (p / 'train_config.json').is_file()]
  if not found:
    raise FileNotFoundError(
      f'{directory} holds no train_config.json; name the workdir of '
      'scripts/train_vae.py or scripts/evaluate_compression.py, or its model '
      'folder.'
    )
  if found[0] in places[:2]:
    found = found[:1]
  return {_read_config(path)[0].beta: path for path in found}


def _read_config(directory: pathlib.Path):
  """Settings of a training and the sizes of its VAE."""
  path = directory / 'train_config.json'
  try:
    config = ml_collections.ConfigDict(json.loads(path.read_text()))
    return config, training.check_config(config)
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise ValueError(
      f'{path} is damaged or not that of a VAE ({error!r}); train again.'
    ) from error


def _settings(directory, scheme, num_decoders, num_messages) -> dict:
  """config.json of the fits, if they are for these K and L."""
  path = directory / refiner_files.FOLDER / refiner_files.SETTINGS
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: {scheme} needs the fits of '
      'scripts/evaluate_compression.py; name its workdir.'
    )
  try:
    settings = results.read_json(path)
    refiner_files.config_of(settings)
    int(settings['refine']['num_candidates'])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{path} is damaged: {error!r}') from error
  if not isinstance(settings.get('num_messages'), list):
    raise ValueError(
      f'{path} has no list num_messages: fits of an earlier version; fit anew.'
    )
  for name, count in (('decoders', num_decoders), ('messages', num_messages)):
    known = settings[f'num_{name}']
    if count not in known:
      raise FileNotFoundError(
        f'{path.parent} holds no fit of {scheme} for {count} {name}; there are '
        f'fits for {known}.'
      )
  return settings


def _missing(paths, wanted: str, unit: str) -> FileNotFoundError:
  """Says what was looked for and which numbers there are."""
  kind, folder = paths[0].name.split('_')[0], paths[0].parent
  numbers = {
    int(re.match(rf'{kind}_(\d+)', path.name)[1])
    for path in folder.glob(f'{kind}_[0-9]*.safetensors')
  }
  return FileNotFoundError(
    f'{folder} holds no {" or ".join(path.name for path in paths)}, for '
    f'{wanted}; it has fits of {sorted(numbers)} {unit}.'
  )


def _load_cells(folder, path, settings) -> Model:
  refined = refiner_files.read(path, refiner_files.config_of(settings))
  count = settings['refine']['num_candidates']
  return make_cells_model(_load_vae(folder), refined, count)


def _load_list(path, settings) -> Model:
  return make_list_model(
    refiner_files.read(path, refiner_files.config_of(settings))
  )


def _choices(
  directory, scheme, num_decoders, num_messages
) -> dict[float | None, Callable[[], Model]]:
  """beta -> how to read the model; None is the beta of the list quantiser."""
  if scheme not in container.SCHEMES:
    raise ValueError(
      f'scheme must be one of {container.SCHEMES}, got {scheme!r}.'
    )
  if scheme == 'gls':
    folders = _vae_folders(directory)
    return {b: functools.partial(_load_vae, p) for b, p in folders.items()}
  settings = _settings(directory, scheme, num_decoders, num_messages)
  wanted = f'{scheme} of {num_messages} messages to {num_decoders} decoders'
  if scheme == 'list_quantiser':
    path = refiner_files.list_path(directory, num_messages * num_decoders)
    if not path.is_file():
      raise _missing([path], wanted, 'cells (messages times decoders)')
    return {None: functools.partial(_load_list, path, settings)}
  folders = _vae_folders(directory)
  paths = {
    beta: refiner_files.cells_path(directory, num_messages, beta)
    for beta in folders
  }
  found = {
    beta: functools.partial(_load_cells, folders[beta], path, settings)
    for beta, path in paths.items()
    if path.is_file()
  }
  if not found:
    raise _missing(list(paths.values()), wanted, 'messages')
  return found


def _evaluated(directory, job) -> tuple[float | None, int | None]:
  """(beta, N) that the evaluation chose for (scheme, K, L), or Nones."""
  path = directory / 'choice' / f'{job[0]}.json'
  if not path.is_file():
    return None, None
  try:
    chosen = {
      tuple(kept): (float(beta), int(count))
      for kept, (beta, count) in results.read_json(path)['chosen']
    }
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} is damaged ({error!r}); name --beta, or evaluate again.'
    ) from error
  return chosen.get(job, (None, None))


def load_model(
  directory,
  *,
  scheme: str = 'gls',
  num_decoders: int | None = None,
  num_messages: int | None = None,
  beta: float | None = None,
) -> Model:
  """Reads what was trained and fitted; no image is needed.

  Args:
    directory: workdir of scripts/train_vae.py (or a model folder in it) or of
      scripts/evaluate_compression.py, which alone has the fits.
    scheme: one of `container.SCHEMES`.
    num_decoders: K; not read for gls where there is one VAE.
    num_messages: L, likewise.
    beta: of the VAE; None takes the evaluation's choice, or the only one.

  Returns:
    `Model`. Its num_candidates is that of the fit; of gls what the evaluation
    chose together with beta for K and L, or 256 if beta is given or none was.

  Raises:
    FileNotFoundError: if there is no finished training or no such fit.
    ValueError: for a scheme or beta that is not there, or a damaged file.
  """
  directory = pathlib.Path(directory)
  job = (scheme, num_decoders, num_messages)
  choices, count = _choices(directory, *job), None
  if beta is None and None not in choices:
    beta, count = _evaluated(directory, job)
  if beta is None and len(choices) == 1:
    beta = next(iter(choices))
  if beta not in choices:
    betas = sorted(choices) if None not in choices else 'none'
    raise ValueError(
      f'beta (--beta) must name a VAE of {directory} for {scheme}: {betas}, '
      f'got {beta}.'
    )
  model = choices[beta]()
  if scheme == 'gls' and count is not None:
    return model._replace(num_candidates=count)
  return model


def load_named(directory, coded: container.Coded) -> Model:
  """The model that a file names by its digest.

  Raises:
    container.ModelError: if the folder has it not.
    FileNotFoundError, ValueError: as `load_model`.
  """
  directory, found = pathlib.Path(directory), []
  for load in _choices(
    directory, coded.scheme, coded.num_decoders, coded.num_messages
  ).values():
    model = load()
    if model.digest == coded.model_digest:
      return model
    found.append(model.digest.hex()[:12])
  raise container.ModelError(
    f'the file was made with model {coded.model_digest.hex()[:12]}, '
    f'{directory} has {", ".join(found)}; decode with the model that encoded.'
  )
