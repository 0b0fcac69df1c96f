"""A beta-VAE with side information, and the estimator its decoders need.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5 and its appendix. The
encoder maps a source image to a diagonal Gaussian over W in R^D; the decoder
maps W and features of the side information back to pixels in (0, 1). The
estimator scores (w, t): its logit stands in for log p(w | t) / prior(w). A
last network answers from the side information alone, the floor that a message
must beat.

The paper's own sizes (28 x 28 input, 6272 units, tanh) do not fit its text;
here the source is the 28 x 14 half, 3584 = 128 * 7 * 4 units meet the fully
connected layers, pixels are in [0, 1] and the output is a sigmoid.

Images are [H, W] or, in colour, [H, W, C]; crops likewise.

Legend: B batch, N latents, D latent size, H, W source, h, w side information.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from listcoupling import files

KINDS = ('conv', 'dense')
FILE = 'vae.safetensors'  # in the folder of a finished training
_MIN_LOG_STD, _MAX_LOG_STD = -6.0, 2.0


@dataclasses.dataclass(frozen=True)
class VAEConfig:
  """Sizes of the networks; the defaults are the paper's for MNIST.

  Raises:
    ValueError: for sizes below 1, a rate outside [0, 1) or unknown `kind`.
  """

  source_shape: tuple[int, ...] = (28, 14)
  side_shape: tuple[int, ...] = (7, 7)
  latent_size: int = 4
  kind: str = 'conv'  # or "dense": two hidden layers instead of convolutions
  channels: int = 128
  hidden_size: int = 512
  side_features: int = 128
  estimator_size: int = 128
  dropout_rate: float = 0.5

  def __post_init__(self):
    object.__setattr__(self, 'source_shape', tuple(self.source_shape))
    object.__setattr__(self, 'side_shape', tuple(self.side_shape))
    if self.kind not in KINDS:
      raise ValueError(f'kind must be one of {KINDS}, got {self.kind!r}.')
    if not 0 <= self.dropout_rate < 1:
      raise ValueError(
        f'dropout_rate must be in [0, 1), got {self.dropout_rate}.'
      )
    sizes = {
      name: getattr(self, name)
      for name in (
        'latent_size',
        'channels',
        'hidden_size',
        'side_features',
        'estimator_size',
      )
    }
    for name, size in sizes.items():
      if size < 1:
        raise ValueError(f'{name} must be at least 1, got {size}.')
    for name in ('source_shape', 'side_shape'):
      shape = getattr(self, name)
      if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f'{name} must be two sizes or three, got {shape}.')
    if self.source_shape[2:] != self.side_shape[2:]:
      raise ValueError(
        'source_shape and side_shape must have the same colours, got '
        f'{self.source_shape} and {self.side_shape}.'
      )


def _flat(x, shape):
  """The axes of one image of `shape` as one axis."""
  return x.reshape(x.shape[: x.ndim - len(shape)] + (-1,))


class Encoder(nn.Module):
  """[B, H, W] -> mean and log standard deviation, [B, D] each."""

  config: VAEConfig

  @nn.compact
  def __call__(self, image):
    """Encodes a batch."""
    config = self.config
    if config.kind == 'conv':
      x = image if len(config.source_shape) == 3 else image[..., None]
      for stride in (2, 2, 1):
        x = nn.relu(nn.Conv(config.channels, (3, 3), strides=stride)(x))
      x = _flat(x, x.shape[-3:])
    else:
      x = _flat(image, config.source_shape)
      x = nn.relu(nn.Dense(config.hidden_size)(x))
    x = nn.relu(nn.Dense(config.hidden_size)(x))
    mean, log_std = jnp.split(nn.Dense(2 * config.latent_size)(x), 2, axis=-1)
    return mean, jnp.clip(log_std, _MIN_LOG_STD, _MAX_LOG_STD)


class Projection(nn.Module):
  """Side information [B, h, w] -> features [B, F]."""

  config: VAEConfig

  @nn.compact
  def __call__(self, side):
    """Maps a batch of crops."""
    x = _flat(side, self.config.side_shape)
    x = nn.relu(nn.Dense(self.config.side_features)(x))
    return nn.relu(nn.Dense(self.config.side_features)(x))


class Decoder(nn.Module):
  """W [B, D] and side features [B, F] -> pixels [B, H, W] in (0, 1)."""

  config: VAEConfig

  @nn.compact
  def __call__(self, latent, features, train=False):
    """Decodes a batch; `train` turns dropout on."""
    config = self.config
    height, width, *colours = config.source_shape
    x = jnp.concatenate([latent, features], -1)
    x = nn.relu(nn.Dense(config.hidden_size)(x))
    x = nn.Dropout(config.dropout_rate, deterministic=not train)(x)
    if config.kind == 'conv':
      rows, columns = -(-height // 4), -(-width // 4)
      x = nn.relu(nn.Dense(rows * columns * config.channels)(x))
      x = x.reshape(x.shape[:-1] + (rows, columns, config.channels))
      for stride in (2, 2):
        x = nn.relu(
          nn.ConvTranspose(config.channels, (3, 3), strides=(stride, stride))(x)
        )
      x = nn.ConvTranspose(*(colours or [1]), (3, 3))(x)
      x = x[..., :height, :width, :]
    else:
      x = nn.relu(nn.Dense(config.hidden_size)(x))
      x = nn.Dense(math.prod(config.source_shape))(x)
    batch = latent.shape[:-1]
    return nn.sigmoid(x.reshape(batch + config.source_shape))


class Estimator(nn.Module):
  """W [..., N, D] and side information [..., h, w] -> logits [..., N]."""

  config: VAEConfig

  @nn.compact
  def __call__(self, latents, side):
    """Scores latents against one crop each."""
    size = self.config.estimator_size
    features = _flat(side, self.config.side_shape)
    features = nn.relu(nn.Dense(size)(features))
    features = nn.Dense(size)(features)[..., None, :]  # once, for all N
    x = nn.relu(nn.Dense(size)(latents) + features)
    x = nn.relu(nn.Dense(size)(x))
    return nn.Dense(1)(x)[..., 0]


class SideOnly(nn.Module):
  """Side information [B, h, w] -> pixels [B, H, W], without a message."""

  config: VAEConfig

  @nn.compact
  def __call__(self, side):
    """Maps a batch of crops."""
    shape = self.config.source_shape
    x = _flat(side, self.config.side_shape)
    x = nn.relu(nn.Dense(self.config.hidden_size)(x))
    x = nn.relu(nn.Dense(self.config.side_features)(x))
    x = nn.sigmoid(nn.Dense(math.prod(shape))(x))
    return x.reshape(x.shape[:-1] + shape)


class VAE(nn.Module):
  """All networks under one tree of parameters."""

  config: VAEConfig

  def setup(self):
    """Names the networks."""
    self.encoder = Encoder(self.config)
    self.projection = Projection(self.config)
    self.decoder = Decoder(self.config)
    self.estimator = Estimator(self.config)
    self.side_only_decoder = SideOnly(self.config)

  def encode(self, image):
    """[B, H, W] -> mean, log_std [B, D]."""
    return self.encoder(image)

  def decode(self, latent, side, train=False):
    """[B, D], [B, h, w] -> [B, H, W]."""
    return self.decoder(latent, self.projection(side), train)

  def estimate(self, latents, side):
    """[..., N, D], [..., h, w] -> [..., N] logits."""
    return self.estimator(latents, side)

  def side_only(self, side):
    """[B, h, w] -> [B, H, W]."""
    return self.side_only_decoder(side)

  def __call__(self, image, side):
    """Touches every network; for initialisation."""
    mean, _ = self.encode(image)
    self.estimate(mean[..., None, :], side)
    self.side_only(side)
    return self.decode(mean, side)


@jax.tree_util.register_static  # so that what holds them is a pytree of arrays
@dataclasses.dataclass(frozen=True)
class Networks:
  """The model as pure functions of parameters, for the codec.

  Attributes:
    config: the sizes.
    encode: (params, image [B, H, W]) -> mean, log_std [B, D].
    decode: (params, latent [B, D], side [B, h, w]) -> [B, H, W].
    estimate: (params, latents [..., N, D], side [..., h, w]) -> [..., N].
    side_only: (params, side [B, h, w]) -> [B, H, W].
  """

  config: VAEConfig
  encode: Callable[..., Any]
  decode: Callable[..., Any]
  estimate: Callable[..., Any]
  side_only: Callable[..., Any]


@functools.cache
def networks(config: VAEConfig) -> Networks:
  """The functions of one configuration; hashable, the same on every call.

  Example:
    >>> config = VAEConfig((8, 4), (3, 3), kind="dense")
    >>> params = init_params(jax.random.key(0), config)
    >>> mean, log_std = networks(config).encode(params, jnp.zeros((2, 8, 4)))
    >>> mean.shape
    (2, 4)
  """
  model = VAE(config)

  def bind(name):
    method = getattr(VAE, name)
    return lambda params, *arrays: model.apply(
      {'params': params}, *arrays, method=method
    )

  names = ('encode', 'decode', 'estimate', 'side_only')
  return Networks(config, *(bind(name) for name in names))


def init_params(key: jax.Array, config: VAEConfig):
  """Fresh parameters, a pytree of float32."""
  image = jnp.zeros((1, *config.source_shape), jnp.float32)
  side = jnp.zeros((1, *config.side_shape), jnp.float32)
  return jax.jit(VAE(config).init)(key, image, side)['params']


def save(path, params, config: VAEConfig, **about) -> None:
  """Writes parameters and sizes, without any state of an optimizer.

  Args:
    path: safetensors file.
    params: of `init_params`.
    config: sizes.
    **about: what else is to be known of them, such as beta.
  """
  sizes = dataclasses.asdict(config)
  files.write_arrays(path, params, {'kind': 'vae', 'sizes': sizes, **about})


def load(path) -> tuple[dict, VAEConfig, dict]:
  """Parameters, sizes and what else `save` was told.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a damaged file, or one of another kind.
  """
  params, about = files.read_arrays(path)
  try:
    return params, VAEConfig(**about['sizes']), about
  except (TypeError, KeyError) as error:
    raise ValueError(f'{path} does not hold a VAE ({error!r}).') from error
