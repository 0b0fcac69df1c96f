import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import baselines, bounds, darts, gumbel
from tests import reference, statistics

TRIALS = 20_000
P = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
Q = np.array([0.1, 0.2, 0.0, 0.3, 0.4])
R = np.array([0.05, 0.05, 0.5, 0.1, 0.3])
LOW = functools.partial(baselines.low_communication_coupling, max_bits=160)


def _logits(law):
  return jnp.log(jnp.asarray(law, jnp.float32))


@functools.cache
def _mapped(function, options):
  bound = functools.partial(function, **dict(options))
  return jax.jit(jax.vmap(bound, (0, None, None)))


def _sample(function, p=P, q=Q, trials=TRIALS, **options):
  keys = jax.random.split(jax.random.key(0), trials)
  sample = _mapped(function, tuple(options.items()))(
    keys, _logits(p), _logits(q)
  )
  return jax.tree.map(np.asarray, sample)


def _check_pair(pair, p, q, match):
  statistics.assert_law(pair.proposal, p)
  statistics.assert_law(pair.target, q)
  np.testing.assert_array_equal(pair.is_match, pair.proposal == pair.target)
  statistics.assert_proportion(pair.is_match.sum(), pair.is_match.size, match)


@pytest.mark.parametrize(
  'function, probability, wrong',
  [
    (
      baselines.maximal_coupling,
      lambda p, q: 1 - bounds.total_variation(p, q),
      bounds.gumbel_coupling_probability,
    ),
    (
      baselines.weighted_minhash_coupling,
      bounds.weighted_minhash_probability,
      bounds.gumbel_coupling_lower_bound,
    ),
  ],
)
def test_couplings_have_their_laws_and_match(function, probability, wrong):
  pair = _sample(function)
  _check_pair(pair, P, Q, float(probability(P, Q)))
  # Controls: swapped laws, and a wrong match rate, are told apart.
  statistics.assert_not_law(pair.target, 0.95 * Q + 0.05 * R)
  z = statistics.proportion_z(pair.is_match.sum(), TRIALS, float(wrong(P, Q)))
  assert abs(z) > statistics.SIGMAS


@pytest.mark.parametrize('max_bits', [1, 24, 40])
def test_low_communication_keeps_both_laws_at_any_cap(max_bits):
  function = baselines.low_communication_coupling
  pair, bits = _sample(function, max_bits=max_bits)
  statistics.assert_law(pair.proposal, P)
  statistics.assert_law(pair.target, Q)
  np.testing.assert_array_equal(pair.is_match, pair.proposal == pair.target)
  assert bits.max() <= max_bits
  assert bits.min() >= 0
  floor = float(bounds.weighted_minhash_probability(P, Q))
  z = statistics.proportion_z(pair.is_match.sum(), TRIALS, floor)
  assert z > -statistics.SIGMAS
  if max_bits == 1:
    same = _sample(baselines.weighted_minhash_coupling)
    np.testing.assert_array_equal(pair.target, same.target)
    assert not bits.any()


def test_a_cap_that_gives_up_silently_would_bias_the_target(monkeypatch):
  # Negative control of the test above: without the private coin that pays
  # for giving up, the law of Y is off.
  monkeypatch.setattr(gumbel, 'uniform', _no_coin(gumbel.uniform))
  raw = darts._low_communication.__wrapped__
  raw = functools.partial(raw, max_bits=24)
  target = _sample(raw, trials=60_000)[0].target
  statistics.assert_not_law(target, Q)


def _no_coin(uniform):
  def replaced(key, atoms, stream=gumbel.CANONICAL):
    noise = uniform(key, atoms, stream)
    return jnp.where(stream == gumbel.ACCEPT, 1.0, noise)

  return replaced


def test_low_communication_reaches_total_variation_with_few_bits():
  p, q = np.random.default_rng(0).dirichlet(np.ones(30), 2)
  pair, bits = _sample(LOW, p, q, 5000)
  _check_pair(pair, p, q, 1 - float(bounds.total_variation(p, q)))
  assert bits.mean() < 2 * np.log2(30) + 8
  same, _ = _sample(LOW, P, P, 2000)
  statistics.assert_proportion(same.is_match.sum(), 2000, 1.0)
  left, right = [0.7, 0.3, 0, 0, 0], [0, 0, 0.2, 0.8, 0]
  disjoint, _ = _sample(LOW, left, right, 2000)
  assert not disjoint.is_match.any()
  statistics.assert_law(disjoint.target, right)


def test_rice_code_is_within_a_bit_of_the_entropy():
  for atoms in (1, 2, 10, 1000, 151_936):
    shift, miss = darts.rice_parameter(atoms), 1 - 1 / atoms
    mean = 1 + shift + miss ** (2.0**shift) / (1 - miss ** (2.0**shift))
    hit = 1 / atoms
    entropy = -np.log2(hit) - (miss / hit * np.log2(miss) if miss else 0)
    assert entropy <= mean <= entropy + 1


