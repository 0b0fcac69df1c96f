"""Labels of the shared candidates: what the message of log2 L bits names.

`random_labels` are those of Rowan, Phan, Khisti (2025), arXiv 2506.05632,
section 5. `interval_labels` are not in the paper: neighbouring candidates,
which a decoder cannot tell apart and need not, share a label, so the message
is spent on telling distant ones apart.
"""

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
  if validation.is_concrete(width) and not (
    np.all(np.asarray(width) > 0) and np.all(np.isfinite(width))
  ):
    raise ValueError(f'width must be positive and finite, got {width}.')
  _check_num_messages(num_messages)
  for name, value in (('candidates', candidates), ('offset', offset)):
    if validation.is_concrete(value) and not np.isfinite(value).all():
      raise ValueError(f'{name} must be finite, got {value}.')
  cells = jnp.floor((candidates + offset) / width)
  return jnp.mod(cells, num_messages).astype(jnp.int32)
