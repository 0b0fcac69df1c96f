"""The codec on a finite alphabet: laws, matches, bounds, labels, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds, compression, gumbel
from listcoupling.compression import codec
from tests import statistics
from tests.small_laws import logits

N, K, TRIALS = 6, 3, 20_000
Q = np.array([0.35, 0.25, 0.2, 0.1, 0.1, 0.0])
P = np.array(
  [
    [0.1, 0.4, 0.2, 0.2, 0.05, 0.05],
    [0.3, 0.1, 0.1, 0.1, 0.4, 0.0],
    [0.05, 0.15, 0.5, 0.1, 0.1, 0.1],
  ]
)
LABELS = np.array([0, 1, 0, 1, 1, 0])


@functools.partial(jax.jit, static_argnames=('num_decoders', 'shared_race'))
def _run(key, labels, num_decoders=K, shared_race=False):
  """TRIALS uses: index [R], message [R], found [R, K]."""
  options = dict(num_decoders=num_decoders, shared_race=shared_race)

  def one(key):
    index, message = compression.encode(key, logits(Q), labels, **options)
    found = jax.vmap(
      lambda k, w: compression.decode(
        key, w, labels, message, decoder=k, **options
      )
    )(jnp.arange(num_decoders), logits(P[:num_decoders]))
    return index, message, found

  return jax.vmap(one)(jax.random.split(key, TRIALS))


@pytest.fixture(scope='module')
def drawn():
  return [np.asarray(x) for x in _run(jax.random.key(1), LABELS)]


@pytest.fixture(scope='module')
def unlabelled():
  return [np.asarray(x) for x in _run(jax.random.key(2), np.zeros(N, int))]


def test_the_encoder_follows_its_law(drawn):
  index, message, _ = drawn
  statistics.assert_law(index, Q)
  statistics.assert_not_law(index, P[0] + 1e-3)
  np.testing.assert_array_equal(message, LABELS[index])


def test_decoders_stay_within_the_label(drawn):
  _, message, found = drawn
  for m in (0, 1):
    for k in range(K):
      possible = np.flatnonzero(np.where(LABELS == m, P[k], 0))
      assert set(found[message == m, k]) == set(possible)


def test_decoders_follow_their_laws_without_labels(unlabelled):
  index, message, found = unlabelled
  assert not message.any()
  for k in range(K):
    statistics.assert_law(found[:, k], P[k])
    statistics.assert_not_law(found[:, k], P[k - 1] + 1e-3)


def test_decoders_are_independent_of_each_other(unlabelled):
  found = unlabelled[2]
  joint = np.outer(P[0], P[1]).ravel()
  statistics.assert_law(found[:, 0] * N + found[:, 1], joint)


def test_match_rate_is_the_exact_one_without_labels(unlabelled):
  index, _, found = unlabelled
  matches = (found == index[:, None]).any(1).sum()
  exact = float(bounds.list_matching_probability(P, Q, K))
  statistics.assert_proportion(matches, TRIALS, exact)
  one = float(bounds.list_matching_probability(P[:1], Q, 1))
  assert abs(statistics.proportion_z(matches, TRIALS, one)) > statistics.SIGMAS


def _tight_bound(j):
  """P[match | Y = j] >= sum_k 1 / (K + sum_i (q_j p_i/p_j - q_i)+)."""
  total = 0.0
  for p in np.where(LABELS == LABELS[j], P, 0):
    if p[j] > 0:
      total += 1 / (K + np.maximum(Q[j] * p / p[j] - Q, 0).sum())
  return total


def test_match_rate_obeys_the_conditional_bound(drawn):
  index, _, found = drawn
  hit = (found == index[:, None]).any(1)
  for j in np.flatnonzero(Q):
    here = index == j
    z = statistics.proportion_z(hit[here].sum(), here.sum(), _tight_bound(j))
    assert z > -statistics.SIGMAS, (j, z)


def test_another_key_at_the_decoders_breaks_the_bound():
  keys = jax.random.split(jax.random.key(4), 4000)
  found = jax.vmap(
    lambda a, b: (
      compression.encode(a, logits(Q), LABELS, num_decoders=1)[0],
      compression.decode(b, logits(Q), LABELS, 0, decoder=0, num_decoders=1),
    )
  )(keys, keys[::-1])
  zero = np.asarray(found[0] == 0)
  hits = np.asarray(found[1])[zero] == 0
  # With the right key P[match | Y = 0] = 1 here: p is q within the label.
  alone = Q[0] / Q[LABELS == 0].sum()
  statistics.assert_proportion(hits.sum(), hits.size, alone)
  z = statistics.proportion_z(hits.sum(), hits.size, _tight_bound(0))
  assert z < -statistics.SIGMAS


def test_a_shared_race_is_one_race():
  index, message, found = _run(jax.random.key(5), LABELS, shared_race=True)
  alone = _run(jax.random.key(5), LABELS, num_decoders=1)
  np.testing.assert_array_equal(index, alone[0])
  np.testing.assert_array_equal(message, alone[1])
  np.testing.assert_array_equal(found[:, 0], alone[2][:, 0])
  # The first of K races is the shared one, whose winner is independent of when
  # it comes: alike if it comes first, else by chance.
  apart = _run(jax.random.key(5), LABELS)[0]
  alike = 1 / K + (1 - 1 / K) * (Q**2).sum()
  statistics.assert_proportion(np.sum(apart == index), TRIALS, alike)
  statistics.assert_law(index, Q)


@pytest.mark.parametrize('shared_race', [False, True])
def test_one_use_by_hand(shared_race):
  key = jax.random.key(8)
  streams = [0] * K if shared_race else range(K)
  noise = np.stack([gumbel.exponential(key, N, k) for k in streams])
  options = dict(num_decoders=K, shared_race=shared_race)
  with np.errstate(divide='ignore'):
    expected = (noise.min(0) / Q).argmin()
    index, message = compression.encode(key, logits(Q), LABELS, **options)
    assert index == expected and message == LABELS[expected]
    found = []
    for k in range(K):
      times = noise[k] / np.where(LABELS == message, P[0], 0)
      found.append(times.argmin())
      assert found[-1] == compression.decode(
        key, logits(P[0]), LABELS, message, decoder=k, **options
      )
  assert (len(set(found)) == 1) == shared_race  # on this key


GROUPED = np.array([0, 1, 2, 3, 3, 0])  # two messages of two groups


@functools.cache
def _grouped():
  """TRIALS uses with K = 4 in two groups: index, message [R], found [R, 4]."""
  options = dict(num_decoders=4, num_groups=2)
  laws = logits(P[[0, 1, 2, 0]])

  @jax.jit
  @jax.vmap
  def one(key):
    index, message = compression.encode(key, logits(Q), GROUPED, **options)
    found = jax.vmap(
      lambda k, w: compression.decode(
        key, w, GROUPED, message, decoder=k, **options
      )
    )(jnp.arange(4), laws)
    return index, message, found

  out = one(jax.random.split(jax.random.key(12), TRIALS))
  return [np.asarray(x) for x in out]


def test_groups_keep_the_law_and_send_the_label_but_the_group():
  index, message, found = _grouped()
  statistics.assert_law(index, Q)
  np.testing.assert_array_equal(message, GROUPED[index] // 2)
  for k in range(4):
    np.testing.assert_array_equal(
      GROUPED[found[:, k]], message * 2 + k % 2, err_msg=str(k)
    )


def test_decoders_of_one_group_run_races_of_their_own():
  _, message, found = _grouped()
  ones = message == 1
  for k in (1, 3):  # label 3: candidates 3 and 4
    law = np.where(GROUPED == 3, P[[0, 1, 2, 0][k]], 0)
    # A message of 1 says nothing of race k // 2 beyond its label.
    assert set(found[ones, k]) == set(np.flatnonzero(law))
  # One race would never show 3 to decoder 1, which likes it less, and 4 to 3.
  pairs = set(map(tuple, found[ones][:, [1, 3]].tolist()))
  assert pairs == {(3, 3), (3, 4), (4, 3), (4, 4)}


def test_groups_by_hand():
  key = jax.random.key(8)
  noise = np.stack([gumbel.exponential(key, N, k) for k in range(2)])
  options = dict(num_decoders=4, num_groups=2)
  with np.errstate(divide='ignore'):
    index, message = compression.encode(key, logits(Q), GROUPED, **options)
    assert index == (noise.min(0) / Q).argmin()
    assert message == GROUPED[index] // 2
    for k in range(4):
      own = GROUPED == 2 * int(message) + k % 2
      wanted = (noise[k // 2] / np.where(own, P[0], 0)).argmin()
      assert wanted == compression.decode(
        key, logits(P[0]), GROUPED, message, decoder=k, **options
      )


def test_match_rate_of_groups_obeys_the_bound_for_random_labels():
  """iid labels: that of the group's K / G decoders with L G messages."""
  count, trials = 40, 6000
  rng = np.random.default_rng(3)
  q, *p = rng.dirichlet(np.full(count, 0.3), 5)
  p = 0.9 * np.stack(p) + 0.1 * q  # [K, N]

  @functools.partial(jax.jit, static_argnames='num_groups')
  def run(keys, num_groups):
    def one(key):
      race_key, label_key = jax.random.split(key)
      named = compression.random_labels(
        label_key, count, 4, num_groups=num_groups
      )
      options = dict(num_decoders=4, num_groups=num_groups)
      index, message = compression.encode(race_key, logits(q), named, **options)
      found = [
        compression.decode(
          race_key, logits(p[k]), named, message, decoder=k, **options
        )
        for k in range(4)
      ]
      return index, (jnp.stack(found) == index).any()

    return jax.vmap(one)(keys)

  for num_groups in (1, 2, 4):
    keys = jax.random.split(jax.random.key(num_groups), trials)
    index, match = (np.asarray(x) for x in run(keys, num_groups))
    bound = np.asarray(
      bounds.codebook_error_bound(
        q[index], p[:, index].T, 4, num_groups=num_groups
      )
    )
    excess = 1 - match - bound
    error = excess.std() / np.sqrt(trials)
    assert -0.25 < excess.mean() < statistics.SIGMAS * error, num_groups
    # Control: with 16 times the messages the bound would be broken.
    loose = np.asarray(
      bounds.codebook_error_bound(
        q[index], p[:, index].T, 256, num_groups=num_groups
      )
    )
    assert (1 - match - loose).mean() > statistics.SIGMAS * error


