"""The list-coupling codec: one message, K decoders with side information.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5: encoder and decoders
share N candidates, a label for each, and K exponential races, all from one
seed. The encoder picks candidate Y by the minimum of the K races and sends
only the label of Y. Decoder k runs race k among the candidates that carry the
label, weighted by what its side information says of them, and succeeds if it
picks Y too.

Weights are importance weights, in logs: for candidates drawn from a prior,
log p(u | what I know) - log prior(u). Constants drop out of a race.

Legend: N candidates, K decoders.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import coupling, validation


class Encoding(NamedTuple):
  """What the encoder chose.

  Attributes:
    index: [] int32, the candidate; -1 if none was possible.
    message: [] int32, its label: all that is sent; -1 if index is -1.
  """

  index: jax.Array  # []
  message: jax.Array  # []


def _check(key, log_weights, labels, num_decoders) -> None:
  """Raises ValueError for what encoder and decoder refuse alike."""
  validation.check_key(key)
  validation.check_positive_int(num_decoders, 'num_decoders')
  shape, dtype = jnp.shape(log_weights), jnp.result_type(log_weights)
  if len(shape) != 1 or shape[0] == 0:
    raise ValueError(
      f'log_weights must be a non-empty 1-d array, got shape {shape}; use '
      'jax.vmap for batches.'
    )
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f'log_weights must be of a float type, got {dtype}.')
  if jnp.shape(labels) != shape:
    raise ValueError(
      'labels must have one entry per candidate, got shape '
      f'{jnp.shape(labels)} for log_weights of shape {shape}.'
    )
  if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
    raise ValueError(f'labels must be integers, got {jnp.result_type(labels)}.')
  if validation.is_concrete(log_weights):
    values = np.asarray(log_weights, np.float64)
    bad = values[~(values < np.inf)]
    if bad.size:
      raise ValueError(
        'log_weights must hold finite numbers or -inf (impossible), got '
        f'{bad[0]}.'
      )
  if validation.is_concrete(labels) and np.asarray(labels).min() < 0:
    raise ValueError(
      f'labels must be at least 0, got {np.asarray(labels).min()}.'
    )


def _check_decoder(decoder, num_decoders) -> None:
  if jnp.shape(decoder) or not jnp.issubdtype(
    jnp.result_type(decoder), jnp.integer
  ):
    raise ValueError(f'decoder must be an integer scalar, got {decoder!r}.')
  if validation.is_concrete(decoder) and not 0 <= decoder < num_decoders:
    raise ValueError(
      f'decoder must be in 0..{num_decoders - 1} for num_decoders = '
      f'{num_decoders}, got {decoder}.'
    )


def _check_message(message, labels) -> None:
  if jnp.shape(message) or not jnp.issubdtype(
    jnp.result_type(message), jnp.integer
  ):
    raise ValueError(f'message must be an integer scalar, got {message!r}.')
  if validation.is_concrete(message, labels):
    if not np.any(np.asarray(labels) == np.asarray(message)):
      raise ValueError(
        f'message must be the label of some candidate, got {message}; labels '
        f'lie in {np.asarray(labels).min()}..{np.asarray(labels).max()}. Are '
        'key and labels those of the encoder?'
      )


def encode(
  key: jax.Array,
  log_weights: jax.Array,
  labels: jax.Array,
  *,
  num_decoders: int,
  shared_race: bool = False,
) -> Encoding:
  """Picks a candidate ~ exp(log_weights) and names its label.

  Args:
    key: typed key shared with the decoders; fresh for each source symbol.
    log_weights: [N] log of p(u_i | source) / prior(u_i), -inf = impossible.
    labels: [N] integers from 0, shared with the decoders.
    num_decoders: K, static; must be the same at the decoders.
    shared_race: one race for all instead of one per decoder, the baseline of
      the paper; static.

  Returns:
    `Encoding`; (-1, -1) inside jit if every weight is zero or one is NaN.

  Raises:
    ValueError: for a legacy key, wrong shapes or types, NaN or +inf weights,
      no possible candidate, negative labels or K < 1.

  Example:
    >>> key = jax.random.key(0)
    >>> labels = jnp.array([0, 1, 0, 1])
    >>> index, message = encode(key, jnp.zeros(4), labels, num_decoders=2)
    >>> bool(message == labels[index])
    True
  """
  log_weights, labels = jnp.asarray(log_weights), jnp.asarray(labels)
  _check(key, log_weights, labels, num_decoders)
  validation.check_logits(log_weights, 'log_weights')
  return _encode(
    key,
    jnp.asarray(log_weights, jnp.float32),
    jnp.asarray(labels, jnp.int32),
    num_decoders=num_decoders,
    shared_race=shared_race,
  )


@functools.partial(jax.jit, static_argnames=('num_decoders', 'shared_race'))
def _encode(key, log_weights, labels, *, num_decoders, shared_race):
  index = coupling.conditional_encode(
    key, log_weights, num_decoders=num_decoders, shared_race=shared_race
  )
  return Encoding(index, jnp.where(index < 0, -1, labels[index]))


def decode(
  key: jax.Array,
  log_weights: jax.Array,
  labels: jax.Array,
  message,
  *,
  decoder,
  num_decoders: int,
  shared_race: bool = False,
) -> jax.Array:
  """The candidate that one decoder picks, given the message.

  If no candidate with the label has weight, the race is over the label alone,
  each of its candidates weighted alike.

  Args:
    key: the encoder's key.
    log_weights: [N] log of p(u_i | side information) / prior(u_i).
    labels: [N] the encoder's labels.
    message: [] integer, a label.
    decoder: [] integer from 0 to K-1; may be traced.
    num_decoders: K, static, as at the encoder.
    shared_race: as at the encoder; static.

  Returns:
    [] int32 index; -1 inside jit if no candidate carries the label or a
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
  log_weights, labels = jnp.asarray(log_weights), jnp.asarray(labels)
  _check(key, log_weights, labels, num_decoders)
  _check_decoder(decoder, num_decoders)
  _check_message(message, labels)
  return _decode(
    key,
    jnp.asarray(log_weights, jnp.float32),
    jnp.asarray(labels, jnp.int32),
    message,
    decoder,
    num_decoders=num_decoders,
    shared_race=shared_race,
  )


@functools.partial(jax.jit, static_argnames=('num_decoders', 'shared_race'))
def _decode(
  key, log_weights, labels, message, decoder, *, num_decoders, shared_race
):
  carries = labels == message  # [N]
  weights = jnp.where(carries, log_weights, -jnp.inf)
  none_left = jnp.max(weights) == -jnp.inf
  label_alone = jnp.where(carries, 0.0, -jnp.inf)
  return coupling.conditional_decode(
    key,
    jnp.where(none_left, label_alone, weights),
    decoder=decoder,
    num_decoders=num_decoders,
    shared_race=shared_race,
  )
