"""Top-k and top-p of a vocabulary without sorting it.

Both are exact: equal logits rank by the lower id. A block that holds one of
the k largest is one of the k blocks of the largest maxima, so top-k sorts
maxima and k blocks. Top-p searches the weight at which the mass is reached by
halving an interval of float bits, which order like the floats. Masses are sums
of integers, so that no order of summation, and no sharding, changes them.

Legend: V vocabulary, A atoms of a law. Functions work on one law and are mapped
with `jax.vmap`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.decoding import placement

_BLOCK = 64  # ids whose maximum stands for them
_REACHED = 1e-6  # mass that may be missing


def top_k(logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
  """`jax.lax.top_k`, sorting V / 64 maxima and 64 k logits.

  Args:
    logits: [V].
    k: at most V.

  Returns:
    The k largest in falling order and their ids, [k] and [k] int32.
  """
  shards = placement.automatic('tp')
  if shards == 1 or logits.size % shards or k > logits.size // shards:
    return _by_blocks(logits, k, _largest)
  # Devices that share the vocabulary, or now do, exchange their k largest.
  parts = placement.shared(logits.reshape(shards, -1))
  values, tokens = jax.vmap(lambda part: _by_blocks(part, k, _by_sorting))(
    parts
  )
  values, tokens = placement.everywhere((values, tokens))
  # Not before the exchange: a compiler that shares out the numbers of the
  # shards shares out all that counts as far, depths of a draft for one.
  tokens += jnp.arange(shards, dtype=jnp.int32)[:, None] * parts.shape[1]
  values, places = _largest(values.ravel(), k)
  return values, tokens.ravel()[places]


def _largest(logits, k):
  values, places = jax.lax.top_k(logits, k)
  return values, places.astype(jnp.int32)


def _by_sorting(logits, k):
  """The same, but compilers do not gather its batches on one device."""
  ids = jnp.arange(logits.size, dtype=jnp.int32)
  falling, places = jax.lax.sort((-logits, ids), num_keys=1)
  return -falling[:k], places[:k]


def _by_blocks(logits, k, largest):
  count = -(-logits.size // _BLOCK)
  if k >= count:
    return largest(logits, k)
  missing = count * _BLOCK - logits.size
  blocks = jnp.pad(logits, (0, missing), constant_values=-jnp.inf)
  blocks = blocks.reshape(count, _BLOCK)
  chosen = jnp.sort(largest(jnp.max(blocks, axis=1), k)[1])
  values, places = largest(blocks[chosen].ravel(), k)
  tokens = chosen[places // _BLOCK] * _BLOCK + places % _BLOCK
  return values, tokens


@jax.jit
def top_p(logits: jax.Array, mass) -> jax.Array:
  """The fewest likeliest atoms of at least this mass.

  Args:
    logits: [A] float32, unnormalised; NaN somewhere gives any result.
    mass: [] in (0, 1], may be traced. A mass short of it by at most 1e-6 of
      the whole counts as reached.

  Returns:
    [A] bool; at least one atom where one is possible.

  Example:
    >>> top_p(jnp.zeros(4), 0.5).tolist()
    [True, True, False, False]
  """
  behind = jnp.max(logits) - logits  # the likeliest first
  weights = jnp.exp(-behind)
  shares = _shares(weights)
  whole = jnp.sum(shares, dtype=jnp.int32).astype(jnp.float32)
  wanted = ((mass - _REACHED) * whole).astype(jnp.int32)

  def mass_of(kept):
    return jnp.sum(jnp.where(kept, shares, 0), dtype=jnp.int32)

  # Bits of the weight down to which all atoms are needed, from 1.0 downwards.
  bits, top = _bits(weights), _bits(jnp.float32(1))
  last = top - _least(lambda n: mass_of(bits >= top - n) >= wanted, 0, top)
  surely, tied = bits > last, bits == last
  ties = _count(tied).astype(jnp.float32)
  short = (wanted - mass_of(surely)).astype(jnp.float32)
  count = jnp.ceil(short / mass_of(tied).astype(jnp.float32) * ties)
  count = jnp.clip(count, 1, ties).astype(jnp.int32)
  return surely | _first(tied, _bits(behind), count)


def _shares(weights: jax.Array) -> jax.Array:
  """Weights [A] in [0, 1], one of them 1, as integers of sum about 1.5 2^30.

  They are rounded up or down by the golden sequence, so that errors cancel:
  over 1.5e5 atoms they come to about 1e-7 of the whole.
  """
  ids = jax.lax.iota(jnp.uint32, weights.size)
  golden = (ids * np.uint32(0x9E3779B9) >> np.uint32(8)).astype(jnp.float32)

  def rounded(scale):
    return (weights * scale + golden * 2.0**-24).astype(jnp.int32)

  fine = 2.0 ** (30 - weights.size.bit_length())
  rough = jnp.sum(rounded(fine), dtype=jnp.int32).astype(jnp.float32) / fine
  return rounded(1.5 * 2.0**30 / rough)


def _bits(x: jax.Array) -> jax.Array:
  """Non-negative float32 as integers of the same order."""
  return jax.lax.bitcast_convert_type(x, jnp.int32)


def _count(chosen: jax.Array) -> jax.Array:
  return jnp.sum(chosen, dtype=jnp.int32)


def _least(holds: Callable[[jax.Array], jax.Array], low, high) -> jax.Array:
  """The least integer in [low, high] at which a rising condition holds.

  It is taken to hold at `high`.
  """

  def halve(interval):
    low, high = interval
    middle = low + (high - low) // 2
    enough = holds(middle)
    return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

  interval = jnp.int32(low), jnp.int32(high)
  return jax.lax.while_loop(lambda ends: ends[0] < ends[1], halve, interval)[1]


def _first(chosen: jax.Array, order: jax.Array, count) -> jax.Array:
  """The first `count` of the chosen atoms by `order`, then by index: [A]."""
  far = _least(
    lambda n: _count(chosen & (order <= n)) >= count,
    jnp.min(jnp.where(chosen, order, np.iinfo(np.int32).max)),
    jnp.max(jnp.where(chosen, order, 0)),
  )
  surely, tied = chosen & (order < far), chosen & (order == far)
  left = count - _count(surely)
  ids, end = jnp.arange(order.size, dtype=jnp.int32), order.size - 1
  # All of them is the usual case, and no search at all.
  first = jnp.where(left < _count(tied), 0, end)
  end = _least(lambda n: _count(tied & (ids <= n)) >= left, first, end)
  return surely | (tied & (ids <= end))
