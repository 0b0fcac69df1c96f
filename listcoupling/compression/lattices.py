"""Dithered lattices as the codebook: no candidates, no races.

Not in Rowan, Phan, Khisti (2025), arXiv 2506.05632, whose setting this is: one
message out of L to K decoders with side information, the best of which counts.
The points of a scaled and dithered lattice are the codewords. They are numbered
by their cosets modulo a sublattice, 0..L G - 1, as candidates are by labels in
`codec`: the encoder takes the codeword nearest to the source and sends its
coset // G; decoder k owns coset message G + k mod G and takes the point of it
that is nearest to its own posterior mean. With G = K each decoder has cosets of
its own. In one dimension codeword i lies at (i + dither) delta, its coset is
i mod L G, and one coset returns every `period` = L G delta.

Nearest points by Conway and Sloane (1982), "Fast quantizing and decoding
algorithms for lattice quantizers and codes". The sublattices are similar to the
lattice (Z^D: a product of scaled Z), so that the decoders need no other
algorithm. Their indices are what L G can be:

    Z^D: any number, split into D factors;  A2: a^2 + a b + b^2;
    D4: s^4 and 4 s^4;  E8: s^8 and 16 s^8.

Legend: D dimensions, L messages, K decoders, G groups, M = L G cosets, P points
of a cell.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation

__all__ = [
  'Code',
  'LATTICES',
  'best_lattice',
  'decode',
  'dither',
  'encode',
  'make_code',
  'nearest_codeword',
  'nearest_point',
  'number',
  'reconstruct',
]


def __dir__():
  return __all__


LATTICES = ('Z', 'A2', 'D4', 'E8')
_SIZES = {'A2': 2, 'D4': 4, 'E8': 8}
_MAX_COSETS = 4096


def _nearest_z(x: jax.Array) -> jax.Array:
  return jnp.round(x)


def _nearest_d(x: jax.Array) -> jax.Array:
  """D_n: integer points of even sum; else the worst coordinate turns back."""
  point = jnp.round(x)
  miss = x - point
  worst = jnp.argmax(jnp.abs(miss), -1, keepdims=True)
  other = jnp.where(miss < 0, point - 1, point + 1)
  iota = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
  turned = jnp.where(iota == worst.astype(jnp.int32), other, point)
  is_odd = jnp.mod(jnp.sum(point, -1, keepdims=True), 2) == 1
  return jnp.where(is_odd, turned, point)


def _nearest_of_two(x, nearest, shift):
  """Nearest of a lattice and of its translate."""
  shift = jnp.broadcast_to(jnp.asarray(shift, jnp.float32), x.shape)
  one, two = nearest(x), nearest(x - shift) + shift
  closer = jnp.sum((x - two) ** 2 - (x - one) ** 2, -1, keepdims=True) < 0
  return jnp.where(closer, two, one)


def _nearest_e8(x: jax.Array) -> jax.Array:
  return _nearest_of_two(x, _nearest_d, 0.5)


def _nearest_a2(x: jax.Array) -> jax.Array:
  """A2 is a rectangular lattice of sides 1 and sqrt(3), and its centres."""
  sides = jnp.broadcast_to(jnp.array([1, 3**0.5], jnp.float32), x.shape)
  return _nearest_of_two(
    x, lambda y: jnp.round(y / sides) * sides, [0.5, 0.75**0.5]
  )


_NEAREST: dict[str, Callable] = {
  'Z': _nearest_z,
  'A2': _nearest_a2,
  'D4': _nearest_d,
  'E8': _nearest_e8,
}


def nearest_point(x: jax.Array, lattice: str) -> jax.Array:
  """Nearest point of a lattice, in its own scale.

  Args:
    x: [..., D].
    lattice: "Z" (any D), "A2", "D4" or "E8"; least distances between points
      are 1, 1, sqrt(2), sqrt(2).

  Returns:
    [..., D] float32.

  Raises:
    ValueError: for a lattice that is not known or of another dimension.

  Example:
    >>> nearest_point(jnp.array([.6, .1, 0., 0.]), 'D4').tolist()
    [0.0, 0.0, 0.0, 0.0]
  """
  _check_lattice(lattice, jnp.shape(x)[-1] if jnp.ndim(x) else 0)
  return _NEAREST[lattice](jnp.asarray(x, jnp.float32))


def _basis(lattice: str, size: int) -> np.ndarray:
  """Rows generate the lattice: [D, D]."""
  if lattice == 'A2':
    return np.array([[1, 0], [0.5, 0.75**0.5]])
  if lattice == 'D4':
    return np.array([[1, 1, 0, 0], [1, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1]])
  if lattice == 'E8':
    rows = np.eye(8) - np.eye(8, k=1)
    rows[6] = [0] * 5 + [1, 1, 0]
    rows[7] = -0.5
    return rows
  return np.eye(size)


def _factors(count: int, size: int) -> list[int]:
  """D factors of `count`, as equal as greed makes them."""
  factors = [1] * size
  divisor = 2
  primes = []
  while count > 1:
    while count % divisor == 0:
      primes.append(divisor)
      count //= divisor
    divisor += 1
  for prime in reversed(primes):
    factors[int(np.argmin(factors))] *= prime
  return factors


def _similarity(lattice: str, size: int, count: int) -> np.ndarray | None:
  """Matrix [D, D] that takes the lattice to a sublattice of index `count`."""
  if lattice == 'Z':
    return np.diag(np.array(_factors(count, size), float))
  if lattice == 'A2':  # the Eisenstein integers a + b w, w = e^(i pi / 3)
    reach = range(int(count**0.5) + 1)
    for a, b in itertools.product(reach, repeat=2):
      if a * a + a * b + b * b == count:
        x, y = a + b / 2, b * 0.75**0.5
        return np.array([[x, y], [-y, x]])
    return None
  half = size // 2
  for scale in range(1, int(count ** (1 / size)) + 2):
    if scale**size == count:
      return scale * np.eye(size)
    if scale**size * 2**half == count:  # (x, y) -> (x + y, x - y) in pairs
      return scale * np.kron(np.eye(half), [[1, 1], [1, -1]])
  return None


def _hermite(matrix: np.ndarray) -> np.ndarray:
  """Row-style Hermite normal form of a regular integer matrix [D, D]."""
  rows = matrix.astype(object).copy()
  size = len(rows)
  for i in range(size):
    while True:
      below = [r for r in range(i, size) if rows[r, i]]
      pivot = min(below, key=lambda r: abs(rows[r, i]))
      rows[[i, pivot]] = rows[[pivot, i]]
      for r in range(i + 1, size):
        rows[r] = rows[r] - (rows[r, i] // rows[i, i]) * rows[i]
      if not any(rows[i + 1 :, i]):
        break
    if rows[i, i] < 0:
      rows[i] = -rows[i]
  return rows.astype(np.int64)


def best_lattice(size: int, num_cosets: int) -> str:
  """The lattice with the roundest cells that can be split into such cosets.

  Args:
    size: D.
    num_cosets: L G.

  Returns:
    "A2", "D4" or "E8" where it has D dimensions and a sublattice of index
    L G; else "Z", which has one of any index.

  Example:
    >>> best_lattice(4, 16), best_lattice(4, 32)
    ('D4', 'Z')
  """
  validation.check_positive_int(size, 'size')
  validation.check_positive_int(num_cosets, 'num_cosets')
  for lattice, own in _SIZES.items():
    if own == size and _similarity(lattice, size, num_cosets) is not None:
      return lattice
  return 'Z'


class Code(NamedTuple):
  """A lattice, its sublattice, and the numbers of the cosets; see `make_code`.

  Numpy arrays: constants of what is compiled with them.
  """

  lattice: str
  num_messages: int  # L
  num_groups: int  # G
  basis: np.ndarray  # [D, D] rows generate the lattice
  similarity: np.ndarray  # [D, D] takes the lattice to the sublattice
  hermite: np.ndarray  # [D, D] the sublattice in coordinates of the basis
  number: np.ndarray  # [M] coset by its place in mixed radix
  leaders: np.ndarray  # [M, D] a point of each coset
  volume: float  # of a cell of the lattice
  cell: np.ndarray  # [P, D] points spread evenly over the cell around 0

  @property
  def size(self) -> int:
    """D."""
    return self.basis.shape[0]


def _tour(leaders: np.ndarray, distance: Callable) -> np.ndarray:
  """Order in which each coset follows one nearest to it: [M] places."""
  left = np.ones(len(leaders), bool)
  order = [0]
  for _ in range(len(leaders) - 1):
    left[order[-1]] = False
    away = np.where(left, distance(leaders - leaders[order[-1]]), np.inf)
    order.append(int(np.argmin(np.round(away, 4))))
  return np.array(order)


def _cell_points(lattice: str, basis: np.ndarray, count: int) -> np.ndarray:
  """[P, D]: a rank-1 rule over the fundamental cell, moved to the one of 0."""
  size = len(basis)
  if size == 1:
    return (np.arange(count)[:, None] + 0.5) / count - 0.5
  root = 2.0
  for _ in range(40):  # x^(D + 1) = x + 1: Roberts' additive recurrence
    root = (1 + root) ** (1 / (size + 1))
  steps = root ** -np.arange(1.0, size + 1)
  z = np.mod(0.5 + np.arange(count)[:, None] * steps, 1.0)
  x = (z @ basis).astype(np.float32)
  with jax.ensure_compile_time_eval():
    x = x - np.asarray(_NEAREST[lattice](jnp.asarray(x)))
  return np.concatenate([x, -x]) if count < 1024 else x


def make_code(
  lattice: str,
  num_messages: int,
  *,
  num_groups: int,
  size: int | None = None,
  num_points: int = 64,
) -> Code:
  """Numbers the cosets of a lattice.

  Those of one message follow each other, and coset i + 1 is nearest to coset i
  among those left: the G codewords of a message lie side by side.

  Args:
    lattice: "Z", "A2", "D4" or "E8".
    num_messages: L.
    num_groups: G; the number of decoders, or a divisor of it.
    size: D, for "Z" alone (default 1).
    num_points: P, of the quadrature of `decode`'s conditional mean.

  Returns:
    `Code`.

  Raises:
    ValueError: for a lattice that is not known, L G that is no index of a
      sublattice, or L, G or D below 1.

  Example:
    >>> make_code('Z', 4, num_groups=2).leaders[:, 0].astype(int).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
  """
  validation.check_positive_int(num_messages, 'num_messages')
  validation.check_positive_int(num_groups, 'num_groups')
  validation.check_positive_int(num_points, 'num_points')
  size = _SIZES.get(lattice, 1) if size is None else size
  validation.check_positive_int(size, 'size')
  _check_lattice(lattice, size)
  return _make_code(lattice, num_messages, num_groups, size, num_points)


@functools.cache
def _make_code(lattice, num_messages, num_groups, size, num_points) -> Code:
  count = num_messages * num_groups
  similarity = _similarity(lattice, size, count)
  if similarity is None or count > _MAX_COSETS:
    fit = [
      n
      for n in range(1, _MAX_COSETS + 1)
      if _similarity(lattice, size, n) is not None
    ][:8]
    raise ValueError(
      f'num_messages * num_groups must be the index of a sublattice similar to '
      f'{lattice} ({fit}, ...) and at most {_MAX_COSETS}, got {num_messages} * '
      f'{num_groups}.'
    )
  basis = _basis(lattice, size)
  hermite = _hermite(
    np.rint(basis @ similarity @ np.linalg.inv(basis)).astype(int)
  )
  radix = np.diag(hermite)
  places = np.stack(np.unravel_index(np.arange(count), radix), -1)
  leaders = places @ basis
  inverse = np.linalg.inv(similarity)

  def distance(x):
    with jax.ensure_compile_time_eval():
      y = jnp.asarray(x @ inverse, jnp.float32)
      miss = np.asarray(y - _NEAREST[lattice](y), np.float64)
    return np.linalg.norm(miss @ similarity, axis=-1)

  tour = np.arange(count) if size == 1 else _tour(leaders, distance)
  return Code(
    lattice, num_messages, num_groups, basis.astype(np.float32), similarity,
    hermite, np.argsort(tour).astype(np.int32), leaders[tour],
    float(abs(np.linalg.det(basis))), _cell_points(lattice, basis, num_points),
  )  # fmt: skip


def _place(point: jax.Array, code: Code) -> tuple[jax.Array, jax.Array]:
  """Coset of lattice points [..., D], and turns [..., D] from its leader.

  A turn is a step along a row of `code.hermite`. int32, both.
  """
  chex.assert_shape(point, (..., code.size))
  inverse = np.linalg.inv(code.basis.astype(np.float64)).astype(np.float32)
  exact = jax.lax.Precision.HIGHEST
  z = jnp.round(jnp.matmul(point, inverse, precision=exact)).astype(jnp.int32)
  place, turns = jnp.zeros(z.shape[:-1], jnp.int32), []
  for d in range(code.size):
    turns.append(jnp.floor_divide(z[..., d], int(code.hermite[d, d])))
    row = jnp.asarray(code.hermite[d], jnp.int32)
    z = z - turns[d][..., None] * jnp.broadcast_to(row, z.shape)
    place = place * int(code.hermite[d, d]) + z[..., d]
  return jnp.asarray(code.number)[place], jnp.stack(turns, -1)


def _scale(period, code: Code) -> jax.Array:
  """delta: one coset has one point in every volume period^D."""
  cosets = code.num_messages * code.num_groups
  unit = (cosets * code.volume) ** (1 / code.size)
  return jnp.asarray(period, jnp.float32) / np.float32(unit)


def dither(key: jax.Array, shape: tuple[int, ...], code: Code) -> jax.Array:
  """Uniform over a cell of the sublattice: all messages are equally likely.

  Args:
    key: typed key shared by encoder and decoders; consumed.
    shape: of the batch.
    code: see `make_code`.

  Returns:
    `[*shape, D]` float32, in the lattice's own scale.
  """
  validation.check_key(key)
  z = jax.random.uniform(key, (*shape, code.size), jnp.float32)
  sublattice = (code.basis @ code.similarity).astype(np.float32)
  return jnp.matmul(z, sublattice, precision=jax.lax.Precision.HIGHEST)


def encode(source, offset, period, code: Code) -> jax.Array:
  """Messages of sources: the coset of the nearest codeword, // G.

  Args:
    source: [..., D].
    offset: [..., D] from `dither`.
    period: [] edge of the cube whose volume one coset has to itself.
    code: see `make_code`; static.

  Returns:
    [...] int32 in 0..L - 1.

  Raises:
    ValueError: for sources of another dimension or a period that is not
      positive.

  Example:
    >>> code = make_code('Z', 4, num_groups=1)
    >>> encode(jnp.array([[.2], [1.1]]), jnp.zeros((2, 1)), 4., code).tolist()
    [0, 1]
  """
  point = _nearest_point(source, offset, period, code)
  return _place(point, code)[0] // code.num_groups


def _nearest_point(source, offset, period, code: Code) -> jax.Array:
  """[..., D] in the lattice's own scale, the dither taken off."""
  _check(source, offset, period, code, 'source')
  x = jnp.asarray(source, jnp.float32) / _scale(period, code)
  return _NEAREST[code.lattice](x - jnp.asarray(offset, jnp.float32))


