"""The kernel of cached attention, interpreted, against XLA's blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from listcoupling import kernels
from listcoupling.models import attention, attention_kernel
from tests.models import attention_test

ENTRIES = 1024


def operands(tokens, groups, dtype='float32', size=16):
  """Rows, keys, values, mask and used: one short row and one long."""
  rng = np.random.default_rng(0)
  rows = rng.normal(size=(2, 2, tokens * groups, size))
  keys, values = rng.normal(size=(2, 2, 2, ENTRIES, size))
  used = np.array([70, 1000], np.int32)
  mask = np.arange(ENTRIES) < used[:, None, None]
  mask = mask & (rng.random((2, tokens, ENTRIES)) < 0.5)
  mask[:, :, 3] = True
  arrays = (jnp.asarray(x, dtype) for x in (rows, keys, values))
  return *arrays, jnp.asarray(mask), jnp.asarray(used)


interpreted = functools.partial(attention_kernel.attend, interpret=True)
by_blocks = functools.partial(attention._attend_used, block=attention.BLOCK)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('tokens, groups', [(1, 4), (17, 1), (17, 4)])
def test_the_kernel_is_the_softmax(tokens, groups, dtype):
  arrays = operands(tokens, groups, dtype)
  found = interpreted(*arrays)
  assert found.dtype == dtype
  *rest, mask, used = arrays
  limit = {
    'float32': attention_test.apart,
    'bfloat16': attention_test.apart_in_bfloat16,
  }[dtype](*rest, mask)

  def close(other):
    return (np.abs(np.float32(found) - np.float32(other)) < limit).all()

  assert close(by_blocks(*arrays))
  # Negative control: the first token of the short row misses an entry.
  assert not close(by_blocks(*rest, mask.at[0, 0, 3].set(False), used))


def test_bits_are_those_of_the_row_alone():
  """Nothing past `used` is read, and how much that is changes no bit."""
  *arrays, mask, used = operands(1, 4)
  clean = interpreted(*arrays, mask, used)
  rows, keys, values = arrays
  spoilt = [leaf.at[0, :, 128:].set(jnp.nan) for leaf in (keys, values)]
  np.testing.assert_array_equal(
    interpreted(rows, *spoilt, mask, used)[0], clean[0]
  )
  longer = interpreted(*arrays, mask, jnp.full(2, ENTRIES))
  np.testing.assert_array_equal(longer, clean)


@pytest.mark.parametrize('used', [0, 300])
def test_rows_that_see_nothing_are_finite(used):
  *arrays, mask, _ = operands(1, 4)
  dark = interpreted(*arrays, mask & False, jnp.full(2, used))
  assert np.isfinite(dark).all()


def test_shapes_that_are_served():
  shape = jax.ShapeDtypeStruct

  def serves(rows, size, entries=8192, dtype=jnp.bfloat16):
    return attention_kernel.serves(
      shape((1, 8, rows, size), dtype), shape((1, 8, entries, size), dtype)
    )

  assert serves(4, 64) and serves(17 * 4, 128) and serves(256, 64)
  assert not serves(257, 64) and not serves(256, 128)
  assert not serves(4, 80) and not serves(4, 64, entries=8193)
  assert not serves(4, 64, dtype=jnp.float32)
  for batch in (1, 8, 32, 1000):
    arrays = (
      shape((batch, 8, 4, 64), 'float32'),
      shape((batch, 8, 8192, 64), 'float32'),
    )
    assert 1 <= attention_kernel.tiling(*arrays).parts <= 32


@pytest.mark.parametrize('platform, calls', [('cuda', 1), ('cpu', 0)])
def test_only_cuda_gets_the_kernel(monkeypatch, platform, calls):
  monkeypatch.setattr(kernels, 'at_hand', lambda name, **_: name == 'gpu')
  if platform == 'cuda' and jax.__version_info__ >= (0, 11):
    pytest.skip('JAX 0.11 lowers kernels beside a GPU only')
  rows, keys, values, *rest = operands(3, 4)
  rows, keys, values = (
    leaf.astype(jnp.bfloat16) for leaf in (rows, keys, values)
  )
  queries = rows.reshape(2, 2, 3, 4, 16).swapaxes(1, 2)
  exported = export.export(
    jax.jit(attention.attend),
    platforms=[platform],
    disabled_checks=[
      export.DisabledSafetyCheck.custom_call('__gpu$xla.gpu.triton')
    ],
  )(queries, keys, values, *rest)
  assert exported.mlir_module().count('xla.gpu.triton') == calls