def test_a_group_without_candidates_of_the_message_takes_those_of_others():
  named = np.array([0, 1, 2, 2, 1, 0])  # message 1 has none of group 1
  options = dict(decoder=1, num_decoders=2, num_groups=2)
  keys = jax.random.split(jax.random.key(6), TRIALS)
  found = jax.vmap(
    lambda key: compression.decode(key, logits(P[0]), named, 1, **options)
  )(keys)
  statistics.assert_law(found, np.where(named // 2 == 1, P[0], 0))


def test_a_label_without_weight_is_decoded_by_the_label_alone():
  keys = jax.random.split(jax.random.key(6), TRIALS)
  for weights in (jnp.where(LABELS == 0, 0.0, -jnp.inf), jnp.full(N, -jnp.inf)):
    found = jax.vmap(
      lambda key, w=weights: compression.decode(
        key, w, LABELS, 1, decoder=1, num_decoders=2
      )
    )(keys)
    statistics.assert_law(found, LABELS == 1)
    statistics.assert_not_law(found, (LABELS == 1) * (1 + 0.2 * (Q > 0.2)))


def test_impossible_rows_inside_jit_give_minus_one():
  none = jnp.full(N, -jnp.inf)
  index, message = jax.jit(
    lambda w: compression.encode(jax.random.key(0), w, LABELS, num_decoders=2)
  )(none)
  assert index == -1 and message == -1
  found = jax.jit(
    lambda m: compression.decode(
      jax.random.key(0), logits(Q), LABELS, m, decoder=0, num_decoders=2
    )
  )(9)
  assert found == -1


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_low_precision_weights_are_raised_at_the_door(dtype):
  weights = logits(Q).astype(dtype)
  keys = jax.random.split(jax.random.key(3), 50)
  run = jax.vmap(
    lambda key, w: compression.encode(key, w, LABELS, num_decoders=2)[0],
    (0, None),
  )
  np.testing.assert_array_equal(
    run(keys, weights), run(keys, weights.astype(jnp.float32))
  )


_BAD = [
  (dict(key=jax.random.PRNGKey(0)), 'key'),
  (dict(key=jax.random.split(jax.random.key(0))), 'key'),
  (dict(log_weights=jnp.zeros((2, N))), 'log_weights'),
  (dict(log_weights=jnp.zeros(0), labels=np.zeros(0, int)), 'log_weights'),
  (dict(log_weights=np.zeros(N, int)), 'float'),
  (dict(log_weights=jnp.zeros(N).at[2].set(jnp.nan)), 'nan'),
  (dict(log_weights=jnp.zeros(N).at[2].set(jnp.inf)), 'inf'),
  (dict(labels=LABELS[:-1]), 'labels'),
  (dict(labels=LABELS * 0.5), 'labels'),
  (dict(labels=LABELS - 1), 'labels'),
  (dict(labels=np.where(LABELS, LABELS, 2**31)), 'from 0 to 2.31 - 1'),
  (dict(num_decoders=0), 'num_decoders'),
  (dict(num_decoders=2.0), 'num_decoders'),
  (dict(num_groups=0), 'num_groups'),
  (dict(num_groups=1.0), 'num_groups'),
  (dict(num_decoders=3, num_groups=2), 'divide num_decoders = 3, got 2'),
  (dict(num_decoders=3, num_groups=3), 'none in group 2; make them with'),
]


@pytest.mark.parametrize('change, message', _BAD)
def test_bad_input_is_refused_by_both_sides(change, message):
  good = dict(
    key=jax.random.key(0), log_weights=jnp.zeros(N), labels=LABELS,
    num_decoders=2,
  )  # fmt: skip
  compression.encode(**good)
  compression.decode(**good, message=1, decoder=1)
  with pytest.raises(ValueError, match=message):
    compression.encode(**{**good, **change})
  with pytest.raises(ValueError, match=message):
    compression.decode(**{**good, **change}, message=1, decoder=0)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(message=2), 'message must be the label of some candidate, got 2'),
    (dict(message=-1), 'message'),
    (dict(message=0.0), 'message'),
    (dict(message=jnp.zeros(2, int)), 'message'),
    (dict(decoder=2), 'decoder must be in 0..1'),
    (dict(decoder=-1), 'decoder'),
    (dict(decoder=0.0), 'decoder'),
  ],
)
def test_bad_message_or_decoder_is_refused(change, message):
  good = dict(message=1, decoder=0)
  key, weights = jax.random.key(0), jnp.zeros(N)
  with pytest.raises(ValueError, match=message):
    compression.decode(
      key, weights, LABELS, num_decoders=2, **{**good, **change}
    )