def nearest_codeword(source, offset, period, code: Code) -> jax.Array:
  """Of all cosets together, the codeword nearest to a source.

  Args:
    source: [..., D].
    offset: as of `encode`, like all that follow.
    period: likewise.
    code: likewise.

  Returns:
    [..., D] float32.

  Example:
    >>> code = make_code('Z', 4, num_groups=1)
    >>> nearest_codeword(jnp.array([1.3]), jnp.zeros(1), 4., code).tolist()
    [1.0]
  """
  point = _nearest_point(source, offset, period, code)
  return (point + jnp.asarray(offset, jnp.float32)) * _scale(period, code)


def number(codeword, offset, period, code: Code) -> jax.Array:
  """Tells codewords apart: their coset, and which of its points they are.

  Args:
    codeword: [..., D] from `decode` or `nearest_codeword`.
    offset: the encoder's.
    period: the encoder's.
    code: the encoder's.

  Returns:
    [...] int32 from 0 to L G 2^D - 1; modulo L G it is the coset. Points of a
    coset have one number if they are an even number of steps apart along every
    edge of the sublattice.

  Raises:
    ValueError: for more than 2^31 numbers.

  Example:
    >>> code = make_code('Z', 4, num_groups=1)
    >>> word = jnp.array([[1.], [5.], [6.], [9.]])
    >>> number(word, jnp.zeros((4, 1)), 4., code).tolist()
    [1, 5, 6, 1]
  """
  _check(codeword, offset, period, code, 'codeword')
  count = code.num_messages * code.num_groups
  if count << code.size > 2**31:
    raise ValueError(
      f'codewords of {code.size} dimensions have L G 2^D = '
      f'{count << code.size} numbers, more than 2^31; number parts of them.'
    )
  word = jnp.asarray(codeword, jnp.float32) / _scale(period, code)
  coset, turns = _place(word - jnp.asarray(offset, jnp.float32), code)
  weights = jnp.asarray(2 ** np.arange(code.size), jnp.int32)
  odd = jnp.mod(turns, 2) * jnp.broadcast_to(weights, turns.shape)
  return coset + count * jnp.sum(odd, -1, dtype=jnp.int32)


