"""Lattices: nearest points, cosets and conditional means by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from listcoupling.compression import lattices
from tests import floats, statistics

KEY = jax.random.key(17)
_CODES = [
  ('Z', 1, 6),
  ('Z', 3, 12),
  ('A2', 2, 12),
  ('D4', 4, 16),
  ('E8', 8, 16),
]
# Second moments per dimension of cells of volume 1, Conway and Sloane, Table 1.
_MOMENTS = {'Z': 1 / 12, 'A2': 0.0801875, 'D4': 0.0766032, 'E8': 0.0716821}


def _points(lattice, size, reach=2):
  """Points of the lattice within `reach` in each coordinate, by definition."""
  whole = np.array(
    list(itertools.product(range(-reach, reach + 1), repeat=size))
  )
  if lattice == 'Z':
    return whole.astype(float)
  if lattice == 'A2':
    return whole @ np.array([[1, 0], [0.5, 0.75**0.5]])
  even = whole[whole.sum(1) % 2 == 0].astype(float)
  return even if lattice == 'D4' else np.concatenate([even, even + 0.5])


def _error(size):
  """Most by which a nearest point that is none is further away, squared.

  Of each coordinate a difference, twice in its square, the square and the sum,
  below 1: of this distance and of two that were compared.
  """
  return statistics.rounding(3 * 4 * size)


@pytest.mark.parametrize('lattice, size, _', _CODES)
def test_nearest_points_are_nearest(lattice, size, _):
  rng = np.random.default_rng(0)
  x = rng.uniform(-0.6, 0.6, (60, size)).astype(np.float32)
  found = np.asarray(lattices.nearest_point(x, lattice))
  reach = 1 if size == 8 else 2
  every = _points(lattice, size, reach)
  distance = np.array([((every - y) ** 2).sum(1).min() for y in x])
  error = _error(size)
  np.testing.assert_allclose(
    ((x - found) ** 2).sum(1), distance, rtol=0, atol=error
  )

  def off(points):  # how far from the lattice
    return max(np.abs(every - y).sum(1).min() for y in points)

  assert off(found) < error
  assert lattice == 'Z' or off(np.round(x)) > error  # control


@pytest.mark.parametrize('lattice, size, _', _CODES)
def test_second_moments_are_the_known_ones(lattice, size, _):
  x = np.random.default_rng(1).uniform(-40, 40, (20_000, size))
  x = x.astype(np.float32)
  miss = x - np.asarray(lattices.nearest_point(x, lattice))
  code = lattices.make_code(lattice, 1, num_groups=1, size=size)
  statistics.assert_mean(
    (miss**2).mean(1) / code.volume ** (2 / size), _MOMENTS[lattice]
  )
  for num_points in (64, 2048):
    code = lattices.make_code(
      lattice, 1, num_groups=1, size=size, num_points=num_points
    )
    each = (code.cell**2).mean(1) / code.volume ** (2 / size)
    error = each.std() / np.sqrt(len(each))  # of as many random points
    assert abs(each.mean() - _MOMENTS[lattice]) < error  # they lie evenly
    inside = lattices.nearest_point(code.cell * (1 - _error(size)), lattice)
    assert not np.asarray(inside).any()
  for other in set(_MOMENTS) - {lattice}:  # control: the cell of another
    assert abs(each.mean() - _MOMENTS[other]) > error


def _code(lattice, size, count):
  return lattices.make_code(lattice, count // 2, num_groups=2, size=size)


@pytest.mark.parametrize('lattice, size, count', _CODES)
def test_cosets_are_numbered_alike_modulo_the_sublattice(lattice, size, count):
  code = _code(lattice, size, count)
  rng = np.random.default_rng(2)
  z = rng.integers(-9, 10, (300, size))
  points = (z @ code.basis).astype(np.float32)
  number = np.asarray(lattices._place(jnp.asarray(points), code)[0])
  assert set(number) <= set(range(count)) and len(set(number)) > count // 2
  shift = rng.integers(-3, 4, (300, size)) @ code.basis @ code.similarity
  moved = lattices._place(jnp.asarray(points + shift, jnp.float32), code)[0]
  np.testing.assert_array_equal(moved, number)
  leaders = lattices._place(jnp.asarray(code.leaders, jnp.float32), code)[0]
  np.testing.assert_array_equal(leaders, np.arange(count))
  index = abs(np.linalg.det(code.similarity))
  # And not finer than the cosets say. Of each row, of two numbers, a quotient,
  # a product and a difference; and the product of all rows.
  error = statistics.rounding(2 * size, count, np.float64)
  assert index == pytest.approx(count, rel=0, abs=error)


@pytest.mark.parametrize('lattice, size, count', _CODES)
def test_a_decoder_takes_the_nearest_of_its_coset(lattice, size, count):
  code = _code(lattice, size, count)
  rng = np.random.default_rng(3)
  source = rng.normal(size=(200, size)).astype(np.float32)
  mean = (source + 0.3 * rng.normal(size=source.shape)).astype(np.float32)
  offset = lattices.dither(KEY, (200,), code)
  period = 2.5
  message = lattices.encode(source, offset, period, code)
  delta = period / (count * code.volume) ** (1 / size)
  steps = rng.integers(-2, 3, (4000, size)) @ code.basis @ code.similarity
  sent = lattices.nearest_point(source / delta - offset, lattice) + offset
  whole = lattices.nearest_codeword(source, offset, period, code)
  # The scale, a root and a quotient, and the product with it.
  np.testing.assert_allclose(whole, sent * delta, rtol=statistics.rounding(3))
  # Of a coordinate, up to 4, a product with a matrix and 8 roundings beside it;
  # of a place's and a word's, twice in squares.
  moved = statistics.rounding(size + 8, 4)
  error = 2 * 2 * size * 4 * moved
  best = np.inf
  for k in range(4):  # two decoders in each of the two groups
    word = np.asarray(
      lattices.decode(message, mean, offset, period, code, decoder=k)
    )
    number = np.asarray(lattices.number(word, offset, period, code))
    coset = np.asarray(message) * 2 + k % 2
    np.testing.assert_array_equal(number % count, coset)
    # A step along an edge of the sublattice is another number, two are none.
    edge = (code.hermite[k % size] @ code.basis * delta).astype(np.float32)
    for turns in (1, 2):
      other = lattices.number(word + turns * edge, offset, period, code)
      assert np.all((np.asarray(other) == number) == (turns == 2))
    assert number.max() < count * 2**size
    for r in range(0, 200, 20):  # no other of the coset is nearer
      others = word[r] + steps * delta
      least = ((others - mean[r]) ** 2).sum(1).min()
      assert ((word[r] - mean[r]) ** 2).sum() <= least + error
    own = lattices.decode(message, source, offset, period, code, decoder=k)
    best = np.minimum(best, np.abs(own - sent * delta).max(1))
  # Who owns the sent codeword and knows the source takes it, unless the
  # other end of its own coset is nearer: never, as it is nearest of all.
  assert best.max() < moved


def test_messages_are_uniform_under_the_dither_and_not_without():
  code = lattices.make_code('A2', 6, num_groups=2)
  source = jnp.broadcast_to(jnp.array([0.3, -0.7]), (20_000, 2))
  offset = lattices.dither(KEY, (20_000,), code)
  message = lattices.encode(source, offset, 2.0, code)
  statistics.assert_law(message, np.ones(6))
  short = lattices.encode(source, offset / 4, 2.0, code)
  statistics.assert_not_law(short, np.ones(6))


@pytest.mark.parametrize('reach', [0, 1])
def test_conditional_mean_in_one_dimension(reach):
  period, variance = 1.4, 0.3
  word, mean = np.float32([[[0.4], [-2], [0.9]], [[0.1], [0], [1]]])

  def reconstruct(word, mean, num_points=64):
    code = lattices.make_code('Z', 2, num_groups=2, num_points=num_points)
    return lattices.reconstruct(
      word, mean, jnp.full(3, variance), period, code, reach=reach
    )

  found = reconstruct(word, mean)
  law = stats.norm(mean, variance**0.5)
  centre = word + period * np.arange(-reach, reach + 1)
  low, high = centre - period / 8, centre + period / 8
  mass = (law.cdf(high) - law.cdf(low)).sum(1, keepdims=True)
  rise = (law.pdf(low) - law.pdf(high)).sum(1, keepdims=True)
  # Of second order: twice the step adds three times the error; of first order
  # it would add it once.
  error = np.abs(found - reconstruct(word, mean, 32)) / 2
  error = error + floats.apart(reconstruct, word, mean)
  assert (np.abs(found - mean - variance * rise / mass) < error).all()


def test_conditional_mean_of_a_cell_in_two_dimensions():
  code = lattices.make_code('A2', 4, num_groups=1, num_points=2000)
  x = np.random.default_rng(4).uniform(-1, 1, (40_000, 2)).astype(np.float32)
  x = x[~np.asarray(lattices.nearest_point(x, 'A2')).any(1)]
  delta = 3.0 / (4 * code.volume) ** 0.5
  mean, variance = np.array([0.5, -0.2]), 0.2
  density = np.exp(-((x * delta - mean) ** 2).sum(1) / (2 * variance))
  weight = density[:, None] / density.sum()
  wanted = (x * delta * weight).sum(0)
  # Standard error of a mean over random points, here and of the code's own.
  error = np.sqrt((weight**2 * (x * delta - wanted) ** 2).sum(0))
  error = error * np.sqrt(1 + len(x) / 2000)
  found = lattices.reconstruct(
    jnp.zeros((1, 2)), mean[None], jnp.full(1, variance), 3.0, code
  )
  assert (np.abs(found[0] - wanted) < statistics.SIGMAS * error).all()
  assert (np.abs(wanted) > statistics.SIGMAS * error).all()  # 0 is no answer


@pytest.mark.parametrize('lattice, size', [('Z', 2), ('A2', 2), ('D4', 4)])
def test_cosets_of_one_message_lie_side_by_side(lattice, size):
  code = lattices.make_code(lattice, 4, num_groups=4, size=size)
  squared = {'Z': 1, 'A2': 1, 'D4': 2}[lattice]  # an integer of any two points
  near = 0
  for message in range(4):
    group = code.leaders[4 * message : 4 * message + 4]
    for one, two in itertools.pairwise(group):
      miss = (one - two) @ np.linalg.inv(code.similarity)
      miss = miss - np.asarray(lattices.nearest_point(miss, lattice))
      near += round(((miss @ code.similarity) ** 2).sum()) == squared
  assert near >= 10  # of 12 pairs


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda c: lattices.make_code('A3', 2, num_groups=1), "'A3'"),
    (lambda c: lattices.make_code('A2', 5, num_groups=1), 'got 5 . 1'),
    (lambda c: lattices.make_code('D4', 4, num_groups=2), 'index of a subl'),
    (lambda c: lattices.make_code('E8', 4, num_groups=4, size=4), 'sion 8'),
    (lambda c: lattices.make_code('Z', 0, num_groups=1), 'num_messages'),
    (lambda c: lattices.make_code('Z', 2, num_groups=0), 'num_groups'),
    (lambda c: lattices.make_code('Z', 5000, num_groups=1), 'at most 4096'),
    (lambda c: lattices.nearest_point(jnp.zeros(3), 'A2'), 'dimension 3'),
    (lambda c: lattices.encode(jnp.zeros((1, 3)), jnp.zeros((1, 2)), 1.0, c),
     'source must have the 2 dimensions'),
    (lambda c: lattices.encode(jnp.zeros((1, 2)), jnp.zeros(1), 1.0, c),
     'offset'),
    (lambda c: lattices.encode(jnp.zeros((1, 2)), jnp.zeros((1, 2)), 0.0, c),
     'period must be positive and finite, got 0.0'),
    (lambda c: lattices.decode(0, jnp.zeros(3), jnp.zeros(2), 1.0, c,
                               decoder=0), 'mean'),
    (lambda c: lattices.decode(0, jnp.zeros(2), jnp.zeros(2), -1.0, c,
                               decoder=0), 'period'),
    (lambda c: lattices.number(
      jnp.zeros(30), jnp.zeros(30), 1.0,
      lattices.make_code('Z', 4, num_groups=1, size=30)), 'than 2.31'),
    (lambda c: lattices.dither(jax.random.PRNGKey(0), (), c), 'key'),
  ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call, message):
  code = lattices.make_code('A2', 2, num_groups=2)
  with pytest.raises(ValueError, match=message):
    call(code)
