import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds
from tests import floats, reference, statistics

P = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
Q = np.array([0.1, 0.2, 0.0, 0.3, 0.4])
R = np.array([0.05, 0.05, 0.5, 0.1, 0.3])
POINT = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
DRAFTS = {
  'alike': np.stack([P, P, P]),
  'different': np.stack([P, R, Q]),
  'disjoint': np.stack([POINT, np.roll(POINT, 1)]),
}


def _laws(seed, *shape, concentration=1.0):
  rng = np.random.default_rng(seed)
  return rng.dirichlet(np.full(shape[-1], concentration), shape[:-1])


# In float64 half a unit each: a sum over the 320 nodes of the finest rule, or
# over 5^3 lists, each of 3 quotients, differences and products.
WIDE = statistics.rounding(320 / 2, dtype=np.float64)


def _roundings(function, p, q, *rest):
  """Most that roundings to float32 add up to, those of the laws included."""
  p, q = jnp.asarray(p, jnp.float32), jnp.asarray(q, jnp.float32)
  return floats.apart(lambda p, q: function(1.0 * p, 1.0 * q, *rest), p, q)


def test_total_variation_and_pair_probabilities_on_paper():
  p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
  assert float(bounds.total_variation(p, q)) == 0.5
  assert bounds.gumbel_coupling_lower_bound(p, q) == np.float32(1 / 3)
  assert float(bounds.gumbel_coupling_probability(p, q)) == 0.5
  assert float(bounds.weighted_minhash_probability(p, q)) == 0.5


def test_gumbel_coupling_dominates_weighted_minhash():
  for seed in range(20):
    p, q = _laws(seed, 2, 10, concentration=[0.1, 1.0][seed % 2])
    gumbel = float(bounds.gumbel_coupling_probability(p, q))
    minhash = float(bounds.weighted_minhash_probability(p, q))
    lower = float(bounds.gumbel_coupling_lower_bound(p, q))
    assert gumbel > minhash > lower
    assert float(bounds.total_variation(p, q)) < 1 - gumbel


@pytest.mark.parametrize('name', DRAFTS)
def test_list_matching_bound_is_theorem_1(name):
  drafts = DRAFTS[name]
  count = len(drafts)
  expected = reference.list_matching_bound(drafts, Q, count)
  bound = bounds.list_matching_bound(drafts, Q, count)
  error = _roundings(bounds.list_matching_bound, DRAFTS['different'], Q)
  assert abs(float(bound) - expected) < error
  if name == 'alike':
    alone = bounds.list_matching_bound(P, Q, count)
    assert abs(float(alone) - expected) < error
  else:
    # Negative control: the laws in other hands.
    other = reference.list_matching_bound(drafts, R, count)
    assert abs(float(bound) - other) > error


def test_conditional_bound_and_its_limits():
  bound = bounds.conditional_list_matching_bound(P, Q, 3)
  with np.errstate(divide='ignore', invalid='ignore'):
    expected = np.where(P > 0, 1 / (1 + Q / (3 * P)), 0)
  error = _roundings(bounds.conditional_list_matching_bound, P, Q, 3)
  np.testing.assert_allclose(bound, expected, rtol=0, atol=error)
  assert float(bound[2]) == 1.0  # q_j = 0 < p_j
  both = bounds.conditional_list_matching_bound(POINT, POINT, 3)
  assert both.tolist() == [0, 0.75, 0, 0, 0]
  mixed = bounds.conditional_list_matching_bound(DRAFTS['different'], Q)
  rows = [bounds.conditional_list_matching_bound(p, Q, 3) for p in (P, R, Q)]
  mean = np.mean(rows, axis=0)
  np.testing.assert_allclose(mixed, mean, rtol=0, atol=error)
  # Its mean over Y ~ q is at most Theorem 1.
  theorem = float(bounds.list_matching_bound(DRAFTS['different'], Q))
  assert Q @ np.asarray(mixed, np.float64) < theorem


