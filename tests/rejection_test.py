import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds, gumbel, rejection, weighted_minhash
from tests import reference, statistics
from tests.small_laws import (
  TRIALS,
  P,
  Q,
  R,
  check_list,
  check_pair,
  draw_pairs,
  logits,
)

LOW = functools.partial(
  weighted_minhash.low_communication_coupling, max_bits=60
)


def test_maximal_coupling_has_its_laws_and_match():
  pair = draw_pairs(rejection.maximal_coupling)
  check_pair(pair, P, Q, 1 - float(bounds.total_variation(P, Q)))
  # Controls: another law, and a wrong match rate, are told apart.
  statistics.assert_not_law(pair.target, 0.95 * Q + 0.05 * R)
  wrong = float(bounds.gumbel_coupling_probability(P, Q))
  z = statistics.proportion_z(pair.is_match.sum(), TRIALS, wrong)
  assert abs(z) > statistics.SIGMAS


@pytest.mark.parametrize('num_drafts', [1, 3])
def test_specinfer_has_its_laws_and_acceptance(num_drafts):
  sample = draw_pairs(rejection.specinfer_step, R, Q, num_drafts=num_drafts)
  drafts = [R] * num_drafts
  check_list(sample, drafts, Q, reference.specinfer_probability(drafts, Q))
  more = reference.specinfer_probability([R] * (num_drafts + 1), Q)
  z = statistics.proportion_z(sample.is_match.sum(), TRIALS, more)
  assert abs(z) > statistics.SIGMAS
  if num_drafts == 1:
    single = draw_pairs(rejection.rejection_step, R, Q)
    np.testing.assert_array_equal(single.target, sample.target)


def test_specinfer_with_different_drafts():
  drafts = np.stack([P, R])
  sample = draw_pairs(rejection.specinfer_step, drafts, Q)
  check_list(sample, drafts, Q, reference.specinfer_probability(drafts, Q))


@pytest.mark.parametrize('num_drafts', [1, 3])
def test_spectr_has_its_laws_and_acceptance(num_drafts):
  sample = draw_pairs(rejection.spectr_step, R, Q, num_drafts=num_drafts)
  accept = reference.spectr_probability(R, Q, num_drafts)
  check_list(sample, [R] * num_drafts, Q, accept)
  statistics.assert_not_law(sample.target, 0.95 * Q + 0.05 * R)


def test_rejection_with_shared_noise_is_biased():
  # Negative control: proposals that share the residual's noise.
  def shared(key, p, q):
    noise = gumbel.exponential(key, p.size)
    uniforms = gumbel.uniform(key, 1, gumbel.ACCEPT)
    alive = jnp.ones(1, bool)
    proposals = gumbel.race(noise, p)[None]
    laws = jax.nn.softmax(p)[None], jax.nn.softmax(q)
    return rejection.specinfer_accept(proposals, *laws, uniforms, noise, alive)[
      0
    ]

  statistics.assert_not_law(draw_pairs(shared), Q)


@pytest.mark.parametrize('name', ['specinfer', 'spectr'])
def test_dead_drafts_are_skipped(name):
  alive = jnp.array([False, True, False, True])

  def step(key, p, q):
    proposals = gumbel.race(gumbel.exponential_streams(key, 5, 4), p[None])
    proposals = jnp.where(alive, proposals, -1)
    uniforms = gumbel.uniform(key, 4, gumbel.ACCEPT)
    noise = gumbel.exponential(key, 5, gumbel.RESIDUAL)
    draft, target = jax.nn.softmax(p), jax.nn.softmax(q)
    if name == 'spectr':
      args = proposals, draft, target, uniforms, noise
      return rejection.spectr_accept(*args, alive), rejection.spectr_accept(
        *args, alive & False
      )
    args = proposals, jnp.tile(draft, (4, 1)), target, uniforms, noise
    return rejection.specinfer_accept(*args, alive), rejection.specinfer_accept(
      *args, alive & False
    )

  (token, accepted), (lone, none) = draw_pairs(step, R, Q)
  statistics.assert_law(token, Q)
  statistics.assert_law(lone, Q)
  assert not none.any()
  accept = (
    reference.specinfer_probability([R, R], Q)
    if name == 'specinfer'
    else reference.spectr_probability(R, Q, 2)
  )
  statistics.assert_proportion(accepted.sum(), TRIALS, accept)


SCHEMES = {
  'maximal': rejection.maximal_coupling,
  'minhash': weighted_minhash.weighted_minhash_coupling,
  'low': lambda *args: LOW(*args)[0],
  'specinfer': functools.partial(rejection.specinfer_step, num_drafts=3),
  'spectr': functools.partial(rejection.spectr_step, num_drafts=3),
}


@pytest.mark.parametrize('name', SCHEMES)
def test_edges_of_the_laws(name):
  scheme = SCHEMES[name]
  keys = jax.random.split(jax.random.key(1), 200)
  point, other = np.eye(4)[1], np.eye(4)[2]
  half = np.array([0.0, 0.5, 0.5, 0.0])
  laws = [(point, point), (point, other), (half, half), (point, half)]
  p, q = (logits(np.array(rows)) for rows in zip(*laws, strict=True))
  # 16-bit logits, shifted: laws are unnormalised.
  p, q = (p + 7).astype(jnp.bfloat16), (q - 3).astype(jnp.bfloat16)
  mapped = jax.vmap(jax.vmap(scheme, (0, None, None)), (None, 0, 0))
  sample = jax.jit(mapped)(keys, p, q)
  target = np.asarray(sample.target)
  assert (target[0] == 1).all() and (target[1] == 2).all()
  assert np.isin(target[2:], (1, 2)).all()
  match = np.asarray(sample.is_match)
  assert match[0].all() and not match[1].any() and match[2].all()
  statistics.assert_proportion(match[3].sum(), 200, 0.5)
  with pytest.raises(ValueError, match='nan'):
    scheme(keys[0], jnp.array([0.0, jnp.nan]), jnp.zeros(2))
  with pytest.raises(ValueError, match='-inf'):
    scheme(keys[0], jnp.zeros(2), jnp.full(2, -jnp.inf))


@pytest.mark.parametrize('name, trials', [('maximal', 400), ('minhash', 1000)])
def test_a_flat_tail_at_vocabulary_scale(name, trials):
  # One token of .99 and .01 spread over the rest, 6.6e-8 each. P is uniform.
  size = 151_936
  tail = jnp.full(size, 0.01 / (size - 1)).at[7].set(0.99)
  laws = jnp.zeros(size), jnp.log(tail)

  @jax.jit
  def run(keys):
    return jax.lax.map(lambda key: SCHEMES[name](key, *laws), keys)

  pair = run(jax.random.split(jax.random.key(0), trials))
  statistics.assert_proportion(
    (np.asarray(pair.target) != 7).sum(), trials, 0.01
  )
  quarters = np.asarray(pair.proposal).astype(np.int64) * 4 // size
  statistics.assert_law(quarters, np.full(4, 0.25))
