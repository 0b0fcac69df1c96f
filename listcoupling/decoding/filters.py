"""From logits to the law that is sampled, in the transformers order.

Logit bias, repetition penalty, minimum length, temperature, top-k, top-p,
min-p. With top-k the law lives on the kept tokens only, so that the noise is
drawn there and nowhere else. Whether a filter is on is static, its number is
traced: a new temperature or other stop tokens compile nothing.

Top-k and top-p are exact and sort no vocabulary: equal logits rank by the lower
id. A block that holds one of the k largest is one of the k blocks of the
largest maxima, so top-k sorts maxima and k blocks. Top-p searches the weight at
which the mass is reached by halving an interval of float bits, which order like
the floats. Masses are sums of integers, so that no order of summation, and no
sharding, changes them.

Legend: V vocabulary, A atoms kept (V, or k under top-k), K drafts, E entries.
Functions work on one law and are mapped with `jax.vmap`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel, race_kernel
from listcoupling.decoding import placement

__all__ = [
  'COLDEST',
  'Law',
  'SamplingParams',
  'atoms',
  'draw',
  'noise',
  'probabilities',
  'probabilities_at',
  'sample',
  'sampling_params',
  'target_law',
  'token_at',
  'top_k',
  'top_p',
  'warm_law',
  'warp',
]


def __dir__():
  return __all__


COLDEST = float(np.finfo(np.float32).tiny)  # below it a law is greedy
_NO_TOKEN = np.iinfo(np.int32).max  # outside every vocabulary: scatters drop it
_BUCKET = 8  # lists of tokens are padded to multiples
_BLOCK = 64  # ids whose maximum stands for them
_REACHED = 1e-6  # mass that may be missing


class Law(NamedTuple):
  """A law over tokens by unnormalised log-probabilities."""

  logits: jax.Array  # [A] float32, -inf = impossible
  tokens: jax.Array | None  # [A] int32 ids of the atoms; None: 0..V-1


def noise(key: jax.Array, law: Law, stream=gumbel.CANONICAL) -> jax.Array:
  """Exp(1) noise at the atoms of a law: [A]."""
  return gumbel.exponential(key, atoms(law), stream)


def atoms(law: Law):
  """Atoms for `gumbel.exponential`: V, or the kept tokens."""
  return law.logits.shape[-1] if law.tokens is None else law.tokens


def token_at(law: Law, index: jax.Array) -> jax.Array:
  """Token of an atom; -1 stays -1."""
  if law.tokens is None:
    return index
  return jnp.where(index < 0, -1, law.tokens[jnp.maximum(index, 0)])


def draw(key: jax.Array, law: Law, streams=(gumbel.CANONICAL,), live=None):
  """First arrival on the law over streams of fresh noise, as a token.

  Args:
    key: of the position.
    law: see `Law`.
    streams: [K] integers.
    live: [K] bool, the streams that take part; None: all.

  Returns:
    [] int32; of one stream `sample(noise(key, law, stream), law)`.
  """
  streams = jnp.asarray(streams, jnp.int32)
  index = race_kernel.race(key, law.logits, law.tokens, streams, live)
  return token_at(law, index)


def sample(noise_: jax.Array, law: Law) -> jax.Array:
  """First arrival of a race on the law, as a token: [] int32."""
  chex.assert_equal_shape([noise_, law.logits])
  return token_at(law, gumbel.race(noise_, law.logits))


def probabilities(law: Law, vocab_size: int) -> jax.Array:
  """The law as dense probabilities [V]."""
  probs = jax.nn.softmax(law.logits)
  if law.tokens is None:
    return probs
  return jnp.zeros(vocab_size, probs.dtype).at[law.tokens].add(probs)


def probabilities_at(law: Law, tokens: jax.Array) -> jax.Array:
  """Probabilities of some tokens: [N] for [N]."""
  chex.assert_rank([law.logits, tokens], 1)
  probs = jax.nn.softmax(law.logits)
  if law.tokens is None:
    return probs[tokens]
  hit = law.tokens[None] == tokens[:, None]
  return jnp.sum(jnp.where(hit, probs[None], 0.0), axis=1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SamplingParams:
  """Numbers of a `GenerateOptions`; None where a filter is off."""

  temperature: Any  # [] float32
  draft_temperatures: Any  # [1] if all drafts share one, else the cycle [K']
  # It sizes the laws; 0 keeps all.
  top_k: int = dataclasses.field(metadata={'static': True})
  top_p: Any  # [] float32 or None
  min_p: Any  # [] float32 or None
  repetition_penalty: Any  # [] float32 or None
  bias_tokens: Any  # [E] int32, padded with _NO_TOKEN
  bias_values: Any  # [E] float32
  stop_tokens: Any  # [E] int32, padded with _NO_TOKEN
  min_new_tokens: Any  # [] int32 or None
  max_new_tokens: Any  # [] int32
  draft_cost: Any  # [] float32, in forwards of the target


def sampling_params(options) -> SamplingParams:
  """Traced form of a `GenerateOptions`, which may already be that.

  Example:
    >>> from listcoupling.decoding.options import GenerateOptions
    >>> sampling_params(GenerateOptions(top_p=0.9)).min_p is None
    True
  """
  if isinstance(options, SamplingParams):
    return options
  cycle = options.draft_temperatures or (options.temperature,)
  tokens, biases = zip(*options.logit_bias) if options.logit_bias else ((), ())
  return SamplingParams(
    temperature=np.float32(options.temperature),
    draft_temperatures=np.float32(cycle[:1] if len(set(cycle)) == 1 else cycle),
    top_k=options.top_k,
    top_p=_unless(1, options.top_p),
    min_p=_unless(0, options.min_p),
    repetition_penalty=_unless(1, options.repetition_penalty),
    bias_tokens=_padded(tokens, _NO_TOKEN, np.int32),
    bias_values=_padded(biases, 0, np.float32),
    stop_tokens=_padded(options.stop_tokens or (), _NO_TOKEN, np.int32),
    min_new_tokens=(
      np.int32(options.min_new_tokens) if options.min_new_tokens else None
    ),
    max_new_tokens=np.int32(options.max_new_tokens),
    draft_cost=np.float32(options.draft_cost),
  )


def _unless(neutral, value):
  return None if value == neutral else np.float32(value)


def _padded(values, fill, dtype):
  """As an array whose length is a positive multiple of the bucket."""
  size = max(1, -(-len(values) // _BUCKET)) * _BUCKET
  padded = np.full(size, fill, dtype)
  padded[: len(values)] = values
  return padded


def target_law(
  logits: jax.Array, seen: jax.Array | None, num_new: jax.Array, options
) -> Law:
  """The target law at one position.

  Args:
    logits: [V] of the target.
    seen: [V] bool, tokens of the row so far; None without a penalty.
    num_new: [] tokens generated before this one.
    options: `GenerateOptions`, or the `SamplingParams` of one.

  Returns:
    The law of the next token.
  """
  chex.assert_rank([logits, num_new], [1, 0])
  params = sampling_params(options)
  logits = logits.at[params.bias_tokens].add(params.bias_values, mode='drop')
  if params.repetition_penalty is not None:
    penalty = params.repetition_penalty
    penalty = jnp.where(logits > 0, 1 / penalty, penalty)
    logits = jnp.where(seen, logits * penalty, logits)
  if params.min_new_tokens is not None:
    banned = logits.at[params.stop_tokens].set(-jnp.inf, mode='drop')
    logits = jnp.where(num_new < params.min_new_tokens, banned, logits)
  return warp(logits, params.temperature, params)


def warp(logits: jax.Array, temperature, options) -> Law:
  """Temperature (0 = greedy), top-k, top-p and min-p.

  A temperature that float32 does not hold as a normal number is 0.

  Args:
    logits: [V].
    temperature: [] number or traced.
    options: `GenerateOptions`, or the `SamplingParams` of one.
  """
  warm = temperature >= COLDEST
  law = warm_law(logits, jnp.where(warm, temperature, 1.0), options)
  atoms = jnp.arange(law.logits.shape[-1], dtype=jnp.int32)
  likeliest = atoms == gumbel.argmax(law.logits)
  # A NaN row stays impossible.
  only = jnp.where(likeliest, 0.0 * jnp.max(law.logits), -jnp.inf)
  return law._replace(logits=jnp.where(warm, law.logits, only))


def warm_law(logits: jax.Array, temperature, options) -> Law:
  """`warp` at a temperature that is known not to be 0: a third of its passes.

  Arguments and result as `warp`.
  """
  chex.assert_rank([logits, temperature], [1, 0])
  params = sampling_params(options)
  # In the caller's precision; and a tiny temperature must not overflow.
  logits = (logits - gumbel.largest(logits)).astype(jnp.float32)
  return _truncate(logits / temperature, params)


def _truncate(logits, params):
  """Top-k, top-p and min-p on tempered logits [V]."""
  tokens = None
  if 0 < params.top_k < logits.shape[-1]:
    logits, tokens = top_k(logits, params.top_k)
  if params.top_p is not None:
    kept = top_p(logits, params.top_p)
    logits = jnp.where(kept, logits, -jnp.inf)
  if params.min_p is not None:
    floor = jnp.max(logits) + jnp.log(params.min_p)
    logits = jnp.where(logits >= floor, logits, -jnp.inf)
  return Law(logits, tokens)


def top_k(logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
  """`jax.lax.top_k`, sorting V / 64 maxima and 64 k logits.

  Args:
    logits: [V].
    k: at most V.

  Returns:
    The k largest in falling order and their ids, [k] and [k] int32.
  """
  chex.assert_rank(logits, 1)
  shards = placement.automatic('tp')
  if shards == 1 or logits.size % shards or k > logits.size // shards:
    return _by_blocks(logits, k, _largest)
  # Devices that share the vocabulary, or now do, exchange their k largest.
  parts = placement.shared(logits.reshape(shards, -1))
  values, tokens = jax.vmap(lambda part: _by_blocks(part, k, _by_sorting))(
    parts
  )
  values, tokens = placement.everywhere((values, tokens))
  # Not before the exchange: a compiler that shares out the numbers of the
  # shards shares out all that counts as far, depths of a draft for one.
  tokens += jnp.arange(shards, dtype=jnp.int32)[:, None] * parts.shape[1]
  values, places = _largest(values.ravel(), k)
  return values, tokens.ravel()[places]


def _largest(logits, k):
  values, places = jax.lax.top_k(logits, k)
  return values, places.astype(jnp.int32)


def _by_sorting(logits, k):
  """The same, but compilers do not gather its batches on one device."""
  ids = jnp.arange(logits.size, dtype=jnp.int32)
  falling, places = jax.lax.sort((-logits, ids), num_keys=1)
  return -falling[:k], places[:k]


def _by_blocks(logits, k, largest):
  count = -(-logits.size // _BLOCK)
  if k >= count:
    return largest(logits, k)
  missing = count * _BLOCK - logits.size
  blocks = jnp.pad(logits, (0, missing), constant_values=-jnp.inf)
  blocks = blocks.reshape(count, _BLOCK)
  chosen = jnp.sort(largest(jnp.max(blocks, axis=1), k)[1])
  values, places = largest(blocks[chosen].ravel(), k)
  tokens = chosen[places // _BLOCK] * _BLOCK + places % _BLOCK
  return values, tokens


@jax.jit
def top_p(logits: jax.Array, mass) -> jax.Array:
  """The fewest likeliest atoms of at least this mass.

  Args:
    logits: [A] float32, unnormalised; NaN somewhere gives any result.
    mass: [] in (0, 1], may be traced. A mass short of it by at most 1e-6 of
      the whole counts as reached.

  Returns:
    [A] bool; at least one atom where one is possible.

  Example:
    >>> top_p(jnp.zeros(4), 0.5).tolist()
    [True, True, False, False]
  """
  chex.assert_rank([logits, mass], [1, 0])
  behind = jnp.max(logits) - logits  # the likeliest first
  weights = jnp.exp(-behind)
  shares = _shares(weights)
  whole = jnp.sum(shares, dtype=jnp.int32).astype(jnp.float32)
  wanted = ((mass - _REACHED) * whole).astype(jnp.int32)

  def mass_of(kept):
    return jnp.sum(jnp.where(kept, shares, 0), dtype=jnp.int32)

  # Bits of the weight down to which all atoms are needed, from 1.0 downwards.
  bits, top = _bits(weights), _bits(jnp.float32(1))
  last = top - _least(lambda n: mass_of(bits >= top - n) >= wanted, 0, top)
  surely, tied = bits > last, bits == last
  ties = _count(tied).astype(jnp.float32)
  short = (wanted - mass_of(surely)).astype(jnp.float32)
  count = jnp.ceil(short / mass_of(tied).astype(jnp.float32) * ties)
  count = jnp.clip(count, 1, ties).astype(jnp.int32)
  return surely | _first(tied, _bits(behind), count)


def _shares(weights: jax.Array) -> jax.Array:
  """Weights [A] in [0, 1], one of them 1, as integers of sum about 1.5 2^30.

  They are rounded up or down by the golden sequence, so that errors cancel:
  over 1.5e5 atoms they come to about 1e-7 of the whole.
  """
  ids = jax.lax.iota(jnp.uint32, weights.size)
  golden = (ids * np.uint32(0x9E3779B9) >> np.uint32(8)).astype(jnp.float32)

  def rounded(scale):
    return (weights * scale + golden * 2.0**-24).astype(jnp.int32)

  fine = 2.0 ** (30 - weights.size.bit_length())
  rough = jnp.sum(rounded(fine), dtype=jnp.int32).astype(jnp.float32) / fine
  return rounded(1.5 * 2.0**30 / rough)


def _bits(x: jax.Array) -> jax.Array:
  """Non-negative float32 as integers of the same order."""
  return jax.lax.bitcast_convert_type(x, jnp.int32)


def _count(chosen: jax.Array) -> jax.Array:
  return jnp.sum(chosen, dtype=jnp.int32)


def _least(holds: Callable[[jax.Array], jax.Array], low, high) -> jax.Array:
  """The least integer in [low, high] at which a rising condition holds.

  It is taken to hold at `high`.
  """

  def halve(interval):
    low, high = interval
    middle = low + (high - low) // 2
    enough = holds(middle)
    return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

  interval = jnp.int32(low), jnp.int32(high)
  return jax.lax.while_loop(lambda ends: ends[0] < ends[1], halve, interval)[1]


def _first(chosen: jax.Array, order: jax.Array, count) -> jax.Array:
  """The first `count` of the chosen atoms by `order`, then by index: [A]."""
  chex.assert_equal_shape([chosen, order])
  far = _least(
    lambda n: _count(chosen & (order <= n)) >= count,
    jnp.min(jnp.where(chosen, order, np.iinfo(np.int32).max)),
    jnp.max(jnp.where(chosen, order, 0)),
  )
  surely, tied = chosen & (order < far), chosen & (order == far)
  left = count - _count(surely)
  ids, end = jnp.arange(order.size, dtype=jnp.int32), order.size - 1
  # All of them is the usual case, and no search at all.
  first = jnp.where(left < _count(tied), 0, end)
  end = _least(lambda n: _count(tied & (ids <= n)) >= left, first, end)
  return surely | (tied & (ids <= end))