@pytest.mark.parametrize('name', DRAFTS)
def test_list_matching_probability_by_nested_quadrature(name):
  drafts = DRAFTS[name]
  expected = reference.list_matching_probability(drafts, Q)
  with jax.enable_x64(True):
    exact = bounds.list_matching_probability(drafts, Q)
    assert exact.dtype == jnp.float64
    error = len(drafts) * np.exp(reference.FIRST)  # the race ends before
    error += reference.ASKED
    error += floats.promised(bounds.list_matching_probability, 'float64')
    assert abs(float(exact) - expected) < error
    if name == 'alike':
      alone = bounds.list_matching_probability(P, Q, 3)
      assert abs(float(alone) - float(exact)) < WIDE
  single = bounds.list_matching_probability(drafts, Q)
  assert single.dtype == jnp.float32
  # The rule of fewer nodes is as exact as one rounding.
  error = _roundings(bounds.list_matching_probability, DRAFTS['different'], Q)
  assert abs(float(single) - expected) < error


def test_list_matching_probability_by_simulation():
  # Plain numpy, no code in common with the library.
  rng = np.random.default_rng(0)
  trials, drafts = 200_000, DRAFTS['different']
  noise = rng.exponential(size=(trials, *drafts.shape))
  with np.errstate(divide='ignore'):
    proposals = np.argmin(noise / drafts, axis=2)
    target = np.argmin(noise.min(axis=1) / Q, axis=1)
  hits = (proposals == target[:, None]).any(axis=1).sum()
  exact = float(bounds.list_matching_probability(drafts, Q))
  statistics.assert_proportion(hits, trials, exact)
  # Control: the bound is not the value.
  bound = float(bounds.list_matching_bound(drafts, Q))
  assert statistics.proportion_z(hits, trials, bound) > statistics.SIGMAS


def test_list_matching_probability_at_its_edges():
  exact = bounds.list_matching_probability
  for num_drafts in (1, 2, 7):
    error = _roundings(exact, P, Q, num_drafts)
    for p, q, expected in (
      (P, P, 1),
      (POINT, Q, 0.2),
      (Q, POINT, 1 - (1 - Q[1]) ** num_drafts),
    ):
      assert abs(float(exact(p, q, num_drafts)) - expected) < error
    assert float(exact(P, np.array([0, 0, 0, 0, 1.0]), num_drafts)) == 0
  assert float(exact(np.ones(1), np.ones(1), 3)) == 1
  single = bounds.gumbel_coupling_probability(P, Q)
  assert float(exact(P, Q, 1)) == float(single)
  # K large: all that q puts on the support of p is found, but for what the
  # conditional bound leaves of each atom, at most q_j / (K p_j).
  both = (P > 0) & (Q > 0)
  for function, many in ((exact, 10**6), (bounds.list_matching_bound, 10**9)):
    error = _roundings(function, P, Q, many)
    missed = np.sum(Q[both] ** 2 / P[both]) / many
    assert -error < 0.6 - float(function(P, Q, many)) < missed + error


@pytest.mark.parametrize('kind', ['flat', 'peaked', 'near'])
def test_float32_is_accurate_at_ten_thousand_atoms(kind):
  rng = np.random.default_rng(1)
  scores = {'flat': 0.3, 'peaked': 4.0, 'near': 2.0}[kind]
  noise = {'flat': 0.3, 'peaked': 2.0, 'near': 1e-3}[kind]
  base = scores * rng.standard_normal(10_000)
  p, q = (np.exp(base + noise * rng.standard_normal(10_000)) for _ in range(2))
  p, q = p / p.sum(), q / q.sum()
  without = functools.partial(bounds.optimal_list_acceptance, replace=False)
  for function in (
    bounds.list_matching_probability,
    bounds.list_matching_bound,
    bounds.optimal_list_acceptance,
    without,
  ):
    single = float(function(p, q, 8))
    with jax.enable_x64(True):
      double = float(function(p, q, 8))
    error = _roundings(function, p, q, 8)
    if function is bounds.list_matching_probability:
      error = floats.promised(function)
    if function is without:
      error += floats.promised(bounds._outside_prefix_probabilities)
    assert abs(single - double) < error