def test_an_encoder_without_candidates_is_refused():
  impossible = jnp.full(N, -jnp.inf)
  with pytest.raises(ValueError, match='-inf'):
    compression.encode(jax.random.key(0), impossible, LABELS, num_decoders=1)


def test_float64_weights_keep_their_differences_under_an_offset():
  weights = np.log(np.array([0.35, 0.25, 0.2, 0.1, 0.1, 1e-9])) + 1e8
  key = gumbel.seed_key(3)
  both = [
    compression.encode(key, w, LABELS, num_decoders=2)
    for w in (weights, weights - 1e8)
  ]
  assert int(both[0].index) == int(both[1].index)
  decoded = [
    compression.decode(key, w, LABELS, 1, decoder=1, num_decoders=2)
    for w in (weights, weights - 1e8)
  ]
  assert int(decoded[0]) == int(decoded[1])
  # In float32 the offset leaves nothing of the differences.
  assert len(set(weights.astype(np.float32).tolist())) <= 2


def test_a_gradient_taken_around_the_codec_sees_constants():
  labels = jnp.array([0, 1, 0, 1])

  def loss(log_weights):
    key = jax.random.key(0)
    index, message = compression.encode(
      key, log_weights, labels, num_decoders=2
    )
    guess = compression.decode(
      key, log_weights, labels, message, decoder=1, num_decoders=2
    )
    return log_weights[index] + 10 * log_weights[guess]

  weights = jnp.array([0.0, 0.1, 0.2, 0.3])
  gradient = jax.jit(jax.grad(loss))(weights)
  assert sorted(set(gradient.tolist()) - {0}) in ([1, 10], [11])
  assert gradient.sum() == 11


