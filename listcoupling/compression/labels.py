"""Labels of the shared candidates: what the message of log2 L bits names.

`random_labels` are those of Rowan, Phan, Khisti (2025), arXiv 2506.05632,
section 5. The others are not in the paper. `balanced_labels` only remove the
luck of the draw. `interval_labels`, `lattice_labels` and `cell_labels` have
structure: close candidates, which a decoder cannot tell apart and need not,
share a label, so the message is spent on telling distant ones apart.

Legend: N candidates, D their size, L messages.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation


def _check_num_messages(num_messages) -> None:
  if validation.is_concrete(num_messages):
    value = np.asarray(num_messages)
    if value.ndim or not np.issubdtype(value.dtype, np.integer) or value < 1:
      raise ValueError(
        f'num_messages must be an integer of at least 1, got {num_messages!r}.'
      )


def _check_width(width) -> None:
  if validation.is_concrete(width) and not (
    np.all(np.asarray(width) > 0) and np.all(np.isfinite(width))
  ):
    raise ValueError(f'width must be positive and finite, got {width}.')


def _check_finite(name, value) -> None:
  if validation.is_concrete(value) and not np.isfinite(value).all():
    raise ValueError(f'{name} must be finite, got {value}.')


def random_labels(
  key: jax.Array, num_candidates: int, num_messages
) -> jax.Array:
  """iid uniform labels in {0, ..., L-1}.

  Label i depends on (key, i) and L alone. For L that is no power of two the
  probabilities are uniform up to 2^-32.

  Args:
    key: typed key, other than the key of the race.
    num_candidates: N, static.
    num_messages: [] integer L; may be traced.

  Returns:
    [N] int32.

  Raises:
    ValueError: for a legacy key, N < 1 or L < 1.

  Example:
    >>> labels = random_labels(jax.random.key(0), 6, 2)
  """
  validation.check_key(key)
  validation.check_positive_int(num_candidates, 'num_candidates')
  _check_num_messages(num_messages)
  bits = jax.random.bits(key, (num_candidates,), jnp.uint32)  # [N]
  return (bits % jnp.asarray(num_messages, jnp.uint32)).astype(jnp.int32)


def interval_labels(
  candidates: jax.Array, width, num_messages, offset=0.0
) -> jax.Array:
  """Labels of a modulo quantiser: floor((u + offset) / width) mod L.

  Args:
    candidates: [N] real candidates.
    width: [] length of an interval, positive; each label returns every
      L * width.
    num_messages: [] integer L.
    offset: [] dither; a uniform draw on [0, L * width) from the shared key
      makes the labels uniform.

  Returns:
    [N] int32 in {0, ..., L-1}.

  Raises:
    ValueError: if candidates are not one-dimensional, width is not positive
      or L < 1.

  Example:
    >>> interval_labels(jnp.array([-.1, .1, .6, 1.1]), .5, 2).tolist()
    [1, 0, 1, 0]
  """
  if jnp.ndim(candidates) != 1:
    raise ValueError(
      f'candidates must be one-dimensional, got shape {jnp.shape(candidates)}.'
    )
  _check_width(width)
  _check_num_messages(num_messages)
  for name, value in (('candidates', candidates), ('offset', offset)):
    _check_finite(name, value)
  cells = jnp.floor((candidates + offset) / width)
  return jnp.mod(cells, num_messages).astype(jnp.int32)


def balanced_labels(
  key: jax.Array, num_candidates: int, num_messages
) -> jax.Array:
  """Labels in random order, each on N // L or N // L + 1 candidates.

  Args:
    key: typed key, other than the key of the race.
    num_candidates: N, static.
    num_messages: [] integer L; may be traced.

  Returns:
    [N] int32. Each label alone is uniform; together they are dependent.

  Raises:
    ValueError: for a legacy key, N < 1 or L < 1.

  Example:
    >>> labels = balanced_labels(jax.random.key(0), 6, 2)
    >>> int(labels.sum())
    3
  """
  validation.check_key(key)
  validation.check_positive_int(num_candidates, 'num_candidates')
  _check_num_messages(num_messages)
  order_key, shift_key = jax.random.split(key)
  order = jax.random.permutation(order_key, num_candidates)  # [N]
  # L that does not divide N gives some labels one more: which, is random.
  shift = random_labels(shift_key, 1, num_messages)
  return jnp.mod(order + shift, num_messages).astype(jnp.int32)


def _candidate_multipliers(num_messages: int, size: int):
  """Vectors [D] of multipliers, none 0 mod L; signs make no difference."""
  half = range(1, num_messages // 2 + 1)
  if math.comb(len(half) + size - 1, size) <= 4000:
    for a in itertools.combinations_with_replacement(half, size):
      yield np.array(a)
    return
  for generator in half:
    a = np.array([pow(generator, d, num_messages) for d in range(size)])
    if a.all():
      yield a


@functools.cache
def lattice_multipliers(num_messages: int, size: int) -> tuple[int, ...]:
  """Multipliers a of the labels sum_d a_d z_d mod L on the integer points z.

  Points of one label form a lattice; this takes the a whose lattice has the
  longest shortest vector, among all where there are few and else among
  Korobov's a = (1, g, g^2, ...) mod L. Neighbours differ wherever L >= 2 (a_d
  is never 0 mod L).

  Args:
    num_messages: L.
    size: D.

  Returns:
    D integers.

  Raises:
    ValueError: for L or D below 1.

  Example:
    >>> lattice_multipliers(5, 2)  # a knight's move apart
    (1, 2)
  """
  validation.check_positive_int(num_messages, 'num_messages')
  validation.check_positive_int(size, 'size')
  if num_messages == 1 or size == 1:
    return (1,) * size
  # By Minkowski no shortest vector is longer than this in any coordinate.
  reach = int(np.ceil(num_messages ** (1 / size)))
  steps = range(-reach, reach + 1)
  points = np.array(list(itertools.product(steps, repeat=size)))  # [., D]
  points = points[np.any(points != 0, axis=1)]
  length = np.sum(points**2, axis=1)
  best, chosen = -1, None
  for a in _candidate_multipliers(num_messages, size):
    same = np.mod(points @ a, num_messages) == 0
    shortest = length[same].min(initial=(reach + 1) ** 2)
    if shortest > best:
      best, chosen = shortest, a
  return tuple(int(x) for x in chosen)


def lattice_labels(
  candidates: jax.Array, width, num_messages: int, offset=0.0
) -> jax.Array:
  """Cosets of a lattice: floor((u + offset) / width) combined mod L.

  In one dimension these are `interval_labels`; in D, neighbouring cubes
  differ and those of one label are far apart (`lattice_multipliers`).

  Args:
    candidates: [N, D].
    width: [] edge of a cube, positive.
    num_messages: L, static.
    offset: [] or [D] dither; see `lattice_dither`.

  Returns:
    [N] int32 in {0, ..., L-1}.

  Raises:
    ValueError: if candidates are not [N, D] or not finite, width is not
      positive or L < 1.

  Example:
    >>> u = jnp.array([[.1, .1], [.6, .1], [.1, .6], [1.1, 1.1]])
    >>> lattice_labels(u, .5, 5).tolist()
    [0, 1, 2, 1]
  """
  if jnp.ndim(candidates) != 2:
    raise ValueError(
      f'candidates must be [N, D], got shape {jnp.shape(candidates)}.'
    )
  _check_width(width)
  for name, value in (('candidates', candidates), ('offset', offset)):
    _check_finite(name, value)
  multipliers = lattice_multipliers(num_messages, candidates.shape[1])
  cells = jnp.floor((candidates + offset) / width).astype(jnp.int32)  # [N, D]
  # Reduced first, so that no product overflows.
  products = jnp.mod(cells, num_messages) * jnp.array(multipliers, jnp.int32)
  return jnp.mod(jnp.sum(products, -1), num_messages)


def lattice_dither(key: jax.Array, width, num_messages, size: int) -> jax.Array:
  """Offset [D] that makes every candidate's lattice label uniform.

  Args:
    key: typed key shared by encoder and decoders.
    width: [] edge of a cube.
    num_messages: [] L.
    size: D, static.

  Returns:
    [D] float32, uniform on [0, L * width) in each coordinate.

  Raises:
    ValueError: for a legacy key or a width that is not positive.
  """
  validation.check_key(key)
  _check_width(width)
  return jax.random.uniform(key, (size,)) * num_messages * width


def cell_labels(candidates: jax.Array, centres: jax.Array) -> jax.Array:
  """Index of the nearest centre, e.g. of k-means on the training latents.

  Args:
    candidates: [N, D].
    centres: [L, D]; rows of inf are never nearest (padding).

  Returns:
    [N] int32 in {0, ..., L-1}.

  Raises:
    ValueError: if the shapes do not fit, or for NaN.

  Example:
    >>> cell_labels(jnp.array([[0.], [.9]]), jnp.array([[1.], [0.]])).tolist()
    [1, 0]
  """
  shapes = jnp.shape(candidates), jnp.shape(centres)
  if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][1] != shapes[1][1]:
    raise ValueError(
      'candidates and centres must be [N, D] and [L, D], got shapes '
      f'{shapes[0]} and {shapes[1]}.'
    )
  for name, value in (('candidates', candidates), ('centres', centres)):
    if validation.is_concrete(value) and np.isnan(value).any():
      raise ValueError(f'{name} must not hold NaN, got nan.')
  distance = jnp.sum((candidates[:, None] - centres) ** 2, -1)  # [N, L]
  return jnp.argmin(distance, -1).astype(jnp.int32)
