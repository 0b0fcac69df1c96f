"""Source and side information cut from one image.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5: the source is the
right half of an image, the side information of a decoder a random crop of the
left half. The decoder is not told where the crop was taken. A crop as large as
the half is the half. The other `KINDS` are not in the paper: the columns of
the left half next to the source, a noisy copy of the source, and nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel

KINDS = ('crop', 'edge', 'noisy', 'none')


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


def random_corner(key: jax.Array, left_shape, shape) -> jax.Array:
  """(row, column) of a crop at a uniformly random place of a left half.

  Args:
    key: typed key; consumed.
    left_shape: (H, W) or (H, W, C).
    shape: (h, w) or (h, w, C), static, at most that of the left half.

  Returns:
    [2] int32.

  Raises:
    ValueError: if the crop does not fit.
  """
  room = [full - part for full, part in zip(left_shape, shape, strict=True)]
  if min(room) < 0 or min(shape) < 1 or any(room[2:]):
    raise ValueError(
      f'the crop {tuple(shape)} must fit into the left half {left_shape}.'
    )
  limits = jnp.array(room[:2], jnp.int32) + 1
  return jax.random.randint(key, (2,), 0, limits, jnp.int32)


def random_crop(key: jax.Array, left: jax.Array, shape) -> jax.Array:
  """One crop of one left half, at the place of `random_corner`.

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
  corner = random_corner(key, left.shape, shape)
  start = (corner[0], corner[1], *(jnp.int32(0) for _ in shape[2:]))
  return jax.lax.dynamic_slice(left, start, shape)


def check_kind(kind: str, shape, source_shape, noise: float) -> None:
  """Raises ValueError unless `draw_side` can make such side information.

  Args:
    kind: of `KINDS`.
    shape: (h, w) or (h, w, C) of the side information.
    source_shape: of a half.
    noise: standard deviation, positive for "noisy" and 0 for others.
  """
  if kind not in KINDS:
    raise ValueError(f'side_kind must be one of {KINDS}, got {kind!r}.')
  shape, whole = tuple(shape), tuple(source_shape)
  rules = {
    'crop': ('within', shape[0] <= whole[0] and shape[1] <= whole[1]),
    'edge': ('as high as', shape[0] == whole[0] and shape[1] <= whole[1]),
    'noisy': ('that of', shape == whole),
  }
  words, fits = rules.get(kind, ('', True))
  if not fits:
    raise ValueError(
      f'side_shape of {kind!r} must be {words} a half, {whole}, got {shape}.'
    )
  if not (0 < noise < np.inf if kind == 'noisy' else noise == 0):
    raise ValueError(
      'side_noise must be positive for "noisy" side information and 0 for '
      f'other kinds, got {noise} for {kind!r}.'
    )


def draw_side(
  key, left, right, shape, *, kind: str = 'crop', noise: float = 0.0
) -> jax.Array:
  """Side information of one decoder about one image.

  Args:
    key: typed key; consumed.
    left: [H, W] or [H, W, C].
    right: the source, of the same shape.
    shape: (h, w) or (h, w, C), static.
    kind: "crop", see `random_crop`; "edge", the w columns next to the source;
      "noisy", the source with Gaussian noise, cut to [0, 1]; "none", zeros.
    noise: standard deviation of "noisy".

  Returns:
    Array of `shape`.

  Example:
    >>> left, right = jnp.arange(8.).reshape(2, 4), jnp.zeros((2, 4))
    >>> draw_side(jax.random.key(0), left, right, (2, 1), kind='edge').tolist()
    [[3.0], [7.0]]
  """
  if kind == 'crop':
    return random_crop(key, left, shape)
  if kind == 'edge':
    return left[:, left.shape[1] - shape[1] :]
  if kind == 'noisy':
    draw = jax.random.normal(key, right.shape, jnp.float32)
    return jnp.clip(right + noise * draw, 0, 1)
  return jnp.zeros(shape, jnp.float32)


def _side_key(key, row, decoder):
  return gumbel.domain_key(key, gumbel.Domain.SIDE_INFORMATION, row, decoder)


@functools.partial(jax.jit, static_argnames=('num', 'shape', 'kind', 'noise'))
def draw_sides(
  key: jax.Array,
  left: jax.Array,
  right: jax.Array,
  num: int,
  shape,
  *,
  kind: str = 'crop',
  noise: float = 0.0,
) -> jax.Array:
  """Side information of `num` decoders about R images.

  That of decoder k about image r depends on (key, r, k): more images or
  decoders leave the first ones alone.

  Args:
    key: typed key; reusable for other domains.
    left: [R, H, W] or [R, H, W, C].
    right: the sources, of the same shape.
    num: K, static.
    shape: (h, w) or (h, w, C), a tuple.
    kind: see `draw_side`.
    noise: likewise.

  Returns:
    [R, K, h, w] or [R, K, h, w, C].
  """

  def one(row, k, left, right):
    side_key = _side_key(key, row, k)
    return draw_side(side_key, left, right, shape, kind=kind, noise=noise)

  every = jax.vmap(jax.vmap(one, (None, 0, None, None)), (0, None, 0, 0))
  return every(
    jnp.arange(len(left), dtype=jnp.int32),
    jnp.arange(num, dtype=jnp.int32),
    jnp.asarray(left),
    jnp.asarray(right),
  )


@functools.partial(jax.jit, static_argnames=('rows', 'num', 'left', 'shape'))
def random_corners(key: jax.Array, rows: int, num: int, left, shape):
  """Where the crops that `draw_sides` takes of R = `rows` left halves lie.

  Returns:
    [R, K, 2] int32.

  Example:
    >>> corners = random_corners(jax.random.key(0), 5, 2, (8, 4), (3, 3))
    >>> corners.shape, bool(corners[..., 1].max() <= 1)
    ((5, 2, 2), True)
  """

  def one(row, decoder):
    return random_corner(_side_key(key, row, decoder), left, shape)

  return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(
    jnp.arange(rows, dtype=jnp.int32), jnp.arange(num, dtype=jnp.int32)
  )