def test_pair_probability_at_vocabulary_scale():
  rng = np.random.default_rng(2)
  base = 3 * rng.standard_normal(151_936)
  p, q = (np.exp(base + rng.standard_normal(base.size)) for _ in range(2))
  p, q = p / p.sum(), q / q.sum()
  single = float(bounds.gumbel_coupling_probability(p, q))
  with jax.enable_x64(True):
    double = float(bounds.gumbel_coupling_probability(p, q))
  assert abs(single - double) < floats.promised(
    bounds.gumbel_coupling_probability
  )
  few = np.argsort(p)[:-3:-1]  # two heavy atoms against the definition
  terms = [
    1 / np.maximum(p / p[j], q / q[j]).sum() for j in few if q[j] * p[j] > 0
  ]
  assert sum(terms) < double


@pytest.mark.parametrize('replace', [True, False])
@pytest.mark.parametrize('num_drafts', [1, 2, 3])
def test_optimum_is_the_linear_program(num_drafts, replace):
  for p, q in ((P, Q), (R, Q), (Q, P), *_laws(5, 2, 2, 5)):
    expected = reference.optimal_list_acceptance(p, q, num_drafts, replace)
    error = WIDE
    if num_drafts > 1 and not replace:
      error += floats.promised(bounds._outside_prefix_probabilities, 'float64')
    with jax.enable_x64(True):
      optimum = float(
        bounds.optimal_list_acceptance(p, q, num_drafts, replace=replace)
      )
      match = float(bounds.list_matching_probability(p, q, num_drafts))
    assert abs(optimum - expected) < error
    most = floats.promised(bounds.list_matching_probability, 'float64') + WIDE
    assert match <= (expected + most if replace else 1)
    if num_drafts > 1 and p is R:  # control: the two optima differ
      other = reference.optimal_list_acceptance(p, q, num_drafts, not replace)
      assert abs(optimum - other) > error


def test_optimum_when_the_list_covers_the_support():
  optimum = bounds.optimal_list_acceptance
  # A sum over part of the law: half a unit each for the law's own rounding,
  # its sum 4, the quotient, this sum 4, and what is added.
  error = statistics.rounding((1 + 4 + 1 + 4 + 1) / 2)
  for p, num_drafts, replace, expected in (
    (P, 4, False, 0.6),
    (P, 9, False, 0.6),
    (R, 5, False, 1),
    (Q, 1, True, 1),
  ):
    found = float(optimum(p, Q, num_drafts, replace=replace))
    assert abs(found - expected) < error
  assert float(optimum(P, np.array([0, 0, 0, 0, 1.0]), 3)) == 0


def test_gradients_are_finite_differences():
  p, q = _laws(3, 2, 6)
  tangent = np.random.default_rng(4).standard_normal(p.shape) * p
  drafts = _laws(5, 3, 6)

  def scalar(function, *args):
    return lambda law: function(law, q, *args)

  cases = [
    (scalar(bounds.list_matching_probability, 3), p, tangent),
    (scalar(bounds.list_matching_probability), drafts, drafts * tangent),
    (
      lambda law: bounds.optimal_list_acceptance(law, q, 3, replace=False),
      p,
      tangent,
    ),
  ]
  with jax.enable_x64(True):
    for function, law, direction in cases:
      # Of second order: the double step adds three times the error; of first
      # order it would add it once. Roundings, 1e-16 over the step, vanish.
      numeric, twice = (
        (
          float(function(law + step * direction))
          - float(function(law - step * direction))
        )
        / (2 * step)
        for step in (2.0**-12, 2.0**-11)
      )
      gradient = jax.jit(jax.grad(function))(jnp.asarray(law))
      found = np.vdot(gradient, direction)
      assert abs(found - numeric) < abs(twice - numeric) / 2


def test_gradients_stay_finite_at_zeros_and_points():
  wide = np.array([0.9, 0.1 - 1e-9, 1e-9, 0.0, 0.0])
  pairs = ((P, Q), (POINT, Q), (Q, POINT), (wide, Q), (P, P))
  p, q = (jnp.array(laws, jnp.float32) for laws in zip(*pairs, strict=True))
  for function in (
    bounds.list_matching_probability,
    bounds.conditional_list_matching_bound,
    bounds.optimal_list_acceptance,
  ):
    gradient = jax.grad(
      lambda p, q, f=function: jnp.sum(f(p, q, 3)), argnums=(0, 1)
    )
    for part in jax.jit(jax.vmap(gradient))(p, q):
      assert bool(jnp.isfinite(part).all())


