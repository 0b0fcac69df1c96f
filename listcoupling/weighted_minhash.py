"""Weighted MinHash: couplings on public darts, with few bits or none.

Weighted MinHash and the low-communication coupling of Daliri, Musco, Suresh
(arXiv 2408.07978, v4 section on Weighted MinHash, v2 on low communication).

Public randomness is a sequence of darts, as the field calls them (Christiani,
arXiv 2005.11547): token uniform on [N], height uniform on (0, 1). A dart lies
under a law p if its height is below p(token). The first dart under p has law p,
so a party samples by keeping it; a dart is under p with probability 1 / N, so
finding one takes N darts on average (4 ms for a pair of laws at N = 151,936 on
a CPU core). Heights have 32 bits: probabilities below about 1e-9 are rounded to
the grid.

Legend: N atoms; A holds p (proposal), B holds q (target).
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling import gumbel, validation
from listcoupling.coupling import Pair

__all__ = [
  'Dart',
  'MAX_QUESTIONS',
  'low_communication_coupling',
  'next_darts',
  'rice_parameter',
  'weighted_minhash_coupling',
]


def __dir__():
  return __all__


# B asks A about at most this many darts; see `low_communication_coupling`.
MAX_QUESTIONS = 128
# Darts looked at before a law counts as impossible: misses exp(-100).
_PATIENCE = 100
_FAR = 1 << 30


class Dart(NamedTuple):
  """The first dart under a law; token -1 if there was none. [] or [R]."""

  index: jax.Array  # int32, from 0; 2^31 - 1 if there was none
  token: jax.Array  # int32
  height: jax.Array  # float32


def _block(keys, block, num_atoms, size):
  """Darts block * size, ... of the sequence: tokens [size], heights [size]."""
  # One word per token: probabilities are off by N 2^-32, like the heights.
  token_key, height_key = keys
  token_key = gumbel.position_key(token_key, block)
  words = jax.random.bits(token_key, (size,), jnp.uint32)
  return words % num_atoms, gumbel.uniform(height_key, size, stream=block)


def next_darts(key: jax.Array, laws: jax.Array, start) -> Dart:
  """The first dart under each law at or after index `start`.

  A function of (key, law, start) alone: parties with the same key see the
  same darts. Looks at blocks of 2^14 darts (fewer for small N).

  Args:
    key: typed key of the public darts.
    laws: [R, N] probabilities.
    start: [] integer.

  Returns:
    `Dart` with fields [R].
  """
  chex.assert_rank(laws, 2)
  num_rows, num_atoms = laws.shape
  size = min(max(2 * num_atoms, 16), 1 << 14)
  start = jnp.asarray(start, jnp.int32)
  keys = [
    gumbel.domain_key(key, domain)
    for domain in (gumbel.Domain.DART_TOKENS, gumbel.Domain.DART_HEIGHTS)
  ]
  last = start // size + (_PATIENCE * num_atoms) // size + 1

  def search(state):
    block, darts = state
    tokens, heights = _block(keys, block, num_atoms, size)
    slots = jnp.arange(size, dtype=jnp.int32)
    hit = heights[None] < laws[:, tokens]  # [R, size]
    hit &= (block * size + slots >= start)[None]
    slot = jnp.min(jnp.where(hit, slots[None], size), axis=-1)  # [R]
    found = (slot < size) & (darts.token < 0)
    new = Dart(block * size + slot, tokens[slot], heights[slot])
    darts = jax.tree.map(
      lambda new, old: jnp.where(found, new.astype(old.dtype), old), new, darts
    )
    return block + 1, darts

  def missing(state):
    block, darts = state
    return jnp.any(darts.token < 0) & (block <= last)

  none = Dart(
    jnp.full(num_rows, 2**31 - 1, jnp.int32),
    jnp.full(num_rows, -1, jnp.int32),
    jnp.ones(num_rows, jnp.float32),
  )
  return jax.lax.while_loop(missing, search, (start // size, none))[1]


def _both_darts(key, p, q) -> tuple[Dart, Dart]:
  """The first dart of each party."""
  chex.assert_rank([p, q], 1)
  chex.assert_equal_shape([p, q])
  darts = next_darts(key, jnp.stack([p, q]), 0)
  return tuple(jax.tree.map(lambda field, i=i: field[i], darts) for i in (0, 1))


def weighted_minhash_coupling(
  key: jax.Array, draft_logits: jax.Array, target_logits: jax.Array
) -> Pair:
  """Each party keeps the first public dart under its own law.

  P[match] = `sum_i min(p_i, q_i) (1 + |p_i - q_i|) / sum_i max(p_i, q_i)` >=
  (1 - TV) / (1 + TV), exact; Daliri, Musco, Suresh, arXiv 2408.07978, have the
  bound. No communication.

  Args:
    key: typed key; consumed.
    draft_logits: [N] unnormalised, any float type, -inf = impossible.
    target_logits: [N].

  Returns:
    `Pair` of proposal [], target [] and is_match []. Each costs N darts on
    average.

  Raises:
    ValueError: for non-finite or wrongly shaped laws, legacy keys.

  Example:
    >>> law = jnp.zeros(5)
    >>> bool(weighted_minhash_coupling(jax.random.key(0), law, law).is_match)
    True
  """
  laws = validation.as_pair(key, draft_logits, target_logits)
  return _weighted_minhash(key, *laws)


def _pair(proposal, target):
  return Pair(proposal, target, (proposal == target) & (target >= 0))


@jax.jit
def _weighted_minhash(key, draft_logits, target_logits):
  laws = jax.nn.softmax(draft_logits), jax.nn.softmax(target_logits)
  proposal, target = _both_darts(key, *laws)
  return _pair(proposal.token, target.token)


def rice_parameter(num_atoms: int) -> int:
  """Remainder bits k of the Rice code for waiting times of mean N.

  A waiting time w = 0, 1, ... costs floor(w / 2^k) + 1 + k bits; with 2^k
  near N ln 2 that is about log2(N) + 1.5 on average.
  """
  return max(0, round(math.log2(num_atoms * math.log(2))))


def low_communication_coupling(
  key: jax.Array,
  draft_logits: jax.Array,
  target_logits: jax.Array,
  *,
  max_bits: int,
) -> tuple[Pair, jax.Array]:
  """A coupling near 1 - TV(p, q) with about 2 log2 N + O(1) bits.

  That O(log(N / eps)) bits suffice for 1 - TV - eps is a theorem of Daliri,
  Musco, Suresh, arXiv 2408.07978 v2, last in its abstract, which v4 leaves
  out; this protocol is one of our own and has no number there.

  On the darts of Weighted MinHash: A sends the index of its first dart D. If
  D lies under q, B takes it. Else B needs a dart under q but not under p: one
  of its darts before D, if any (A's index says that none of those is under
  p), or the first after D that A says is not under p, asked one by one.

  The transcript is prefix-free. Indices are coded as waiting times since the
  last named dart, in the Rice code with `rice_parameter(N)` remainder bits;
  A's quotient is a truncated unary number whose longest word means "not
  sent". B opens each turn with one bit, done or asking; A's answer is one
  bit.

  The cap, and why the law of Y stays q: giving up on the questions would
  leave Y ~ min(p, q) where (q - p)+ is due. So when D lies under q, B draws
  a private coin of probability 1/R, R the number of its darts after D that it
  could name within the budget; on heads it asks about all R and takes, in
  place of D, the only one that is not under p, if exactly one is not. That
  has probability TV (1 - TV)^R, which is what giving up loses (it then keeps
  its own next dart, which is under p). If not even one question fits, or A's
  index does not, B keeps its own next dart, unasked. Where two questions
  would not usually fit (max_bits below 4 log2 N + 14 or so) nothing is sent
  and the coupling is Weighted MinHash. P[match] = 1 - TV once indices fit and
  (1 - TV)^R vanishes; R is at most MAX_QUESTIONS = 128, which costs at most
  .003 of P[match], and less than 1e-6 where TV > .1.

  Args:
    key: typed key; consumed.
    draft_logits: [N] unnormalised, any float type, -inf = impossible.
    target_logits: [N].
    max_bits: largest number of bits sent, both directions together.

  Returns:
    `Pair`, whose proposal has law p and target law q for every max_bits, and
    the number of bits sent, [] int32 <= max_bits.

  Raises:
    ValueError: for non-finite or wrongly shaped laws, legacy keys, max_bits
      that is not an int of at least 0.

  Example:
    >>> p, q = jnp.log(jnp.array([[.5, .3, .2], [.1, .2, .7]]))
    >>> pair, bits = low_communication_coupling(
    ...     jax.random.key(0), p, q, max_bits=64)
    >>> bool(bits <= 64)
    True
  """
  laws = validation.as_pair(key, draft_logits, target_logits)
  validation.check_positive_int(max_bits, 'max_bits', minimum=0)
  return _low_communication(key, *laws, max_bits=min(int(max_bits), 2**30))


class _Inquiry(NamedTuple):
  """B's questions; all fields are scalars."""

  position: jax.Array  # index where the next dart is looked for
  count: jax.Array  # darts that fitted the budget so far
  outside: jax.Array  # how many of them are not under p
  first: jax.Array  # token of B's own next dart
  found: jax.Array  # token of the first one not under p
  spent: jax.Array  # bits, were all of them asked
  asked: jax.Array  # bits until the second one not under p
  done: jax.Array


