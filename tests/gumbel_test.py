import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from listcoupling import gumbel
from tests import statistics

VOCAB = 151_936


def _peaked():
  """One token of .99 and a flat tail of .01 in all."""
  return jnp.full(VOCAB, np.log(0.01 / (VOCAB - 1))).at[0].set(np.log(0.99))


def _tail_count(noise_of, trials, seed=0):
  """How often a race on the peaked law ends in the tail."""
  law = _peaked()

  @jax.jit
  def one(index):
    key = jax.random.fold_in(jax.random.key(seed), index)
    return gumbel.race(noise_of(key), law) != 0

  return int(np.sum(jax.lax.map(one, jnp.arange(trials))))


def test_transform_is_accurate_over_all_bits():
  rng = np.random.default_rng(0)
  bits = np.concatenate(
    [
      np.arange(4096),
      2**32 - 1 - np.arange(4096),
      rng.integers(0, 2**32, 200_000),
      2 ** np.arange(32),
    ]
  ).astype(np.uint32)
  noise = np.asarray(jax.jit(gumbel._from_bits)(bits), np.float64)
  exact = -np.log1p(-(bits.astype(np.float64) + 0.5) * 2.0**-32)
  assert np.max(np.abs(noise / exact - 1)) < 4e-7
  assert noise.min() > 1e-10 and np.isfinite(noise).all()


@pytest.mark.parametrize('stream', [0, 3, gumbel.RESIDUAL])
def test_bits_are_those_of_jax(stream):
  key = jax.random.key(5)
  expected = jax.random.bits(jax.random.fold_in(key, stream), (VOCAB,))
  np.testing.assert_array_equal(gumbel._bits(key, VOCAB, stream), expected)
  for position in (stream, 2**31, 2**32 - 1):
    np.testing.assert_array_equal(
      jax.random.key_data(gumbel.position_key(key, position)),
      jax.random.key_data(jax.random.fold_in(key, position)),
    )


@pytest.mark.parametrize('stream', [0, 3, gumbel.RESIDUAL])
def test_noise_at_chosen_atoms_is_bitwise_the_dense_noise(stream):
  key = gumbel.position_key(jax.random.key(1), 77)
  dense = np.asarray(gumbel.exponential(key, VOCAB, stream))
  chosen = np.random.default_rng(0).integers(0, VOCAB, (8, 64))
  for draw in (gumbel.exponential, jax.jit(gumbel.exponential)):
    sparse = np.asarray(draw(key, chosen, stream))
    np.testing.assert_array_equal(sparse, dense[chosen])
  np.testing.assert_array_equal(
    np.asarray(gumbel.gumbel(key, chosen, stream)),
    np.asarray(gumbel.gumbel(key, VOCAB, stream))[chosen],
  )
  assert not (np.asarray(gumbel.exponential(key, chosen, 9)) == sparse).any()


def test_noise_does_not_depend_on_padding_batch_or_order():
  key = jax.random.key(2)
  dense = np.asarray(gumbel.exponential(key, 1000, 4))
  longer = np.asarray(gumbel.exponential(key, 1777, 4))[:1000]
  streams = np.asarray(gumbel.exponential_streams(key, 1000, 8))[4]
  batched = jax.vmap(
    lambda t: gumbel.exponential(gumbel.position_key(key, t), 50)
  )(jnp.arange(9))
  alone = gumbel.exponential(gumbel.position_key(key, 6), 50)
  np.testing.assert_array_equal(dense, longer)
  np.testing.assert_array_equal(dense, streams)
  np.testing.assert_array_equal(batched[6], alone)


def test_noise_is_exponential():
  noise = np.asarray(gumbel.exponential(jax.random.key(3), 400_000))
  assert stats.kstest(noise, 'expon').pvalue > statistics.LEVEL
  assert stats.kstest(noise * 1.02, 'expon').pvalue < statistics.LEVEL
  gumbels = np.asarray(gumbel.gumbel(jax.random.key(3), 400_000))
  assert stats.kstest(gumbels, 'gumbel_r').pvalue > statistics.LEVEL
  uniforms = np.asarray(gumbel.uniform(jax.random.key(3), 400_000))
  assert stats.kstest(uniforms, 'uniform').pvalue > statistics.LEVEL


