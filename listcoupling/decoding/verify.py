"""Verification: the target walks the draft tree and writes the text.

One walk serves every method. At the root, and then at each accepted node, the
target's law is formed, one token is chosen, and the walk goes on while a live
draft proposed that token. The methods differ only in how the token is chosen:

*   canonical (`gumbel_tree`, `gumbel_chains`, `autoregressive`): argmin E / q
    with the canonical race E of the position.
*   `gls`: argmin_i min over live drafts of S^(k)_i / q_i (Algorithm 2 of arXiv
    2506.05632); `gls_strong`: the minimum over all K drafts (Prop. 6).
*   `specinfer`, `spectr`, `single`: accept or reject the live proposals, whose
    noise is independent of the verifier's.

`block` (arXiv 2403.10444) looks ahead along its one draft and has a walk of
its own. Functions verify one row and are mapped with `jax.vmap`.

Legend: K drafts, L draft length, S = 1 + K L nodes, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import gumbel, rejection
from listcoupling.decoding import filters
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.tree import DraftTree


class Row(NamedTuple):
  """What the walk knows of one row."""

  key: jax.Array  # noise of the block
  root: jax.Array  # [] index of the last token
  num_new: jax.Array  # [] tokens generated so far
  seen: jax.Array | None  # [V] bool, with a repetition penalty only
  logits: jax.Array  # [S, V] of the target at every node


class Verdict(NamedTuple):
  """The tokens a block returns."""

  tokens: jax.Array  # [L + 1] int32, valid up to `count`
  count: jax.Array  # [] int32 in [1, L + 1]
  path: jax.Array  # [L] int32, accepted node per depth (any past the end)
  num_accepted: jax.Array  # [] int32, drafted tokens in the text


class _Walk(NamedTuple):
  node: jax.Array  # [] node whose children are judged
  alive: jax.Array  # [K] slots at this depth that end in the text
  running: jax.Array  # [] bool
  seen: jax.Array | None  # [V]


def verify(row: Row, tree: DraftTree, options: GenerateOptions) -> Verdict:
  """Verifies one block of one row.

  Args:
    row: see `Row`.
    tree: proposals of this row, [L, K].
    options: see `GenerateOptions`.

  Returns:
    The `Verdict`: at least one token.
  """
  if options.method == 'block':
    return _verify_block(row, tree, options)
  return _verify_walk(row, tree, options)


def _verify_walk(row, tree, options):
  length, width = tree.tokens.shape
  # After the last depth one more token is chosen with nothing to judge.
  tail = jnp.full((1, width), -1, jnp.int32)
  tokens = jnp.concatenate([tree.tokens, tail])
  chain = jnp.arange(width, dtype=jnp.int32)[None]
  parents = jnp.concatenate([tree.parents, chain])
  laws = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1]]), tree.laws)

  def step(walk, judged):
    depth, key, tokens, parents, laws = judged
    live = jnp.where(depth == 0, True, walk.alive[parents])
    law = filters.target_law(
      row.logits[walk.node], walk.seen, row.num_new + depth, options
    )
    probs = _dense(laws, row.logits.shape[-1])
    if not options.replacement:
      probs = _without_earlier(probs, tokens, live)
    token = _choose(key, law, tokens, probs, live, options)
    alive = live & (tokens == token) & (token >= 0)
    accepted = walk.running & jnp.any(alive)
    node = 1 + depth * width + gumbel.argmax(alive)
    next_ = _Walk(
      jnp.where(accepted, node, 0).astype(jnp.int32),
      alive,
      accepted & ~is_stop(token, options),
      _see(walk.seen, token),
    )
    return next_, (token, walk.running, node.astype(jnp.int32), accepted)

  start = _Walk(jnp.int32(0), jnp.ones(width, bool), jnp.bool_(True), row.seen)
  depths = jnp.arange(length + 1)
  keys = jax.vmap(gumbel.position_key, (None, 0))(
    row.key, row.root + 1 + depths
  )
  judged = (depths, keys, tokens, parents, laws)
  # Fewer passes on CPU; the loop over drafts of a rejection scheme is unrolled
  # already, and both would take the compiler several times as long.
  unroll = 1 if laws is not None else 8
  _, (text, valid, path, accepted) = jax.lax.scan(
    step, start, judged, unroll=unroll
  )
  return Verdict(
    text,
    jnp.sum(valid, dtype=jnp.int32),
    path[:length],
    jnp.sum(accepted, dtype=jnp.int32),
  )


def is_stop(token: jax.Array, options: GenerateOptions) -> jax.Array:
  """Whether a token ends the row."""
  if not options.stop_tokens:
    return jnp.zeros(jnp.shape(token), bool)
  stops = jnp.array(options.stop_tokens)
  return jnp.any(jnp.expand_dims(token, -1) == stops, axis=-1)


def _see(seen, token):
  return None if seen is None else seen.at[token].set(True)


def _choose(key, law, tokens, probs, live, options):
  """The target's token given the live proposals; [] int32."""
  method, width = options.method, tokens.shape[0]
  if method in ('gls', 'gls_strong'):
    noise = gumbel.exponential_streams(key, filters.atoms(law), width)
    if method == 'gls':  # past the last depth `live` holds the survivors
      noise = jnp.where(live[:, None], noise, jnp.inf)
    return filters.sample(gumbel.earliest(noise), law)
  if method in ('specinfer', 'spectr', 'single'):
    return _choose_by_rejection(key, law, tokens, probs, live, method)
  return filters.sample(filters.noise(key, law), law)


