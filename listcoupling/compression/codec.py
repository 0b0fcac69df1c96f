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
log p(u | what I know) - log prior(u). Constants drop out of a race.

Legend: N candidates, K decoders, L messages, G groups.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import coupling, validation


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
  index = coupling.conditional_encode(
    key,
    log_weights,
    num_decoders=num_decoders // num_groups,
    shared_race=shared_race,
  )
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
  group, race = decoder % num_groups, decoder // num_groups
  own = labels == message * num_groups + group  # [N]
  carries = jnp.where(jnp.any(own), own, labels // num_groups == message)
  weights = jnp.where(carries, log_weights, -jnp.inf)
  none_left = jnp.max(weights) == -jnp.inf
  label_alone = jnp.where(carries, jnp.float32(0), -jnp.inf)
  return coupling.conditional_decode(
    key,
    jnp.where(none_left, label_alone, weights),
    decoder=race,
    num_decoders=num_decoders // num_groups,
    shared_race=shared_race,
  )
