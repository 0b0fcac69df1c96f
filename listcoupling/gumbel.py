"""Noise of exponential races: a pure function of (key, position, stream).

An exponential race gives atom i the arrival time E_i / p_i with E_i ~ Exp(1);
the first to arrive is a sample from p. In logs this is the Gumbel-max trick:
argmax(log p_i + G_i) with G_i = -log E_i.

Everything random in this library starts here. Three properties carry it:

*   Element i of a noise vector depends on (key, stream, i) alone: not on the
    length of the vector, the batch around it, or the order of the queries.
    Noise at chosen atoms is bitwise equal to the dense vector.
*   Each element has 32 random bits and keeps them where they decide a race,
    at small E. (A 23-bit grid, as in `jax.random.gumbel`'s default mode or
    `jax.random.exponential`, gives the tail of a peaked law over 1.5e5 atoms
    a third of its mass.) Atoms of probability below about 1e-9 would need
    more bits still.
*   Positions and streams are folded into the key, never counted.
"""

import enum
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
  'ACCEPT',
  'CANONICAL',
  'CHOICE',
  'Domain',
  'FRESH',
  'MAX_SEED',
  'RESIDUAL',
  'argmax',
  'arrival_times',
  'domain_key',
  'earliest',
  'exponential',
  'exponential_streams',
  'first_arrival',
  'from_bits',
  'gumbel',
  'largest',
  'position_key',
  'race',
  'row_keys',
  'seed_key',
  'stream_key',
  'threefry',
  'uniform',
]


def __dir__():
  return __all__


MAX_SEED = 2**32 - 1
_ULP = 2.0**-32
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)

# Streams of one position. Drafts k = 0..K-1 of a list use stream k; stream 0
# is the canonical race. The other uses start far from them and each other.
CANONICAL = 0
FRESH = 1 << 24  # + k: what grouped stream k adds to the canonical race
CHOICE = 2 << 24  # which grouped stream keeps the canonical time
ACCEPT = 3 << 24  # accept decisions of rejection schemes
RESIDUAL = 4 << 24  # races on residual laws of rejection schemes


class Domain(enum.IntEnum):
  """The jobs that draw from one seed; each has bits of its own.

  The register of `domain_key`: whatever is neither a position nor a stream is
  drawn from the key of its domain, then of its numbers (a step, an image, a
  repeat). Values lie far above any row, position or stream that a caller may
  fold into the same key; they are part of the files that were written with
  them and are never given away again: 0x80000002, 0x80000007 and 0x80000207
  were, and stay free.

  `jax.random.split(key)[i]` is position i of that key: it is for keys of one
  domain and its numbers, never for a key that others fold numbers into.
  """

  # Models.
  MODEL_INIT = 0x80000000  # parameters before training
  TRAINING_STEP = 0x80000001  # batches, crops and noise of one step
  CODEWORD_DECODER_INIT = 0x80000003
  CODEWORD_DECODER_STEP = 0x80000004
  CLASSIFIER_INIT = 0x80000005
  CLASSIFIER_STEP = 0x80000006
  PICTURES = 0x80000008  # examples of the image table
  TRAINING_PICTURES = 0x8000000A  # examples of a model in training
  # Texts.
  SAMPLE = 0x80000009  # the second text and more of one prompt
  # The codec.
  CODEBOOK = 0x80000100  # shared candidates
  LABELS = 0x80000101
  RACES = 0x80000102  # shared races of encoder and decoders
  DITHER = 0x80000103
  SOURCE = 0x80000104  # what is sent
  SIDE_INFORMATION = 0x80000105  # what a decoder sees: crops, noisy copies
  # Experiments.
  REPEAT = 0x80000200
  SELECTION = 0x80000201  # trials that choose a setting
  ASSESSMENT = 0x80000202  # trials that judge the chosen one
  FITS = 0x80000203  # outcomes that decoders are trained on
  LAWS = 0x80000204  # random pairs of laws
  TRIALS = 0x80000205
  TEXTS = 0x80000206  # one data set, one seed
  # Couplings.
  DART_TOKENS = 0x80000300  # the two halves of Weighted MinHash's sequence
  DART_HEIGHTS = 0x80000301


