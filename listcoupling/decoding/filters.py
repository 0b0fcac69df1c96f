"""From logits to the law that is sampled, in the transformers order.

Logit bias, repetition penalty, minimum length, temperature, top-k, top-p,
min-p. With top-k the law lives on the kept tokens only, so that the noise is
drawn there and nowhere else.

Legend: V vocabulary, A atoms kept (V, or k under top-k). Functions work on
one law and are mapped with `jax.vmap`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel, race_kernel
from listcoupling.decoding import truncation
from listcoupling.decoding.sampling_params import sampling_params

__all__ = [
  'COLDEST',
  'Law',
  'atoms',
  'draw',
  'noise',
  'probabilities',
  'probabilities_at',
  'sample',
  'target_law',
  'token_at',
  'warm_law',
  'warp',
]


def __dir__():
  return __all__


COLDEST = float(np.finfo(np.float32).tiny)  # below it a law is greedy


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
  return token_at(law, gumbel.race(noise_, law.logits))


def probabilities(law: Law, vocab_size: int) -> jax.Array:
  """The law as dense probabilities [V]."""
  probs = jax.nn.softmax(law.logits)
  if law.tokens is None:
    return probs
  return jnp.zeros(vocab_size, probs.dtype).at[law.tokens].add(probs)


def probabilities_at(law: Law, tokens: jax.Array) -> jax.Array:
  """Probabilities of some tokens: [N] for [N]."""
  probs = jax.nn.softmax(law.logits)
  if law.tokens is None:
    return probs[tokens]
  hit = law.tokens[None] == tokens[:, None]
  return jnp.sum(jnp.where(hit, probs[None], 0.0), axis=1)


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
  params = sampling_params(options)
  # In the caller's precision; and a tiny temperature must not overflow.
  logits = (logits - gumbel.largest(logits)).astype(jnp.float32)
  return _truncate(logits / temperature, params)


def _truncate(logits, params):
  """Top-k, top-p and min-p on tempered logits [V]."""
  tokens = None
  if 0 < params.top_k < logits.shape[-1]:
    logits, tokens = truncation.top_k(logits, params.top_k)
  if params.top_p is not None:
    kept = truncation.top_p(logits, params.top_p)
    logits = jnp.where(kept, logits, -jnp.inf)
  if params.min_p is not None:
    floor = jnp.max(logits) + jnp.log(params.min_p)
    logits = jnp.where(logits >= floor, logits, -jnp.inf)
  return Law(logits, tokens)