def decode(message, mean, offset, period, code: Code, *, decoder) -> jax.Array:
  """The codeword of a decoder: of its coset, the nearest to its mean.

  Args:
    message: [...] integers in 0..L - 1; beyond, modulo L.
    mean: [..., D] posterior mean of the source, without the message.
    offset: the encoder's.
    period: the encoder's.
    code: the encoder's.
    decoder: [] or [...] integer k.

  Returns:
    [..., D] float32.

  Raises:
    ValueError: as `encode`.

  Example:
    >>> code = make_code('Z', 4, num_groups=1)
    >>> decode(jnp.array([1]), jnp.array([[4.6]]), jnp.zeros((1, 1)), 4., code,
    ...        decoder=0).tolist()
    [[5.0]]
  """
  _check(mean, offset, period, code, 'mean')
  delta = _scale(period, code)
  offset = jnp.asarray(offset, jnp.float32)
  group = jnp.mod(jnp.asarray(decoder, jnp.int32), code.num_groups)
  message = jnp.mod(jnp.asarray(message, jnp.int32), code.num_messages)
  coset = message * code.num_groups + group
  leader = jnp.asarray(code.leaders, jnp.float32)[coset] + offset  # [..., D]
  exact = jax.lax.Precision.HIGHEST
  similarity = code.similarity.astype(np.float32)
  inverse = np.linalg.inv(code.similarity).astype(np.float32)
  miss = jnp.asarray(mean, jnp.float32) / delta - leader
  turns = _NEAREST[code.lattice](jnp.matmul(miss, inverse, precision=exact))
  return (leader + jnp.matmul(turns, similarity, precision=exact)) * delta


