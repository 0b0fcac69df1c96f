"""The binary source: enumeration, the codec on the same words, and groups."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import compression
from listcoupling.compression import binary
from tests import statistics

KEY = jax.random.key(23)
# Words of no structure, [2, 2, 2], some equally near to some sequences.
WORDS = np.array([[[1, 14], [0, 7]], [[4, 11], [9, 5]]])
FLIPS = (0.1, 0.35)


def _distance(x, y):
  return bin(x ^ y).count('1')


def _nearest(words, x):
  away = [_distance(int(w), x) for w in words]
  return [int(w) for w, d in zip(words, away) if d == min(away)]


def _by_enumeration(words, flips, num_bits):
  """Every source, every noise, every way in which ties may fall."""
  total, every = np.zeros(3), range(2**num_bits)
  num_groups = words.shape[1]
  for x, *seen in itertools.product(every, *(every for _ in flips)):
    chance = 2.0**-num_bits
    for y, p in zip(seen, flips):
      wrong = _distance(x, y)
      chance *= p**wrong * (1 - p) ** (num_bits - wrong)
    sent = _nearest(words.reshape(-1), x)
    for word in sent:
      message = np.argwhere(words == word)[0][0]
      answers = [
        _nearest(words[message, k % num_groups], y) for k, y in enumerate(seen)
      ]
      ways = list(itertools.product(*answers))
      for way in ways:
        error = [_distance(x, w) / num_bits for w in way]
        found = np.array([min(error), np.mean(error), max(error)])
        total += chance / len(sent) / len(ways) * found
  return total


@pytest.mark.parametrize('num_groups', [1, 2])
def test_errors_are_those_of_every_case(num_groups):
  words = WORDS.reshape(2, num_groups, -1)
  found = binary.errors(words, FLIPS, 4)
  # Half a unit of the twelve digits of an error; and of a sum of 16 ** 3 cases.
  error = 0.5e-12 + statistics.rounding(16**3, dtype=np.float64)
  np.testing.assert_allclose(
    found, _by_enumeration(words, FLIPS, 4), rtol=0, atol=error
  )


def _codec_errors(words, flips, num_bits, trials):
  """Errors [R, K] of the codec, its races so steep that the nearest wins."""
  rng = np.random.default_rng(5)
  x = rng.integers(0, 2**num_bits, trials)
  flip = rng.random((trials, len(flips), num_bits)) < np.array(flips)[:, None]
  seen = x[:, None] ^ flip @ (1 << np.arange(num_bits))
  flat, num_groups = words.reshape(-1), words.shape[1]
  labels = np.repeat(np.arange(words[..., 0].size), words.shape[2])
  options = dict(num_decoders=len(flips), num_groups=num_groups)

  def weights(y):
    return -60 * np.bitwise_count(y[..., None] ^ flat).astype(np.float32)

  def use(key, source, sides):
    # Own races for all: shared ones would let ties fall alike.
    own = jax.random.split(key, 1 + len(flips))
    sent = compression.encode(own[0], source, labels, **options)
    return jnp.stack(
      [
        compression.decode(
          own[k + 1], sides[k], labels, sent.message, decoder=k, **options
        )
        for k in range(len(flips))
      ]
    )

  index = jax.jit(jax.vmap(use))(
    jax.random.split(KEY, trials), weights(x), weights(seen)
  )
  return np.bitwise_count(x[:, None] ^ flat[np.asarray(index)]) / num_bits


@pytest.mark.parametrize('num_groups', [1, 2])
def test_the_codec_has_these_errors(num_groups):
  words = binary.nested_words(4, 2, num_groups, 4 // num_groups)
  error = _codec_errors(words, FLIPS, 4, 20_000)
  expected = binary.errors(words, FLIPS, 4)
  for name, found in zip(
    expected._fields, (error.min(1), error.mean(1), error.max(1))
  ):
    statistics.assert_mean(found, getattr(expected, name))
  other = binary.nested_words(4, 2, 3 - num_groups, 4 // (3 - num_groups))
  wrong = binary.errors(other, FLIPS, 4).best  # control
  with pytest.raises(AssertionError):
    statistics.assert_mean(error.min(1), wrong)


def test_codes_are_nested_and_bins_side_by_side():
  words = binary.nested_words(8, 4, 4, 4)  # [4, 4, 4]
  assert len(np.unique(words)) == words.size
  code = words[0, 0]
  for part in (code, words[0].ravel(), words.ravel()):  # linear, one in another
    sums = np.unique(part[:, None] ^ part)
    np.testing.assert_array_equal(sums, np.sort(part))

  def apart(one, other):
    distance = np.bitwise_count(one[..., None] ^ other[..., None, :])
    return distance[distance > 0].min()

  assert apart(code, code) == 4  # a bin of length 8: 4, the best there is
  for group in (1, 2):
    assert apart(words[0, 0], words[0, group]) <= 2
  shifts = words ^ words[..., :1]  # every bin is the first, moved
  assert {tuple(sorted(s)) for s in shifts.reshape(-1, 4)} == {
    tuple(sorted(code))
  }


def _best_bins(num_messages, flips, num_groups):
  sizes = [2**b for b in range(9) if num_messages * num_groups << b <= 256]
  return min(
    binary.errors(
      binary.nested_words(8, num_messages, num_groups, size), flips, 8
    ).best
    for size in sizes
  )


def test_some_groups_beat_one_and_one_each():
  one, two, four = (_best_bins(2, (0.2,) * 4, g) for g in (1, 2, 4))
  assert two < min(one, four)  # exact values all
  # Control: where every decoder sees well one group for all is best.
  one, two, four = (_best_bins(2, (0.05,) * 4, g) for g in (1, 2, 4))
  assert one < two < four


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: binary.nested_words(6, 2, 2, 2), 'num_bits must be a power'),
    (lambda: binary.nested_words(8, 3, 2, 2), 'num_messages must be a power'),
    (lambda: binary.nested_words(4, 4, 4, 2), 'got 4 for 32'),
    (lambda: binary.nested_words(16, 2, 2, 2), 'at most 10'),
    (lambda: binary.errors(WORDS, [0.1, 0.6], 4), r'in \[0, 1/2\]'),
    (lambda: binary.errors(WORDS, [], 4), 'flip_probabilities'),
    (lambda: binary.errors(WORDS, [0.1] * 3, 4), 'num_groups must divide'),
    (lambda: binary.errors(WORDS, FLIPS, 3), r'must lie in 0\.\.7'),
    (lambda: binary.errors(WORDS[0], FLIPS, 4), 'L, G, B'),
    (lambda: binary.errors(WORDS + 0.5, FLIPS, 4), 'integers .* got float64'),
    (lambda: binary.errors(WORDS > 5, FLIPS, 4), 'integers .* got bool'),
    (lambda: binary.errors(WORDS.astype(object), FLIPS, 4), 'real numbers'),
    (lambda: binary.errors(WORDS, FLIPS, 11), 'at most 10, got 11'),
  ],
)
def test_bad_input_is_refused_by_name(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_no_other_size_of_bins_is_better():
  size, least = binary.best_bins(8, 2, 2, (0.2,) * 4)
  others = {
    b: binary.errors(binary.nested_words(8, 2, 2, b), (0.2,) * 4, 8)
    for b in (1, 2, 4, 8, 16, 32, 64)
  }
  assert others[size] == least == min(others.values())
  assert len({x.best for x in others.values()}) > 2  # the size matters
  with pytest.raises(ValueError, match='num_groups must be a power of two'):
    binary.best_bins(8, 2, 3, (0.2,) * 3)
  with pytest.raises(ValueError, match='words, got 2 for 8'):
    binary.best_bins(2, 2, 4, (0.2,) * 4)
