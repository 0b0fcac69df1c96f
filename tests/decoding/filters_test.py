"""Filters against independent numpy versions in the transformers order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.decoding import filters
from listcoupling.decoding.options import GenerateOptions
from tests import floats, statistics
from tests.decoding import exact

VOCAB = 11


def random_logits(seed=0):
  return np.random.default_rng(seed).normal(0, 2, VOCAB).astype(np.float32)


def engine_law(logits, options, *, seen=(), num_new=0):
  mask = jnp.zeros(VOCAB, bool).at[jnp.array(list(seen), int)].set(True)
  law = filters.target_law(
    jnp.asarray(logits), mask, jnp.int32(num_new), options
  )
  return np.asarray(filters.probabilities(law, VOCAB))


SHAPES = dict(
  temperature=dict(temperature=0.6),
  greedy=dict(temperature=0.0),
  greedy_top_k=dict(temperature=0.0, top_k=3, top_p=0.9, min_p=0.1),
  top_k=dict(top_k=4),
  top_k_one=dict(top_k=1),
  top_k_of_all=dict(top_k=VOCAB),
  top_k_above_all=dict(top_k=50),
  top_p=dict(top_p=0.8),
  tiny_top_p=dict(top_p=1e-6),
  min_p=dict(min_p=0.2),
  min_p_one=dict(min_p=1.0),
  warpers=dict(temperature=1.7, top_k=7, top_p=0.85, min_p=0.1),
  bias=dict(logit_bias=((3, 2.5), (0, -np.inf))),
  penalty=dict(repetition_penalty=1.6),
  reward=dict(repetition_penalty=0.6),
  min_new=dict(min_new_tokens=2, stop_tokens=(1, 4)),
  all=dict(
    temperature=1.4,
    top_k=8,
    top_p=0.9,
    min_p=0.05,
    repetition_penalty=1.5,
    logit_bias=((2, 3.0), (5, -1.0)),
    min_new_tokens=2,
    stop_tokens=(2,),
  ),
)


@pytest.mark.parametrize('name', SHAPES)
def test_target_law_matches_numpy(name):
  options = GenerateOptions(**SHAPES[name])
  for seed in range(5):
    logits = random_logits(seed)
    for num_new in (1, 2):
      given = dict(seen=(2, 7, 9), num_new=num_new)
      wanted = exact.law(logits, options, **given)
      found = engine_law(logits, options, **given)
      # Exponentials of scores up to 10 and their sum.
      error = statistics.rounding(VOCAB, 10)
      np.testing.assert_allclose(found, wanted, rtol=error, atol=0)
      # The same tokens are impossible, not only nearly so.
      np.testing.assert_array_equal(found == 0, wanted == 0)


def test_top_p_keeps_the_token_that_crosses_the_mass():
  logits = np.log([0.5, 0.3, 0.15, 0.05]).astype(np.float32)
  for top_p, kept in ((0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.96, 4)):
    law = filters.warp(jnp.asarray(logits), 1.0, GenerateOptions(top_p=top_p))
    assert int(np.isfinite(law.logits).sum()) == kept, top_p


def test_filters_run_after_temperature():
  logits = jnp.log(jnp.array([0.6, 0.3, 0.1]))
  cold, hot = (
    filters.warp(logits, temperature, GenerateOptions(top_p=0.75)).logits
    for temperature in (0.5, 5.0)
  )
  assert np.isfinite(cold).sum() == 1
  assert np.isfinite(hot).sum() == 3


def test_penalty_divides_positive_and_multiplies_negative_logits():
  options = GenerateOptions(repetition_penalty=2.0)
  law = filters.target_law(
    jnp.array([3.0, -3.0, 1.0]), jnp.array([True, True, False]), 0, options
  )
  np.testing.assert_array_equal(law.logits - law.logits[2], [0.5, -7.0, 0.0])


def test_bias_comes_before_penalty():
  options = GenerateOptions(repetition_penalty=2.0, logit_bias=((0, -3.0),))
  law = filters.target_law(
    jnp.array([2.0, 0.0]), jnp.array([True, False]), 0, options
  )
  np.testing.assert_array_equal(law.logits - law.logits[1], [-2.0, 0.0])


def test_top_k_law_is_sparse_with_the_lowest_ids_on_ties():
  logits = jnp.array([1.0, 2.0, 2.0, 2.0, 0.0])
  law = filters.warp(logits, 1.0, GenerateOptions(top_k=2))
  assert law.logits.shape == (2,)
  np.testing.assert_array_equal(law.tokens, [1, 2])
  probs = filters.probabilities(law, 5)
  np.testing.assert_array_equal(probs, [0, 0.5, 0.5, 0, 0])
  assert int(filters.token_at(law, jnp.int32(1))) == 2
  assert int(filters.token_at(law, jnp.int32(-1))) == -1


def test_sparse_noise_is_the_dense_noise_at_the_kept_tokens():
  logits, key = jnp.asarray(random_logits()), jax.random.key(3)
  sparse = filters.warp(logits, 1.0, GenerateOptions(top_k=4))
  dense = filters.warp(logits, 1.0, GenerateOptions())
  np.testing.assert_array_equal(
    filters.noise(key, sparse, 2), filters.noise(key, dense, 2)[sparse.tokens]
  )
  # So a token that survives the filter and wins the full race wins both.
  winner = int(filters.sample(filters.noise(key, dense), dense))
  kept = winner in np.asarray(sparse.tokens)
  assert kept == (
    winner == int(filters.sample(filters.noise(key, sparse), sparse))
  )


@pytest.mark.parametrize('top_k', [0, 3])
def test_samples_follow_the_law(top_k):
  options = GenerateOptions(temperature=1.3, top_k=top_k, top_p=0.9)
  logits = jnp.asarray(random_logits(4))
  law = filters.warp(logits, 1.3, options)
  keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(1), i))(
    jnp.arange(50_000)
  )
  samples = jax.vmap(lambda k: filters.sample(filters.noise(k, law), law))(keys)
  statistics.assert_law(samples, exact.draft_law(logits, 1.3, options))
  statistics.assert_not_law(samples, exact.draft_law(logits, 1.4, options))


IMPOSSIBLE = dict(
  nan=[1.0, np.nan, 0.0, 2.0],
  all_nan=[np.nan] * 4,
  no_token=[-np.inf] * 4,
)


@pytest.mark.parametrize('name', IMPOSSIBLE)
@pytest.mark.parametrize(
  'options',
  [
    GenerateOptions(),
    GenerateOptions(temperature=0.0),
    GenerateOptions(top_k=2),
    GenerateOptions(top_p=0.5, min_p=0.1),
    GenerateOptions(temperature=0.0, top_k=2, top_p=0.5),
  ],
  ids=['plain', 'greedy', 'top_k', 'top_p', 'greedy_all'],
)
def test_impossible_rows_give_no_token(name, options):
  law = filters.warp(jnp.array(IMPOSSIBLE[name]), options.temperature, options)
  noise = filters.noise(jax.random.key(0), law)
  assert int(filters.sample(noise, law)) == -1


@pytest.mark.parametrize('options', [dict(), dict(top_k=5), dict(top_p=0.9)])
def test_one_nan_among_many_tokens_is_seen(options):
  options = GenerateOptions(**options)

  @jax.jit
  def sample(logits):
    law = filters.warp(logits, 1.0, options)
    return filters.sample(filters.noise(jax.random.key(0), law), law)

  for place in (0, 7, 4321):
    logits = jnp.zeros(5000).at[place].set(jnp.nan)
    assert int(sample(logits)) == -1
    assert int(sample(jnp.nan_to_num(logits))) >= 0


def test_float64_logits_keep_their_differences():
  """A large common offset is taken off before anything is rounded."""
  with jax.enable_x64(True):
    logits = 1e9 + jnp.log(jnp.array([0.7, 0.2, 0.1], jnp.float64))
    law = filters.warp(logits, 1.0, GenerateOptions(top_p=0.9))
    probs = filters.probabilities(law, 3)
    assert law.logits.dtype == jnp.float32
    # In float32 the offset swallows them: the control.
    lost = filters.warp(logits.astype(jnp.float32), 1.0, GenerateOptions())
  # Two logits near 1e9; their difference, an exponential, a sum, a quotient.
  error = np.spacing(1e9) + statistics.rounding(4, np.log(7 / 2))
  np.testing.assert_allclose(probs, [7 / 9, 2 / 9, 0], rtol=error, atol=0)
  assert np.ptp(lost.logits) == 0


def test_impossible_tokens_are_never_sampled():
  logits = jnp.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
  keys = jax.random.split(jax.random.key(2), 2000)
  for options in (GenerateOptions(), GenerateOptions(top_k=4)):
    law = filters.warp(logits, 1.0, options)
    noise = jax.vmap(filters.noise, (0, None))(keys, law)
    samples = jax.vmap(filters.sample, (0, None))(noise, law)
    assert set(np.asarray(samples).tolist()) == {1, 3}


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_laws_are_float32_whatever_the_logits(dtype):
  logits = jnp.asarray(random_logits(), dtype)
  law = filters.warp(logits, 0.8, GenerateOptions(top_k=5, top_p=0.9))
  assert law.logits.dtype == jnp.float32
  logits = logits.astype(jnp.float32)
  wanted = exact.draft_law(logits, 0.8, GenerateOptions(top_k=5, top_p=0.9))
  kept = logits[wanted > 0]
  np.testing.assert_allclose(
    filters.probabilities(law, VOCAB),
    wanted,
    rtol=0,
    atol=floats.apart(lambda scores: jax.nn.softmax(scores / 0.8), kept),
  )


def test_cold_laws_stay_laws():
  """Dividing by a tiny temperature must not overflow to an empty law."""
  logits = jnp.array([90.0, 80.0, -50.0])
  for temperature in (1e-3, 1e-30, 1e-37):
    law = filters.warp(logits, temperature, GenerateOptions())
    noise = filters.noise(jax.random.key(0), law)
    assert int(filters.sample(noise, law)) == 0, temperature


@pytest.mark.parametrize('temperature', [1e-38, 1e-46, 1e-320])
def test_the_coldest_laws_are_greedy(temperature):
  logits = jnp.array([0.0, 2.0, 1.0])
  for given in (temperature, jnp.float32(temperature)):
    law = filters.warp(logits, given, GenerateOptions())
    assert law.logits.tolist() == [-np.inf, 0.0, -np.inf]
  warm = filters.warp(logits, 1e-37, GenerateOptions())
  assert np.isfinite(warm.logits).all()
  edge = filters.warp(jnp.zeros(3), filters.COLDEST, GenerateOptions())
  assert edge.logits.tolist() == [0.0, 0.0, 0.0]  # the first that is no 0