def reconstruct(codeword, mean, variance, period, code: Code, *, reach=0):
  """Conditional mean of the source in the cells of a decoder's codewords.

  The posterior is N(mean, variance I); the source lies in the cell of the
  codeword or, for reach > 0, of another of its coset near by.

  Args:
    codeword: [..., D] from `decode`.
    mean: [..., D].
    variance: [] or [...].
    period: the encoder's.
    code: the encoder's.
    reach: 0, the cell of the codeword alone; or 1, also those of the nearest
      other points of its coset, which is better in mean squared error and
      worse in the mean of decibels.

  Returns:
    [..., D] float32.
  """
  _check(codeword, mean, period, code, 'codeword')
  delta = _scale(period, code)
  exact = jax.lax.Precision.HIGHEST
  steps = _neighbours(code.lattice, code.size, reach) @ code.similarity
  points = (steps[:, None] + code.cell[None]).reshape(-1, code.size)
  points = jnp.asarray(points, jnp.float32) * delta  # [P', D]
  start = jnp.asarray(codeword, jnp.float32) - jnp.asarray(mean, jnp.float32)
  # |start + point|^2 up to what all points share.
  cross = jnp.matmul(start, points.T, precision=exact)
  square = jnp.broadcast_to(jnp.sum(points**2, -1), cross.shape)
  variance = jnp.asarray(variance, jnp.float32)
  weight = jax.nn.softmax(-(cross + square / 2) / variance[..., None], -1)
  return codeword + jnp.matmul(weight, points, precision=exact)


