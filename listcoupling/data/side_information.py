"""Source and side information cut from one image.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5: the source is the
right half of an image, the side information of a decoder a random crop of the
left half. The decoder is not told where the crop was taken.
"""

import functools

import jax
import jax.numpy as jnp

from listcoupling import gumbel


def split_halves(images, *, colour: bool = False):
  """Left and right halves: [..., H, W] -> two of [..., H, W / 2].

  Args:
    images: [..., H, W], or [..., H, W, C] if `colour`.
    colour: whether the last axis is one of colours.

  Returns:
    The two halves, [..., H, W / 2] or [..., H, W / 2, C].

  Raises:
    ValueError: if the width is odd.

  Example:
    >>> left, right = split_halves(jnp.zeros((5, 8, 8)))
    >>> right.shape
    (5, 8, 4)
  """
  if images.ndim < 2 + colour or images.shape[-1 - colour] % 2:
    raise ValueError(
      f'images must have an even width, got shape {images.shape}.'
    )
  half = images.shape[-1 - colour] // 2
  if colour:
    return images[..., :half, :], images[..., half:, :]
  return images[..., :half], images[..., half:]


def random_crop(key: jax.Array, left: jax.Array, shape) -> jax.Array:
  """One crop at a uniformly random place of one left half.

  Args:
    key: typed key; consumed.
    left: [H, W] or [H, W, C].
    shape: (h, w) or (h, w, C), static, at most the shape of `left`.

  Returns:
    [h, w] or [h, w, C].

  Raises:
    ValueError: if the crop does not fit.

  Example:
    >>> random_crop(jax.random.key(0), jnp.zeros((8, 4)), (3, 3)).shape
    (3, 3)
  """
  room = [full - part for full, part in zip(left.shape, shape, strict=True)]
  if min(room) < 0 or min(shape) < 1 or any(room[2:]):
    raise ValueError(
      f'the crop {tuple(shape)} must fit into the left half {left.shape}.'
    )
  limits = jnp.array(room[:2], jnp.int32) + 1
  corner = jax.random.randint(key, (2,), 0, limits, jnp.int32)
  start = (corner[0], corner[1], *(jnp.int32(0) for _ in room[2:]))
  return jax.lax.dynamic_slice(left, start, shape)


@functools.partial(jax.jit, static_argnames=('num', 'shape'))
def random_crops(key: jax.Array, left: jax.Array, num: int, shape) -> jax.Array:
  """Independent crops of R left halves for `num` decoders each.

  Crop k of image r depends on (key, r, k): more images or decoders leave the
  first ones alone.

  Args:
    key: typed key; reusable for other domains.
    left: [R, H, W] or [R, H, W, C].
    num: K, static.
    shape: (h, w) or (h, w, C), a tuple.

  Returns:
    [R, K, h, w] or [R, K, h, w, C].

  Example:
    >>> left = jnp.zeros((5, 8, 4))
    >>> random_crops(jax.random.key(0), left, 2, (3, 3)).shape
    (5, 2, 3, 3)
  """

  def one(row, k, left):
    domain = gumbel.Domain.SIDE_INFORMATION
    return random_crop(gumbel.domain_key(key, domain, row, k), left, shape)

  every = jax.vmap(jax.vmap(one, (None, 0, None)), (0, None, 0))
  return every(
    jnp.arange(len(left), dtype=jnp.int32),
    jnp.arange(num, dtype=jnp.int32),
    jnp.asarray(left),
  )
