import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds, gumbel, weighted_minhash
from tests import statistics
from tests.small_laws import TRIALS, P, Q, R, check_pair, draw_pairs

LOW = functools.partial(
  weighted_minhash.low_communication_coupling, max_bits=160
)


def test_weighted_minhash_has_its_laws_and_match():
  pair = draw_pairs(weighted_minhash.weighted_minhash_coupling)
  exact = float(bounds.weighted_minhash_probability(P, Q))
  check_pair(pair, P, Q, exact)
  # Controls: another law, and a wrong match rate, are told apart.
  statistics.assert_not_law(pair.target, 0.95 * Q + 0.05 * R)
  wrong = float(bounds.gumbel_coupling_lower_bound(P, Q))
  z = statistics.proportion_z(pair.is_match.sum(), TRIALS, wrong)
  assert abs(z) > statistics.SIGMAS


@pytest.mark.parametrize('max_bits', [1, 24, 40])
def test_low_communication_keeps_both_laws_at_any_cap(max_bits):
  function = weighted_minhash.low_communication_coupling
  pair, bits = draw_pairs(function, max_bits=max_bits)
  statistics.assert_law(pair.proposal, P)
  statistics.assert_law(pair.target, Q)
  np.testing.assert_array_equal(pair.is_match, pair.proposal == pair.target)
  assert bits.max() <= max_bits
  assert bits.min() >= 0
  floor = float(bounds.weighted_minhash_probability(P, Q))
  z = statistics.proportion_z(pair.is_match.sum(), TRIALS, floor)
  assert z > -statistics.SIGMAS
  if max_bits == 1:
    same = draw_pairs(weighted_minhash.weighted_minhash_coupling)
    np.testing.assert_array_equal(pair.target, same.target)
    assert not bits.any()


def test_a_cap_that_gives_up_silently_would_bias_the_target(monkeypatch):
  # Negative control of the test above: without the private coin that pays
  # for giving up, the law of Y is off.
  monkeypatch.setattr(gumbel, 'uniform', _no_coin(gumbel.uniform))
  raw = weighted_minhash._low_communication.__wrapped__
  raw = functools.partial(raw, max_bits=24)
  target = draw_pairs(raw, trials=60_000)[0].target
  statistics.assert_not_law(target, Q)


def _no_coin(uniform):
  def replaced(key, atoms, stream=gumbel.CANONICAL):
    noise = uniform(key, atoms, stream)
    return jnp.where(stream == gumbel.ACCEPT, 1.0, noise)

  return replaced


def test_low_communication_reaches_total_variation_with_few_bits():
  p, q = np.random.default_rng(0).dirichlet(np.ones(30), 2)
  pair, bits = draw_pairs(LOW, p, q, 5000)
  check_pair(pair, p, q, 1 - float(bounds.total_variation(p, q)))
  assert bits.mean() < 2 * np.log2(30) + 8
  same, _ = draw_pairs(LOW, P, P, 2000)
  statistics.assert_proportion(same.is_match.sum(), 2000, 1.0)
  left, right = [0.7, 0.3, 0, 0, 0], [0, 0, 0.2, 0.8, 0]
  disjoint, _ = draw_pairs(LOW, left, right, 2000)
  assert not disjoint.is_match.any()
  statistics.assert_law(disjoint.target, right)


def test_rice_code_is_within_a_bit_of_the_entropy():
  for atoms in (1, 2, 10, 1000, 151_936):
    shift, miss = weighted_minhash.rice_parameter(atoms), 1 - 1 / atoms
    mean = 1 + shift + miss ** (2.0**shift) / (1 - miss ** (2.0**shift))
    hit = 1 / atoms
    entropy = -np.log2(hit) - (miss / hit * np.log2(miss) if miss else 0)
    assert entropy <= mean <= entropy + 1


def test_impossible_laws_inside_jit_end():
  bad = jnp.full(3, -jnp.inf)
  pair = jax.jit(weighted_minhash.weighted_minhash_coupling)(
    jax.random.key(0), bad, jnp.zeros(3)
  )
  assert int(pair.proposal) == -1 and int(pair.target) >= 0
  assert not bool(pair.is_match)
  with pytest.raises(ValueError, match='max_bits'):
    LOW(jax.random.key(0), jnp.zeros(3), jnp.zeros(3), max_bits=-1)


def test_heights_of_darts_are_finer_than_single_precision_uniforms():
  # On the 2^-23 grid of float32 uniforms that tail would have .3 of its mass.
  keys = jax.random.split(jax.random.key(0))
  tokens, heights = weighted_minhash._block(keys, 3, 10, 1 << 16)
  heights = np.asarray(heights, np.float64)
  small = heights[heights < 2**-8] * 2**23
  assert small.size > 100 and (small % 1 != 0).mean() > 0.99
  statistics.assert_law(np.asarray(tokens), np.full(10, 0.1))
  statistics.assert_proportion((heights < 0.03).sum(), heights.size, 0.03)