def test_half_precision_laws_are_laws():
  p = jnp.asarray(_laws(5, 200, 5), jnp.bfloat16)
  for row in p:
    assert 0 <= float(bounds.total_variation(row, p[0])) <= 1


def test_functions_map():
  laws = jnp.asarray(_laws(7, 4, 5), jnp.float32)
  mapped = jax.jit(
    jax.vmap(lambda p, q: bounds.list_matching_probability(p, q, 4))
  )(laws, laws[::-1])
  loop = [
    bounds.list_matching_probability(p, q, 4)
    for p, q in zip(laws, laws[::-1], strict=True)
  ]
  error = _roundings(bounds.list_matching_probability, laws[0], laws[-1], 4)
  np.testing.assert_allclose(mapped, loop, rtol=0, atol=error)


def test_compression_error_bound_is_proposition_4():
  density = np.array([[3.0, -1.0], [0.0, 2.0], [np.inf, -np.inf]])
  bound = bounds.compression_error_bound(density, 4)
  expected = 1 - (1 / (2 + 2**density / 4)).sum(axis=-1)
  error = floats.apart(
    lambda density: bounds.compression_error_bound(density, 4), density[:2]
  )
  np.testing.assert_allclose(bound, expected, rtol=0, atol=error)
  single = bounds.compression_error_bound(np.array([200.0]), 2)
  assert float(single) == 1.0  # 2^200 overflows float32
  gradient = jax.grad(lambda i: bounds.compression_error_bound(i, 2))(
    jnp.array([200.0])
  )
  assert bool(jnp.isfinite(gradient).all())


@pytest.mark.parametrize('num_messages', [1, 2, 3])
def test_codebook_error_bound_is_theorem_2_over_all_labels(num_messages):
  rng = np.random.default_rng(0)
  q, p = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), 2)
  size = len(q)
  # Of both sides; of one message a term is missing, whose logarithm is -inf.
  error = _roundings(bounds.conditional_list_matching_bound, p, q)
  error += _roundings(bounds.codebook_error_bound, q, p.T, max(num_messages, 2))
  for j in range(size):
    exact, total, rivalry = 0.0, 0, 0.0
    for others in itertools.product(range(num_messages), repeat=size - 1):
      tags = np.insert(others, j, 0)
      kept = np.where(tags == 0, p, 0)
      kept = kept / kept.sum(1, keepdims=True)
      exact += 1 - bounds.conditional_list_matching_bound(kept, q)[j]
      rivalry += q[j] / kept[:, j]
      total += 1
    bound = float(bounds.codebook_error_bound(q[j], p[:, j], num_messages))
    assert bound >= exact / total - error
    # Jensen alone is between them: the mean taken inside.
    inside = 1 - np.sum(1 / (len(p) + rivalry / total))
    assert abs(bound - inside) < error
    if num_messages == 1:
      assert abs(bound - exact / total) < error
    if num_messages > 1:
      # Control: the limit of many candidates lacks the first term.
      density = np.log2(q[j] / p[:, j])
      assert bounds.compression_error_bound(density, num_messages) < bound


def test_codebook_error_bound_at_its_edges():
  def bound(q, p):
    return float(bounds.codebook_error_bound(q, np.array(p), 4))

  assert bound(1.0, [0.0, 0.0]) == 1.0  # no decoder can hold it
  assert bound(0.0, [0.5]) == 0.0
  assert 0.5 < bound(1.0, [0.0, 1.0]) < 1.0
  for bad in ((1.5, [0.5]), (0.5, [-0.1]), (np.nan, [0.5])):
    with pytest.raises(ValueError, match=r'lie in \[0, 1\]'):
      bound(*bad)
  with pytest.raises(ValueError, match=r'\(2,\), and an axis'):
    bounds.codebook_error_bound(np.ones(2), np.ones(2), 4)
  with pytest.raises(ValueError, match='got 0'):
    bounds.codebook_error_bound(np.ones(2), np.ones((2, 1)), 0)


