"""A race on fresh noise that leaves neither noise nor times in memory.

One reading of the weights, the bits in registers; each program brings home the
first arrival of its atoms, XLA the first of those. The weights are not read
before for their largest. Own code, as no library draws from given Threefry bits
without writing them to memory.

Legend: N atoms, K streams, W blocks of atoms.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel, kernels

BLOCK = 1024  # atoms of a program; 512 and 2048 take 5 to 10 % longer
WARPS = 4


def race(
  key: jax.Array,
  log_weights: jax.Array,
  atoms: jax.Array | None,
  streams: jax.Array,
  live: jax.Array | None = None,
) -> jax.Array:
  """First arrival over several streams of fresh noise.

  The same as `gumbel.race(gumbel.earliest(noise), log_weights)` with row k of
  the noise of stream k, infinite where it is not live.

  Args:
    key: typed key of a position.
    log_weights: [N], see `gumbel.arrival_times`.
    atoms: [N] integers, see `gumbel.exponential`; None: 0 to N - 1, for which
      there is a kernel.
    streams: [K] integers.
    live: [K] bool, streams that take part; None: all.

  Returns:
    [] int32 index of the first arrival, see `gumbel.first_arrival`.

  Example:
    >>> key = gumbel.seed_key(0)
    >>> law = jnp.log(jnp.array([0.5, 0.5, 0.0]))
    >>> int(race(key, law, None, jnp.arange(1))) in (0, 1)
    True
  """
  chex.assert_rank([key, log_weights, streams], [0, 1, 1])
  dense = atoms is None and log_weights.size >= BLOCK
  single = log_weights.dtype != jnp.float64
  if not (kernels.RACE and dense and single and kernels.at_hand('gpu')):
    return in_memory(key, log_weights, atoms, streams, live)
  return jax.lax.platform_dependent(
    *(key, log_weights, streams, live),
    cuda=in_registers,
    default=lambda key, law, *rest: in_memory(key, law, None, *rest),
  )


def in_memory(key, log_weights, atoms, streams, live=None):
  """`race` by XLA, the reference."""
  atoms = log_weights.shape[-1] if atoms is None else atoms
  noise = jax.vmap(lambda k: gumbel.exponential(key, atoms, k))(streams)
  if live is not None:
    noise = jnp.where(live[:, None], noise, jnp.inf)
  return gumbel.race(gumbel.earliest(noise), log_weights)


@functools.partial(jax.jit, static_argnames=('interpret',))
def in_registers(key, log_weights, streams, live=None, *, interpret=False):
  """`race` by a kernel; `interpret` runs it on any machine."""
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import triton

  count, size = streams.size, log_weights.size
  late = jnp.zeros(count) if live is None else jnp.where(live, 0.0, np.inf)
  words = jax.vmap(lambda k: jax.random.key_data(gumbel.stream_key(key, k)))(
    streams
  )
  blocks = pl.cdiv(size, BLOCK)
  one = pl.BlockSpec((1,), lambda w: (w,))
  times, largest, atoms = pl.pallas_call(
    functools.partial(_first_of_block, count=count, size=size),
    grid=(blocks,),
    in_specs=[
      pl.BlockSpec((count, 2), lambda w: (0, 0)),
      pl.BlockSpec((count,), lambda w: (0,)),
      pl.BlockSpec((BLOCK,), lambda w: (w,)),
    ],
    out_specs=(one, one, one),
    out_shape=(
      jax.ShapeDtypeStruct((blocks,), jnp.float32),
      jax.ShapeDtypeStruct((blocks,), jnp.float32),
      jax.ShapeDtypeStruct((blocks,), jnp.int32),
    ),
    compiler_params=triton.CompilerParams(num_warps=WARPS),
    interpret=interpret,
    name='race',
  )(words, late.astype(jnp.float32), log_weights)
  block = gumbel.race(times, largest)
  return jnp.where(block < 0, -1, atoms[block])


def _first_of_block(
  words, late, weights, times, largest, atoms, *, count, size
):
  """First arrival in one block, the block's largest weight, the atom; [1] each.

  The time is up to the factor of the largest weight: blocks race as atoms of
  their largest weights, with these times as noise.
  """
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import triton

  atom = pl.program_id(0) * BLOCK + jax.lax.iota(jnp.int32, BLOCK)
  held = triton.load(weights, mask=atom < size, other=-np.inf)
  held = held.astype(jnp.float32)

  def noise(k):
    low = atom.astype(jnp.uint32)
    first, second = gumbel.threefry((words[k, 0], words[k, 1]), low)
    return gumbel.from_bits(first ^ second) + late[k]

  first = jax.lax.fori_loop(
    1, count, lambda k, other: jnp.minimum(other, noise(k)), noise(0)
  )
  best = jnp.max(held)
  # Nothing can be taken from -inf: a block without a possible atom.
  arrival = first * jnp.exp(jnp.where(best == -np.inf, 0, best) - held)
  # Triton's maxima and minima lose NaN, which makes the row impossible.
  arrival = jnp.where(arrival != arrival, np.float32(-1), arrival)
  soonest = jnp.min(arrival)
  times[0] = soonest
  largest[0] = jnp.where(soonest < 0, np.float32(np.nan), best)
  atoms[0] = jnp.min(jnp.where(arrival == soonest, atom, size))
