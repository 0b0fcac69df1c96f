"""Attention by blocks against attention at once, the cache, frequencies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from listcoupling.models import attention
from tests import floats, statistics

ENTRIES = 4 * attention.BLOCK


@functools.lru_cache
def operands(dtype='float32'):
  """Queries [2, 3, 2, 2, 8], keys and values of `ENTRIES` entries."""
  rng = np.random.default_rng(0)
  queries = rng.normal(size=(2, 3, 2, 2, 8))
  keys, values = rng.normal(size=(2, 2, 2, ENTRIES, 8))
  return tuple(jnp.asarray(x, dtype) for x in (queries, keys, values))


def seen(*ends):
  """Mask [2, 3, C]: row b sees every other entry below ends[b]."""
  entries = np.arange(ENTRIES)
  mask = [(entries < end) & (entries % 2 == 0) for end in ends]
  return jnp.asarray(np.repeat(np.stack(mask)[:, None], 3, axis=1))


by_blocks = jax.jit(attention.attend)


def in_rows(dtype='float32'):
  """`operands`, and queries as `attend` lays them: [B, J, S * G, E]."""
  queries, keys, values = operands(dtype)
  return queries.swapaxes(1, 2).reshape(2, 2, 6, 8), keys, values


def written_out(rows, keys, values, mask):
  """The softmax by its formula: what it loses is no bug of ours."""
  scores = jnp.einsum('bjre,bjce->bjrc', rows, keys) * rows.shape[-1] ** -0.5
  seen = jnp.repeat(mask, rows.shape[2] // mask.shape[1], axis=1)[:, None]
  scores = jnp.where(seen, scores, -1e30)
  weights = jnp.exp(scores - scores.max(-1, keepdims=True))
  weights = weights / weights.sum(-1, keepdims=True)
  return jnp.einsum('bjrc,bjce->bjre', weights, values)


def apart(rows, keys, values, mask):
  """Most that roundings alone set two softmaxes apart.

  Each row by itself: what none of its tokens sees adds zeros.
  """
  limits = []
  for row, seen in enumerate(np.asarray(mask.any(1))):
    count = 1 << int(seen.sum()).bit_length()  # so that few shapes compile
    some = np.argsort(~seen, kind='stable')[:count]
    arrays = (leaf[row][None, :, some] for leaf in (keys, values))
    arrays = rows[row][None], *arrays, mask[row][None, :, some]
    limits.append(floats.apart(written_out, *arrays))
  return max(limits)


def apart_in_bfloat16(rows, keys, values, mask):
  """The same where weights and result are rounded: a limit of each number.

  Roundings of weights, of half a unit at most, are random and add up.
  """
  rows, keys, values = (x.astype(jnp.float32) for x in (rows, keys, values))
  places = jnp.eye(mask.shape[-1])  # mixed by the weights: these themselves
  places = jnp.broadcast_to(places, (*keys.shape[:3], mask.shape[-1]))
  weights = written_out(rows, keys, places, mask)
  unit = float(jnp.finfo(jnp.bfloat16).eps) / 2
  deviation = unit / 3**0.5 * jnp.sqrt(weights**2 @ values**2)
  both = statistics.SIGMAS * 2**0.5 * deviation
  return both + 2 * unit * jnp.abs(weights @ values)


@pytest.mark.parametrize('used', [1, 300, 512, 513, ENTRIES])
def test_blocks_are_the_softmax(used):
  mask = seen(used, max(1, used - 270))
  blocks = by_blocks(*operands(), mask, jnp.full(2, used))
  whole = attention.attend(*operands(), mask)
  limit = apart(*in_rows(), mask)
  np.testing.assert_allclose(blocks, whole, rtol=0, atol=limit)
  # Negative control: one entry less is seen.
  fewer = attention.attend(
    *operands(), mask.at[0, :, used // 2 * 2 - 2].set(False)
  )
  assert used == 1 or jnp.abs(blocks[0] - fewer[0]).max() > limit


def test_in_order_places_do_not_count():
  """Entries in any order: the same bits, and the softmax."""
  queries, keys, values = operands()
  rng = np.random.default_rng(3)
  mask = jnp.asarray(rng.random((2, 3, ENTRIES)) < 0.4)
  mask = mask.at[:, :, 700:].set(False).at[0, 1].set(False)
  positions = jnp.broadcast_to(jnp.arange(ENTRIES), (2, ENTRIES))
  places = jnp.asarray(rng.permutation(ENTRIES))

  @jax.jit
  def in_order(keys, values, mask, positions, used):
    order = attention.order_entries(mask, positions)
    return attention.attend_in_order(queries, keys, values, order, used)

  ours = in_order(keys, values, mask, positions, jnp.full(2, 700))
  moved = in_order(
    *(keys[:, :, places], values[:, :, places]),
    *(mask[:, :, places], positions[:, places], jnp.full(2, ENTRIES)),
  )
  some = np.arange(6).reshape(2, 3) != 1  # row 1 of 0 sees nothing
  np.testing.assert_array_equal(ours[some], moved[some])
  whole = attention.attend(queries, keys, values, mask)
  limit = apart(*in_rows(), mask)
  np.testing.assert_allclose(ours[some], whole[some], rtol=0, atol=limit)
  assert np.isfinite(ours).all()
  # Negative control: the plain form adds up by place.
  other = attention.attend(
    queries, keys[:, :, places], values[:, :, places], mask[:, :, places]
  )
  assert (other != whole)[some].any()


def test_wide_blocks_of_accelerators():
  """The last of them overlaps the one before, and counts nothing twice."""
  queries, keys, values = operands()
  mask = seen(ENTRIES, 700)
  wide = functools.partial(attention._attend_used, block=5 * 128)
  found = jax.jit(wide)(*in_rows(), mask, jnp.full(2, ENTRIES))
  found = found.reshape(2, 2, 3, 2, 8).swapaxes(1, 2).reshape(2, 3, -1)
  whole = attention.attend(queries, keys, values, mask)
  limit = apart(*in_rows(), mask)
  np.testing.assert_allclose(found, whole, rtol=0, atol=limit)
  # A step over 8192 entries turns four times; scores of a prompt stay few.
  assert attention._wide_block(33 * 28, 8192) == 2048
  rows = 32 * 28 * 256
  assert attention.BLOCK <= attention._wide_block(rows, 8192) <= 2**27 // rows


def test_what_lies_past_the_used_length_is_never_read():
  queries, keys, values = operands()
  mask = seen(300, 200)
  clean = by_blocks(queries, keys, values, mask, jnp.full(2, 300))
  spoilt = [leaf.at[:, :, 512:].set(jnp.nan) for leaf in (keys, values)]
  np.testing.assert_array_equal(
    by_blocks(queries, *spoilt, mask, jnp.full(2, 300)), clean
  )
  # A longer neighbour reads on, and does not change the shorter row's bits.
  mask = seen(300, 1000)
  longer = by_blocks(queries, keys, values, mask, jnp.full(2, 1000))
  np.testing.assert_array_equal(longer[0], clean[0])


def test_a_late_start_and_no_start_at_all():
  """The first block of row 0 is masked whole; row 1 sees nothing."""
  mask = seen(ENTRIES, 0).at[:, :, : attention.BLOCK + 7].set(False)
  blocks = by_blocks(*operands(), mask, jnp.full(2, ENTRIES))
  whole = attention.attend(*operands(), mask)
  limit = apart(*in_rows(), mask)
  np.testing.assert_allclose(blocks[0], whole[0], rtol=0, atol=limit)
  assert np.isfinite(blocks).all()


def test_bfloat16_sums_in_float32():
  arrays = *in_rows('bfloat16'), seen(900, 900)
  in_blocks = functools.partial(attention._attend_used, block=attention.BLOCK)
  blocks = jax.jit(in_blocks)(*arrays, jnp.full(2, 900))
  whole = attention._attend_all(*arrays)
  assert blocks.dtype == jnp.bfloat16
  # Not the hundreds of roundings of a sum's terms.
  off = np.abs(np.float32(blocks) - np.float32(whole))
  assert (off < apart_in_bfloat16(*arrays)).all()


def test_a_long_capacity_is_whole_blocks():
  assert attention.padded(17) == 17
  assert attention.padded(attention.DENSE) == attention.DENSE
  assert attention.padded(attention.DENSE + 1) == 3 * attention.BLOCK


@pytest.mark.parametrize(
  'write', [attention.write_entries, attention.write_lines]
)
def test_write_entries_per_row(write):
  rng = np.random.default_rng(1)
  cache, values = rng.normal(size=(3, 2, 7, 2)), rng.normal(size=(3, 2, 2, 2))
  expected = np.float32(cache)
  for row, start in enumerate([0, 3, 5]):
    expected[row, :, start : start + 2] = values[row]
  arrays = jnp.float32(cache), jnp.float32(values), jnp.array([0, 3, 5])
  np.testing.assert_array_equal(write(*arrays), expected)


def test_a_tpu_writes_without_a_loop():
  shapes = jax.ShapeDtypeStruct((3, 2, 7, 2), jnp.float32)
  values = jax.ShapeDtypeStruct((3, 2, 2, 2), jnp.float32)
  starts = jax.ShapeDtypeStruct((3,), jnp.int32)
  moved = jax.ShapeDtypeStruct((3, 4), jnp.int32)

  def text(function, *arguments):
    lowered = export.export(jax.jit(function), platforms=['tpu'])(*arguments)
    return lowered.mlir_module()

  written = text(attention.write_entries, shapes, values, starts)
  moved = text(attention.move_entries, shapes, moved, starts)
  for module in (written, moved):
    assert module.count('"stablehlo.scatter"(') == 1
    # Lines, not windows of S entries, which the compiler would loop over;
    # an index for each, and rows and heads as batch axes.
    assert 'update_window_dims = [3]' in module
    assert 'input_batching_dims = [0, 1]' in module
  assert 'tensor<3x2x2x1xi32>' in written and 'tensor<3x2x4x1xi32>' in moved
