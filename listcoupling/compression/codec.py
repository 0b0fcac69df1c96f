"""The list-coupling codec: one message, K decoders with side information.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5: encoder and decoders
share N candidates, a label for each, and K exponential races, all from one
seed. The encoder picks candidate Y by the minimum of the K races and sends
only the label of Y. Decoder k runs race k among the candidates that carry the
label, weighted by what its side information says of them, and succeeds if it
picks Y too.

With G groups each message stands for G labels, one per group: decoder k looks
only at those of its own group, k mod G, so that its index is worth log2 G bits
more. Within a group races are as above, K / G of them. G = 1 is the paper.

Weights are importance weights, in logs: for candidates drawn from a prior,
log p(u | what I know) - log prior(u). Constants drop out of a race. With one
label for all candidates this is the conditional form of GLS (section 4).

`random_labels` are the paper's. `balanced_labels` only remove the luck of the
draw. `interval_labels`, `lattice_labels` and `kmeans_labels` have structure:
close candidates, which a decoder cannot tell apart and need not, share a label,
so the message is spent on telling distant ones apart.

Legend: N candidates, D their size, K decoders, L messages, G groups.
"""

import functools
import itertools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel, validation


class Encoding(NamedTuple):
  """The encoder's choice.

  Attributes:
    index: [] int32, the candidate; -1 if none was possible.
    message: [] int32, its label // G: all that is sent; -1 if index is -1.
  """

  index: jax.Array  # []
  message: jax.Array  # []


def check_groups(num_groups, num_decoders) -> None:
  """Raises ValueError unless G groups of equal size hold the K decoders."""
  validation.check_positive_int(num_groups, 'num_groups')
  if num_decoders % num_groups:
    raise ValueError(
      f'num_groups must divide num_decoders = {num_decoders}, got {num_groups}.'
    )


def _check(key, log_weights, labels, num_decoders, num_groups) -> None:
  """Raises ValueError for what encoder and decoder refuse alike."""
  validation.check_key(key)
  validation.check_positive_int(num_decoders, 'num_decoders')
  check_groups(num_groups, num_decoders)
  shape, dtype = log_weights.shape, log_weights.dtype
  if len(shape) != 1 or shape[0] == 0:
    raise ValueError(
      f'log_weights must be a non-empty 1-d array, got shape {shape}; use '
      'jax.vmap for batches.'
    )
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f'log_weights must be of a float type, got {dtype}.')
  if validation.is_concrete(log_weights):
    values = np.asarray(log_weights).astype(np.float64)
    bad = values[~(values < np.inf)]
    if bad.size:
      raise ValueError(
        'log_weights must hold finite numbers or -inf (impossible), got '
        f'{bad[0]}.'
      )
  _check_labels(labels, shape, num_groups)


def _below_maximum(log_weights):
  """numpy's float64 weights less their maximum: float32 keeps what differs."""
  log_weights = validation.as_numbers(log_weights, 'log_weights')
  if log_weights.dtype != np.float64 or not log_weights.size:
    return log_weights
  best = log_weights.max()
  if validation.is_concrete(best) and not np.isfinite(best):
    return log_weights
  return log_weights - best


def _check_labels(labels, shape, num_groups) -> None:
  if labels.shape != shape:
    raise ValueError(
      'labels must have one entry per candidate, got shape '
      f'{labels.shape} for log_weights of shape {shape}.'
    )
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    raise ValueError(f'labels must be integers, got {labels.dtype}.')
  if not validation.is_concrete(labels):
    return
  labels = np.asarray(labels)
  for label in (labels.min(), labels.max()):
    if not 0 <= label < 2**31:
      raise ValueError(f'labels must be from 0 to 2^31 - 1, got {label}.')
  missing = set(range(num_groups)) - set((labels % num_groups).tolist())
  if missing:
    raise ValueError(
      f'labels must have candidates in each of num_groups = {num_groups} '
      f'groups (label % {num_groups}), got none in group {min(missing)}; make '
      f'them with num_groups={num_groups}.'
    )


def _check_decoder(decoder, num_decoders) -> None:
  validation.check_scalar(decoder, 'decoder', minimum=0, integer=True)
  if validation.is_concrete(decoder) and decoder >= num_decoders:
    raise ValueError(
      f'decoder must be in 0..{num_decoders - 1} for num_decoders = '
      f'{num_decoders}, got {decoder}.'
    )


def _check_message(message, labels, num_groups) -> None:
  validation.check_scalar(message, 'message', minimum=0, integer=True)
  if validation.is_concrete(message, labels):
    named = np.asarray(labels) // num_groups
    if not np.any(named == np.asarray(message)):
      raise ValueError(
        f'message must be the label of some candidate, got {message}; labels '
        f'{"" if num_groups == 1 else f"// {num_groups} "}lie in '
        f'{named.min()}..{named.max()}. Are key and labels those of the '
        'encoder?'
      )


