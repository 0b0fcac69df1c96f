"""Splash attention, interpreted, against XLA's blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from listcoupling import kernels
from listcoupling.models import attention, attention_splash
from tests.models import attention_test

ENTRIES = 1024


@pytest.fixture(autouse=True)
def small_programs(monkeypatch):
  """Four blocks of entries, and heads that do not all fit one program."""
  monkeypatch.setattr(attention_splash, '_MOST_ENTRIES', 256)
  monkeypatch.setattr(attention_splash, '_MOST_QUERIES', 40)


def operands(tokens, groups, size=128):
  """Rows, keys, values, mask and used: one short row and one long."""
  rng = np.random.default_rng(0)
  rows = rng.normal(size=(2, 2, tokens * groups, size))
  keys, values = rng.normal(size=(2, 2, 2, ENTRIES, size))
  used = np.array([70, 1000], np.int32)
  mask = np.arange(ENTRIES) < used[:, None, None]
  mask = np.repeat(mask, tokens, axis=1)
  mask[1, :, 256:] &= rng.random((tokens, ENTRIES - 256)) < 0.5
  mask[1, :, 512:768] = False  # a block of each kind
  arrays = (jnp.asarray(x, jnp.bfloat16) for x in (rows, keys, values))
  return *arrays, jnp.asarray(mask), jnp.asarray(used)


interpreted = functools.partial(attention_splash.attend, interpret=True)


def by_blocks(rows, keys, values, mask, used):
  """In float32, of queries that are scaled and rounded as the kernel's."""
  scale = rows.shape[-1] ** -0.5
  rows = (scale * rows.astype(jnp.float32)).astype(rows.dtype)
  arrays = (leaf.astype(jnp.float32) for leaf in (rows, keys, values))
  rows, keys, values = arrays
  blocks = jax.jit(attention._attend_used, static_argnames='block')
  return blocks(rows / scale, keys, values, mask, used, block=attention.BLOCK)


def close(found, wanted, rows, keys, values, mask, used):
  """Whether two results differ by roundings alone, each number.

  Of the one to bfloat16, half a unit, and of sums in float32.
  """
  del used
  arrays = (leaf.astype(jnp.float32) for leaf in (rows, keys, values))
  half = float(jnp.finfo(jnp.bfloat16).eps) / 2
  limit = attention_test.apart(*arrays, mask) + half * np.abs(wanted)
  return np.abs(np.float32(found) - wanted) < limit


@pytest.mark.parametrize('tokens, groups', [(1, 4), (9, 8), (17, 3)])
def test_the_kernel_is_the_softmax(tokens, groups):
  arrays = operands(tokens, groups)
  found = interpreted(*arrays)
  assert found.dtype == jnp.bfloat16
  assert close(found, by_blocks(*arrays), *arrays).all()
  # Negative control: the last token of the long row misses an entry.
  *rest, mask, used = arrays
  other = by_blocks(*rest, mask.at[1, -1, 3].set(False), used)
  assert not close(found, other, *arrays).all()


def test_bits_are_those_of_the_row_alone():
  """Blocks that a row does not see are not read; no neighbour matters."""
  rows, keys, values, mask, used = operands(1, 4)
  clean = interpreted(rows, keys, values, mask, used)
  spoilt = [
    leaf.at[0, :, 256:].set(jnp.nan).at[1, :, 512:768].set(jnp.nan)
    for leaf in (keys, values)
  ]
  np.testing.assert_array_equal(interpreted(rows, *spoilt, mask, used), clean)
  shorter = mask.at[1, :, 256:].set(False)
  np.testing.assert_array_equal(
    interpreted(rows, keys, values, shorter, used)[0], clean[0]
  )


def test_a_late_start_and_no_start_at_all():
  *arrays, mask, used = operands(1, 4)
  mask = mask.at[0].set(False).at[1, :, :300].set(False)
  found = interpreted(*arrays, mask, used)
  assert np.isfinite(np.float32(found)).all()
  wanted = by_blocks(*arrays, mask, used)
  assert close(found, wanted, *arrays, mask, used)[1].all()


def test_shapes_that_are_served(monkeypatch):
  monkeypatch.undo()
  shape = jax.ShapeDtypeStruct

  def serves(batch, tokens, size=128, entries=4352, dtype=jnp.bfloat16):
    return attention_splash.serves(
      shape((batch, 4, tokens * 7, size), dtype),
      shape((batch, 4, entries, size), dtype),
      tokens,
    )

  assert serves(32, 1) and serves(32, 73) and serves(1, 512, entries=32768)
  assert serves(22, 256) and not serves(23, 256)  # programs
  assert not serves(1, 513) and not serves(1, 1, 64)
  assert not serves(1, 1, entries=4353)
  assert not serves(1, 1, dtype=jnp.float32)
  assert attention_splash.shared(17, 7) == 7
  assert attention_splash.shared(128, 8) == 4
  assert attention_splash.block_size(17 * 256, 119) == 17 * 128
  assert attention_splash.block_size(8192, 512) == 2048


@pytest.mark.parametrize(
  'platform, switch, calls',
  [('tpu', True, 1), ('tpu', False, 0), ('cpu', True, 0)],
)
def test_only_a_tpu_that_asks_gets_the_kernel(
  monkeypatch, platform, switch, calls
):
  monkeypatch.setattr(kernels, 'SPLASH', switch)
  monkeypatch.setattr(kernels, 'at_hand', lambda name, **_: name == 'tpu')
  rows, keys, values, *rest = operands(3, 4)
  queries = rows.reshape(2, 2, 3, 4, 128).swapaxes(1, 2)
  traced_anew = jax.jit(lambda *arrays: attention.attend(*arrays))
  exported = export.export(traced_anew, platforms=[platform])(
    queries, keys, values, *rest
  )
  assert exported.mlir_module().count('@tpu_custom_call') == calls


def test_a_process_without_a_tpu_has_no_kernel():
  if jax.default_backend() == 'tpu':
    pytest.skip('there is a TPU')
  assert not kernels.at_hand('tpu')