def _check_list(sample, drafts, q, accept):
  for k in range(sample.proposals.shape[1]):
    statistics.assert_law(sample.proposals[:, k], drafts[k])
  statistics.assert_law(sample.target, q)
  listed = (sample.proposals == sample.target[:, None]).any(axis=1)
  np.testing.assert_array_equal(sample.is_match, listed)
  statistics.assert_proportion(
    sample.is_match.sum(), sample.is_match.size, accept
  )


@pytest.mark.parametrize('num_drafts', [1, 3])
def test_specinfer_has_its_laws_and_acceptance(num_drafts):
  sample = _sample(baselines.specinfer_step, R, Q, num_drafts=num_drafts)
  drafts = [R] * num_drafts
  _check_list(sample, drafts, Q, reference.specinfer_probability(drafts, Q))
  more = reference.specinfer_probability([R] * (num_drafts + 1), Q)
  z = statistics.proportion_z(sample.is_match.sum(), TRIALS, more)
  assert abs(z) > statistics.SIGMAS
  if num_drafts == 1:
    single = _sample(baselines.rejection_step, R, Q)
    np.testing.assert_array_equal(single.target, sample.target)


def test_specinfer_with_different_drafts():
  drafts = np.stack([P, R])
  sample = _sample(baselines.specinfer_step, drafts, Q)
  _check_list(sample, drafts, Q, reference.specinfer_probability(drafts, Q))


@pytest.mark.parametrize('num_drafts', [1, 3])
def test_spectr_has_its_laws_and_acceptance(num_drafts):
  sample = _sample(baselines.spectr_step, R, Q, num_drafts=num_drafts)
  accept = reference.spectr_probability(R, Q, num_drafts)
  _check_list(sample, [R] * num_drafts, Q, accept)
  statistics.assert_not_law(sample.target, 0.95 * Q + 0.05 * R)


def test_rejection_with_shared_noise_is_biased():
  # Negative control: proposals that share the residual's noise.
  def shared(key, p, q):
    noise = gumbel.exponential(key, p.size)
    uniforms = gumbel.uniform(key, 1, gumbel.ACCEPT)
    alive = jnp.ones(1, bool)
    proposals = gumbel.race(noise, p)[None]
    laws = jax.nn.softmax(p)[None], jax.nn.softmax(q)
    return baselines.specinfer_accept(proposals, *laws, uniforms, noise, alive)[
      0
    ]

  statistics.assert_not_law(_sample(shared), Q)


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
      return baselines.spectr_accept(*args, alive), baselines.spectr_accept(
        *args, alive & False
      )
    args = proposals, jnp.tile(draft, (4, 1)), target, uniforms, noise
    return baselines.specinfer_accept(*args, alive), baselines.specinfer_accept(
      *args, alive & False
    )

  (token, accepted), (lone, none) = _sample(step, R, Q)
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
  'maximal': baselines.maximal_coupling,
  'minhash': baselines.weighted_minhash_coupling,
  'low': lambda *args: LOW(*args, max_bits=60)[0],
  'specinfer': functools.partial(baselines.specinfer_step, num_drafts=3),
  'spectr': functools.partial(baselines.spectr_step, num_drafts=3),
}


@pytest.mark.parametrize('name', SCHEMES)
def test_edges_of_the_laws(name):
  scheme = SCHEMES[name]
  keys = jax.random.split(jax.random.key(1), 200)
  point, other = np.eye(4)[1], np.eye(4)[2]
  half = np.array([0.0, 0.5, 0.5, 0.0])
  laws = [(point, point), (point, other), (half, half), (point, half)]
  p, q = (_logits(np.array(rows)) for rows in zip(*laws, strict=True))
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


def test_impossible_laws_inside_jit_end():
  bad = jnp.full(3, -jnp.inf)
  pair = jax.jit(baselines.weighted_minhash_coupling)(
    jax.random.key(0), bad, jnp.zeros(3)
  )
  assert int(pair.proposal) == -1 and int(pair.target) >= 0
  assert not bool(pair.is_match)
  with pytest.raises(ValueError, match='max_bits'):
    LOW(jax.random.key(0), jnp.zeros(3), jnp.zeros(3), max_bits=-1)


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


def test_heights_of_darts_are_finer_than_single_precision_uniforms():
  # On the 2^-23 grid of float32 uniforms that tail would have .3 of its mass.
  keys = jax.random.split(jax.random.key(0))
  tokens, heights = darts._block(keys, 3, 10, 1 << 16)
  heights = np.asarray(heights, np.float64)
  small = heights[heights < 2**-8] * 2**23
  assert small.size > 100 and (small % 1 != 0).mean() > 0.99
  statistics.assert_law(np.asarray(tokens), np.full(10, 0.1))
  statistics.assert_proportion((heights < 0.03).sum(), heights.size, 0.03)
