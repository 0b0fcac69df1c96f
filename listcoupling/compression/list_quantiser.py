"""A quantiser whose decoders divide each message among themselves.

Not in the paper. L K M codewords; the encoder names the message of the nearest,
m = (j // K) mod L, and decoder k answers with the one of its M codewords, those
with j mod K = k and message m, that its side information finds most likely. No
race and no shared randomness: it is to the list codec of Rowan, Phan, Khisti
(2025), arXiv 2506.05632, section 5, what a modulo quantiser is to its Gaussian
source. At M = 1 nothing is left to the side information and the gain of K
decoders under "the best of K" is the decoders' index alone, which is worth
log2 K bits; at K = M = 1 it is a vector quantiser. Side information may refine
what a codeword stands for (`models.codeword_decoder`).

Neighbours in number are to be alike (`fit_codewords`). Then the K codewords
that share a place in a message are alike, and the M codewords of one message
and decoder, L K numbers apart, are not: what the side information must tell
apart. How many it can, M, is chosen on held-out sources.

Legend: R sources, L messages, K decoders, M codewords of a message and decoder,
F = L K M codewords, P pixels.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation

__all__ = [
  'bins',
  'decode',
  'encode',
  'fit_codewords',
  'nearest',
]


def __dir__():
  return __all__


def fit_codewords(points, count: int, *, seed: int = 0) -> np.ndarray:
  """k-means codewords in an order where neighbours are alike.

  Args:
    points: [R, P] training sources.
    count: number of codewords, at most R.
    seed: of k-means.

  Returns:
    [count, P] float32, in an order of the leaves of a dendrogram that has like
    ones beside each other.

  Raises:
    ValueError: if there are fewer points than codewords.

  Example:
    >>> fit_codewords(np.eye(4), 2).shape
    (2, 4)
  """
  from scipy.cluster import hierarchy
  from sklearn import cluster

  points = np.asarray(points, np.float32)
  if len(points) < count:
    raise ValueError(
      f'count must be at most the number of points, got {count} for '
      f'{len(points)}.'
    )
  fit = cluster.KMeans(count, n_init=1, random_state=seed).fit(points)
  centres = fit.cluster_centers_.astype(np.float32)
  if count > 2:
    tree = hierarchy.linkage(centres, 'ward', optimal_ordering=True)
    centres = centres[hierarchy.leaves_list(tree)]
  return centres


@jax.jit
def nearest(points: jax.Array, codewords: jax.Array) -> jax.Array:
  """Index of the nearest codeword: [R, P] and [F, P] -> [R] int32."""
  chex.assert_rank([points, codewords], 2)
  chex.assert_equal_shape_suffix([points, codewords], 1)
  cross = points @ codewords.T  # [R, F]
  score = jnp.sum(codewords**2, -1)[None] - 2 * cross
  return jnp.argmin(score, -1).astype(jnp.int32)


def _num_messages(num_codewords, num_decoders, bin_size) -> int:
  """L; ValueError unless K M divides F."""
  validation.check_positive_int(num_decoders, 'num_decoders')
  validation.check_positive_int(bin_size, 'bin_size')
  if num_codewords % (num_decoders * bin_size):
    raise ValueError(
      f'num_decoders * bin_size must divide the {num_codewords} codewords, got '
      f'{num_decoders} * {bin_size}.'
    )
  return num_codewords // (num_decoders * bin_size)


def _messages(message):
  """An array of integers; ValueError if it is something else."""
  message = validation.as_numbers(message, 'message')
  if not jnp.issubdtype(message.dtype, jnp.integer):
    raise ValueError(f'message must hold integers, got {message.dtype}.')
  return message


def encode(
  points, codewords, *, num_decoders: int, bin_size: int = 1
) -> jax.Array:
  """Messages [R] int32 from 0 to L - 1 for sources [R, P].

  Args:
    points: [R, P].
    codewords: [F, P], F = L K M.
    num_decoders: K.
    bin_size: M.

  Raises:
    ValueError: if K M does not divide the number of codewords.

  Example:
    >>> codewords = jnp.array([[0.], [1.], [2.], [3.]])
    >>> encode(jnp.array([[2.9], [.2]]), codewords, num_decoders=2).tolist()
    [1, 0]
  """
  points, codewords = validation.as_points(points=points, codewords=codewords)
  count = _num_messages(len(codewords), num_decoders, bin_size)
  return nearest(points, codewords) // num_decoders % count


def bins(
  message, num_codewords: int, *, num_decoders: int, bin_size: int = 1
) -> jax.Array:
  """Codewords that a message leaves to each decoder.

  Args:
    message: [...] integers in 0..L - 1.
    num_codewords: F.
    num_decoders: K.
    bin_size: M.

  Returns:
    [..., K, M] int32, ascending.

  Raises:
    ValueError: for a message below 0 or above L - 1, or K M that does not
      divide F.

  Example:
    >>> bins(jnp.array(1), 12, num_decoders=2, bin_size=2).tolist()
    [[2, 8], [3, 9]]
  """
  count = _num_messages(num_codewords, num_decoders, bin_size)
  message = _messages(message)
  if validation.is_concrete(message):
    values = np.asarray(message).ravel()
    bad = values[(values < 0) | (values >= count)]
    if bad.size:
      raise ValueError(
        f'message must be at least 0 and below {count}, got {bad[0]}.'
      )
  message = jnp.asarray(message, jnp.int32)[..., None, None]
  decoder = jnp.arange(num_decoders, dtype=jnp.int32)[:, None]
  turn = jnp.arange(bin_size, dtype=jnp.int32)[None]
  shape = (*message.shape[:-2], num_decoders, bin_size)
  own = jnp.broadcast_to(turn * (count * num_decoders) + decoder, shape)
  return message * num_decoders + own


def decode(
  message, log_scores=None, *, num_decoders: int, bin_size: int = 1
) -> jax.Array:
  """Codeword of each decoder: messages [...] -> [..., K] int32.

  Args:
    message: [...] integers from 0.
    log_scores: [..., K, F] log-score of each codeword given the side
      information of each decoder, e.g. of a classifier; needed for M > 1.
    num_decoders: K.
    bin_size: M.

  Raises:
    ValueError: for a message that no codeword has, K or M below 1, or M > 1
      without scores that fit.

  Example:
    >>> decode(jnp.array([1, 0]), num_decoders=2).tolist()
    [[2, 3], [0, 1]]
    >>> scores = jnp.array([[0., 0., 1., 0.], [0., 0., 0., 0.]])
    >>> decode(jnp.array(0), scores, num_decoders=2, bin_size=2).tolist()
    [2, 1]
  """
  validation.check_positive_int(num_decoders, 'num_decoders')
  validation.check_positive_int(bin_size, 'bin_size')
  message = _messages(message)
  if bin_size == 1:
    if validation.is_concrete(message) and np.min(message, initial=0) < 0:
      raise ValueError(f'message must be at least 0, got {np.min(message)}.')
    message = jnp.asarray(message, jnp.int32)[..., None]
    own = jnp.arange(num_decoders, dtype=jnp.int32)
    return message * num_decoders + jnp.broadcast_to(
      own, (*message.shape[:-1], num_decoders)
    )
  if log_scores is not None:
    log_scores = validation.as_numbers(log_scores, 'log_scores')
  shape = None if log_scores is None else log_scores.shape
  if shape is None or shape[:-1] != (*np.shape(message), num_decoders):
    raise ValueError(
      'log_scores must have shape [..., K, F] for messages of shape '
      f'{np.shape(message)} and K = {num_decoders} where bin_size > 1, got '
      f'{shape}.'
    )
  own = bins(
    message, shape[-1], num_decoders=num_decoders, bin_size=bin_size
  )  # [..., K, M]
  scores = jnp.take_along_axis(jnp.asarray(log_scores), own, axis=-1)
  best = jnp.argmax(scores, -1).astype(jnp.int32)
  return jnp.take_along_axis(own, best[..., None], axis=-1)[..., 0]
