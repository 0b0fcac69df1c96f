import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import listcoupling as lc
from listcoupling import bounds, coupling, gumbel
from tests import statistics
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


@pytest.mark.parametrize('num_drafts', [1, 2, 4, 8])
def test_gumbel_list_sampling_has_its_laws_and_match(num_drafts):
  sample = draw_pairs(coupling.gumbel_list_sampling, num_drafts=num_drafts)
  exact = float(bounds.list_matching_probability(P, Q, num_drafts))
  check_list(sample, P, Q, exact)
  bound = float(bounds.list_matching_bound(P, Q, num_drafts))
  assert bound <= exact  # its first term
  # Controls: another law, and the match rate of one draft more.
  statistics.assert_not_law(sample.target, 0.95 * Q + 0.05 * R)
  other = float(bounds.list_matching_probability(P, Q, num_drafts + 1))
  z = statistics.proportion_z(sample.is_match.sum(), TRIALS, other)
  assert num_drafts > 2 or abs(z) > statistics.SIGMAS


def test_gumbel_list_sampling_with_different_drafts():
  drafts = np.stack([P, R, Q[::-1]])
  sample = draw_pairs(coupling.gumbel_list_sampling, drafts)
  exact = float(bounds.list_matching_probability(drafts, Q, 3))
  check_list(sample, drafts, Q, exact)


def test_proposals_of_a_list_are_independent():
  sample = draw_pairs(coupling.gumbel_list_sampling, num_drafts=2)
  pairs = sample.proposals[:, 0] * P.size + sample.proposals[:, 1]
  statistics.assert_law(pairs, np.outer(P, P).ravel())


@pytest.mark.parametrize(
  'draw',
  [
    functools.partial(lc.gumbel_list_sampling, num_drafts=2),
    functools.partial(lc.shared_race_list_sampling, num_drafts=2),
    lc.gumbel_coupling,
    lc.maximal_coupling,
    lc.weighted_minhash_coupling,
    lambda key, p, q: lc.low_communication_coupling(key, p, q, max_bits=8)[0],
  ],
)
@pytest.mark.parametrize('party', [0, 1])
def test_a_gradient_taken_around_a_draw_sees_a_constant(draw, party):
  laws = [logits(P), logits(Q)]

  def reward(law):
    sample = draw(jax.random.key(3), *laws[:party], law, *laws[party + 1 :])
    factor = jnp.where(sample.is_match, 2.0, 3.0)
    return factor * law[0], factor

  gradient, factor = jax.jit(jax.grad(reward, has_aux=True))(laws[party])
  np.testing.assert_array_equal(gradient, factor * np.eye(P.size)[0])


def test_target_is_blind_to_the_drafts():
  key = jax.random.key(9)
  targets = [
    coupling.gumbel_list_sampling(
      key, logits(law), logits(Q), num_drafts=4
    ).target
    for law in (P, R, Q)
  ]
  assert len({int(target) for target in targets}) == 1


def test_match_given_the_target_meets_the_conditional_bound():
  sample = draw_pairs(coupling.gumbel_list_sampling, R, num_drafts=2)
  bound = np.asarray(bounds.conditional_list_matching_bound(R, Q, 2))
  for atom in np.flatnonzero(Q):
    chosen = sample.is_match[sample.target == atom]
    error = np.sqrt(bound[atom] * (1 - bound[atom]) / chosen.size)
    assert chosen.mean() > bound[atom] - statistics.SIGMAS * error


def test_gumbel_coupling():
  exact = float(bounds.gumbel_coupling_probability(P, Q))
  check_pair(draw_pairs(coupling.gumbel_coupling), P, Q, exact)


@pytest.mark.parametrize('num_drafts', [1, 3])
def test_shared_race_list(num_drafts):
  sample = draw_pairs(
    coupling.shared_race_list_sampling, R, num_drafts=num_drafts
  )
  statistics.assert_law(sample.target, Q)
  statistics.assert_law(sample.proposals[:, 0], R)
  for row in sample.proposals[:200]:
    assert len(set(row)) == num_drafts
  if num_drafts == 3:
    # Second draw without replacement: sum_i r_i r_j / (1 - r_i), i != j.
    second = np.array(
      [
        sum(R[i] * R[j] / (1 - R[i]) for i in range(5) if i != j)
        for j in range(5)
      ]
    )
    statistics.assert_law(sample.proposals[:, 1], second)
    statistics.assert_not_law(sample.proposals[:, 1], R)


def test_shared_race_list_beyond_the_support():
  sample = coupling.shared_race_list_sampling(
    jax.random.key(0),
    logits([0.5, 0, 0.5, 0]),
    logits([0, 0.5, 0, 0.5]),
    num_drafts=4,
  )
  assert sorted(sample.proposals.tolist()) == [-1, -1, 0, 2]
  assert not sample.is_match