def _dense(laws, vocab_size):
  """Laws [..., A] of several drafts as probabilities [..., V]."""
  if laws is None:
    return None
  return jax.vmap(lambda law: filters.probabilities(law, vocab_size))(laws)


def _without_earlier(probs, tokens, live):
  """Laws [K, V] of live siblings drawn one after another, without return."""
  drawn = live[:, None] & (tokens[:, None] == jnp.arange(probs.shape[-1]))
  earlier = jnp.cumsum(drawn, axis=0) > drawn
  left = jnp.where(earlier, 0.0, probs)
  mass = jnp.sum(left, axis=-1, keepdims=True)
  return left / jnp.where(mass > 0, mass, 1.0)


def _choose_by_rejection(key, law, tokens, probs, live, method):
  vocab_size = probs.shape[-1]
  target = filters.probabilities(law, vocab_size)
  uniforms = gumbel.uniform(key, tokens.shape[0], gumbel.ACCEPT)
  noise = gumbel.exponential(key, vocab_size, gumbel.RESIDUAL)
  live = live & (tokens >= 0)
  if method == 'spectr':
    shared = probs[gumbel.argmax(live)]  # dead drafts have laws of their own
    token, _ = rejection.spectr_accept(
      tokens, shared, target, uniforms, noise, live
    )
  else:
    token, _ = rejection.specinfer_accept(
      tokens, probs, target, uniforms, noise, live
    )
  return token


def _verify_block(row, tree, options):
  """Block verification: the longest acceptable prefix of one draft.

  With p_0 = 1 and p_i = min(1, p_{i-1} q(x_i) / p(x_i)), prefix i is accepted
  with probability h_i = r_i / (r_i + 1 - p_i), r_i = sum (p_i q - p)+, h_L =
  p_L, each with its own uniform; the longest accepted prefix i is followed by
  a draw from (p_i q - p)+ (from q for i = L).
  """
  length, vocab_size = tree.tokens.shape[0], row.logits.shape[-1]
  draft = tree.tokens[:, 0]
  laws = _dense(jax.tree.map(lambda leaf: leaf[:, 0], tree.laws), vocab_size)
  # Past the last depth nothing was drafted: the residual is q itself.
  laws = jnp.concatenate([laws, jnp.zeros((1, vocab_size))])
  next_ = jnp.append(draft, 0)

  def step(carry, judged):
    depth, token, draft_law = judged
    weight, seen = carry
    law = filters.target_law(
      row.logits[depth], seen, row.num_new + depth, options
    )
    target = filters.probabilities(law, vocab_size)
    residual = jnp.maximum(weight * target - draft_law, 0)
    mass = jnp.sum(residual)
    accept = jnp.where(depth == length, weight, _ratio(mass, mass + 1 - weight))
    residual = jnp.where(mass > 0, residual, target)
    ratio = _ratio(target[token], draft_law[token])
    # The carried weight and law belong to the next, longer prefix.
    weight = jnp.minimum(weight * ratio, 1.0)
    return (weight, _see(seen, token)), (accept, residual)

  start = (jnp.float32(1), row.seen)
  judged = (jnp.arange(length + 1), next_, laws)
  _, (accept, residuals) = jax.lax.scan(step, start, judged)
  uniforms = gumbel.uniform(row.key, length + 1, gumbel.ACCEPT)
  accepted = (uniforms <= accept).at[0].set(True)
  count = length - gumbel.argmax(accepted[::-1])  # longest accepted prefix
  # Nothing after a stop token is read.
  stops = jnp.append(is_stop(draft, options), True)
  first_stop = gumbel.argmax(stops)  # index of the drafted stop token, or L
  key = gumbel.position_key(row.key, row.root + count + 1)
  noise = gumbel.exponential(key, vocab_size, gumbel.RESIDUAL)
  extra = gumbel.race(noise, jnp.log(residuals[count]))
  text = jnp.where(jnp.arange(length + 1) < count, next_, extra)
  stopped = first_stop < count
  return Verdict(
    text,
    jnp.where(stopped, first_stop + 1, count + 1).astype(jnp.int32),
    jnp.arange(1, length + 1, dtype=jnp.int32),
    jnp.where(stopped, first_stop + 1, count).astype(jnp.int32),
  )


def _ratio(numerator, denominator):
  """numerator / denominator, 0 where both vanish, capped at 1e30."""
  safe = jnp.where(denominator > 0, denominator, 1.0)
  return jnp.where(denominator > 0, jnp.minimum(numerator / safe, 1e30), 0.0)
