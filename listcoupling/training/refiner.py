"""Training of a decoder on the outcomes of the codec, for the best of K.

Not in the paper, which trains the decoder on the encoder's own latents and
then feeds it others. Success is by the best of the K decoders, so the loss of
an image is min_k |a - g(cell_k, w_k, t_k)|^2 over the K decoders of the list:
decoders that hold different candidates learn to answer differently.

Step s draws from fold_in(key, s). One compiled loop serves all cells, rates
and numbers of decoders whose arrays have equal shapes.

Legend: C list sizes, R images, K decoders at most, D latent size.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from listcoupling.models import refiner


class Pool(NamedTuple):
  """What the K decoders of R images hold, for C sizes of the list."""

  counts: jax.Array  # [C] int32, decoders in use
  source: jax.Array  # [R, H, W]
  sides: jax.Array  # [R, K, h, w]
  cells: jax.Array  # [C, R, K] int32
  latents: jax.Array  # [C, R, K, D]


def best_squared_error(images, source, count) -> jax.Array:
  """Squared error per pixel of the best of the first `count` decoders.

  Args:
    images: [B, K, H, W] reconstructions.
    source: [B, H, W].
    count: [] or [B] integer, at least 1.

  Returns:
    [B].

  Example:
    >>> images = jnp.stack([jnp.ones((1, 2, 2)), jnp.zeros((1, 2, 2))], 1)
    >>> best_squared_error(images, jnp.zeros((1, 2, 2)), 1).tolist()
    [1.0]
  """
  axes = tuple(range(2, images.ndim))
  error = jnp.mean((images - source[:, None]) ** 2, axes)  # [B, K]
  used = jnp.arange(error.shape[1]) < jnp.reshape(count, (-1, 1))
  return jnp.min(jnp.where(used, error, jnp.inf), axis=1)


def decode(params, cells, latents, sides, counts, config) -> jax.Array:
  """Reconstructions of all decoders.

  Args:
    params: of the refiner.
    cells: [B, K].
    latents: [B, K, D].
    sides: [B, K, h, w].
    counts: [B] sizes of the list.
    config: `refiner.RefinerConfig`.

  Returns:
    [B, K, H, W].
  """
  batch, num = cells.shape
  flat = [x.reshape(batch * num, *x.shape[2:]) for x in (cells, latents, sides)]
  images = refiner.decoder(config)(params, *flat, jnp.repeat(counts, num))
  return images.reshape(batch, num, *images.shape[1:])


def _optimizer(steps, learning_rate):
  rate = optax.cosine_decay_schedule(1.0, steps, alpha=0.02)
  return optax.chain(optax.adam(learning_rate), optax.scale_by_schedule(rate))


@functools.partial(
  jax.jit, static_argnames=('config', 'steps', 'batch_size', 'learning_rate')
)
def _train(key, params, pool, *, config, steps, batch_size, learning_rate):
  optimizer = _optimizer(steps, learning_rate)

  def loss(params, key):
    kind_key, row_key = jax.random.split(key)
    choices, images = pool.cells.shape[:2]
    kind = jax.random.randint(kind_key, (batch_size,), 0, choices)
    row = jax.random.randint(row_key, (batch_size,), 0, images)
    counts, source = pool.counts[kind], pool.source[row]
    out = decode(
      params,
      pool.cells[kind, row],
      pool.latents[kind, row],
      pool.sides[row],
      counts,
      config,
    )
    return jnp.mean(best_squared_error(out, source, counts))

  def step(i, carry):
    params, state, total = carry
    value, grads = jax.value_and_grad(loss)(params, jax.random.fold_in(key, i))
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, total + value

  start = (params, optimizer.init(params), 0.0)
  params, _, total = jax.lax.fori_loop(0, steps, step, start)
  return params, total / steps


def train(
  key: jax.Array,
  cell_means,
  pool: Pool,
  *,
  config: refiner.RefinerConfig,
  steps: int,
  batch_size: int,
  learning_rate: float,
):
  """A refiner for the outcomes in `pool`.

  Args:
    key: typed key; consumed.
    cell_means: [C', H, W] where it starts, see `refiner.init_params`.
    pool: outcomes on training images.
    config: sizes.
    steps: of Adam, at least 1.
    batch_size: images per step, each with all its decoders.
    learning_rate: at the start; it falls to a fiftieth on a cosine.

  Returns:
    Parameters, and the mean loss [] over the steps (squared error per pixel
    of the best decoder).

  Raises:
    ValueError: for steps or a batch below 1, or arrays that do not fit.
    FloatingPointError: if the loss is not finite.
  """
  for name, value in (('steps', steps), ('batch_size', batch_size)):
    if value < 1:
      raise ValueError(f'{name} must be at least 1, got {value}.')
  shape = (len(pool.counts), *pool.sides.shape[:2])
  if pool.cells.shape != shape or pool.latents.shape[:-1] != shape:
    raise ValueError(
      f'cells and latents must be [C, R, K] = {shape} and [C, R, K, D], got '
      f'{pool.cells.shape} and {pool.latents.shape}.'
    )
  init_key, step_key = jax.random.split(key)
  params, loss = _train(
    step_key,
    refiner.init_params(init_key, config, cell_means),
    pool,
    config=config,
    steps=steps,
    batch_size=batch_size,
    learning_rate=learning_rate,
  )
  if not jnp.isfinite(loss):
    raise FloatingPointError(
      f'the loss is not finite; lower learning_rate, now {learning_rate}.'
    )
  return params, float(loss)


@functools.partial(
  jax.jit, static_argnames=('num_cells', 'steps', 'batch_size')
)
def train_classifier(
  key, mean, log_std, cells, *, num_cells, steps=1500, batch_size=512
):
  """Learns the cell of a source from its latent, by cross-entropy.

  Args:
    key: typed key; consumed.
    mean: [R, D] of q(w | a).
    log_std: [R, D].
    cells: [R] int32, the cells of the sources.
    num_cells: C, static.
    steps: of Adam, static.
    batch_size: static.

  Returns:
    Parameters of `refiner.CellClassifier`, and its mean loss [].

  Raises:
    ValueError: for no steps.
  """
  if steps < 1:
    raise ValueError(f'steps must be at least 1, got {steps}.')
  model = refiner.CellClassifier(num_cells)
  init_key, key = jax.random.split(key)
  params = model.init(init_key, mean[:1])['params']
  optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps, alpha=0.01))

  def loss(params, key):
    row_key, noise_key = jax.random.split(key)
    row = jax.random.randint(row_key, (batch_size,), 0, len(cells))
    noise = jax.random.normal(noise_key, (batch_size, mean.shape[1]))
    latent = mean[row] + jnp.exp(log_std[row]) * noise
    return optax.softmax_cross_entropy_with_integer_labels(
      model.apply({'params': params}, latent), cells[row]
    ).mean()

  def step(i, carry):
    params, state, total = carry
    value, grads = jax.value_and_grad(loss)(params, jax.random.fold_in(key, i))
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, total + value

  start = (params, optimizer.init(params), 0.0)
  params, _, total = jax.lax.fori_loop(0, steps, step, start)
  return params, total / steps