def seed_key(seed: int) -> jax.Array:
  """The typed threefry key of a seed, whatever the settings of JAX are.

  Args:
    seed: integer, 0 to 2^32 - 1. JAX cuts longer and negative ones to 32 bits
      or not, as `jax_enable_x64` says.

  Raises:
    ValueError: for any other seed.
  """
  if not isinstance(seed, (int, np.integer)) or not 0 <= seed <= MAX_SEED:
    raise ValueError(
      f'seed must be an integer from 0 to {MAX_SEED}, got {seed!r}.'
    )
  words = np.array([0, seed], np.uint32)
  return jax.random.wrap_key_data(words, impl='threefry2x32')


def domain_key(key: jax.Array, domain: Domain, *numbers) -> jax.Array:
  """The key of one job: `domain`, then each number, folded into `key`.

  Args:
    key: typed threefry key; reusable for other domains, rows and positions.
    domain: of the register.
    *numbers: [] integers below 2^32, such as a step or an image.

  Returns:
    A typed key.

  Example:
    >>> key = domain_key(seed_key(0), Domain.CODEBOOK, 3)
  """
  key = _fold(key, int(domain))
  for number in numbers:
    key = _fold(key, number)
  return key


def position_key(key: jax.Array, position) -> jax.Array:
  """The key of one absolute position. `key` may be reused for others.

  Args:
    key: typed key.
    position: [] integer, at least 0.

  Returns:
    A typed key; equal positions give equal keys.

  Example:
    >>> k = position_key(jax.random.key(0), 7)
    >>> noise = exponential(k, 5)
  """
  return _fold(key, position)


def row_keys(key: jax.Array, rows) -> jax.Array:
  """`position_key` of every row of a batch, or other number, of one key.

  Args:
    key: typed key.
    rows: [B] integers, at least 0.

  Returns:
    [B] typed keys.

  Example:
    >>> row_keys(jax.random.key(0), jnp.arange(3)).shape
    (3,)
  """
  chex.assert_rank(rows, 1)
  return jax.vmap(lambda row: position_key(key, row))(rows)


def from_bits(bits: jax.Array) -> jax.Array:
  """Exp(1) of uint32: -log1p(-u), u = (bits + 1/2) 2^-32, to 3e-7 relative.

  With w = 1 - u taken from the complement of the bits, -log(w) / (1 - w) is
  smooth, so the rounding of w to float32 costs nothing and E = u times that
  ratio keeps all 32 bits of a small u (Kahan's log1p). One logarithm.
  """
  u = (bits.astype(jnp.float32) + 0.5) * _ULP
  w = ((~bits).astype(jnp.float32) + 0.5) * _ULP
  return jnp.where(w == 1.0, u, -u * jnp.log(w) / (1.0 - w))