def test_shared_race_list_holds_every_possible_atom_however_late():
  sample = coupling.shared_race_list_sampling(
    jax.random.key(0),
    jnp.array([0.0, -100.0, -200.0]),
    jnp.zeros(3),
    num_drafts=3,
  )
  assert sample.proposals.tolist() == [0, 1, 2] and sample.is_match


def _grouped_races(key, groups):
  """Winners of grouped streams, of the canonical noise, of the first group."""
  ranks, sizes = coupling.group_ranks(groups)
  streams = coupling.grouped_streams(
    key, 5, jnp.arange(3), ranks=ranks, group_sizes=sizes
  )
  canonical, live = gumbel.exponential(key, 5), groups == 0
  earliest = gumbel.earliest(jnp.where(live[:, None], streams, jnp.inf))
  return (
    gumbel.race(streams, logits(P)[None]),
    gumbel.race(canonical, logits(Q)),
    gumbel.race(earliest, logits(Q)),
  )


@pytest.mark.parametrize('groups', [[0, 0, 0], [0, 1, 0], [0, 1, 2]])
def test_grouped_streams_rebuild_independent_races(groups):
  proposals, target, from_group = statistics.draw(
    _grouped_races, jnp.array(groups), trials=TRIALS
  )
  np.testing.assert_array_equal(target, from_group)
  for k in range(3):
    statistics.assert_law(proposals[:, k], P)
  live = [k for k in range(3) if groups[k] == 0]
  if len(live) > 1:
    pairs = proposals[:, live[0]] * P.size + proposals[:, live[1]]
    statistics.assert_law(pairs, np.outer(P, P).ravel())
  matches = (proposals[:, live] == target[:, None]).any(axis=1).sum()
  exact = float(bounds.list_matching_probability(P, Q, len(live)))
  statistics.assert_proportion(matches, TRIALS, exact)


def test_grouped_streams_at_chosen_atoms_are_the_dense_ones():
  key = jax.random.key(1)
  atoms = jnp.array([[7, 3, 900], [2, 1, 0]])
  draw = functools.partial(
    coupling.grouped_streams,
    key,
    streams=jnp.array([2, 5]),
    ranks=jnp.array([1, 0]),
    group_sizes=jnp.array([3, 1]),
  )
  dense = draw(1000)
  for chosen, row in ((atoms, atoms), (atoms[0], jnp.tile(atoms[0], (2, 1)))):
    np.testing.assert_array_equal(
      jnp.take_along_axis(dense, row, axis=1), draw(chosen)
    )


VOCAB = 151_936


def _vocabulary_laws():
  """Hard laws at vocabulary scale, as logits, with coarse bins to test."""
  rng = np.random.default_rng(0)
  peaked = np.full(VOCAB, np.log(0.01 / (VOCAB - 1)))
  peaked[0] = np.log(0.99)
  holes = rng.normal(size=VOCAB) * 3
  holes[rng.random(VOCAB) < 0.5] = -np.inf
  near_point = np.full(VOCAB, -40.0)
  near_point[VOCAB - 1] = 30.0
  return {
    'peaked': peaked,
    'holes': holes,
    'near one point': near_point,
    'all equal': np.zeros(VOCAB),
    'normal': rng.normal(size=VOCAB) * 3 + 100,
  }


def _binned(law, samples, bins=16):
  """Samples and law over the top atom and `bins` spans of the rest."""
  law = np.exp(law - law.max())
  law /= law.sum()
  span = 1 + np.arange(VOCAB) * bins // VOCAB
  span[law.argmax()] = 0
  return span[samples], np.bincount(span, law, minlength=bins + 1)


@jax.jit
def _forth_and_back(keys, law, other):
  """Eight drafts of `law` for a target of `other`, and a target of `law`."""

  def one(key):
    forth = coupling.gumbel_list_sampling(key, law, other, num_drafts=8)
    back = coupling.gumbel_list_sampling(
      jax.random.fold_in(key, 1), other, law, num_drafts=8
    )
    return forth.proposals, back.target

  return jax.lax.map(one, keys)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('name', list(_vocabulary_laws()))
def test_laws_at_vocabulary_scale(name, dtype):
  laws = _vocabulary_laws()
  given, other = (jnp.asarray(laws[x]).astype(dtype) for x in (name, 'normal'))
  # What a bfloat16 law is, exactly.
  law = np.asarray(given.astype(jnp.float32), np.float64)
  keys = jax.random.split(jax.random.key(7), 160)
  drafted, target = map(np.asarray, _forth_and_back(keys, given, other))
  for samples in (drafted.ravel(), target):
    assert samples.min() >= 0 and np.isfinite(law[samples]).all()
    statistics.assert_law(*_binned(law, samples))
  if name == 'peaked':  # control: a tail of .04 is not taken for .01
    wrong = law.copy()
    wrong[0] = np.log(0.24)
    samples, _ = _binned(law, drafted.ravel(), bins=1)
    statistics.assert_not_law(samples, _binned(wrong, 0, bins=1)[1])


