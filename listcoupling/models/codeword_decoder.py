"""A decoder trained on what the codec really delivers.

Not in the paper. A decoder of Rowan, Phan, Khisti (2025), arXiv 2506.05632,
section 5, reconstructs g(w, t) from the candidate it picked as if that were
the encoder's, which it often is not. The message itself says more than the
candidate: which codeword of the source was meant. This network answers

    sigmoid(table[codeword] + f(codeword, w, t, K)),

where the table starts as the codewords' images (in logits) and f at 0, so that
training starts from the distortion of a plain quantiser and the candidate and
the side information can only help. Where codewords have no images, those of a
lattice, the logits of another answer are added and stand in for the table's.

Legend: B batch, F codewords, K decoders, D latent size, h, w side information.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

_CLIP = 0.003  # pixels of the table stay this far from 0 and 1


@jax.tree_util.register_static  # so that what holds one is a pytree of arrays
@dataclasses.dataclass(frozen=True)
class CodewordDecoderConfig:
  """Sizes of the network.

  Raises:
    ValueError: for sizes below 1.
  """

  source_shape: tuple[int, ...]
  side_shape: tuple[int, ...]
  num_codewords: int  # F at most: fewer leave rows of the table unused
  latent_size: int = 4
  hidden_size: int = 256
  side_features: int = 128
  codeword_features: int = 32
  max_decoders: int = 4

  def __post_init__(self):
    for name in ('source_shape', 'side_shape'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if min(value if isinstance(value, tuple) else (value,)) < 1:
        raise ValueError(f'{field.name} must be at least 1, got {value}.')


class CodewordDecoder(nn.Module):
  """(codeword [B], latent [B, D], side [B, h, w], count [B]) -> [B, H, W].

  With `start` [B, H, W], pixels, from there.
  """

  config: CodewordDecoderConfig

  @nn.compact
  def __call__(self, codeword, latent, side, count, start=None):
    """Decodes a batch; `count` is K, the number of decoders of the list."""
    config = self.config
    pixels = math.prod(config.source_shape)
    shape = (config.num_codewords, pixels)
    table = self.param('table', nn.initializers.zeros, shape)
    side = side.reshape(side.shape[0], -1)
    parts = [
      latent,
      nn.relu(nn.Dense(config.side_features)(side)),
      nn.Embed(config.num_codewords, config.codeword_features)(codeword),
      jax.nn.one_hot(count - 1, config.max_decoders, dtype=jnp.float32),
    ]
    x = nn.relu(nn.Dense(config.hidden_size)(jnp.concatenate(parts, -1)))
    x = nn.relu(nn.Dense(config.hidden_size)(x))
    x = nn.Dense(pixels, kernel_init=nn.initializers.zeros)(x)
    x = table[codeword] + x
    if start is not None:
      x += _logits(start.reshape(x.shape))
    x = nn.sigmoid(x)
    return x.reshape(x.shape[:-1] + config.source_shape)


def init_params(key: jax.Array, config: CodewordDecoderConfig, codewords):
  """Parameters that answer with the image of the codeword.

  Args:
    key: typed key; consumed.
    config: sizes.
    codewords: [F, H, W] pixels, F <= num_codewords; the rest stays grey.

  Returns:
    A pytree of float32.

  Raises:
    ValueError: for codewords of another shape.

  Example:
    >>> config = CodewordDecoderConfig((4, 2), (2, 2), num_codewords=3)
    >>> words = jnp.full((3, 4, 2), .2)
    >>> params = init_params(jax.random.key(0), config, words)
    >>> out = decode(params, jnp.array([[1]]), jnp.zeros((1, 1, 4)),
    ...              jnp.zeros((1, 1, 2, 2)), jnp.array([1]), config)
    >>> round(float(out[0, 0, 0, 0]), 3)
    0.2
  """
  words = jnp.asarray(codewords, jnp.float32)
  if (
    words.shape[1:] != config.source_shape or len(words) > config.num_codewords
  ):
    raise ValueError(
      f'codewords must be up to {config.num_codewords} images of shape '
      f'{config.source_shape}, got shape {words.shape}.'
    )
  one = jnp.ones(1, jnp.int32)
  params = jax.jit(CodewordDecoder(config).init)(
    key,
    one * 0,
    jnp.zeros((1, config.latent_size), jnp.float32),
    jnp.zeros((1, *config.side_shape), jnp.float32),
    one,
  )['params']
  logits = _logits(words.reshape(len(words), -1))
  return params | {'table': params['table'].at[: len(words)].set(logits)}


def _logits(pixels: jax.Array) -> jax.Array:
  pixels = jnp.clip(pixels, _CLIP, 1 - _CLIP)
  return jnp.log(pixels) - jnp.log1p(-pixels)


def decode(
  params, codewords, latents, sides, counts, config, starts=None
) -> jax.Array:
  """Reconstructions of all decoders of a list.

  Args:
    params: of `CodewordDecoder`.
    codewords: [B, K] int32, what each decoder holds.
    latents: [B, K, D] float32.
    sides: [B, K, h, w] float32.
    counts: [B] int32, sizes of the list.
    config: `CodewordDecoderConfig`.
    starts: [B, K, H, W] answers to begin with, or None.

  Returns:
    [B, K, H, W] float32.
  """
  batch, num = codewords.shape
  *flat, starts = jax.tree.map(
    lambda x: x.reshape(batch * num, *x.shape[2:]),
    (codewords, latents, sides, starts),
  )
  images = CodewordDecoder(config).apply(
    {'params': params}, *flat, jnp.repeat(counts, num), starts
  )
  return images.reshape(batch, num, *images.shape[1:])


def side_scores(params, sides, config, num_outputs: int | None = None):
  """Scores of the codewords, or of a latent, by side information alone.

  Args:
    params: of a `Classifier` of `config.hidden_size` units, trained on side
      information.
    sides: [..., h, w] float32.
    config: `CodewordDecoderConfig`.
    num_outputs: of the network; None: log-scores of all F codewords.

  Returns:
    [..., F] float32, unnormalised, or [..., num_outputs].
  """
  lead = sides.ndim - len(config.side_shape)
  flat = sides.reshape(*sides.shape[:lead], -1)
  model = Classifier(num_outputs or config.num_codewords, config.hidden_size)
  return model.apply({'params': params}, flat)


class Classifier(nn.Module):
  """Which codeword a latent, or side information, stands for.

  [..., D] -> logits [..., F]. With its argmax as label, candidates that decode
  to sources near one codeword share a label: k-means in the pixels, drawn on
  the latents.
  """

  num_codewords: int
  hidden_size: int = 64

  @nn.compact
  def __call__(self, latents):
    """Logits of the codewords."""
    x = nn.relu(nn.Dense(self.hidden_size)(latents))
    x = nn.relu(nn.Dense(self.hidden_size)(x))
    return nn.Dense(self.num_codewords)(x)


def classify(params, latents, num_used, num_codewords: int) -> jax.Array:
  """Codewords of latents.

  Args:
    params: of `Classifier`.
    latents: [..., D] float32.
    num_used: [] integer; codewords from here on are padding, never answered.
    num_codewords: F, static.

  Returns:
    [...] int32.
  """
  logits = Classifier(num_codewords).apply({'params': params}, latents)
  used = jnp.arange(num_codewords, dtype=jnp.int32) < num_used
  return jnp.argmax(jnp.where(used, logits, -jnp.inf), -1).astype(jnp.int32)
