"""Training of the beta-VAE and of its estimator.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, appendix: Adam 1e-3 with betas
.9 and .99, batches of 64, loss |a - g(w, t)|^2 + beta KL(q(w | a) | N(0, I)),
summed over pixels. The estimator learns

*   "bce" (paper): joint pairs (w, t) against pairs of another image, the
    product of the marginals; its optimum is log p(w | t) / p(w);
*   "in_batch": which latent of the batch belongs to t (InfoNCE); its optimum
    is that of "bce" plus a function of t, which drops out of a race; or
*   "contrastive": which of M + 1 latents belongs to t, the others drawn from
    the prior. Its optimum is p(w | t) / prior(w) times a factor of t: the race
    weight itself, whether or not the aggregate posterior has reached the
    prior.

Step s draws from fold_in(key, s): a resumed run is the run not interrupted.
"""

import functools
import json
import math
import os
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

from listcoupling.data import images as image_data
from listcoupling.data import side_information
from listcoupling.models import vae

ESTIMATOR_LOSSES = ('bce', 'in_batch', 'contrastive')


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


def estimator_loss(logits_fn, key, latent, side, kind, num_negatives):
  """Loss [] of the estimator on a batch of joint pairs.

  Args:
    logits_fn: (latents [B, N, D], side [B, h, w]) -> [B, N].
    key: typed key; consumed.
    latent: [B, D], drawn from q(w | a).
    side: [B, h, w] of the same images.
    kind: one of `ESTIMATOR_LOSSES`.
    num_negatives: M of "contrastive".
  """
  batch, size = latent.shape
  if kind == 'bce':
    pairs = jnp.stack([latent, jnp.roll(latent, 1, axis=0)], 1)  # [B, 2, D]
    targets = jnp.array([[1.0, 0.0]])
    logits = logits_fn(pairs, side)
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean()
  if kind == 'in_batch':
    pool = jnp.broadcast_to(latent, (batch, batch, size))  # [B, B, D]
    odds = jax.nn.log_softmax(logits_fn(pool, side))  # [B, B]
    return -jnp.diagonal(odds).mean()
  negatives = jax.random.normal(key, (num_negatives, size))  # [M, D]
  negatives = jnp.broadcast_to(negatives, (batch, num_negatives, size))
  pool = jnp.concatenate([latent[:, None], negatives], 1)  # [B, 1 + M, D]
  return -jax.nn.log_softmax(logits_fn(pool, side))[:, 0].mean()


def loss_fn(params, key, left, right, config, model_config):
  """Sum of the three losses [] and their parts, on a batch of halves.

  The parts share no parameter: the latent is a constant to the estimator.
  """
  crop_key, latent_key, dropout_key, negative_key = jax.random.split(key, 4)
  nets = vae.networks(model_config)
  side = jax.vmap(
    lambda k, x: side_information.random_crop(k, x, model_config.side_shape)
  )(jax.random.split(crop_key, left.shape[0]), left)  # [B, h, w]
  mean, log_std = nets.encode(params, right)  # [B, D]
  latent = mean + jnp.exp(log_std) * jax.random.normal(latent_key, mean.shape)
  image = vae.VAE(model_config).apply(
    {'params': params},
    latent,
    side,
    True,
    method=vae.VAE.decode,
    rngs={'dropout': dropout_key},
  )
  axes = tuple(range(1, right.ndim))
  squares = jnp.sum((image - right) ** 2, axes).mean()
  kl = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
  kl = jnp.sum(kl, -1).mean()
  ratio = estimator_loss(
    functools.partial(nets.estimate, params),
    negative_key,
    jax.lax.stop_gradient(latent),
    side,
    config.estimator_loss,
    config.num_negatives,
  )
  alone = nets.side_only(params, side)
  alone = jnp.sum((alone - right) ** 2, axes).mean()
  pixels = right[0].size
  metrics = {
    'mse': squares / pixels,
    'kl_bits': kl / jnp.log(2.0),
    'estimator_loss': ratio,
    'side_only_mse': alone / pixels,
  }
  return squares + config.beta * kl + ratio + alone, metrics


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


def _keep_config(config, workdir: pathlib.Path) -> None:
  """Writes the settings, or refuses to resume a run of others."""
  path = workdir / 'train_config.json'
  wanted = json.loads(config.to_json())
  if path.exists():
    kept = json.loads(path.read_text())
    changed = sorted(
      name
      for name in kept.keys() | wanted.keys()
      if kept.get(name) != wanted.get(name)
    )
    if changed:
      raise ValueError(
        f'{workdir} holds a run with other settings of {changed}; resume with '
        'the same settings or choose another workdir.'
      )
    return
  _write_json(path, wanted)


def _write_json(path: pathlib.Path, value) -> None:
  beside = path.with_name(path.name + '.part')
  beside.write_text(json.dumps(value, indent=2) + '\n')
  os.replace(beside, path)


class Halves(NamedTuple):
  """Left and right halves of a set of images, [., H, W] or [., H, W, C]."""

  left: jax.Array
  right: jax.Array


def load_halves(config) -> dict[str, Halves]:
  """The images of `config`, by use.

  Args:
    config: the `train` part of a configuration.

  Returns:
    "train"; "select", the last `config.num_held_out` of the training images,
    for the choice of settings; "test".

  Raises:
    FileNotFoundError: if the images are missing.
    ValueError: if nothing is left to train on, or the images are not of
      `config.model.source_shape`.
  """
  images = image_data.load_images(config.dataset, config.data_dir or None)
  cut = len(images.train_images) - config.num_held_out
  if config.num_held_out < 0 or cut < 1:
    raise ValueError(
      f'num_held_out must be from 0 to {len(images.train_images) - 1}, got '
      f'{config.num_held_out}.'
    )
  known = images.train_images[:cut]
  if config.flip:
    known = np.concatenate([known, known[:, :, ::-1]])
  parts = {
    'train': known,
    'select': images.train_images[cut:],
    'test': images.test_images,
  }
  halves = {
    name: Halves(*side_information.split_halves(x, colour=x.ndim == 4))
    for name, x in parts.items()
  }
  shape = halves['train'].right.shape[1:]
  if shape != tuple(config.model.source_shape):
    raise ValueError(
      f'model.source_shape is {tuple(config.model.source_shape)} but the right '
      f'halves of {config.dataset!r} are {shape}.'
    )
  return halves


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
  first = manager.latest_step() or 0
  if first:
    restore = ocp.args.StandardRestore(state)
    state = manager.restore(first, args=restore)
  if first >= config.steps:
    return state
  path = workdir / 'history.json'
  history = json.loads(path.read_text()) if path.exists() else []
  history = [row for row in history if row['step'] <= first]
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
      manager.save(start + count, args=ocp.args.StandardSave(state))
      for name, value in row.items():
        board.add_scalar(name, value, start + count)
      _write_json(path, history)
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
  workdir.mkdir(parents=True, exist_ok=True)
  _keep_config(config, workdir)
  init_key = jax.random.fold_in(jax.random.key(config.seed), 2**31)
  state = init_state(init_key, config, model_config)
  options = ocp.CheckpointManagerOptions(
    max_to_keep=1, save_interval_steps=config.steps_per_call
  )
  directory = (workdir / 'checkpoints').absolute()
  with ocp.CheckpointManager(directory, options=options) as manager:
    steps = make_train_steps(config, model_config)
    state = _run(config, workdir, manager, state, steps, halves)
  return model_config, state.params
