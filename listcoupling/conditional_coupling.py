"""Both sides of conditional GLS: a race that every decoder reruns.

Rowan, Phan, Khisti, arXiv 2506.05632, section 4. The encoder takes the first
arrival over K races under its own law, decoder k that of race k under its own.
No checks here: the doors are `compression.encode` and `compression.decode`.

Legend: N candidates, K decoders.
"""

import jax
import jax.numpy as jnp

from listcoupling import gumbel


def conditional_encode(
  key: jax.Array,
  log_weights: jax.Array,
  *,
  num_decoders: int,
  shared_race: bool = False,
) -> jax.Array:
  """Encoder side of conditional GLS: argmin_i min_k S_i^(k) / q_i.

  Args:
    key: typed key, the one the decoders use.
    log_weights: [N] log q up to a constant, -inf = impossible.
    num_decoders: K.
    shared_race: one race for all decoders (the baseline of the paper).

  Returns:
    [] int32 index of the selected candidate; -1 if none is possible.
  """
  atoms = log_weights.shape[-1]
  num_races = 1 if shared_race else num_decoders
  noise = gumbel.exponential_streams(key, atoms, num_races)  # [K, N]
  return gumbel.race(gumbel.earliest(noise), log_weights)


def conditional_decode(
  key: jax.Array,
  log_weights: jax.Array,
  *,
  decoder,
  num_decoders: int,
  shared_race: bool = False,
) -> jax.Array:
  """Decoder side of conditional GLS: argmin_i S_i^(k) / p_i.

  Args:
    key: typed key, the encoder's.
    log_weights: [N] log p of this decoder, -inf where the message rules the
      candidate out.
    decoder: [] integer k, from 0.
    num_decoders: K, for symmetry with the encoder.
    shared_race: as for the encoder.

  Returns:
    [] int32 index; -1 if no candidate is possible.
  """
  del num_decoders
  stream = jnp.where(shared_race, 0, decoder)
  noise = gumbel.exponential(key, log_weights.shape[-1], stream)
  return gumbel.race(noise, log_weights)