def _inquire(key, p, q, start, budget, coin, is_common, done) -> _Inquiry:
  """Goes through B's darts from `start` until the outcome is known."""
  chex.assert_rank([p, q, start, budget, coin], [1, 1, 0, 0, 0])
  shift = rice_parameter(p.shape[-1])

  def step(state):
    dart = jax.tree.map(
      lambda field: field[0], next_darts(key, q[None], state.position)
    )
    is_outside = dart.height >= p[dart.token]
    cost = ((dart.index - state.position) >> shift) + 1 + shift + 2
    spent = state.spent + cost
    fits = (spent <= budget) & (state.count < MAX_QUESTIONS)
    count = state.count + fits.astype(jnp.int32)
    fresh = fits & is_outside & (state.outside == 0)
    settled = jnp.where(
      is_common, count.astype(jnp.float32) * coin >= 1, is_outside
    )
    return _Inquiry(
      dart.index + 1,
      count,
      state.outside + (fits & is_outside).astype(jnp.int32),
      jnp.where(state.count == 0, dart.token, state.first),
      jnp.where(fresh, dart.token, state.found),
      jnp.where(fits, spent, state.spent),
      jnp.where(fits & (state.outside < 2), spent, state.asked),
      ~fits | settled | (dart.token < 0),
    )

  zero, none = jnp.int32(0), jnp.int32(-1)
  position = jnp.asarray(start, jnp.int32)
  state = _Inquiry(position, zero, zero, none, none, zero, zero, done)
  return jax.lax.while_loop(lambda state: ~state.done, step, state)


