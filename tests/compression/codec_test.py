"""The codec on a finite alphabet: laws, matches, bounds and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds, compression, gumbel
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
  assert abs(statistics.proportion_z(matches, TRIALS, one)) > 5


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
  slack = []
  for j in np.flatnonzero(Q):
    here = index == j
    z = statistics.proportion_z(hit[here].sum(), here.sum(), _tight_bound(j))
    assert z > -5, (j, z)
    slack.append(hit[here].mean() - _tight_bound(j))
  assert min(slack) < 0.1  # the bound is near enough to mean something


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
  assert statistics.proportion_z(hits.sum(), hits.size, 0.99) < -5


def test_a_shared_race_is_one_race():
  index, message, found = _run(jax.random.key(5), LABELS, shared_race=True)
  alone = _run(jax.random.key(5), LABELS, num_decoders=1)
  np.testing.assert_array_equal(index, alone[0])
  np.testing.assert_array_equal(message, alone[1])
  np.testing.assert_array_equal(found[:, 0], alone[2][:, 0])
  apart = _run(jax.random.key(5), LABELS)
  assert np.mean(apart[0] == index) < 0.9
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
  assert 0.05 < np.mean(found[ones, 1] != found[ones, 3]) < 0.95


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
    assert -0.25 < excess.mean() < 5 * error, num_groups
    # Control: with 16 times the messages the bound would be broken.
    loose = np.asarray(
      bounds.codebook_error_bound(
        q[index], p[:, index].T, 256, num_groups=num_groups
      )
    )
    assert (1 - match - loose).mean() > 5 * error


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
