"""How far a drafter is to be trusted, learned from the text itself.

The text takes token i with a probability near softmax((a log p + G) / tau)_i,
where p is the drafter's law and G the noise of the position: tau is how far
the drafter's logits lie from the target's, a how much of what a noisy drafter
says is worth keeping. Every pair of a grid is weighed by the likelihood of the
tokens written so far, old ones counting less and less, and the prediction is
the mean over the few pairs that weigh most: after a few tokens one pair alone
would be a guess, and no single one knows that a drafter is good at most
positions and lost at some. Under canonical noise the text cannot depend on any
of this. (Not in the papers.)

Legend: B batch, M pairs in use, R tokens read again, A atoms of a law, V
vocabulary.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel
from listcoupling.decoding import filters

SCALES = np.float32((0.25, 0.5, 1.0, 2.0, 4.0))  # a
# tau, in steps of sqrt(1/2): every other one is a square of its neighbour. The
# large ones are for cold texts: their laws have the drafter's errors over T.
TEMPERATURES = np.float32(2.0 ** (3 - 0.5 * np.arange(16)))
_START = (1.0, 0.5**0.5)
_START_WEIGHT = 0.625  # log-likelihood it is ahead by, per squared log of both
_START_TOKENS = 10.0  # that the law allowed, nearly all
_PAIRS = 4  # M
_MEMORY = 0.995  # share of the past kept per token


class Calibration(NamedTuple):
  """Statistics of one drafter over the tokens so far."""

  log_likelihoods: jax.Array  # [B, a, tau]
  inside: jax.Array  # [B] tokens that its laws allowed
  outside: jax.Array  # [B] tokens that they did not
  scored: jax.Array  # [B] int32, position of the last token counted


class Fit(NamedTuple):
  """The parameters in use."""

  scales: jax.Array  # [B, M] a
  temperatures: jax.Array  # [B, M] tau
  log_weights: jax.Array  # [B, M], of sum 1
  log_hit: jax.Array  # [B] log-probability that the law allows the token


def start(root: jax.Array) -> Calibration:
  """Before any token: near a = 1 and tau = .7, as a few tokens would say."""
  chex.assert_rank(root, 1)
  away = jnp.log(SCALES / _START[0])[:, None] ** 2
  away = away + jnp.log(TEMPERATURES / _START[1])[None] ** 2
  batch = root.shape[0]
  prior = -_START_WEIGHT * away
  return Calibration(
    jnp.broadcast_to(prior, (batch, *prior.shape)),
    jnp.full(batch, _START_TOKENS - 0.1, jnp.float32),
    jnp.full(batch, 0.1, jnp.float32),
    root,
  )


def fit(calibration: Calibration) -> Fit:
  """The likeliest pairs (a, tau) of every row, the share of possible tokens."""
  grid = len(SCALES), len(TEMPERATURES)
  chex.assert_shape(calibration.log_likelihoods, (None, *grid))
  batch = calibration.inside.shape[0]
  scores, best = jax.lax.top_k(
    calibration.log_likelihoods.reshape(batch, -1), _PAIRS
  )
  scale, temperature = jnp.divmod(best, len(TEMPERATURES))
  total = calibration.inside + calibration.outside
  return Fit(
    jnp.array(SCALES)[scale],
    jnp.array(TEMPERATURES)[temperature],
    jax.nn.log_softmax(scores),
    jnp.log(calibration.inside / total),
  )


def chances(fit: Fit, law: filters.Law, noise: jax.Array) -> jax.Array:
  """Probability that the text takes each atom, of one row: [A].

  Args:
    fit: of the row, without axis B.
    law: of the drafter.
    noise: [A] Gumbel noise at its atoms.

  Returns:
    In [0, 1]; NaN where the law is.
  """
  chex.assert_equal_shape([law.logits, noise])
  scores = fit.scales[:, None] * law.logits[None] + noise[None]  # [M, A]
  each = jax.nn.softmax(scores / fit.temperatures[:, None], axis=-1)
  weights = jnp.exp(fit.log_weights + fit.log_hit)
  return jnp.minimum(jnp.sum(weights[:, None] * each, axis=0), 1.0)


def perturbed(key, logits, temperature, sampling):
  """The drafter's law and the noise of one position.

  Args:
    key: of the position.
    logits: [V] of the drafter.
    temperature: [] of the draft; 0 is the law itself without noise: the
      likeliest path is wanted.
    sampling: filters.

  Returns:
    The `filters.Law` over A atoms and Gumbel noise [A].
  """
  greedy = temperature < filters.COLDEST
  law = filters.warm_law(logits, jnp.where(greedy, 1.0, temperature), sampling)
  noise = -jnp.log(filters.noise(key, law))
  return law, jnp.where(greedy, 0.0, noise)


def update(
  calibration: Calibration, keys, tokens, root, logits, temperature, sampling
) -> Calibration:
  """Scores the tokens written since the last block.

  Args:
    calibration: of one drafter.
    keys: [B] keys of the rows.
    tokens: [B, T] text.
    root: [B] position of the last token.
    logits: [B, R, V] of the drafter after the last R tokens; R = 1 tells
      nothing.
    temperature: [] of the draft.
    sampling: filters.

  Returns:
    The calibration with the last R - 1 tokens in it, as far as they are new.
  """
  batch, size = logits.shape[:2]
  chex.assert_shape((calibration.inside, root), (batch,))
  if size == 1:
    return calibration._replace(scored=root)
  places = root[:, None] + jnp.arange(2 - size, 1)[None]  # [B, R - 1]
  new = places > calibration.scored[:, None]
  written = jnp.take_along_axis(tokens, jnp.maximum(places, 0), axis=1)

  def one(key, place, logits, token):
    key = gumbel.position_key(key, place)
    law, noise = perturbed(key, logits, temperature, sampling)
    return _log_likelihoods(law, noise, token)

  def add(index, sums):
    at = functools.partial(
      jax.lax.dynamic_index_in_dim, index=index, axis=1, keepdims=False
    )
    scores = jax.vmap(one)(keys, at(places), at(logits), at(written))
    possible = jnp.all(jnp.isfinite(scores), axis=(-2, -1))
    inside, outside = at(new) & possible, at(new) & ~possible
    own = jnp.where(inside[:, None, None], scores, 0.0)
    found = own, *(x.astype(jnp.float32) for x in (inside, outside))
    return jax.tree.map(jnp.add, sums, found)

  # One position at a time: the grid takes a few [B, a, V] in passing; and the
  # new ones alone, which are the last of them in every row.
  nothing = jnp.zeros_like(calibration.inside)
  start = jnp.zeros_like(calibration.log_likelihoods), nothing, nothing
  first = size - 1 - jnp.max(jnp.sum(new, axis=1, dtype=jnp.int32))
  scores, inside, outside = jax.lax.fori_loop(first, size - 1, add, start)
  kept = _MEMORY ** (inside + outside)
  return Calibration(
    calibration.log_likelihoods * kept[:, None, None] + scores,
    calibration.inside * kept + inside,
    calibration.outside * kept + outside,
    root,
  )


def _log_likelihoods(law, noise, token):
  """log softmax((a log p + G) / tau) of a token on the grid: [a, tau].

  Not finite for a token that the law does not allow.
  """
  chex.assert_equal_shape([law.logits, noise])
  ids = jnp.arange(law.logits.shape[-1]) if law.tokens is None else law.tokens
  index = gumbel.argmax(ids == token)
  known = ids[index] == token

  scores = jnp.array(SCALES)[:, None] * law.logits[None] + noise[None]
  scores = scores - jnp.max(scores, axis=1, keepdims=True)
  # The exponentials at two temperatures give all the others as powers.
  powers = [jnp.exp(scores[None] / TEMPERATURES[:2, None, None])]  # [2, a, A]
  while 2 * len(powers) < len(TEMPERATURES):
    powers.append(powers[-1] * powers[-1])
  mass = jnp.stack([jnp.sum(each, axis=-1) for each in powers])
  mass = mass.reshape(len(TEMPERATURES), len(SCALES)).T
  own = jnp.where(known, scores[:, index], -jnp.inf)
  return own[:, None] / TEMPERATURES[None] - jnp.log(mass)
