"""Bounds on the error of the compressor: no decoder finds the encoder's choice.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, Proposition 4, and its form for a
finite codebook. `listcoupling.bounds` names them, too.

Legend: K decoders, L messages, N candidates.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation


def compression_error_bound(information_density, num_messages) -> jax.Array:
  """Upper bound on P[no decoder finds the encoder's index], per sample.

  1 - sum_k 1 / (K + 2^i_k / L_max), whose mean over samples is Proposition 4.

  It is the same for any number of groups G (`compression.encode`): a group of
  K / G decoders with L G messages adds sum_k 1 / (K / G + 2^i_k / (L G)), and
  the mean over groups divides by G.

  Args:
    information_density: [..., K] bits, i_k = log2 p(w | a) / p(w | t_k).
    num_messages: L_max >= 1.

  Returns:
    [...] in [0, 1].

  Raises:
    ValueError: for NaN, a missing axis K, or L_max < 1.

  Example:
    >>> float(compression_error_bound(jnp.zeros(1), 1))
    0.5
  """
  shape = np.shape(information_density)
  if not shape or shape[-1] == 0:
    raise ValueError(
      f'information_density must have shape [..., K], got {shape}.'
    )
  if validation.is_concrete(information_density) and np.any(
    np.isnan(np.asarray(information_density, np.float64))
  ):
    raise ValueError('information_density must not hold NaN, got nan.')
  _check_num_messages(num_messages)
  density = _as_float(information_density)
  # 1/K - 1/(K + z) = sigmoid(log(z / K)) / K: no overflow, no cancellation.
  scale = jnp.log(jnp.asarray(num_messages, density.dtype) * shape[-1])
  return jnp.mean(jax.nn.sigmoid(density * math.log(2) - scale), axis=-1)


def codebook_error_bound(
  encoder_probability, decoder_probability, num_messages, *, num_groups=1
) -> jax.Array:
  """Upper bound on P[no decoder finds the encoder's index] at N candidates.

  Proposition 4 holds as N grows. This holds for every codebook, given the
  encoder's choice j, where each decoder has a race of its own and labels are
  iid uniform, independent of the races:

      1 - sum_k 1 / (K + z_k),  z_k = q_j (1 - 1/L) + q_j / (L p_jk).

  It is the conditional list matching lemma (Theorem 2) on the candidates,
  where decoder k keeps those with the label of j; the mean over the labels of
  the others is taken inside the convex 1 / (K + z). Not in the paper.
  Probabilities that underflow to 0 count as missed.

  With G groups of decoders (`compression.encode`) it is that of the K / G
  decoders of the chosen group with L G messages, averaged over groups: in
  place of z_k stands G times that of L G messages.

  Args:
    encoder_probability: [...] q_j, the encoder's law over its N candidates at
      the one it chose.
    decoder_probability: [..., K] p_jk, the decoders' laws over all N
      candidates, before the message is known, at the same candidate.
    num_messages: L >= 1.
    num_groups: G, which divides K.

  Returns:
    [...] in [0, 1]; its mean over trials bounds the error rate.

  Raises:
    ValueError: for values out of [0, 1], shapes that do not fit, L < 1, or G
      that does not divide K.

  Example:
    >>> float(codebook_error_bound(0.5, jnp.array([0.25]), 1))
    0.6666666865348816
  """
  _check_choice(encoder_probability, decoder_probability)
  _check_num_messages(num_messages)
  validation.check_positive_int(num_groups, 'num_groups')
  if np.shape(decoder_probability)[-1] % num_groups:
    raise ValueError(
      f'num_groups must divide the {np.shape(decoder_probability)[-1]} '
      f'decoders, got {num_groups}.'
    )
  q, p = (_as_float(x) for x in (encoder_probability, decoder_probability))
  log_q, log_p = jnp.log(q)[..., None], jnp.log(p)
  count = jnp.asarray(num_messages, p.dtype)
  # A candidate that a decoder cannot hold is missed, whatever its weight.
  ratio = jnp.where(log_p > -jnp.inf, log_q - log_p, jnp.inf)
  log_z = jnp.logaddexp(
    log_q + jnp.log(num_groups - 1 / count), ratio - jnp.log(count)
  )
  return jnp.mean(jax.nn.sigmoid(log_z - jnp.log(log_p.shape[-1])), axis=-1)


def _as_float(values) -> jax.Array:
  """float64 if it is that, else float32."""
  values = jnp.asarray(values)
  return values if values.dtype == jnp.float64 else values.astype(jnp.float32)


def _check_choice(encoder_probability, decoder_probability) -> None:
  shape, wanted = np.shape(decoder_probability), np.shape(encoder_probability)
  if not shape or shape[-1] == 0 or shape[:-1] != wanted:
    raise ValueError(
      'decoder_probability must have the shape of encoder_probability, '
      f'{wanted}, and an axis of K decoders, got {shape}.'
    )
  for name, value in (
    ('encoder_probability', encoder_probability),
    ('decoder_probability', decoder_probability),
  ):
    if validation.is_concrete(value):
      value = np.asarray(value, np.float64)
      bad = value[~((value >= 0) & (value <= 1 + 1e-5))]
      if bad.size:
        raise ValueError(f'{name} must lie in [0, 1], got {bad[0]}.')


def _check_num_messages(num_messages) -> None:
  if validation.is_concrete(num_messages) and not num_messages >= 1:
    raise ValueError(f'num_messages must be at least 1, got {num_messages}.')
