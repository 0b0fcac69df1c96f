"""Attention of a TPU to a long cache, by splash attention of JAX.

That kernel passes over blocks of entries that no query sees, and keeps scores
out of memory. What it asks is told here: rows of a batch differ in length and
tree, all heads of a row share a mask. `kernels.SPLASH` turns it on.

The kernel wants a line of the mask for each query of a program, which has those
of H heads: masks are written out H times, B * C * S * H places of 4 bytes once
in a forward, while each layer saves as many scores for every key head. For 32
rows of 33 tokens that is more temporary memory than XLA's blocks take, 259 MB
and 222.

Legend: B batch, S new tokens, C cache entries, J key/value heads, G query heads
per key head, of which H share a program, E head size, N blocks of entries.
"""

import functools

import jax
import jax.numpy as jnp

_LANES = 128
_SUBLANES = 16  # queries of a program are a multiple
_MOST_QUERIES = 512  # of a program
_MOST_ENTRIES = 18 * _LANES  # of a block; few blocks, as each has to start
_MOST_SCORES = 2**20  # queries of a program times entries of a block
_MOST_PROGRAMS = 640  # each has lines in the scalar memory


def serves(
  rows: jax.Array, keys: jax.Array, tokens: int, shards: int = 1
) -> bool:
  """Whether the kernel takes these shapes.

  Args:
    rows: of `attend`.
    keys: of `attend`.
    tokens: S.
    shards: devices that share the key heads.
  """
  batch, heads, entries, size = keys.shape
  groups = rows.shape[2] // tokens
  programs = batch * heads // shards * (groups // shared(tokens, groups))
  return (
    size % _LANES == 0  # or the cache would be copied
    and entries % _LANES == 0
    and rows.dtype == keys.dtype == jnp.bfloat16
    and tokens <= _MOST_QUERIES
    and programs <= _MOST_PROGRAMS
  )


def shared(tokens: int, groups: int) -> int:
  """H, the query heads that read their keys and values together."""
  sizes = (n for n in range(1, groups + 1) if groups % n == 0)
  return max(n for n in sizes if n == 1 or n * tokens <= _MOST_QUERIES)


def block_size(entries: int, queries: int) -> int:
  """Entries of a block, which divide C."""
  most = min(_MOST_ENTRIES, _MOST_SCORES // queries)
  return max(n for n in range(_LANES, most + 1, _LANES) if entries % n == 0)


def attend(
  rows: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array,
  used: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Softmax attention, sums in float32; queries are scaled in their own type.

  Args:
    rows: [B, J, S * G, E] queries, those of a token together.
    keys: [B, J, C, E].
    values: [B, J, C, E].
    mask: [B, S, C] bool, which alone decides what is read.
    used: [B] int32, entries from here on are masked.
    interpret: runs on any machine.

  Returns:
    [B, J, S * G, E] in the type of the values; something finite in a row that
    sees nothing.
  """
  del used
  return _attend(rows, keys, values, mask, interpret=interpret)


@functools.partial(jax.jit, static_argnames='interpret')
def _attend(rows, keys, values, mask, *, interpret):
  b, j, count, e = rows.shape
  s, c = mask.shape[1:]
  g = count // s
  h = shared(s, g)
  rest = -(s * h) % _SUBLANES
  queries = (e**-0.5 * rows.astype(jnp.float32)).astype(rows.dtype)
  queries = queries.reshape(b, j, s, g // h, h, e).swapaxes(2, 3)
  queries = queries.reshape(-1, s * h, e)
  mixed = _kernel(mask, h, rest, j * (g // h), interpret)(
    jnp.pad(queries, ((0, 0), (0, rest), (0, 0))),
    *(leaf.reshape(b * j, c, e) for leaf in (keys, values)),
  )
  mixed = mixed[:, : s * h].reshape(b, j, g // h, s, h, e).swapaxes(2, 3)
  return mixed.reshape(b, j, count, e)


def _kernel(mask, h, rest, programs, interpret):
  """The kernel under a mask [B, S, C] with S * H + rest queries a program."""
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as splash,
  )

  queries = mask.shape[1] * h + rest
  block = block_size(mask.shape[2], queries)
  return splash.SplashAttentionKernel(
    _told(mask, h, rest, block, programs),
    *(None, None),  # of derivatives
    block_sizes=splash.BlockSizes(queries, block, block_size(block, 2048)),
    is_mqa=False,
    save_residuals=False,
    mask_value=splash.DEFAULT_MASK_VALUE,
    attn_logits_soft_cap=None,
    residual_checkpoint_name=None,
    mask_function=None,
    interpret=interpret,
  )


def _told(mask, h, rest, block, programs):
  """Mask [B, S, C] in the kernel's terms, for all programs of a row."""
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask_info,
  )

  b, s, c = mask.shape
  blocks = mask.reshape(b, s, c // block, block).swapaxes(1, 2)
  some, every = jnp.any(blocks, (2, 3)), jnp.all(blocks, (2, 3))
  kind = some.astype(jnp.int32) + every.astype(jnp.int32)
  # The first block is always read: every row has a mass to divide by.
  kind = kind.at[:, 0].max(1)
  places = jnp.arange(kind.size, dtype=jnp.int32).reshape(kind.shape)

  def kept(where):  # what stays is not fetched again
    return jax.lax.cummax(jnp.where(where, places, places[:, :1]), axis=1)

  def of_programs(each):
    return jnp.repeat(each, programs, axis=0)[:, None]

  blocks = jnp.repeat(blocks.reshape(-1, s, block), h, axis=1)
  return splash_attention_mask_info.MaskInfo(
    data_next=of_programs(kept(kind > 0) - places[:, :1]),
    mask_next=of_programs(kept(kind == 1)),
    block_mask=of_programs(kind),
    partial_mask_blocks=jnp.pad(blocks, ((0, 0), (0, rest), (0, 0))),
    q_sequence=None,
    is_dynamic_mask=False,  # its blocks lie as those of a static mask
  )