@functools.partial(jax.jit, static_argnames='max_bits')
def _low_communication(key, draft_logits, target_logits, *, max_bits):
  p, q = jax.nn.softmax(draft_logits), jax.nn.softmax(target_logits)
  coin = gumbel.uniform(key, 1, gumbel.ACCEPT)[0]
  shift = rice_parameter(p.shape[-1])
  # A's quotients below `quotients` leave room for one shortest question.
  quotients = min(max_bits - 2 * shift - 4, _FAR >> shift)
  if max_bits < 4 * (shift + 4):
    quotients = 0
  limit = quotients << shift
  first, free = _both_darts(key, p, q)
  is_sent = first.index < limit
  is_common = first.height < q[first.token]
  is_free = free.index < first.index
  opening = (first.index >> shift) + 1 + shift + 1  # and B's last "done"
  inquiry = _inquire(
    key,
    p,
    q,
    jnp.where(is_sent, first.index + 1, limit),
    jnp.where(is_sent, max_bits - opening, -1),
    coin,
    is_sent & is_common,
    is_sent & is_free,
  )
  audited = inquiry.count.astype(jnp.float32) * coin < 1
  replaced = audited & (inquiry.outside == 1)
  kept = jnp.where(is_common & ~replaced, first.token, inquiry.found)
  given_up = (inquiry.count == 0) | (~is_common & (inquiry.outside == 0))
  asked_token = jnp.where(given_up, inquiry.first, kept)
  free_token = jnp.where(is_common, first.token, free.token)
  target = jnp.where(is_sent & is_free, free_token, asked_token)
  asks = ~is_free & (~is_common | audited)
  bits = opening + jnp.where(asks, inquiry.asked, 0)
  return _pair(first.token, target), jnp.where(is_sent, bits, quotients)
