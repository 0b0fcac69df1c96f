"""Labels of the shared candidates: what the message of log2 L bits names.

`random_labels` are those of Rowan, Phan, Khisti (2025), arXiv 2506.05632,
section 5. The others are not in the paper. `balanced_labels` only remove the
luck of the draw. `interval_labels`, `lattice_labels` and `kmeans_labels` have
structure: close candidates, which a decoder cannot tell apart and need not,
share a label, so the message is spent on telling distant ones apart.

With G groups of decoders there are L G labels instead of L: the message is
label // G, the group label % G (`codec.encode`).

Legend: N candidates, D their size, L messages, G groups.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation


def _num_labels(num_messages, num_groups) -> jax.Array:
  """L G, checked; L may be traced."""
  validation.check_scalar(num_messages, 'num_messages', minimum=1, integer=True)
  validation.check_positive_int(num_groups, 'num_groups')
  return jnp.asarray(num_messages, jnp.int32) * num_groups


def _finite(name, value, like=None) -> jax.Array:
  """float32 array; ValueError if a number is not finite or does not fit.

  Args:
    name: of the argument.
    value: the numbers.
    like: an array whose last axis they must fit, or None.
  """
  value = validation.as_numbers(value, name)
  if validation.is_concrete(value) and not np.isfinite(value).all():
    raise ValueError(f'{name} must be finite, got {validation.shown(value)}.')
  if like is not None and value.shape not in ((), like.shape[-1:]):
    raise ValueError(
      f'{name} must be one number or fit the candidates {like.shape}, got '
      f'shape {value.shape}.'
    )
  return jnp.asarray(value, jnp.float32)


def random_labels(
  key: jax.Array, num_candidates: int, num_messages, *, num_groups: int = 1
) -> jax.Array:
  """iid uniform labels in {0, ..., L G - 1}.

  Label i depends on (key, i) and L G alone. Where that is no power of two the
  probabilities are uniform up to 2^-32.

  Args:
    key: typed key, other than the key of the race.
    num_candidates: N, static.
    num_messages: [] integer L; may be traced.
    num_groups: G, static.

  Returns:
    [N] int32.

  Raises:
    ValueError: for a legacy key, or N, L or G below 1.

  Example:
    >>> labels = random_labels(jax.random.key(0), 6, 2)
  """
  validation.check_key(key)
  validation.check_positive_int(num_candidates, 'num_candidates')
  count = _num_labels(num_messages, num_groups)
  bits = jax.random.bits(key, (num_candidates,), jnp.uint32)  # [N]
  return (bits % count.astype(jnp.uint32)).astype(jnp.int32)


def interval_labels(
  candidates: jax.Array, width, num_messages, offset=0.0, *, num_groups: int = 1
) -> jax.Array:
  """Labels of a modulo quantiser: floor((u + offset) / width) mod L G.

  Args:
    candidates: [N] real candidates.
    width: [] length of an interval, positive; each label returns every
      L * G * width.
    num_messages: [] integer L.
    offset: [] dither; a uniform draw on [0, L * G * width) from the shared key
      makes the labels uniform.
    num_groups: G, static; the G intervals of a message lie side by side.

  Returns:
    [N] int32 in {0, ..., L G - 1}.

  Raises:
    ValueError: if candidates are not one-dimensional, width is not positive,
      L < 1 or G < 1.

  Example:
    >>> interval_labels(jnp.array([-.1, .1, .6, 1.1]), .5, 2).tolist()
    [1, 0, 1, 0]
  """
  u = _finite('candidates', candidates)
  if u.ndim != 1:
    raise ValueError(
      f'candidates must be one-dimensional, got shape {u.shape}.'
    )
  validation.check_positive(width=width)
  count = _num_labels(num_messages, num_groups).astype(jnp.float32)
  offset, width = _finite('offset', offset, u), jnp.asarray(width, jnp.float32)
  return jnp.mod(jnp.floor((u + offset) / width), count).astype(jnp.int32)


def balanced_labels(
  key: jax.Array, num_candidates: int, num_messages, *, num_groups: int = 1
) -> jax.Array:
  """Labels in random order, each on N // (L G) candidates or on one more.

  Args:
    key: typed key, other than the key of the race.
    num_candidates: N, static.
    num_messages: [] integer L; may be traced.
    num_groups: G, static.

  Returns:
    [N] int32. Each label alone is uniform; together they are dependent.

  Raises:
    ValueError: for a legacy key, or N, L or G below 1.

  Example:
    >>> labels = balanced_labels(jax.random.key(0), 6, 2)
    >>> int(labels.sum())
    3
  """
  validation.check_key(key)
  validation.check_positive_int(num_candidates, 'num_candidates')
  count = _num_labels(num_messages, num_groups)
  order_key, shift_key = jax.random.split(key)
  order = jax.random.permutation(
    order_key, jnp.arange(num_candidates, dtype=jnp.int32)
  )
  # L G that does not divide N gives some labels one more: which, is random.
  shift = random_labels(shift_key, 1, count)
  return jnp.mod(order + shift, count)


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
  candidates: jax.Array,
  width,
  num_messages: int,
  offset=0.0,
  *,
  num_groups: int = 1,
) -> jax.Array:
  """Cosets of a lattice: floor((u + offset) / width) combined mod L G.

  In one dimension these are `interval_labels`; in D, neighbouring cubes
  differ and those of one label are far apart (`lattice_multipliers`).

  Args:
    candidates: [N, D].
    width: [] edge of a cube, positive.
    num_messages: L, static.
    offset: [] or [D] dither; see `lattice_dither`.
    num_groups: G, static; the G cubes of a message lie side by side.

  Returns:
    [N] int32 in {0, ..., L G - 1}.

  Raises:
    ValueError: if candidates are not [N, D] or not finite, width is not
      positive, L < 1 or G < 1.

  Example:
    >>> u = jnp.array([[.1, .1], [.6, .1], [.1, .6], [1.1, 1.1]])
    >>> lattice_labels(u, .5, 5).tolist()
    [0, 1, 2, 1]
  """
  u = _finite('candidates', candidates)
  if u.ndim != 2:
    raise ValueError(f'candidates must be [N, D], got shape {u.shape}.')
  validation.check_positive(width=width)
  validation.check_positive_int(num_groups, 'num_groups')
  offset, width = _finite('offset', offset, u), jnp.asarray(width, jnp.float32)
  multipliers = lattice_multipliers(num_messages * num_groups, u.shape[1])
  offset = jnp.broadcast_to(offset, u.shape)
  cubes = jnp.floor((u + offset) / width).astype(jnp.int32)  # [N, D]
  # Reduced first, so that no product overflows.
  label = jnp.zeros(u.shape[0], jnp.int32)
  for d, a in enumerate(multipliers):
    label += jnp.mod(cubes[:, d], num_messages * num_groups) * a
  return jnp.mod(label, num_messages * num_groups)


def lattice_dither(
  key: jax.Array, width, num_messages, size: int, *, num_groups: int = 1
) -> jax.Array:
  """Offset [D] that makes every candidate's lattice label uniform.

  Args:
    key: typed key shared by encoder and decoders.
    width: [] edge of a cube.
    num_messages: [] L.
    size: D, static.
    num_groups: G, static.

  Returns:
    [D] float32, uniform on [0, L * G * width) in each coordinate.

  Raises:
    ValueError: for a legacy key or a width that is not positive.
  """
  validation.check_key(key)
  validation.check_positive(width=width)
  count = _num_labels(num_messages, num_groups).astype(jnp.float32)
  width = jnp.asarray(width, jnp.float32)
  return jax.random.uniform(key, (size,), jnp.float32) * (count * width)


def kmeans_labels(
  candidates: jax.Array, centres: jax.Array, *, num_groups: int = 1
) -> jax.Array:
  """Index of the nearest centre, e.g. of k-means on the training latents.

  Args:
    candidates: [N, D].
    centres: [L G, D]; rows of inf are never nearest (padding). With groups,
      in an order where neighbours are alike: G in a row share a message.
    num_groups: G, static.

  Returns:
    [N] int32 in {0, ..., L G - 1}.

  Raises:
    ValueError: if the shapes do not fit, G does not divide the number of
      centres, or for NaN.

  Example:
    >>> kmeans_labels(jnp.array([[0.], [.9]]), jnp.array([[1.], [0.]])).tolist()
    [1, 0]
  """
  candidates, centres = validation.as_points(
    candidates=candidates, centres=centres
  )
  validation.check_positive_int(num_groups, 'num_groups')
  if len(centres) % num_groups:
    raise ValueError(
      f'num_groups must divide the {len(centres)} centres, got {num_groups}.'
    )
  for name, value in (('candidates', candidates), ('centres', centres)):
    if validation.is_concrete(value) and np.isnan(value).any():
      raise ValueError(f'{name} must not hold NaN, got nan.')
  u, centres = (jnp.asarray(x, jnp.float32) for x in (candidates, centres))
  distance = jnp.sum((u[:, None] - centres[None]) ** 2, -1)  # [N, L G]
  return jnp.argmin(distance, -1).astype(jnp.int32)
