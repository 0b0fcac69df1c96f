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

from listcoupling import gumbel
from listcoupling.decoding import truncation
from listcoupling.decoding.options import GenerateOptions

COLDEST = float(np.finfo(np.float32).tiny)  # below it a law is greedy


class Law(NamedTuple):
  """A law over tokens by unnormalised log-probabilities."""

  logits: jax.Array  # [A] float32, -inf = impossible
  tokens: jax.Array | None  # [A] int32 ids of the atoms; None: 0..V-1


def noise(key: jax.Array, law: Law, stream=gumbel.CANONICAL) -> jax.Array:
  """Exp(1) noise at the atoms of a law: [A]."""
  return gumbel.exponential(key, atoms(law), stream)


def atoms(law: Law):
  """What `gumbel.exponential` takes: V, or the kept tokens."""
  return law.logits.shape[-1] if law.tokens is None else law.tokens


def token_at(law: Law, index: jax.Array) -> jax.Array:
  """Token of an atom; -1 stays -1."""
  if law.tokens is None:
    return index
  return jnp.where(index < 0, -1, law.tokens[jnp.maximum(index, 0)])


def sample(noise_: jax.Array, law: Law) -> jax.Array:
  """First arrival of a race on the law, as a token: [] int32."""
  return token_at(law, gumbel.race(noise_, law.logits))


def probabilities(law: Law, vocab_size: int) -> jax.Array:
  """The law as dense probabilities [V]."""
  probs = jax.nn.softmax(law.logits)
  if law.tokens is None:
    return probs
  return jnp.zeros(vocab_size, probs.dtype).at[law.tokens].add(probs)


def target_law(
  logits: jax.Array,
  seen: jax.Array | None,
  num_new: jax.Array,
  options: GenerateOptions,
) -> Law:
  """The target law at one position.

  Args:
    logits: [V] of the target.
    seen: [V] bool, tokens of the row so far; None without a penalty.
    num_new: [] tokens generated before this one.
    options: see `GenerateOptions`.

  Returns:
    The law of the next token.
  """
  if options.logit_bias:
    tokens, biases = zip(*options.logit_bias)
    logits = logits.at[jnp.array(tokens)].add(jnp.array(biases, jnp.float32))
  if options.repetition_penalty != 1:
    penalty = jnp.where(
      logits > 0, 1 / options.repetition_penalty, options.repetition_penalty
    )
    logits = jnp.where(seen, logits * penalty, logits)
  if options.min_new_tokens and options.stop_tokens:
    banned = logits.at[jnp.array(options.stop_tokens)].set(-jnp.inf)
    logits = jnp.where(num_new < options.min_new_tokens, banned, logits)
  return warp(logits, options.temperature, options)


def warp(logits: jax.Array, temperature, options: GenerateOptions) -> Law:
  """Temperature (a number or traced, 0 = greedy), top-k, top-p and min-p.

  A temperature that float32 does not hold as a normal number is 0.
  """
  # In the caller's precision; and a tiny temperature must not overflow.
  logits = (logits - jnp.max(logits)).astype(jnp.float32)
  if not isinstance(temperature, jax.Array):
    if temperature >= COLDEST:
      return _truncate(logits / temperature, options)
    return _greedy(_truncate(logits, options))
  law = _truncate(
    logits / jnp.where(temperature >= COLDEST, temperature, 1.0), options
  )
  greedy = _greedy(law).logits
  warm = temperature >= COLDEST
  return law._replace(logits=jnp.where(warm, law.logits, greedy))


def _greedy(law):
  likeliest = jnp.arange(law.logits.shape[-1]) == gumbel.argmax(law.logits)
  # A NaN row stays impossible.
  only = jnp.where(likeliest, 0.0 * jnp.max(law.logits), -jnp.inf)
  return law._replace(logits=only)


def _truncate(logits, options):
  """Top-k, top-p and min-p on tempered logits [V]."""
  tokens = None
  if 0 < options.top_k < logits.shape[-1]:
    logits, tokens = truncation.top_k(logits, options.top_k)
  if options.top_p < 1:
    kept = truncation.top_p(logits, options.top_p)
    logits = jnp.where(kept, logits, -jnp.inf)
  if options.min_p > 0:
    floor = jnp.max(logits) + jnp.log(options.min_p)
    logits = jnp.where(logits >= floor, logits, -jnp.inf)
  return Law(logits, tokens)
