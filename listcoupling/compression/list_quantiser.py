"""A quantiser whose decoders divide each message among themselves.

Not in the paper. L K codewords; the encoder names the message of the nearest,
m = i // K, and decoder k answers with codeword m K + k, refined by its side
information (`models.codeword_decoder`). No race and no shared randomness: it is
to the list codec of Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5,
what a modulo quantiser is to its Gaussian source, and shows how much of the
gain of K decoders under "the best of K" is the decoders' index alone, which is
worth log2 K bits. At K = 1 it is a vector quantiser with side information at
the decoder.

Legend: R images, L messages, K decoders, P pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation


def fit_codewords(points, count: int, *, seed: int = 0) -> np.ndarray:
  """k-means codewords in an order where neighbours are alike.

  Args:
    points: [R, P] training sources.
    count: number of codewords, at most R.
    seed: of k-means.

  Returns:
    [count, P] float32, leaves of a dendrogram in optimal order.

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
  found = cluster.KMeans(count, n_init=1, random_state=seed).fit(points)
  centres = found.cluster_centers_.astype(np.float32)
  if count > 2:
    tree = hierarchy.linkage(centres, 'ward', optimal_ordering=True)
    centres = centres[hierarchy.leaves_list(tree)]
  return centres


@jax.jit
def nearest(points: jax.Array, codewords: jax.Array) -> jax.Array:
  """Index of the nearest codeword: [R, P] and [F, P] -> [R] int32."""
  cross = points @ codewords.T  # [R, F]
  score = jnp.sum(codewords**2, -1)[None] - 2 * cross
  return jnp.argmin(score, -1).astype(jnp.int32)


def encode(points, codewords, *, num_decoders: int) -> jax.Array:
  """Messages [R] int32 from 0 to L - 1 for sources [R, P].

  Args:
    points: [R, P].
    codewords: [L K, P].
    num_decoders: K.

  Raises:
    ValueError: if K does not divide the number of codewords.

  Example:
    >>> codewords = jnp.array([[0.], [1.], [2.], [3.]])
    >>> encode(jnp.array([[2.9], [.2]]), codewords, num_decoders=2).tolist()
    [1, 0]
  """
  if num_decoders < 1 or len(codewords) % num_decoders:
    raise ValueError(
      f'num_decoders must divide the {len(codewords)} codewords, got '
      f'{num_decoders}.'
    )
  return nearest(points, codewords) // num_decoders


def decode(message, *, num_decoders: int) -> jax.Array:
  """Codeword of each decoder: messages [R] -> [R, K] int32.

  Raises:
    ValueError: for a negative message, or K < 1.

  Example:
    >>> decode(jnp.array([1, 0]), num_decoders=2).tolist()
    [[2, 3], [0, 1]]
  """
  validation.check_positive_int(num_decoders, 'num_decoders')
  if validation.is_concrete(message) and np.min(message, initial=0) < 0:
    raise ValueError(f'message must be at least 0, got {np.min(message)}.')
  message = jnp.asarray(message, jnp.int32)
  first = message[..., None] * num_decoders
  owner = jnp.arange(num_decoders, dtype=jnp.int32)
  return first + jnp.broadcast_to(owner, (*message.shape, num_decoders))
