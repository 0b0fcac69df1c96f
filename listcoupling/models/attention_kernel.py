"""Attention of a few queries to a long cache, in one pass without the host.

Entries are shared out among programs (Dao et al., "Flash-Decoding", 2023); each
carries a softmax over its own, as far as they are in use, and XLA joins the
parts. All queries of a key head go through a program together, so keys and
values are read once. Own code, as no library's kernel for GPUs shares entries
out under a mask and reads each row up to its own length alone.

Legend: B batch, S new tokens, C cache entries, J key/value heads, G query heads
per key head, E head size, R = S * G rows padded to a power of two, P parts.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_WHOLE = 256  # entries of a part are a multiple
_PROGRAMS = 512  # about four for each multiprocessor
_MOST = 2**14  # numbers of R * E that registers hold
_MASKED = -1e30


class Tiling(NamedTuple):
  """How the work is cut."""

  block: int  # entries read at a time
  parts: int  # P
  warps: int
  stages: int  # blocks on their way from memory


def serves(rows: jax.Array, keys: jax.Array) -> bool:
  """Whether the kernel takes these shapes: those of `attend`."""
  size, entries = rows.shape[-1], keys.shape[2]
  return (
    size in (16, 32, 64, 128, 256)
    and _padded(rows.shape[2]) * size <= _MOST
    and entries % _WHOLE == 0
    and rows.dtype == keys.dtype
    # Tiles of float32 can exceed the shared memory of a multiprocessor.
    and rows.dtype in (jnp.bfloat16, jnp.float16)
  )


def tiling(rows: jax.Array, keys: jax.Array) -> Tiling:
  """A good `Tiling` for the arguments of `attend`."""
  batch, heads, entries, size = keys.shape
  wide = _padded(rows.shape[2]) >= 64
  parts = max(1, min(_PROGRAMS // (batch * heads), entries // _WHOLE))
  block = 64 if wide or size * keys.dtype.itemsize > 256 else 128
  return Tiling(block, parts, warps=8 if wide else 4, stages=2)


def _padded(rows: int) -> int:
  return max(16, 1 << (rows - 1).bit_length())


def attend(
  rows: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array,
  used: jax.Array,
  *,
  cut: Tiling | None = None,
  interpret: bool = False,
) -> jax.Array:
  """Softmax attention, sums in float32.

  Bits of a row do not depend on `used`: parts are fixed by shapes, and entries
  that are masked add nothing.

  Args:
    rows: [B, J, S * G, E] queries, those of a token together.
    keys: [B, J, C, E].
    values: [B, J, C, E].
    mask: [B, S, C] bool.
    used: [B] int32, entries from here on are masked and not read.
    cut: `tiling` if not given.
    interpret: runs on any machine.

  Returns:
    [B, J, S * G, E] in the type of the values; something finite in a row that
    sees nothing.
  """
  cut = tiling(rows, keys) if cut is None else cut
  return _attend(rows, keys, values, mask, used, cut=cut, interpret=interpret)


@functools.partial(jax.jit, static_argnames=('cut', 'interpret'))
def _attend(rows, keys, values, mask, used, *, cut, interpret):
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import triton

  b, j, count, e = rows.shape
  s, c = mask.shape[1:]
  r, p = _padded(count), cut.parts
  rows = jnp.pad(rows, ((0, 0), (0, 0), (0, r - count), (0, 0)))
  span = -(-c // (p * _WHOLE)) * _WHOLE
  parts = (r,), (r,), (r, e)

  def by_head(*sizes):
    return pl.BlockSpec((None, None, *sizes), lambda b, j, p: (b, j, 0, 0))

  def by_part(*sizes):
    return pl.BlockSpec(
      (None, None, None, *sizes), lambda b, j, p: (b, j, p, *[0] * len(sizes))
    )

  best, mass, mixed = pl.pallas_call(
    functools.partial(_part, groups=count // s, block=cut.block, span=span),
    grid=(b, j, p),
    in_specs=[
      pl.BlockSpec((1,), lambda b, j, p: (b,)),
      by_head(r, e),
      by_head(c, e),
      by_head(c, e),
      pl.BlockSpec((None, s, c), lambda b, j, p: (b, 0, 0)),
    ],
    out_specs=[by_part(*each) for each in parts],
    out_shape=[
      jax.ShapeDtypeStruct((b, j, p, *each), jnp.float32) for each in parts
    ],
    compiler_params=triton.CompilerParams(
      num_warps=cut.warps, num_stages=cut.stages
    ),
    interpret=interpret,
    name='attend',
  )(used, rows, keys, values, mask.astype(jnp.int8))
  return _joined(best, mass, mixed)[:, :, :count].astype(values.dtype)


def _joined(best, mass, mixed):
  """The whole softmax [B, J, R, E] of its parts, whose axis is 2."""
  share = jnp.exp(best - jnp.max(best, axis=2, keepdims=True))
  mass = jnp.sum(mass * share, axis=2)
  mixed = jnp.sum(mixed * share[..., None], axis=2)
  # Without any entry in use there is no mass.
  return mixed / jnp.where(mass > 0, mass, 1.0)[..., None]


def _part(used, rows, keys, values, mask, *outputs, groups, block, span):
  """The softmax of one part: see `attention._Softmax`."""
  from jax.experimental import pallas as pl

  entries, size = keys.shape
  queries = rows[...]
  count = queries.shape[0]
  first = pl.program_id(2) * span
  end = jnp.minimum(jnp.minimum(first + span, entries), used[0])
  token = jax.lax.iota(jnp.int32, count) // groups
  token = jnp.minimum(token, mask.shape[0] - 1)

  def read(i, before):
    best, mass, mixed = before
    start = pl.multiple_of(first + i * block, block)
    here = pl.ds(start, block)
    seen = mask[token, here] != 0
    scores = size**-0.5 * _product(queries, keys[here, :], 1)
    scores = jnp.where(seen, scores, np.float32(_MASKED))
    higher = jnp.maximum(best, jnp.max(scores, axis=1))
    weights = jnp.exp(scores - higher[:, None])
    kept = jnp.exp(best - higher)
    held = values[here, :]
    return (
      higher,
      mass * kept + jnp.sum(weights, axis=1),
      mixed * kept[:, None] + _product(weights.astype(held.dtype), held, 0),
    )

  blocks = jnp.maximum(end - first + block - 1, 0) // block
  nothing = jnp.zeros((count,), jnp.float32)
  mixed = jnp.zeros((count, size), jnp.float32)
  start = nothing + np.float32(_MASKED), nothing, mixed
  parts = jax.lax.fori_loop(0, blocks, read, start)
  for output, part in zip(outputs, parts, strict=True):
    output[...] = part


def _product(one, other, axis):
  """Rows of `one` with `other` along its axis, summed in float32."""
  return jax.lax.dot_general(
    one,
    other,
    (((1,), (axis,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