def test_streams_and_positions_are_independent():
  key = jax.random.key(4)
  count = 200_000
  first = gumbel.uniform(gumbel.position_key(key, 0), count)
  others = [
    gumbel.uniform(gumbel.position_key(key, 0), count, 1),
    gumbel.uniform(gumbel.position_key(key, 1), count),
    gumbel.uniform(gumbel.position_key(key, 1), count, gumbel.ACCEPT),
  ]
  for other in others:
    correlation = np.corrcoef(first, other)[0, 1]
    assert abs(correlation) < statistics.SIGMAS / np.sqrt(count)


def test_tail_of_a_peaked_law_keeps_its_mass():
  trials = 4000
  count = _tail_count(lambda key: gumbel.exponential(key, VOCAB), trials)
  statistics.assert_proportion(count, trials, 0.01)


@pytest.mark.parametrize(
  'coarse',
  [
    lambda key: jnp.exp(-jax.random.gumbel(key, (VOCAB,))),
    lambda key: (
      -jnp.log(
        jax.random.uniform(key, (VOCAB,), minval=jnp.finfo(jnp.float32).tiny)
      )
    ),
    lambda key: jax.random.exponential(key, (VOCAB,)),
  ],
  ids=['gumbel-low', 'log-uniform', 'exponential'],
)
def test_control_noise_on_the_23_bit_grid_fails(coarse):
  trials = 4000
  count = _tail_count(coarse, trials)
  z = statistics.proportion_z(count, trials, 0.01)
  assert abs(z) > statistics.SIGMAS


def test_control_bfloat16_noise_ties():
  noise = gumbel.exponential(jax.random.key(0), 4096)
  assert np.unique(np.asarray(noise)).size > 4090
  assert np.unique(np.asarray(noise.astype(jnp.bfloat16))).size < 1500


def test_argmax_agrees_with_jnp():
  inf, nan = np.inf, np.nan
  rows = np.array(
    [
      [1, 3, 3, 2],
      [-inf, -inf, -inf, -inf],
      [inf, 0, inf, nan],
      [0, nan, nan, inf],
      [-inf, -5, -inf, -5],
      [nan, nan, nan, nan],
    ],
    np.float32,
  )
  for dtype in (jnp.float32, jnp.bfloat16):
    x = jnp.asarray(rows, dtype)
    for function in (gumbel.argmax, jax.jit(gumbel.argmax)):
      np.testing.assert_array_equal(function(x), jnp.argmax(x, axis=-1))
  x = jax.random.randint(jax.random.key(0), (64, 999), 0, 50)
  np.testing.assert_array_equal(gumbel.argmax(x), jnp.argmax(x, axis=-1))


def test_first_arrival_of_impossible_rows_is_minus_one():
  inf, nan = np.inf, np.nan
  times = jnp.array([[inf, inf], [nan, 1.0], [2.0, 2.0], [inf, 3.0]])
  assert gumbel.first_arrival(times).tolist() == [-1, -1, 0, 1]
  noise = gumbel.exponential(jax.random.key(0), 3)
  laws = jnp.array([[-inf, -inf, -inf], [nan, 0, 0], [-inf, -200.0, -inf]])
  assert jax.jit(gumbel.race)(noise[None], laws).tolist() == [-1, -1, 1]


def test_earliest_is_the_minimum():
  noise = gumbel.exponential_streams(jax.random.key(0), 999, 5)
  np.testing.assert_array_equal(
    gumbel.earliest(noise), np.asarray(noise).min(axis=0)
  )
  held = noise.at[1:].set(jnp.inf)
  np.testing.assert_array_equal(gumbel.earliest(held), noise[0])


def test_noise_is_the_same_on_several_devices():
  """Sharding the atoms changes no bit (run on however many there are)."""
  mesh = jax.make_mesh(
    (jax.device_count(),),
    ('atoms',),
    axis_types=(jax.sharding.AxisType.Auto,),
  )
  sharding = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec('atoms')
  )
  size = 64 * jax.device_count()
  draw = jax.jit(
    lambda key: gumbel.exponential(key, size), out_shardings=sharding
  )
  key = jax.random.key(5)
  np.testing.assert_array_equal(draw(key), gumbel.exponential(key, size))