KEY = jax.random.key(11)


@pytest.mark.parametrize('num_messages', [1, 3, 8])
def test_random_labels_are_uniform(num_messages):
  drawn = codec.random_labels(KEY, 30_000, num_messages)
  assert drawn.dtype == jnp.int32
  statistics.assert_law(drawn, np.ones(num_messages))


def test_the_uniform_check_sees_a_bias():
  drawn = codec.random_labels(KEY, 30_000, 8)
  statistics.assert_not_law(drawn, [1.2, 1, 1, 1, 1, 1, 1, 1])
  statistics.assert_not_law(drawn // 2 * 2, np.ones(8))


def test_random_labels_are_independent():
  drawn = np.asarray(codec.random_labels(KEY, 30_001, 3))
  statistics.assert_law(drawn[1:] * 3 + drawn[:-1], np.ones(9))


def test_a_label_depends_on_its_index_alone():
  few, many = (codec.random_labels(KEY, n, 5) for n in (10, 1000))
  np.testing.assert_array_equal(few, many[:10])
  traced = jax.jit(lambda n: codec.random_labels(KEY, 10, n))(5)
  np.testing.assert_array_equal(few, traced)


def test_interval_labels_are_a_modulo_quantiser():
  u = np.array([-0.51, -0.5, -0.01, 0.0, 0.49, 0.5, 1.0, 1.49, 1.5])
  found = codec.interval_labels(jnp.asarray(u), 0.5, 3)
  np.testing.assert_array_equal(found, [1, 2, 2, 0, 0, 1, 2, 2, 0])
  moved = codec.interval_labels(jnp.asarray(u), 0.5, 3, offset=0.5)
  np.testing.assert_array_equal(moved, (np.asarray(found) + 1) % 3)


def _balanced(count, num_candidates, num_messages):
  keys = jax.random.split(KEY, count)
  return np.asarray(
    jax.vmap(lambda k: codec.balanced_labels(k, num_candidates, num_messages))(
      keys
    )
  )


@pytest.mark.parametrize('num_candidates, num_messages', [(12, 4), (11, 4)])
def test_balanced_labels_are_balanced(num_candidates, num_messages):
  drawn = _balanced(4000, num_candidates, num_messages)
  counts = (drawn[..., None] == np.arange(num_messages)).sum(1)
  low = num_candidates // num_messages
  assert counts.min() == low
  assert counts.max() == low + bool(num_candidates % num_messages)
  # Control: iid labels are not.
  iid = codec.random_labels(KEY, num_candidates * 100, num_messages)
  iid = np.asarray(iid).reshape(100, num_candidates)
  assert (iid[..., None] == np.arange(num_messages)).sum(1).min() < low


def test_each_balanced_label_is_uniform_and_two_repel():
  drawn = _balanced(20_000, 6, 3)
  for place in (0, 5):
    statistics.assert_law(drawn[:, place], np.ones(3))
  pairs = drawn[:, 1] * 3 + drawn[:, 4]
  law = np.where(np.eye(3), 1 / 5, 2 / 5).ravel()  # 1 of 5 others is alike
  statistics.assert_law(pairs, law)
  statistics.assert_not_law(pairs, np.ones(9))
  # What N leaves over falls on a random label, not on the first.
  drawn = _balanced(20_000, 4, 3)
  extra = (drawn[..., None] == np.arange(3)).sum(1).argmax(1)
  statistics.assert_law(extra, np.ones(3))


def _neighbour_labels(num_messages, size):
  rng = np.random.default_rng(0)
  point = rng.normal(size=(200, size)).astype(np.float32) * 3
  here = codec.lattice_labels(jnp.asarray(point), 0.5, num_messages)
  moved = [
    codec.lattice_labels(
      jnp.asarray(point + 0.5 * np.eye(size, dtype=np.float32)[d]),
      0.5,
      num_messages,
    )
    for d in range(size)
  ]
  return np.asarray(here), np.asarray(moved)


@pytest.mark.parametrize('num_groups', [2, 3])
def test_labels_with_groups_are_those_of_all_messages_and_groups(num_groups):
  """L messages with G groups number the labels of L G messages anew."""
  u = jax.random.normal(KEY, (500, 2))
  count = 4 * num_groups
  for make in (
    lambda m, g: codec.random_labels(KEY, 500, m, num_groups=g),
    lambda m, g: codec.balanced_labels(KEY, 500, m, num_groups=g),
    lambda m, g: codec.interval_labels(u[:, 0], 0.3, m, 0.1, num_groups=g),
    lambda m, g: codec.lattice_labels(
      u, 0.3, m, codec.lattice_dither(KEY, 0.3, m, 2, num_groups=g),
      num_groups=g,
    ),
    lambda m, g: codec.kmeans_labels(u, u[:count], num_groups=g),
  ):  # fmt: skip
    grouped = np.asarray(make(4, num_groups))
    np.testing.assert_array_equal(grouped, make(count, 1))
    assert set(grouped // num_groups) == set(range(4))
    assert set(grouped % num_groups) == set(range(num_groups))


@pytest.mark.parametrize('num_messages', [2, 4, 64])
@pytest.mark.parametrize('size', [1, 2, 4])
def test_neighbouring_cubes_differ(num_messages, size):
  here, moved = _neighbour_labels(num_messages, size)
  assert (here != moved).all()
  assert here.min() >= 0 and here.max() < num_messages
  iid = np.random.default_rng(1).integers(0, num_messages, moved.shape)
  assert (here == iid).any()  # the control: iid labels do collide


def test_lattice_labels_of_one_dimension_are_interval_labels():
  u = jax.random.normal(KEY, (500,))
  one = codec.lattice_labels(u[:, None], 0.3, 5, jnp.array([0.7]))
  np.testing.assert_array_equal(one, codec.interval_labels(u, 0.3, 5, 0.7))


@pytest.mark.parametrize(
  'num_messages, size, squared', [(5, 2, 5), (13, 2, 13), (8, 4, 3), (32, 4, 6)]
)
def test_points_of_one_label_are_far_apart(num_messages, size, squared):
  """5 = |(2, 1)|^2 and 13 = |(3, 2)|^2 are the best there are."""
  a = np.array(codec.lattice_multipliers(num_messages, size))
  grid = np.stack(np.meshgrid(*[np.arange(-4, 5)] * size), -1)
  grid = grid.reshape(-1, size)
  same = (grid @ a % num_messages == 0) & (grid != 0).any(1)
  assert (grid[same] ** 2).sum(1).min() == squared
  plain = (grid @ np.ones(size, int) % num_messages == 0) & (grid != 0).any(1)
  assert (grid[plain] ** 2).sum(1).min() == 2 < squared


def test_dither_makes_lattice_labels_uniform():
  point = jnp.array([[0.2, -1.3]])

  def label(key, num_dithers):
    offset = codec.lattice_dither(key, 0.4, num_dithers, 2)
    return codec.lattice_labels(point, 0.4, 6, offset)[0]

  keys = jax.random.split(KEY, 20_000)
  drawn = jax.vmap(lambda k: label(k, 6))(keys)
  statistics.assert_law(drawn, np.ones(6))
  short = jax.vmap(lambda k: label(k, 1))(keys)  # control: too short a dither
  statistics.assert_not_law(short, np.ones(6))


def test_cells_are_the_nearest_centres():
  latents = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.9, 5.0]])
  centres = jnp.array([[1.9, 0.0], [0.0, 0.1], [jnp.inf, jnp.inf]])
  found = codec.kmeans_labels(latents, centres)
  np.testing.assert_array_equal(found, [1, 0, 1])
  # Nearest in the Euclidean sense: 8 < 9, though 4 steps are more than 3.
  corner = codec.kmeans_labels(
    jnp.zeros((1, 2)), jnp.array([[3.0, 0.0], [2.0, 2.0]])
  )
  assert corner.tolist() == [1]


