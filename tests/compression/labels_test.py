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
  ],
)
def test_bad_input_is_refused_by_name(call, message):
  with pytest.raises(ValueError, match=message):
    call()
