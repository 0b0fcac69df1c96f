"""Training of the beta-VAE and of its estimator.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, appendix: Adam 1e-3 with betas
.9 and .99, batches of 64; the losses are in `vae_losses`, the images in
`image_halves`.

Step s draws from fold_in(key, s): a resumed run is the run not interrupted.
"""

import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import orbax.checkpoint as ocp
import tensorboardX
import tqdm

from listcoupling import files
from listcoupling.models import vae
from listcoupling.training import run_folder
from listcoupling.training.image_halves import Halves, load_halves
from listcoupling.training.vae_losses import (
  ESTIMATOR_LOSSES,
  estimator_loss,
  loss_fn,
)

__all__ = [
  'ESTIMATOR_LOSSES',
  'Halves',
  'TrainState',
  'check_config',
  'estimator_loss',
  'image_grid',
  'init_state',
  'load_halves',
  'loss_fn',
  'make_train_steps',
  'train',
]


class TrainState(NamedTuple):
  """What the next step needs."""

  step: jax.Array  # []
  params: Any
  opt_state: Any


def check_config(config) -> vae.VAEConfig:
  """The model's sizes; ValueError for settings that make no sense."""
  if config.estimator_loss not in ESTIMATOR_LOSSES:
    raise ValueError(
      f'estimator_loss must be one of {ESTIMATOR_LOSSES}, got '
      f'{config.estimator_loss!r}.'
    )
  for name in ('steps', 'batch_size', 'steps_per_call', 'num_negatives'):
    if config[name] < 1:
      raise ValueError(f'{name} must be at least 1, got {config[name]}.')
  for name in ('learning_rate', 'beta'):
    if not config[name] > 0:
      raise ValueError(f'{name} must be positive, got {config[name]}.')
  return vae.VAEConfig(**config.model)


def _optimizer(config):
  rate = optax.cosine_decay_schedule(
    config.learning_rate, config.steps, alpha=config.final_rate
  )
  return optax.adam(rate, b1=0.9, b2=0.99)


def init_state(key, config, model_config) -> TrainState:
  """State before the first step."""
  params = vae.init_params(key, model_config)
  return TrainState(
    jnp.zeros((), jnp.int32), params, _optimizer(config).init(params)
  )


def make_train_steps(config, model_config):
  """Compiled (state, key, left [R, H, W], right, count) -> state, metrics.

  `count` steps run in one call; metrics are their means.
  """
  optimizer = _optimizer(config)

  def one(state, key, left, right):
    step_key = jax.random.fold_in(key, state.step)
    batch_key, loss_key = jax.random.split(step_key)
    rows = jax.random.randint(batch_key, (config.batch_size,), 0, left.shape[0])
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      state.params, loss_key, left[rows], right[rows], config, model_config
    )
    updates, opt_state = optimizer.update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), metrics

  @jax.jit
  def many(state, key, left, right, count):
    state, total = one(state, key, left, right)

    def body(_, carry):
      state, total = carry
      state, metrics = one(state, key, left, right)
      return state, jax.tree.map(jnp.add, total, metrics)

    state, total = jax.lax.fori_loop(1, count, body, (state, total))
    return state, jax.tree.map(lambda x: x / count, total)

  return many


def _check_finite(row, step, config) -> None:
  if not all(math.isfinite(value) for value in row.values()):
    raise FloatingPointError(
      f'the loss is not finite by step {step}: {row}; lower learning_rate, '
      f'now {config.learning_rate}.'
    )


def image_grid(params, left, right, networks) -> np.ndarray:
  """Sources over their reconstructions: [B, H, W] -> [2 H, B W] (or colour).

  The latent is the posterior mean, the crop the corner of the left half.
  """
  rows, columns, *_ = networks.config.side_shape
  mean, _ = networks.encode(params, right)
  image = networks.decode(params, mean, left[:, :rows, :columns])
  lines = [np.concatenate(list(np.asarray(x)), 1) for x in (right, image)]
  return np.concatenate(lines, 0)


def _run(config, workdir, manager, state, steps, halves) -> TrainState:
  """The loop: resume, step, keep."""
  first, state = run_folder.restore(manager, state)
  if first >= config.steps:
    return state
  history = run_folder.read_history(workdir, first)
  key = jax.random.key(config.seed)
  known = jax.tree.map(jnp.asarray, halves['train'])
  with (
    tqdm.tqdm(initial=first, total=config.steps, desc='vae') as progress,
    tensorboardX.SummaryWriter(str(workdir / 'tensorboard')) as board,
  ):
    for start in range(first, config.steps, config.steps_per_call):
      count = min(config.steps_per_call, config.steps - start)
      state, metrics = steps(state, key, *known, count)
      row = {name: float(value) for name, value in metrics.items()}
      _check_finite(row, start + count, config)
      history.append({'step': start + count, **row})
      progress.update(count)
      progress.set_postfix(
        {name: f'{value:.3f}' for name, value in row.items()}
      )
      run_folder.save(manager, start + count, state)
      for name, value in row.items():
        board.add_scalar(name, value, start + count)
      files.write_json(workdir / 'history.json', history)
    _draw(board, state, halves['test'], config)
  manager.wait_until_finished()
  return state


def _draw(board, state, halves, config) -> None:
  """A grid of test images for tensorboard."""
  networks = vae.networks(vae.VAEConfig(**config.model))
  grid = image_grid(state.params, *(x[:10] for x in halves), networks)
  formats = 'HWC' if grid.ndim == 3 else 'HW'
  board.add_image('reconstructions', grid, config.steps, dataformats=formats)


def train(config: ml_collections.ConfigDict, workdir):
  """Trains to `config.steps`, resuming what `workdir` holds.

  Args:
    config: the `train` part of configs/vae_digits.py.
    workdir: folder for checkpoints/, train_config.json, history.json.

  Returns:
    `vae.VAEConfig` and the parameters. A finished run is only read.

  Raises:
    ValueError: for settings that make no sense, or a workdir of another run.
    FileNotFoundError: if the images are missing.
    FloatingPointError: if the loss stops being finite.

  Example:
    >>> from configs import vae_digits
    >>> config = vae_digits.get_config().train
    >>> model, params = train(config, 'runs/digits')  # doctest: +SKIP
  """
  model_config = check_config(config)
  halves = load_halves(config)
  workdir = pathlib.Path(workdir)
  run_folder.check_settings(config, workdir)
  run_folder.keep_settings(config, workdir)
  init_key = jax.random.fold_in(jax.random.key(config.seed), 2**31)
  state = init_state(init_key, config, model_config)
  # Every call is saved, a last shorter one as well.
  options = ocp.CheckpointManagerOptions(max_to_keep=1)
  directory = (workdir / 'checkpoints').absolute()
  with ocp.CheckpointManager(directory, options=options) as manager:
    steps = make_train_steps(config, model_config)
    state = _run(config, workdir, manager, state, steps, halves)
  return model_config, state.params
