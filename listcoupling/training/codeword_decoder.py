"""Training of a decoder on the outcomes of the codec, for the best of K.

Not in the paper, which trains the decoder on the encoder's own latents and
then feeds it others. Success is by the best of the K decoders, so the loss of
an image is mostly min_k |a - g(codeword_k, w_k, t_k)|^2 over the K decoders of
the list: decoders that hold different candidates learn to answer differently.
A share `mean_weight` of it is their mean, see `list_loss`.

One compiled loop serves all codewords, rates and numbers of decoders whose
arrays have equal shapes.

Legend: C list sizes, R images, K decoders at most, D latent size, F codewords.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from listcoupling import gumbel
from listcoupling.models import codeword_decoder

_Domain = gumbel.Domain


class Pool(NamedTuple):
  """Held by the K decoders of R images, for C sizes of the list."""

  counts: jax.Array  # [C] int32, decoders in use
  source: jax.Array  # [R, H, W]
  sides: jax.Array  # [R, K, h, w]
  codewords: jax.Array  # [C, R, K] int32
  latents: jax.Array  # [C, R, K, D]
  starts: jax.Array | None = None  # [C, R, K, H, W] see `decode`


def squared_error(images, source) -> jax.Array:
  """Squared error per pixel: [B, K, H, W] against [B, H, W] -> [B, K]."""
  axes = tuple(range(2, images.ndim))
  return jnp.mean((images - source[:, None]) ** 2, axes)


def list_loss(images, source, count, *, mean_weight) -> jax.Array:
  """Squared error per pixel: 1 - w of the best decoder's and w of the mean.

  A small w costs the best nothing and even helps it: a decoder learns from
  what others of its list were better at, too (docs/results.md).

  Args:
    images: [B, K, H, W] reconstructions.
    source: [B, H, W].
    count: [] or [B] integer, at least 1: the first decoders, in use.
    mean_weight: w, from 0 to 1.

  Returns:
    [B].

  Example:
    >>> images = jnp.stack([jnp.ones((1, 2, 2)), jnp.zeros((1, 2, 2))], 1)
    >>> source = jnp.zeros((1, 2, 2))
    >>> list_loss(images, source, 1, mean_weight=0.5).tolist()
    [1.0]
    >>> list_loss(images, source, 2, mean_weight=0.5).tolist()
    [0.25]
  """
  error = squared_error(images, source)
  place = jnp.arange(error.shape[1], dtype=jnp.int32)[None]
  used = place < jnp.reshape(count, (-1, 1))
  best = jnp.min(jnp.where(used, error, jnp.inf), axis=1)
  mean = jnp.mean(error, axis=1, where=used)
  return best + mean_weight * (mean - best)


def _descend(
  loss: Callable[..., jax.Array],
  params: Any,
  key: jax.Array,
  domain: _Domain,
  optimizer: optax.GradientTransformation,
  steps: int,
):
  """Parameters after `steps` steps on loss(params, key), and the mean loss.

  Step i draws from the key of (domain, i).
  """

  def step(i, carry):
    params, state, total = carry
    value, grads = jax.value_and_grad(loss)(
      params, gumbel.domain_key(key, domain, i)
    )
    with jax.numpy_dtype_promotion('standard'):  # optax mixes types
      updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, total + value

  start = (params, optimizer.init(params), jnp.float32(0))
  params, _, total = jax.lax.fori_loop(0, steps, step, start)
  return params, total / steps


def _optimizer(steps, learning_rate):
  rate = optax.cosine_decay_schedule(1.0, steps, alpha=0.02)
  return optax.chain(optax.adam(learning_rate), optax.scale_by_schedule(rate))


@functools.partial(
  jax.jit, static_argnames=('config', 'steps', 'batch_size', 'learning_rate')
)
def _train(
  key, params, pool, mean_weight, *, config, steps, batch_size, learning_rate
):
  def loss(params, key):
    kind_key, row_key = jax.random.split(key)
    choices, images = pool.codewords.shape[:2]
    shape = (batch_size,)
    kind = jax.random.randint(kind_key, shape, 0, choices, jnp.int32)
    row = jax.random.randint(row_key, shape, 0, images, jnp.int32)
    counts, source = pool.counts[kind], pool.source[row]
    held = pool.codewords[kind, row], pool.latents[kind, row], pool.sides[row]
    starts = None if pool.starts is None else pool.starts[kind, row]
    out = codeword_decoder.decode(params, *held, counts, config, starts)
    each = list_loss(out, source, counts, mean_weight=mean_weight)
    return jnp.mean(each)

  optimizer = _optimizer(steps, learning_rate)
  return _descend(
    loss, params, key, _Domain.CODEWORD_DECODER_STEP, optimizer, steps
  )


def _check_shapes(pool: Pool) -> None:
  shape = (len(pool.counts), *pool.sides.shape[:2])
  if pool.codewords.shape != shape or pool.latents.shape[:-1] != shape:
    raise ValueError(
      f'codewords and latents must be [C, R, K] = {shape} and [C, R, K, D], '
      f'got {pool.codewords.shape} and {pool.latents.shape}.'
    )
  size = (*shape, *pool.source.shape[1:])
  if pool.starts is not None and pool.starts.shape != size:
    raise ValueError(
      f'starts must be [C, R, K, H, W] = {size}, got {pool.starts.shape}.'
    )


def train(
  key: jax.Array,
  codewords,
  pool: Pool,
  *,
  config: codeword_decoder.CodewordDecoderConfig,
  steps: int,
  batch_size: int,
  learning_rate: float,
  mean_weight: float = 0.1,
):
  """A codeword decoder for the outcomes in `pool`.

  Args:
    key: typed key; reusable for other domains.
    codewords: [F, H, W] where it starts, see `codeword_decoder.init_params`.
    pool: outcomes on training images.
    config: sizes.
    steps: of Adam, at least 1.
    batch_size: images per step, each with all its decoders.
    learning_rate: at the start; it falls to a fiftieth on a cosine.
    mean_weight: w of `list_loss`.

  Returns:
    Parameters, and the mean of `list_loss` [] over the steps.

  Raises:
    ValueError: for steps or a batch below 1, a weight that is not from 0 to 1,
      or arrays that do not fit.
    FloatingPointError: if the loss is not finite.
  """
  for name, value in (('steps', steps), ('batch_size', batch_size)):
    if value < 1:
      raise ValueError(f'{name} must be at least 1, got {value}.')
  if not 0 <= mean_weight <= 1:
    raise ValueError(f'mean_weight must be from 0 to 1, got {mean_weight}.')
  _check_shapes(pool)
  init_key = gumbel.domain_key(key, _Domain.CODEWORD_DECODER_INIT)
  params, loss = _train(
    key,
    codeword_decoder.init_params(init_key, config, codewords),
    pool,
    jnp.float32(mean_weight),
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
  jax.jit, static_argnames=('num_codewords', 'steps', 'batch_size')
)
def train_classifier(
  key, mean, log_std, nearest, *, num_codewords, steps=1500, batch_size=512
):
  """Learns the codeword of a source from its latent, by cross-entropy.

  Args:
    key: typed key; reusable for other domains.
    mean: [R, D] of q(w | a).
    log_std: [R, D].
    nearest: [R] int32, the codewords nearest to the sources.
    num_codewords: F, static.
    steps: of Adam, static.
    batch_size: static.

  Returns:
    Parameters of `codeword_decoder.Classifier`, and its mean loss [].

  Raises:
    ValueError: for no steps.
  """

  def sample(key):
    row_key, noise_key = jax.random.split(key)
    shape, count = (batch_size,), len(nearest)
    row = jax.random.randint(row_key, shape, 0, count, jnp.int32)
    noise = jax.random.normal(noise_key, (*shape, mean.shape[1]), jnp.float32)
    return mean[row] + jnp.exp(log_std[row]) * noise, nearest[row]

  model = codeword_decoder.Classifier(num_codewords)
  return _classify(key, model, sample, steps, 5e-3)


@functools.partial(jax.jit, static_argnames=('config', 'steps', 'batch_size'))
def train_side_classifier(
  key, sides, nearest, *, config, steps, batch_size=512
):
  """Learns the codeword of a source from side information about it.

  Args:
    key: typed key; reusable for other domains.
    sides: [R, K, h, w].
    nearest: [R] int32, the codewords nearest to the sources.
    config: `CodewordDecoderConfig`, static.
    steps: of Adam, static.
    batch_size: static.

  Returns:
    Parameters for `codeword_decoder.side_scores`, and the mean loss [].

  Raises:
    ValueError: for no steps.
  """

  model = codeword_decoder.Classifier(config.num_codewords, config.hidden_size)
  sample = _from_sides(sides, nearest, batch_size)
  return _classify(key, model, sample, steps, 1e-3)


@functools.partial(jax.jit, static_argnames=('config', 'steps', 'batch_size'))
def train_side_means(key, sides, latents, *, config, steps, batch_size=512):
  """Learns the mean of a latent given side information, by squared error.

  Args:
    key: typed key; reusable for other domains.
    sides: [R, K, h, w].
    latents: [R, D].
    config: `CodewordDecoderConfig`, static.
    steps: of Adam, static.
    batch_size: static.

  Returns:
    Parameters for `codeword_decoder.side_scores` of D outputs, and the mean
    loss [], summed over D.

  Raises:
    ValueError: for no steps.
  """
  model = codeword_decoder.Classifier(latents.shape[1], config.hidden_size)
  sample = _from_sides(sides, latents, batch_size)
  return _classify(
    key, model, sample, steps, 1e-3,
    loss=lambda mean, latent: jnp.sum((mean - latent) ** 2, -1),
  )  # fmt: skip


def _from_sides(sides, targets, batch_size):
  """key -> flat side information of any decoder, and targets, of a batch."""

  def sample(key):
    row_key, decoder_key = jax.random.split(key)
    rows, decoders = (
      jax.random.randint(k, (batch_size,), 0, count, jnp.int32)
      for k, count in zip((row_key, decoder_key), sides.shape[:2])
    )
    return sides[rows, decoders].reshape(batch_size, -1), targets[rows]

  return sample


def _classify(
  key, model, sample, steps, learning_rate,
  loss=optax.softmax_cross_entropy_with_integer_labels,
):  # fmt: skip
  """Trains a network on (inputs, targets) = sample(key)."""
  if steps < 1:
    raise ValueError(f'steps must be at least 1, got {steps}.')
  init_key = gumbel.domain_key(key, _Domain.CLASSIFIER_INIT)
  params = model.init(init_key, sample(init_key)[0][:1])['params']
  rate = optax.cosine_decay_schedule(learning_rate, steps, alpha=0.01)

  def mean_loss(params, key):
    inputs, targets = sample(key)
    return loss(model.apply({'params': params}, inputs), targets).mean()

  return _descend(
    mean_loss, params, key, _Domain.CLASSIFIER_STEP, optax.adam(rate), steps
  )