@functools.cache
def _neighbours(lattice, size, reach) -> np.ndarray:
  """0 and, for reach 1, the shortest vectors of the lattice: [., D]."""
  if not reach:
    return np.zeros((1, size))
  basis = _basis(lattice, size)
  if lattice == 'Z':
    return np.concatenate([np.zeros((1, size)), basis, -basis])
  digits = np.array(list(itertools.product((-1, 0, 1), repeat=min(size, 4))))
  if size == 8:  # E8: 112 of the form (+-1, +-1, 0...) and 128 halves
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=8)))
    even = signs[np.mod(np.sum(signs < 0, -1), 2) == 0]
    pairs = [
      a * np.eye(8)[i] + b * np.eye(8)[j]
      for i, j in itertools.combinations(range(8), 2)
      for a, b in itertools.product((-1, 1), repeat=2)
    ]
    return np.concatenate([np.zeros((1, 8)), np.array(pairs), even])
  points = digits @ basis if lattice == 'A2' else digits
  length = np.sum(points**2, -1)
  shortest = 1 if lattice == 'A2' else 2
  return np.concatenate(
    [np.zeros((1, size)), points[np.isclose(length, shortest)]]
  )


def _check_lattice(lattice: str, size: int) -> None:
  if lattice not in LATTICES:
    raise ValueError(f'lattice must be one of {LATTICES}, got {lattice!r}.')
  if size != _SIZES.get(lattice, size) or size < 1:
    raise ValueError(
      f'lattice {lattice} has dimension {_SIZES.get(lattice, "at least 1")}, '
      f'got a source of dimension {size}.'
    )


def _check(source, offset, period, code: Code, name: str) -> None:
  for what, value in ((name, source), ('offset', offset)):
    shape = jnp.shape(value)
    if not shape or shape[-1] != code.size:
      raise ValueError(
        f'{what} must have the {code.size} dimensions of lattice '
        f'{code.lattice}, got shape {shape}.'
      )
  validation.check_positive(period=period)