def test_traced_once_for_one_shape():
  flat = jnp.zeros(37)
  before = coupling._gumbel_list_sampling._cache_size()
  for seed in range(3):
    coupling.gumbel_list_sampling(
      jax.random.key(seed), flat + seed, flat, num_drafts=3
    )
  assert coupling._gumbel_list_sampling._cache_size() == before + 1


def test_impossible_rows_inside_jit_give_minus_one():
  impossible = jnp.full(4, -jnp.inf)
  fine = jnp.zeros(4)
  run = jax.jit(
    lambda p, q: coupling.gumbel_list_sampling(
      jax.random.key(0), p, q, num_drafts=2
    )
  )
  sample = run(impossible, fine)
  assert sample.proposals.tolist() == [-1, -1] and not sample.is_match
  sample = run(fine.at[0].set(jnp.nan), impossible)
  assert sample.target == -1 and not sample.is_match


@pytest.mark.parametrize('offset', [1e8, -1e8, 3e38])
@pytest.mark.parametrize('traced', [False, True])
def test_float64_logits_keep_their_law_under_any_offset(offset, traced):
  law = np.array([0.7, 0.2, 0.1])
  given = np.log(law) * max(1, abs(offset) * 1e-9) + offset
  law = np.exp(given - given.max())
  law /= law.sum()
  keys = jax.random.split(jax.random.key(0), TRIALS)

  def one(key, given):
    return coupling.gumbel_coupling(key, given, given).target

  if traced:
    with jax.enable_x64(True):
      samples = jax.jit(jax.vmap(one, (0, None)))(keys, jnp.asarray(given))
  else:
    samples = jax.jit(jax.vmap(lambda key: one(key, given)))(keys)
  statistics.assert_law(samples, law)
  if offset == 1e8:  # control: the law that float32 would leave
    statistics.assert_not_law(samples, np.ones(3) / 3)


def test_finite_logits_beyond_float32_are_finite():
  huge = np.array([1e39, 0.0, -1e300])
  pair = coupling.gumbel_coupling(KEY, huge, huge)
  assert pair.proposal == pair.target == 0
  with pytest.raises(ValueError, match='draft_logits .* got inf'):
    coupling.gumbel_coupling(KEY, np.array([np.inf, 0.0, 0.0]), huge)


KEY = jax.random.key(0)
LAW = jnp.zeros(3)


@pytest.mark.parametrize(
  ('arguments', 'num_drafts', 'message'),
  [
    ((jax.random.PRNGKey(0), LAW, LAW), 2, 'typed key'),
    ((jax.random.split(KEY), LAW, LAW), 2, r'\(2,\)'),
    ((KEY, LAW.at[1].set(jnp.nan), LAW), 2, 'draft_logits.*nan'),
    ((KEY, LAW, LAW.at[1].set(jnp.inf)), 2, 'target_logits.*inf'),
    ((KEY, LAW, jnp.full(3, -jnp.inf)), 2, 'every atom is -inf'),
    ((KEY, LAW, jnp.zeros(4)), 2, '3 and 4'),
    ((KEY, LAW, jnp.zeros((2, 3))), 2, r'\(2, 3\)'),
    ((KEY, jnp.zeros(0), jnp.zeros(0)), 2, r'\(0,\)'),
    ((KEY, jnp.zeros(3, int), LAW), 2, 'int32'),
    ((KEY, LAW, LAW), 0, 'at least 1, got 0'),
    ((KEY, LAW, LAW), 2.0, '2.0'),
    ((KEY, LAW, LAW), None, 'num_drafts must be given'),
    ((KEY, jnp.zeros((2, 3)), LAW), 3, '2 rows.*num_drafts is 3'),
  ],
)
def test_bad_input_is_named(arguments, num_drafts, message):
  with pytest.raises(ValueError, match=message):
    coupling.gumbel_list_sampling(*arguments, num_drafts=num_drafts)


def test_other_generators_and_flags_are_refused():
  key = jax.random.key(0, impl='rbg')
  with pytest.raises(ValueError, match='rbg'):
    coupling.gumbel_coupling(key, LAW, LAW)
  with jax.threefry_partitionable(False):
    with pytest.raises(ValueError, match='jax_threefry_partitionable'):
      coupling.gumbel_coupling(KEY, LAW, LAW)


def test_shared_race_needs_as_many_atoms_as_drafts():
  with pytest.raises(ValueError, match='at most the number of atoms 3, got 4'):
    coupling.shared_race_list_sampling(KEY, LAW, LAW, num_drafts=4)
