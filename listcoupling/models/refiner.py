"""A decoder trained on what the codec really delivers.

Not in the paper. A decoder of Rowan, Phan, Khisti (2025), arXiv 2506.05632,
section 5, reconstructs g(w, t) from the candidate it picked as if that were
the encoder's, which it often is not. The message itself says more than the
candidate: which cell of the source space was meant. This network answers

    sigmoid(table[cell] + f(cell, w, t, K)),

where the table starts as the mean image of each cell (in logits) and f at 0,
so that training starts from the distortion of a plain quantiser and the
candidate and the side information can only help.

Legend: B batch, C cells, D latent size, F features, h, w side information.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

_CLIP = 0.003  # pixels of the table stay this far from 0 and 1


@jax.tree_util.register_static  # so that a fit is a pytree of its arrays
@dataclasses.dataclass(frozen=True)
class RefinerConfig:
  """Sizes of the network.

  Raises:
    ValueError: for sizes below 1.
  """

  source_shape: tuple[int, ...]
  side_shape: tuple[int, ...]
  num_cells: int
  latent_size: int = 4
  hidden_size: int = 256
  side_features: int = 128
  cell_features: int = 32
  max_decoders: int = 4

  def __post_init__(self):
    for name in ('source_shape', 'side_shape'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if min(value if isinstance(value, tuple) else (value,)) < 1:
        raise ValueError(f'{field.name} must be at least 1, got {value}.')


class Refiner(nn.Module):
  """(cell [B], latent [B, D], side [B, h, w], count [B]) -> [B, H, W]."""

  config: RefinerConfig

  @nn.compact
  def __call__(self, cell, latent, side, count):
    """Decodes a batch; `count` is K, the number of decoders of the list."""
    config = self.config
    pixels = math.prod(config.source_shape)
    shape = (config.num_cells, pixels)
    table = self.param('table', nn.initializers.zeros, shape)
    side = side.reshape(side.shape[0], -1)
    parts = [
      latent,
      nn.relu(nn.Dense(config.side_features)(side)),
      nn.Embed(config.num_cells, config.cell_features)(cell),
      jax.nn.one_hot(count - 1, config.max_decoders),
    ]
    x = nn.relu(nn.Dense(config.hidden_size)(jnp.concatenate(parts, -1)))
    x = nn.relu(nn.Dense(config.hidden_size)(x))
    x = nn.Dense(pixels, kernel_init=nn.initializers.zeros)(x)
    x = nn.sigmoid(table[cell] + x)
    return x.reshape(x.shape[:-1] + config.source_shape)


def init_params(key: jax.Array, config: RefinerConfig, cell_means):
  """Parameters that answer with the mean image of the cell.

  Args:
    key: typed key; consumed.
    config: sizes.
    cell_means: [C', H, W] pixels, C' <= num_cells; the rest stays grey.

  Returns:
    A pytree of float32.

  Raises:
    ValueError: for means of another shape.

  Example:
    >>> config = RefinerConfig((4, 2), (2, 2), num_cells=3)
    >>> params = init_params(jax.random.key(0), config, jnp.full((3, 4, 2), .2))
    >>> out = decoder(config)(params, jnp.array([1]), jnp.zeros((1, 4)),
    ...                       jnp.zeros((1, 2, 2)), jnp.array([1]))
    >>> round(float(out[0, 0, 0]), 3)
    0.2
  """
  means = jnp.asarray(cell_means, jnp.float32)
  if means.shape[1:] != config.source_shape or len(means) > config.num_cells:
    raise ValueError(
      f'cell_means must be up to {config.num_cells} images of shape '
      f'{config.source_shape}, got shape {means.shape}.'
    )
  one = jnp.ones(1, jnp.int32)
  params = jax.jit(Refiner(config).init)(
    key,
    one * 0,
    jnp.zeros((1, config.latent_size)),
    jnp.zeros((1, *config.side_shape)),
    one,
  )['params']
  flat = jnp.clip(means.reshape(len(means), -1), _CLIP, 1 - _CLIP)
  logits = jnp.log(flat) - jnp.log1p(-flat)
  return params | {'table': params['table'].at[: len(means)].set(logits)}


@functools.cache
def decoder(config: RefinerConfig):
  """(params, cell, latent, side, count) -> images, one function per config."""
  model = Refiner(config)
  return jax.jit(
    lambda params, *arrays: model.apply({'params': params}, *arrays)
  )


class CellClassifier(nn.Module):
  """Which cell of the source space a latent belongs to: [..., D] -> [..., C].

  With its argmax as label, candidates that decode to sources of one cell
  share a label: cells of the pixels, drawn on the latents.
  """

  num_cells: int
  hidden_size: int = 64

  @nn.compact
  def __call__(self, latents):
    """Logits of the cells."""
    x = nn.relu(nn.Dense(self.hidden_size)(latents))
    x = nn.relu(nn.Dense(self.hidden_size)(x))
    return nn.Dense(self.num_cells)(x)


@functools.cache
def classifier(num_cells: int):
  """(params, latents [..., D], num_used []) -> cell [...] int32.

  Cells from `num_used` on are padding and never answered.
  """
  model = CellClassifier(num_cells)

  def label(params, latents, num_used):
    logits = model.apply({'params': params}, latents)
    used = jnp.arange(num_cells) < num_used
    return jnp.argmax(jnp.where(used, logits, -jnp.inf), -1).astype(jnp.int32)

  return jax.jit(label)