def encode(
  key: jax.Array,
  log_weights: jax.Array,
  labels: jax.Array,
  *,
  num_decoders: int,
  shared_race: bool = False,
  num_groups: int = 1,
) -> Encoding:
  """Picks a candidate ~ exp(log_weights) and names its label, but the group.

  Args:
    key: typed key shared with the decoders; fresh for each source symbol.
    log_weights: [N] log of p(u_i | source) / prior(u_i), -inf = impossible.
    labels: [N] integers in 0..L G - 1, shared with the decoders.
    num_decoders: K, static; must be the same at the decoders.
    shared_race: one race for all instead of one per decoder, the baseline of
      the paper; static.
    num_groups: G, static; divides K. A candidate belongs to group label % G.

  Returns:
    `Encoding`; (-1, -1) inside jit if every weight is zero or one is NaN.

  Raises:
    ValueError: for a legacy key, wrong shapes or types, NaN or +inf weights,
      no possible candidate, negative labels, a group without candidates, K < 1
      or G that does not divide K.

  Example:
    >>> key = jax.random.key(0)
    >>> labels = jnp.array([0, 1, 0, 1])
    >>> index, message = encode(key, jnp.zeros(4), labels, num_decoders=2)
    >>> bool(message == labels[index])
    True
    >>> index, message = encode(key, jnp.zeros(4), labels, num_decoders=2,
    ...                         num_groups=2)
    >>> int(message)  # both labels: decoder k looks at label k
    0
  """
  log_weights = _below_maximum(log_weights)
  labels = validation.as_numbers(labels, 'labels')
  _check(key, log_weights, labels, num_decoders, num_groups)
  validation.check_logits(log_weights, 'log_weights')
  return _encode(
    key,
    jnp.asarray(log_weights, jnp.float32),
    jnp.asarray(labels, jnp.int32),
    num_decoders=num_decoders,
    shared_race=shared_race,
    num_groups=num_groups,
  )


_compiled = functools.partial(
  jax.jit, static_argnames=('num_decoders', 'shared_race', 'num_groups')
)


@_compiled
def _encode(key, log_weights, labels, *, num_decoders, shared_race, num_groups):
  chex.assert_rank([log_weights, labels], 1)
  chex.assert_equal_shape([log_weights, labels])
  num_races = 1 if shared_race else num_decoders // num_groups
  noise = gumbel.exponential_streams(key, len(log_weights), num_races)
  index = gumbel.race(gumbel.earliest(noise), log_weights)
  return Encoding(index, jnp.where(index < 0, -1, labels[index] // num_groups))


def decode(
  key: jax.Array,
  log_weights: jax.Array,
  labels: jax.Array,
  message,
  *,
  decoder,
  num_decoders: int,
  shared_race: bool = False,
  num_groups: int = 1,
) -> jax.Array:
  """The candidate that one decoder picks, given the message.

  If no candidate with the label has weight, the race is over the label alone,
  each of its candidates weighted alike. If the decoder's group has none with
  the message at all, it looks at those of the other groups.

  Args:
    key: the encoder's key.
    log_weights: [N] log of p(u_i | side information) / prior(u_i).
    labels: [N] the encoder's labels.
    message: [] integer, a label // G.
    decoder: [] integer k from 0 to K-1; may be traced.
    num_decoders: K, static, as at the encoder.
    shared_race: as at the encoder; static.
    num_groups: G, static, as at the encoder. The decoder looks at labels with
      label % G == k % G and runs race k // G.

  Returns:
    [] int32 index; -1 inside jit if no candidate carries the message or a
    weight of the label is NaN.

  Raises:
    ValueError: as `encode`, but all weights may be zero; and for a message
      that no label has or a decoder that is not one of the K.

  Example:
    >>> key, labels = jax.random.key(0), jnp.array([0, 1, 0, 1])
    >>> w = jnp.array([0., -9., -9., 0.])
    >>> int(decode(key, w, labels, 0, decoder=0, num_decoders=1)) in (0, 2)
    True
  """
  log_weights = _below_maximum(log_weights)
  labels = validation.as_numbers(labels, 'labels')
  _check(key, log_weights, labels, num_decoders, num_groups)
  _check_decoder(decoder, num_decoders)
  _check_message(message, labels, num_groups)
  return _decode(
    key,
    jnp.asarray(log_weights, jnp.float32),
    jnp.asarray(labels, jnp.int32),
    jnp.asarray(message, jnp.int32),
    jnp.asarray(decoder, jnp.int32),
    num_decoders=num_decoders,
    shared_race=shared_race,
    num_groups=num_groups,
  )


@_compiled
def _decode(
  key, log_weights, labels, message, decoder, *,
  num_decoders, shared_race, num_groups,
):  # fmt: skip
  chex.assert_rank([log_weights, labels, message, decoder], [1, 1, 0, 0])
  chex.assert_equal_shape([log_weights, labels])
  group, race = decoder % num_groups, decoder // num_groups
  own = labels == message * num_groups + group  # [N]
  carries = jnp.where(jnp.any(own), own, labels // num_groups == message)
  weights = jnp.where(carries, log_weights, -jnp.inf)
  none_left = jnp.max(weights) == -jnp.inf
  label_alone = jnp.where(carries, jnp.float32(0), -jnp.inf)
  noise = gumbel.exponential(
    key, len(log_weights), jnp.where(shared_race, 0, race)
  )
  return gumbel.race(noise, jnp.where(none_left, label_alone, weights))


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
