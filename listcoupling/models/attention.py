"""Cached attention of grouped queries (Ainslie et al., arXiv 2305.13245).

No parameters: `transformer` has them.

Keys and values lie as [B, J, C, E]: the products run over whole slabs of one
key head, and J is the axis that devices share. A long cache is read in blocks
of entries, only as many as are in use.

Legend: B batch, S new tokens, C cache entries, J key/value heads, G query heads
per key head, E head size.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling import kernels
from listcoupling.decoding import placement
from listcoupling.models import attention_kernel, attention_splash, sharding

BLOCK = 256  # entries read at a time
DENSE = 2 * BLOCK  # capacity up to which all entries are read at once
STRIDE = 128  # positions read at a time in their order
_MASKED = -1e30  # finite: a row that sees nothing is finite, never NaN


def padded(entries: int) -> int:
  """Capacity of a cache that holds `entries`: whole blocks if it is long."""
  return entries if entries <= DENSE else -(-entries // BLOCK) * BLOCK


def write_entries(
  cache: jax.Array, values: jax.Array, start: jax.Array
) -> jax.Array:
  """cache[b, :, start[b] : start[b] + S] = values[b], row by row.

  Args:
    cache: [B, J, C, E].
    values: [B, J, S, E].
    start: [B] int32, start + S <= C.

  Returns:
    The cache after the write, in place where it is a loop's own.
  """
  chex.assert_rank([cache, values, start], [4, 4, 1])
  return jax.lax.platform_dependent(
    *(cache, values.astype(cache.dtype), start),
    tpu=write_lines,
    default=_write_windows,
  )


def _write_windows(cache, values, start):
  # On CPU no slower than B single updates (1 to 7 us), one third of a masked
  # rewrite at C = 2048.
  return jax.vmap(
    lambda row, new, at: jax.lax.dynamic_update_slice_in_dim(row, new, at, 1)
  )(cache, values, start)


_LINES = jax.lax.ScatterDimensionNumbers(
  update_window_dims=(3,),
  inserted_window_dims=(2,),
  scatter_dims_to_operand_dims=(2,),
  operand_batching_dims=(0, 1),
  scatter_indices_batching_dims=(0, 1),
)


def write_lines(
  cache: jax.Array, values: jax.Array, start: jax.Array
) -> jax.Array:
  """`write_entries` line by line, for TPUs.

  There it is one scatter where windows become a serial loop over the rows. An
  index for every line of every head keeps the compiler from copying the cache,
  rows and heads as batch axes keep shards from exchanging anything.
  """
  places = jnp.arange(values.shape[2], dtype=jnp.int32)[None]
  return jax.lax.scatter(
    cache,
    _every_head(start[:, None] + places, cache),
    values,
    _LINES,
    indices_are_sorted=True,
    unique_indices=True,
    mode='promise_in_bounds',
  )


def _every_head(places, cache):
  """[B, L] -> [B, J, L, 1]."""
  shape = (*cache.shape[:2], places.shape[1], 1)
  return jnp.broadcast_to(places[:, None, :, None], shape)


def move_entries(
  cache: jax.Array, source: jax.Array, start: jax.Array
) -> jax.Array:
  """cache[b, :, start[b] + i] = cache[b, :, source[b, i]], all i at once.

  Args:
    cache: [B, J, C, E].
    source: [B, L] int32, below C.
    start: [B] int32, start + L <= C.

  Returns:
    The cache after the move.
  """
  chex.assert_rank([cache, source, start], [4, 2, 1])
  moved = jnp.take_along_axis(
    cache, _every_head(source, cache), axis=2, mode='clip'
  )
  return write_entries(cache, moved, start)


def attend(
  queries: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array,
  used: jax.Array | None = None,
) -> jax.Array:
  """Grouped-query attention, softmax in float32.

  Args:
    queries: [B, S, J, G, E].
    keys: [B, J, C, E].
    values: [B, J, C, E].
    mask: [B, S, C] bool.
    used: [B] int32, entries of a row from here on are masked; then a long
      cache is read up to here alone. None reads all (and can be
      differentiated).

  Returns:
    [B, S, J * G * E]; something finite in a row that sees nothing.
  """
  chex.assert_rank(queries, 5)
  chex.assert_equal_shape([keys, values])
  b, s, j, g, e = queries.shape
  c = keys.shape[2]
  # All S * G rows of a key head in one product: 2 to 3 times faster on CPU
  # than an einsum over five axes.
  rows = queries.swapaxes(1, 2).reshape(b, j, s * g, e)
  if used is None or c <= DENSE:
    mixed = _attend_all(rows, keys, values, mask)
  else:
    wide = _wide_block(b * s * j * g, c)
    mixed = jax.lax.platform_dependent(
      *(rows, keys, values, mask, used),
      cpu=functools.partial(_attend_used, block=BLOCK),
      default=functools.partial(_attend_used, block=wide),
      **_kernels(rows, keys, s),
    )
  return mixed.reshape(b, j, s, g, e).swapaxes(1, 2).reshape(b, s, j * g * e)


def _kernels(rows, keys, tokens):
  """Those that take these shapes, by the platform they are for."""
  found, shards = {}, placement.automatic('tp')
  if keys.shape[1] % shards:
    return found
  at_hand = functools.partial(kernels.at_hand, shared_out=('fsdp', 'tp'))
  if kernels.ATTENTION and at_hand('gpu'):
    if attention_kernel.serves(rows, keys):
      found['cuda'] = sharding.per_key_head(attention_kernel.attend)
  if kernels.SPLASH and at_hand('tpu'):
    if attention_splash.serves(rows, keys, tokens, shards):
      found['tpu'] = sharding.per_key_head(attention_splash.attend)
  return found


def _scores(rows, keys, mask):
  """Masked scores [B, J, S * G, C] float32 of rows [B, J, S * G, E]."""
  b, j, r, e = rows.shape
  scores = e**-0.5 * jnp.einsum(
    'bjre,bjce->bjrc', rows, keys, preferred_element_type=jnp.float32
  )
  s, c = mask.shape[1:]
  scores = scores.reshape(b, j, s, r // s, c)
  scores = jnp.where(mask[:, None, :, None], scores, _MASKED)
  return scores.reshape(b, j, r, c)


def _attend_all(rows, keys, values, mask):
  weights = jax.nn.softmax(_scores(rows, keys, mask), axis=-1)
  return jnp.einsum('bjrc,bjce->bjre', weights.astype(values.dtype), values)


class _Softmax(NamedTuple):
  """A softmax under way: Milakov and Gimelshein, arXiv 1805.02867."""

  best: jax.Array  # [B, J, S * G, 1] largest score so far
  mass: jax.Array  # [B, J, S * G, 1] of exp(score - best)
  mixed: jax.Array  # [B, J, S * G, E] values under these weights


def _wide_block(rows: int, entries: int) -> int:
  """Entries of an accelerator's block, which waits for the host at each turn.

  A quarter of the cache, unless that makes more than 2^27 scores.
  """
  most = max(2**27 // (rows * BLOCK), 1)
  return BLOCK * min(-(-entries // (4 * BLOCK)), most)


def _attend_used(rows, keys, values, mask, used, *, block):
  """Blocks of entries up to the largest `used`, the softmax carried along."""
  size = keys.shape[2]

  def read(i, before):
    first = jnp.minimum(i * block, size - block)  # the last one may overlap
    keys_, values_ = (
      jax.lax.dynamic_slice_in_dim(leaf, first, block, axis=2)
      for leaf in (keys, values)
    )
    mask_ = jax.lax.dynamic_slice_in_dim(mask, first, block, axis=2)
    own = first + jnp.arange(block) >= i * block
    mask_ = mask_ & own[None, None]
    scores = _scores(rows, keys_, mask_)
    return _carried(before, scores, values_, 'bjrc,bjce->bjre')

  # The first block is always read: every row has a mass to divide by.
  blocks = jnp.clip(-(-jnp.max(used) // block), 1, -(-size // block))
  end = jax.lax.fori_loop(0, blocks, read, _nothing_read(rows))
  return (end.mixed / end.mass).astype(values.dtype)


def _nothing_read(rows) -> _Softmax:
  nothing = jnp.zeros(rows.shape[:-1] + (1,), jnp.float32)
  return _Softmax(nothing + _MASKED, nothing, jnp.zeros_like(rows, jnp.float32))


def _carried(before: _Softmax, scores, values, product: str) -> _Softmax:
  """The softmax after more entries; all of them masked, it stays as it is."""
  best = jnp.maximum(before.best, jnp.max(scores, -1, keepdims=True))
  # Until a row sees an entry its weights are wrong; `kept` is then 0.
  weights = jnp.exp(scores - best)
  kept = jnp.exp(before.best - best)
  mixed = jnp.einsum(
    product,
    weights.astype(values.dtype),
    values,
    preferred_element_type=jnp.float32,
  )
  return _Softmax(
    best,
    before.mass * kept + jnp.sum(weights, -1, keepdims=True),
    before.mixed * kept + mixed,
  )


def order_entries(mask: jax.Array, positions: jax.Array) -> jax.Array:
  """The entry that each token sees at each position.

  Args:
    mask: [B, S, C] bool; what a token sees has different positions.
    positions: [B, C] int32, of the entries, below C where they are seen.

  Returns:
    [B, S, C] int32, entries by position; -1 where the token sees none.

  Example:
    >>> mask = jnp.array([[[True, False, True]]])
    >>> order_entries(mask, jnp.array([[0, 1, 1]])).tolist()
    [[[0, 2, -1]]]
  """
  chex.assert_rank([mask, positions], [3, 2])
  entries = jnp.arange(mask.shape[2], dtype=jnp.int32)

  def place(mask, positions):
    places = jnp.where(mask, positions, entries.size)
    return jnp.full_like(entries, -1).at[places].set(entries, mode='drop')

  return jax.vmap(jax.vmap(place, (0, None)))(mask, positions)


def attend_in_order(
  queries: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  order: jax.Array,
  used: jax.Array,
) -> jax.Array:
  """`attend` bit for bit the same wherever in the cache the entries lie.

  Where a key lies decides how a sum over the cache is grouped, and so its last
  bits. Here each token gathers its own keys and values in the order of their
  positions, in blocks that begin at multiples of `STRIDE`: S times the memory
  traffic, and products of G rows in place of S * G.

  Args:
    queries: [B, S, J, G, E].
    keys: [B, J, C, E].
    values: [B, J, C, E].
    order: [B, S, C] int32, see `order_entries`.
    used: [B] int32, a row sees nothing at positions from here on.

  Returns:
    [B, S, J * G * E]; something finite in a row that sees nothing.
  """
  chex.assert_rank([queries, order], [5, 3])
  chex.assert_equal_shape([keys, values])
  b, s, j, g, e = queries.shape
  blocks = -(-order.shape[2] // STRIDE)
  rest = blocks * STRIDE - order.shape[2]
  order = jnp.pad(order, ((0, 0), (0, 0), (0, rest)), constant_values=-1)
  rows = queries.swapaxes(1, 2)
  pick = jax.vmap(functools.partial(jnp.take, axis=1, mode='clip'))

  def read(i, before):
    own = jax.lax.dynamic_slice_in_dim(order, i * STRIDE, STRIDE, axis=2)
    scores = e**-0.5 * jnp.einsum(
      'bjsge,bjsce->bjsgc',
      rows,
      pick(keys, own),  # [B, J, S, STRIDE, E]
      preferred_element_type=jnp.float32,
    )
    scores = jnp.where(own[:, None, :, None] >= 0, scores, _MASKED)
    return _carried(before, scores, pick(values, own), 'bjsgc,bjsce->bjsge')

  blocks = jnp.clip(-(-jnp.max(used) // STRIDE), 1, blocks)
  end = jax.lax.fori_loop(0, blocks, read, _nothing_read(rows))
  mixed = (end.mixed / end.mass).astype(values.dtype)
  return mixed.swapaxes(1, 2).reshape(b, s, j * g * e)
