"""The kernel of the race, interpreted, against XLA's race."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from listcoupling import gumbel, kernels, race_kernel

SIZE = 2 * race_kernel.BLOCK + 300  # no whole number of blocks
STREAMS = 3
interpreted = functools.partial(race_kernel.in_registers, interpret=True)


def in_memory(key, law, streams, live):
  return race_kernel.in_memory(key, law, None, streams, live)


def batched(function):
  return jax.jit(jax.vmap(function, (0, 0, None, 0)))


@functools.lru_cache
def operands():
  """Keys [8], laws [8, N] with what is odd, streams [K], live [8, K]."""
  keys = jax.random.split(gumbel.seed_key(0), 8)
  laws = 3 * np.random.default_rng(0).normal(size=(8, SIZE)).astype('f')
  laws[1] = 0.0
  laws[2, 7] = np.nan
  laws[3] = -np.inf
  laws[4, : 2 * race_kernel.BLOCK] = -np.inf
  laws[5] = -200.0
  laws[5, -1] = 0.0
  live = np.random.default_rng(1).random((8, STREAMS)) < 0.6
  live[:7, 0], live[7] = True, False
  return keys, jnp.asarray(laws), jnp.arange(STREAMS), jnp.asarray(live)


def test_the_kernel_is_the_race():
  found = batched(interpreted)(*operands())
  np.testing.assert_array_equal(found, batched(in_memory)(*operands()))
  assert [int(found[i]) for i in (2, 3, 5, 7)] == [-1, -1, SIZE - 1, -1]
  assert found[4] >= 2 * race_kernel.BLOCK and len(set(found.tolist())) > 4
  # Negative control: which streams are live decides.
  keys, laws, streams, live = operands()
  other = batched(interpreted)(keys, laws, streams, jnp.ones_like(live))
  assert (other != found).any()


def test_ties_go_to_the_lowest_atom_of_the_lowest_block(monkeypatch):
  monkeypatch.setattr(
    gumbel, 'from_bits', lambda bits: jnp.full_like(bits, 0.5, jnp.float32)
  )
  law = jnp.zeros(SIZE).at[jnp.array([9, 40, 1100, 2100])].set(1.0)
  key = gumbel.seed_key(1)
  # A stream count that no other test has: nothing traced before is taken.
  assert interpreted(key, law, jnp.arange(2)) == 9
  assert interpreted(key, law.at[:1024].set(0.0), jnp.arange(2)) == 1100


def test_the_weights_are_read_once():
  keys, laws, streams, live = operands()
  traced = jax.make_jaxpr(interpreted)(keys[0], laws[0], streams, live[0])
  (call,) = traced.eqns
  readers = [
    equation.primitive.name
    for equation in call.params['jaxpr'].eqns
    if any(x.aval.shape == laws[0].shape for x in equation.invars)
  ]
  assert readers == ['pallas_call']


def test_nan_is_seen_where_extremes_lose_it(monkeypatch):
  """Those of a GPU do, those of the interpreter do not."""
  monkeypatch.setattr(jnp, 'max', jnp.nanmax)
  monkeypatch.setattr(jnp, 'min', jnp.nanmin)
  law = jnp.zeros(SIZE)
  key = gumbel.seed_key(2)
  # A stream count that no other test has: nothing traced before is taken.
  assert interpreted(key, law.at[7].set(jnp.nan), jnp.arange(1)) == -1
  assert interpreted(key, law, jnp.arange(1)) >= 0


def test_short_types_keep_their_law():
  keys, laws, streams, live = operands()
  short = laws.astype(jnp.bfloat16)
  found = batched(interpreted)(keys, short, streams, live)
  expected = batched(in_memory)(keys, short.astype('f'), streams, live)
  np.testing.assert_array_equal(found, expected)


def test_it_serves_inside_a_loop():
  keys, laws, streams, live = operands()

  @jax.jit
  def last(law):
    def step(state):
      i, atom = state
      return i + 1, interpreted(keys[i], law.at[atom].set(0.0), streams)

    return jax.lax.while_loop(lambda state: state[0] < 4, step, (0, 0))[1]

  atom = 0
  for i in range(4):
    law = laws[0].at[atom].set(0.0)
    atom = race_kernel.in_memory(keys[i], law, None, streams)
  assert last(laws[0]) == atom


@pytest.mark.parametrize('platform, calls', [('cuda', 1), ('cpu', 0)])
def test_only_cuda_gets_the_kernel(monkeypatch, platform, calls):
  monkeypatch.setattr(kernels, 'at_hand', lambda name, **_: name == 'gpu')
  if platform == 'cuda' and jax.__version_info__ >= (0, 11):
    pytest.skip('JAX 0.11 lowers kernels beside a GPU only')

  def race(key, law, streams, live):
    return race_kernel.race(key, law, None, streams, live)

  exported = export.export(
    jax.jit(jax.vmap(race, (0, 0, None, 0))),
    platforms=[platform],
    disabled_checks=[
      export.DisabledSafetyCheck.custom_call('__gpu$xla.gpu.triton')
    ],
  )(*operands())
  assert exported.mlir_module().count('xla.gpu.triton') == calls


def test_a_process_without_a_gpu_has_no_kernel():
  if jax.default_backend() == 'gpu':
    pytest.skip('there is a GPU')
  assert not kernels.at_hand('gpu')