@pytest.mark.parametrize(
  'p, q, num_drafts, message',
  [
    ([0.5, -0.5, 1.0], [0.2, 0.3, 0.5], 2, '-0.5'),
    ([0.5, np.nan, 0.5], [0.2, 0.3, 0.5], 2, 'nan'),
    ([0.0, 0.0, 0.0], [0.2, 0.3, 0.5], 2, 'sum to 1, got 0.0'),
    ([0.2, 0.3, 0.6], [0.2, 0.3, 0.5], 2, '1.1'),
    ([0.2, 0.3, 0.5], [0.2, 0.8], 2, r'\(3,\) and \(2,\)'),
    ([[[1.0]]], [1.0], 1, r'\(1, 1, 1\)'),
    ([], [], 1, r'\(0,\)'),
    ([0.2, 0.8], [0.2, 0.8], 0, 'got 0'),
    ([0.2, 0.8], [0.2, 0.8], 2.0, '2.0'),
    ([0.2, 0.8], [0.2, 0.8], None, 'None'),
    ([[0.2, 0.8]] * 3, [0.2, 0.8], 2, '3 rows but num_drafts is 2'),
  ],
)
def test_bad_laws_are_refused_by_name(p, q, num_drafts, message):
  for function in (
    bounds.list_matching_probability,
    bounds.list_matching_bound,
    bounds.conditional_list_matching_bound,
  ):
    with pytest.raises(ValueError, match=message):
      function(np.array(p), np.array(q), num_drafts)


def test_other_bad_values_are_refused():
  with pytest.raises(ValueError, match='nan'):
    bounds.compression_error_bound(np.array([np.nan]), 2)
  with pytest.raises(ValueError, match='0'):
    bounds.compression_error_bound(np.zeros(2), 0)
  with pytest.raises(ValueError, match=r'\(\)'):
    bounds.compression_error_bound(np.float32(1), 2)
  with pytest.raises(ValueError, match=r'\(3, 5\)'):
    bounds.optimal_list_acceptance(DRAFTS['different'], Q, 3)


def test_quadrature_rules_are_converged(monkeypatch):
  p, q = _laws(8, 2, 30, concentration=0.2)
  rule = bounds._log_nodes
  with jax.enable_x64(True):
    laws = jnp.asarray(p)[None], jnp.asarray(q)

    def integrals(p, q):
      rescue = bounds._rescue_integral(p, q, bounds._profile(p, q), 5)
      return rescue, bounds._outside_prefix_probabilities(p[0], 5)

    coarse = jax.jit(integrals)(*laws)

    def shifted(*args):  # by half a step: as good, and independent
      times, weights = rule(*args)
      shift = jnp.exp(weights / times / 2)
      return times * shift, weights * shift

    monkeypatch.setattr(bounds, '_log_nodes', shifted)
    fine = jax.jit(lambda *laws: integrals(*laws))(*laws)
    rules = bounds._rescue_integral, bounds._outside_prefix_probabilities
    errors = [WIDE + 2 * floats.promised(rule, 'float64') for rule in rules]
    for ours, other, error in zip(coarse, fine, errors, strict=True):
      np.testing.assert_allclose(ours, other, rtol=0, atol=error)
    # The larger the prefix, the rarer an arrival outside.
    assert bool((jnp.diff(coarse[1]) < errors[1]).all())


@pytest.mark.parametrize('count', [1, 3])
def test_rejection_schemes_agree_with_the_slow_twins(count):
  for seed in range(4):
    p, q = np.random.default_rng(seed).dirichlet(np.ones(5), 2)
    q[seed] = 0
    q /= q.sum()
    laws = jnp.asarray(p, jnp.float32), jnp.asarray(q, jnp.float32)
    for function, expected in (
      (
        bounds.specinfer_probability,
        reference.specinfer_probability([p] * count, q),
      ),
      (bounds.spectr_probability, reference.spectr_probability(p, q, count)),
    ):
      error = _roundings(function, *laws, count)
      assert abs(float(function(*laws, count)) - expected) < error


def test_equal_and_disjoint_laws():
  p, q = jnp.array([0.3, 0.7, 0, 0]), jnp.array([0, 0, 0.5, 0.5])
  for name in ('specinfer_probability', 'spectr_probability'):
    value = getattr(bounds, name)
    assert value(p, p, 2) == 1 and value(p, q, 2) == 0