def test_far_candidates_do_not_overflow():
  far = jnp.full((1, 2), 2.0**30)
  found = codec.lattice_labels(far, 1.0, 5)
  assert codec.lattice_multipliers(5, 2) == (1, 2)
  assert found.tolist() == [(2**30 + 2 * 2**30) % 5]


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: codec.random_labels(KEY, 0, 2), 'num_candidates'),
    (lambda: codec.random_labels(KEY, 4, 0), 'num_messages'),
    (lambda: codec.random_labels(KEY, 4, 2.5), 'num_messages'),
    (lambda: codec.random_labels(jax.random.PRNGKey(0), 4, 2), 'key'),
    (lambda: codec.interval_labels(jnp.zeros((2, 2)), 1.0, 2), 'candidates'),
    (lambda: codec.interval_labels(jnp.zeros(2), 0.0, 2), 'width'),
    (lambda: codec.interval_labels(jnp.zeros(2), 1.0, -1), 'num_messages'),
    (
      lambda: codec.interval_labels(jnp.zeros(2), 1, 2, jnp.zeros(3)),
      'offset',
    ),
    (lambda: codec.balanced_labels(KEY, 4, 0), 'num_messages'),
    (lambda: codec.balanced_labels(KEY, 0, 2), 'num_candidates'),
    (lambda: codec.lattice_labels(jnp.zeros(3), 1.0, 2), 'candidates'),
    (lambda: codec.lattice_labels(jnp.zeros((3, 2)), -1.0, 2), 'width'),
    (lambda: codec.lattice_labels(jnp.zeros((3, 2)), 1.0, 0), 'num_messages'),
    (lambda: codec.lattice_dither(KEY, 0.0, 2, 2), 'width'),
    (lambda: codec.kmeans_labels(jnp.eye(2), jnp.zeros((4, 3))), 'shape'),
    (
      lambda: codec.kmeans_labels(jnp.full((3, 2), jnp.nan), jnp.eye(2)),
      'NaN',
    ),
    (lambda: codec.random_labels(KEY, 4, 2, num_groups=0), 'num_groups'),
    (lambda: codec.lattice_labels(jnp.eye(2), 1.0, 2, num_groups=0), 'groups'),
    (
      lambda: codec.kmeans_labels(jnp.eye(3), jnp.eye(3), num_groups=2),
      '3 ce',
    ),
  ],
)
def test_bad_input_is_refused_by_name(call, message):
  with pytest.raises(ValueError, match=message):
    call()