@jax.jit
def threefry(words, low: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Threefry-2x32 of the counters (0, low): two words of uint32 each.

  Bit for bit that of JAX, which on CPU rolls the rounds into a loop through
  memory. Unrolled they fuse with the race, in less than half the time. Under
  `jit` its 140 operations are traced once for a shape.

  Args:
    words: the two [] uint32 of a key.
    low: [...] uint32.
  """
  first, second = words
  schedule = (first, second, first ^ second ^ _PARITY)
  x, y = jnp.full_like(low, schedule[0]), low + schedule[1]
  for group in range(5):
    for left in _ROTATIONS[group % 2]:
      x = x + y
      y = x ^ ((y << np.uint32(left)) | (y >> np.uint32(32 - left)))
    x = x + schedule[(group + 1) % 3]
    y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
  return x, y


def stream_key(key: jax.Array, stream) -> jax.Array:
  """The key whose words `threefry` takes for one stream of `key`."""
  return _fold(key, stream)


def _fold(key: jax.Array, number) -> jax.Array:
  """`jax.random.fold_in`, bit for bit."""
  if isinstance(number, int):
    number = np.uint32(number)  # past 2^31 no int32
  words = jax.random.key_data(key)
  words = threefry(words, jnp.asarray(number).astype(jnp.uint32))
  return jax.random.wrap_key_data(jnp.stack(words), impl='threefry2x32')


def _bits(key: jax.Array, atoms, stream) -> jax.Array:
  """32 random bits per atom; see `exponential` for the arguments."""
  chex.assert_rank([key, stream], 0)
  if isinstance(atoms, int):
    low = jax.lax.iota(jnp.uint32, atoms)
  else:
    low = atoms.astype(jnp.uint32)
  words = jax.random.key_data(stream_key(key, stream))
  first, second = threefry(words, low)
  return first ^ second


def exponential(key: jax.Array, atoms, stream=CANONICAL) -> jax.Array:
  """Exp(1) noise of one race.

  Args:
    key: typed threefry key, e.g. from `position_key`; reusable for other
      streams.
    atoms: N (a Python int) for the dense noise [N], or an integer array of
      atoms (0 <= atom < 2^32) for the noise at those only, bitwise equal to
      the dense noise there.
    stream: [] integer; different streams are independent races.

  Returns:
    [N] float32, or float32 of the shape of `atoms`; in [1.2e-10, 22.9].

  Example:
    >>> key = jax.random.key(0)
    >>> dense = exponential(key, 151936, stream=2)
    >>> kept = jnp.array([5, 151000])
    >>> bool((exponential(key, kept, stream=2) == dense[kept]).all())
    True
  """
  if isinstance(atoms, int):
    return _exponential(key, stream, num_atoms=atoms)
  return _exponential(key, stream, atoms)


# Compiled as one: operation by operation the last bit depends on the shape.
@functools.partial(jax.jit, static_argnames='num_atoms', inline=True)
def _exponential(key, stream, atoms=None, *, num_atoms=None):
  return from_bits(_bits(key, num_atoms if atoms is None else atoms, stream))


def exponential_streams(key: jax.Array, atoms, num_streams: int) -> jax.Array:
  """Streams 0..K-1 of `exponential`, stacked: [K, ...] float32."""
  return jax.vmap(lambda stream: exponential(key, atoms, stream))(
    jnp.arange(num_streams)
  )


def earliest(noise: jax.Array) -> jax.Array:
  """Minimum over streams: [K, ...] positive float32 -> [...].

  Positive floats order like their bits; XLA vectorises the integer minimum
  over a leading axis but not the NaN-aware one (25 times as slow on CPU).
  """
  order = jax.lax.bitcast_convert_type(noise, jnp.int32)
  return jax.lax.bitcast_convert_type(jnp.min(order, axis=0), jnp.float32)


def gumbel(key: jax.Array, atoms, stream=CANONICAL) -> jax.Array:
  """Standard Gumbel noise: -log of `exponential`, same arguments."""
  return -jnp.log(exponential(key, atoms, stream))


def uniform(key: jax.Array, atoms, stream=CANONICAL) -> jax.Array:
  """Uniform noise on the grid (i + 1/2) 2^-32, same arguments.

  It shares its bits with `exponential` of the same key and stream. Rounding
  to float32 gives 1.0 with probability 2^-25.
  """
  bits = _bits(key, atoms, stream)
  return (bits.astype(jnp.float32) + 0.5) * _ULP


def largest(x: jax.Array) -> jax.Array:
  """Maximum along the last axis, kept; NaN if there is any.

  XLA's CPU reduction alone loses NaN in rows of a thousand and more.
  """
  best = jnp.max(x, axis=-1, keepdims=True)
  return jnp.where(jnp.any(x != x, axis=-1, keepdims=True), jnp.nan, best)


def arrival_times(noise: jax.Array, log_weights: jax.Array) -> jax.Array:
  """Arrival times E_i / p_i of a race, up to one factor per race.

  Args:
    noise: [..., N] Exp(1) noise.
    log_weights: [..., N] unnormalised log-probabilities, -inf = impossible.

  Returns:
    [..., N] float32; +inf where impossible, NaN in rows that hold NaN or have
    no possible atom. Weights below e^-88 of the largest count as impossible.
  """
  chex.assert_equal_shape_suffix([noise, log_weights], 1)
  chex.assert_equal_rank([noise, log_weights])
  if log_weights.dtype != jnp.float64:
    log_weights = log_weights.astype(jnp.float32)
  best = largest(log_weights)
  # A float64 offset would swallow the differences in float32.
  return noise * jnp.exp((best - log_weights).astype(jnp.float32))


def first_arrival(times: jax.Array) -> jax.Array:
  """Index of the smallest time along the last axis; -1 if none is finite.

  Args:
    times: [..., N], or their logarithms; NaN anywhere in a row makes the row
      impossible.

  Returns:
    [...] int32; the lowest index on ties.
  """
  # An index has no gradient; around it others may be taken.
  times = jax.lax.stop_gradient(times)
  times = jnp.where(times != times, -jnp.inf, times)  # minima may lose NaN
  best, index = jax.lax.platform_dependent(
    times, cpu=_least_by_passes, default=_least_by_pairs
  )
  return jnp.where(jnp.abs(best) < jnp.inf, index, -1)


def _least_by_passes(times):
  """Minimum and its first place, [...] each."""
  # A fused draw-and-reduce does not vectorise: keep the times in memory.
  times = jax.lax.optimization_barrier(times)
  best = jnp.min(times, axis=-1, keepdims=True)
  iota = jax.lax.broadcasted_iota(jnp.int32, times.shape, times.ndim - 1)
  index = jnp.min(jnp.where(times == best, iota, times.shape[-1]), axis=-1)
  return jnp.squeeze(best, -1), index


def _least_by_pairs(times):
  """The same in one reduction, which takes in the noise: none in memory."""

  def earlier(one, other):
    first = (one[0] < other[0]) | ((one[0] == other[0]) & (one[1] < other[1]))
    return tuple(jnp.where(first, a, b) for a, b in zip(one, other))

  iota = jax.lax.broadcasted_iota(jnp.int32, times.shape, times.ndim - 1)
  nothing = times.dtype.type(np.inf), np.int32(times.shape[-1])
  return jax.lax.reduce((times, iota), nothing, earlier, (times.ndim - 1,))


def race(noise: jax.Array, log_weights: jax.Array) -> jax.Array:
  """argmin_i E_i / p_i: a sample from p. [..., N] and [..., N] -> [...] int32.

  Example:
    >>> p = jnp.array([.5, .5, 0.])
    >>> noise = exponential(jax.random.key(0), 3)
    >>> int(race(noise, jnp.log(p))) in (0, 1)
    True
  """
  return first_arrival(arrival_times(noise, log_weights))


def argmax(x: jax.Array) -> jax.Array:
  """`jnp.argmax(x, axis=-1)`, four times as fast on CPU.

  Same index on ties (lowest), infinities and NaN (first NaN). XLA does not
  vectorise the two-output reduction behind `jnp.argmax`; max, compare, min is.

  Args:
    x: [..., N].

  Returns:
    [...] int32.
  """
  x = jax.lax.optimization_barrier(x)
  best = jnp.max(x, axis=-1, keepdims=True)  # may lose NaN, see `largest`
  iota = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
  nan = x != x
  hit = jnp.where(jnp.any(nan, axis=-1, keepdims=True), nan, x == best)
  return jnp.min(jnp.where(hit, iota, x.shape[-1]), axis=-1)
