"""Labels: uniform, reproducible, refused by name when senseless."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.compression import labels
from tests import statistics

KEY = jax.random.key(11)


@pytest.mark.parametrize('num_messages', [1, 3, 8])
def test_random_labels_are_uniform(num_messages):
  drawn = labels.random_labels(KEY, 30_000, num_messages)
  assert drawn.dtype == jnp.int32
  statistics.assert_law(drawn, np.ones(num_messages))


def test_the_uniform_check_sees_a_bias():
  drawn = labels.random_labels(KEY, 30_000, 8)
  statistics.assert_not_law(drawn, [1.2, 1, 1, 1, 1, 1, 1, 1])
  statistics.assert_not_law(drawn // 2 * 2, np.ones(8))


def test_random_labels_are_independent():
  drawn = np.asarray(labels.random_labels(KEY, 30_001, 3))
  statistics.assert_law(drawn[1:] * 3 + drawn[:-1], np.ones(9))


def test_a_label_depends_on_its_index_alone():
  few, many = (labels.random_labels(KEY, n, 5) for n in (10, 1000))
  np.testing.assert_array_equal(few, many[:10])
  traced = jax.jit(lambda n: labels.random_labels(KEY, 10, n))(5)
  np.testing.assert_array_equal(few, traced)


def test_interval_labels_are_a_modulo_quantiser():
  u = np.array([-0.51, -0.5, -0.01, 0.0, 0.49, 0.5, 1.0, 1.49, 1.5])
  found = labels.interval_labels(jnp.asarray(u), 0.5, 3)
  np.testing.assert_array_equal(found, [1, 2, 2, 0, 0, 1, 2, 2, 0])
  moved = labels.interval_labels(jnp.asarray(u), 0.5, 3, offset=0.5)
  np.testing.assert_array_equal(moved, (np.asarray(found) + 1) % 3)


def _balanced(count, num_candidates, num_messages):
  keys = jax.random.split(KEY, count)
  return np.asarray(
    jax.vmap(lambda k: labels.balanced_labels(k, num_candidates, num_messages))(
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
  iid = labels.random_labels(KEY, num_candidates * 100, num_messages)
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
  here = labels.lattice_labels(jnp.asarray(point), 0.5, num_messages)
  moved = [
    labels.lattice_labels(
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
    lambda m, g: labels.random_labels(KEY, 500, m, num_groups=g),
    lambda m, g: labels.balanced_labels(KEY, 500, m, num_groups=g),
    lambda m, g: labels.interval_labels(u[:, 0], 0.3, m, 0.1, num_groups=g),
    lambda m, g: labels.lattice_labels(
      u, 0.3, m, labels.lattice_dither(KEY, 0.3, m, 2, num_groups=g),
      num_groups=g,
    ),
    lambda m, g: labels.kmeans_labels(u, u[:count], num_groups=g),
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
  one = labels.lattice_labels(u[:, None], 0.3, 5, jnp.array([0.7]))
  np.testing.assert_array_equal(one, labels.interval_labels(u, 0.3, 5, 0.7))


@pytest.mark.parametrize(
  'num_messages, size, squared', [(5, 2, 5), (13, 2, 13), (8, 4, 3), (32, 4, 6)]
)
def test_points_of_one_label_are_far_apart(num_messages, size, squared):
  """5 = |(2, 1)|^2 and 13 = |(3, 2)|^2 are the best there are."""
  a = np.array(labels.lattice_multipliers(num_messages, size))
  grid = np.stack(np.meshgrid(*[np.arange(-4, 5)] * size), -1)
  grid = grid.reshape(-1, size)
  same = (grid @ a % num_messages == 0) & (grid != 0).any(1)
  assert (grid[same] ** 2).sum(1).min() == squared
  plain = (grid @ np.ones(size, int) % num_messages == 0) & (grid != 0).any(1)
  assert (grid[plain] ** 2).sum(1).min() == 2 < squared


def test_dither_makes_lattice_labels_uniform():
  point = jnp.array([[0.2, -1.3]])

  def label(key, num_dithers):
    offset = labels.lattice_dither(key, 0.4, num_dithers, 2)
    return labels.lattice_labels(point, 0.4, 6, offset)[0]

  keys = jax.random.split(KEY, 20_000)
  drawn = jax.vmap(lambda k: label(k, 6))(keys)
  statistics.assert_law(drawn, np.ones(6))
  short = jax.vmap(lambda k: label(k, 1))(keys)  # control: too short a dither
  statistics.assert_not_law(short, np.ones(6))


def test_cells_are_the_nearest_centres():
  latents = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.9, 5.0]])
  centres = jnp.array([[1.9, 0.0], [0.0, 0.1], [jnp.inf, jnp.inf]])
  found = labels.kmeans_labels(latents, centres)
  np.testing.assert_array_equal(found, [1, 0, 1])
  # Nearest in the Euclidean sense: 8 < 9, though 4 steps are more than 3.
  corner = labels.kmeans_labels(
    jnp.zeros((1, 2)), jnp.array([[3.0, 0.0], [2.0, 2.0]])
  )
  assert corner.tolist() == [1]


def test_far_candidates_do_not_overflow():
  far = jnp.full((1, 2), 2.0**30)
  found = labels.lattice_labels(far, 1.0, 5)
  assert labels.lattice_multipliers(5, 2) == (1, 2)
  assert found.tolist() == [(2**30 + 2 * 2**30) % 5]


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: labels.random_labels(KEY, 0, 2), 'num_candidates'),
    (lambda: labels.random_labels(KEY, 4, 0), 'num_messages'),
    (lambda: labels.random_labels(KEY, 4, 2.5), 'num_messages'),
    (lambda: labels.random_labels(jax.random.PRNGKey(0), 4, 2), 'key'),
    (lambda: labels.interval_labels(jnp.zeros((2, 2)), 1.0, 2), 'candidates'),
    (lambda: labels.interval_labels(jnp.zeros(2), 0.0, 2), 'width'),
    (lambda: labels.interval_labels(jnp.zeros(2), 1.0, -1), 'num_messages'),
    (
      lambda: labels.interval_labels(jnp.zeros(2), 1, 2, jnp.zeros(3)),
      'offset',
    ),
    (lambda: labels.balanced_labels(KEY, 4, 0), 'num_messages'),
    (lambda: labels.balanced_labels(KEY, 0, 2), 'num_candidates'),
    (lambda: labels.lattice_labels(jnp.zeros(3), 1.0, 2), 'candidates'),
    (lambda: labels.lattice_labels(jnp.zeros((3, 2)), -1.0, 2), 'width'),
    (lambda: labels.lattice_labels(jnp.zeros((3, 2)), 1.0, 0), 'num_messages'),
    (lambda: labels.lattice_dither(KEY, 0.0, 2, 2), 'width'),
    (lambda: labels.kmeans_labels(jnp.eye(2), jnp.zeros((4, 3))), 'shape'),
    (
      lambda: labels.kmeans_labels(jnp.full((3, 2), jnp.nan), jnp.eye(2)),
      'NaN',
    ),
    (lambda: labels.random_labels(KEY, 4, 2, num_groups=0), 'num_groups'),
    (lambda: labels.lattice_labels(jnp.eye(2), 1.0, 2, num_groups=0), 'groups'),
    (
      lambda: labels.kmeans_labels(jnp.eye(3), jnp.eye(3), num_groups=2),
      '3 ce',
    ),
  ],
)
def test_bad_input_is_refused_by_name(call, message):
  with pytest.raises(ValueError, match=message):
    call()
