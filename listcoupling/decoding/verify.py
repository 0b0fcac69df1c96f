"""Verification: the target walks the draft tree and writes the text.

At the root, and then at each accepted node, the target's law is formed, one
token is chosen, and the walk goes on while a live draft proposed that token.
The methods differ in how the token is chosen:

*   canonical (`gumbel_tree`, `gumbel_chains`, `autoregressive`): argmin E / q
    with the canonical race E of the position; over trees of any shape.
*   `gls`: argmin_i min over live drafts of S^(k)_i / q_i (Algorithm 2 of arXiv
    2506.05632); `gls_strong`: the minimum over all K drafts (Prop. 6).
*   `specinfer`, `spectr`, `single`: accept or reject the live proposals, whose
    noise is independent of the verifier's.

`block` (arXiv 2403.10444) looks ahead along its one draft and has a walk of
its own; so has `traversal`, in a module beside this one.

Legend: B batch, K drafts, L draft length, N proposals, S = 1 + N nodes, V
vocabulary.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from listcoupling import gumbel, rejection
from listcoupling.decoding import filters
from listcoupling.decoding.draft import SpeculativeConfig
from listcoupling.decoding.tree import DraftTree


class Context(NamedTuple):
  """The rows as the verifier sees them."""

  keys: jax.Array  # [B] noise of the block
  root: jax.Array  # [B] index of the last token
  num_new: jax.Array  # [B] tokens generated so far
  seen: jax.Array | None  # [B, V] bool, with a repetition penalty only
  logits: jax.Array  # [B, S, V] of the target at every node


class Verification(NamedTuple):
  """The tokens a block returns."""

  tokens: jax.Array  # [B, L + 1] int32, valid up to `count`
  count: jax.Array  # [B] int32 in [1, L + 1]
  path: jax.Array  # [B, L] int32, accepted node per depth (any past the end)
  num_accepted: jax.Array  # [B] int32, drafted tokens in the text


class _Walk(NamedTuple):
  depth: jax.Array  # [] of the node that is judged next
  node: jax.Array  # [B] accepted node whose children are judged
  alive: jax.Array  # [B, S] nodes of this depth that end in the text
  running: jax.Array  # [B] bool
  seen: jax.Array | None  # [B, V]
  result: Verification


def verify_canonical(
  context: Context,
  tree: DraftTree,
  config: SpeculativeConfig,
  sampling: filters.SamplingParams,
) -> Verification:
  """Takes the winner of the canonical race while the tree holds it.

  Args:
    context: see `Context`.
    tree: proposals in any shape.
    config: see `SpeculativeConfig`.
    sampling: see `SamplingParams`.

  Returns:
    The `Verification`: at least one token per row.
  """

  def choose(keys, laws, walk):
    del walk
    return jax.vmap(lambda key, law: filters.draw(key, law))(keys, laws)

  return _walk_down(context, tree, config, sampling, choose)


def _walk_down(context, tree, config, sampling, choose) -> Verification:
  """From the root along the tokens [B] that `choose` picks at every depth.

  One loop over all rows: a depth that no row reaches costs no law.
  """
  batch, size = context.logits.shape[:2]
  chex.assert_shape(tree.tokens, (batch, size - 1))
  length = config.draft_length

  def step(walk):
    keys = jax.vmap(gumbel.position_key)(
      context.keys, context.root + 1 + walk.depth
    )
    laws = jax.vmap(filters.target_law, (0, 0, 0, None))(
      jax.vmap(node_at)(context.logits, walk.node),
      walk.seen,
      context.num_new + walk.depth,
      sampling,
    )
    token = choose(keys, laws, walk)
    alive = jnp.take_along_axis(walk.alive, tree.parents, axis=1)
    alive &= (tree.tokens == token[:, None]) & (token >= 0)[:, None]
    return _advanced(walk, token, jnp.pad(alive, ((0, 0), (1, 0))), sampling)

  walk = jax.lax.while_loop(
    lambda walk: (walk.depth <= length) & jnp.any(walk.running),
    step,
    _at_root(context, length),
  )
  return walk.result._replace(path=walk.result.path[:, :length])


def _at_root(context: Context, length: int) -> _Walk:
  """Before anything is judged."""
  chex.assert_equal_shape([context.keys, context.root, context.num_new])
  batch, size = context.logits.shape[:2]
  nothing = jnp.zeros(batch, jnp.int32)
  places = jnp.zeros((batch, length + 1), jnp.int32)
  return _Walk(
    jnp.int32(0),
    nothing,
    jnp.broadcast_to(jnp.arange(size) == 0, (batch, size)),
    nothing == 0,
    context.seen,
    Verification(places, nothing, places, nothing),
  )


def _advanced(walk: _Walk, token, alive, sampling) -> _Walk:
  """One depth further: the token [B], and the nodes [B, S] that hold it."""
  accepted = walk.running & jnp.any(alive, axis=1)
  node = jnp.where(accepted, gumbel.argmax(alive), 0)
  old = walk.result
  return _Walk(
    walk.depth + 1,
    node,
    alive,
    accepted & ~is_stop(token, sampling),
    _see(walk.seen, token),
    Verification(
      old.tokens.at[:, walk.depth].set(token),
      old.count + walk.running.astype(jnp.int32),
      old.path.at[:, walk.depth].set(node),
      old.num_accepted + accepted.astype(jnp.int32),
    ),
  )


def node_at(nodes, index):
  """One of the nodes: [S, ...] -> [...].

  A TPU makes a loop over the rows of the gather; there all nodes are read.
  """

  def masked(nodes, index):
    own = jax.lax.iota(jnp.int32, nodes.shape[0]) == index
    own = own.reshape(-1, *[1] * (nodes.ndim - 1))
    return jnp.sum(jnp.where(own, nodes, 0), axis=0, dtype=nodes.dtype)

  return jax.lax.platform_dependent(
    nodes, index, tpu=masked, default=lambda nodes, index: nodes[index]
  )


def is_stop(token: jax.Array, sampling: filters.SamplingParams) -> jax.Array:
  """Whether a token ends the row."""
  stops = jnp.expand_dims(sampling.stop_tokens, tuple(range(token.ndim)))
  return jnp.any(token[..., None] == stops, axis=-1)


def _see(seen, tokens):
  """Marks one token per row [B] as seen."""
  if seen is None:
    return None
  return jax.vmap(lambda row, token: row.at[token].set(True))(seen, tokens)


class _Judged(NamedTuple):
  """One depth of the chains of one row."""

  tokens: jax.Array  # [K]
  laws: filters.Law | None  # [K, A]
  live: jax.Array  # [K] bool, chains that agree with the text so far


def _verify_chains(context, tree, config, sampling, *, choose):
  """The walk over K chains; `choose` picks a token from live proposals."""
  tokens, laws = by_depth(tree, config)
  # After the last depth one more token is chosen with nothing to judge.
  tokens = jnp.pad(tokens, ((0, 0), (0, 1), (0, 0)), constant_values=-1)
  width, last = config.num_drafts, config.draft_length - 1
  row = functools.partial(choose, config=config)

  def choose_rows(keys, target, walk):
    depth = walk.depth
    before = jnp.maximum(1 + (depth - 1) * width, 0)  # nodes above this depth
    live = jax.lax.dynamic_slice_in_dim(walk.alive, before, width, axis=1)
    judged = _Judged(
      tokens[:, depth],
      jax.tree.map(lambda leaf: leaf[:, jnp.minimum(depth, last)], laws),
      live | (depth == 0),
    )
    return jax.vmap(row)(keys, target, judged)

  return _walk_down(context, tree, config, sampling, choose_rows)


def by_depth(tree: DraftTree, config: SpeculativeConfig):
  """Tokens and laws of chains by depth: [B, L, K, ...]."""
  shape = (-1, config.draft_length, config.num_drafts)
  return tree.tokens.reshape(shape), jax.tree.map(
    lambda leaf: leaf.reshape(*shape, leaf.shape[-1]), tree.laws
  )


def _choose_gls(key, law, judged, config, *, strong):
  """Minimum of the races of the live drafts, or of all."""
  # Past the last depth `live` holds the survivors.
  live = None if strong else judged.live
  return filters.draw(key, law, range(config.num_drafts), live)


def _choose_by_rejection(key, law, judged, config, *, accept):
  laws = judged.laws
  if not config.replacement:
    laws = _without_earlier(laws, judged.tokens, judged.live)
  proposals, drafts, target = _on_target(law, laws, judged.tokens)
  noise = filters.noise(key, law, gumbel.RESIDUAL)
  index, _ = accept(
    proposals,
    drafts,
    target,
    gumbel.uniform(key, config.num_drafts, gumbel.ACCEPT),
    jnp.append(noise, jnp.ones(target.size - noise.size)),
    judged.live & (judged.tokens >= 0),
  )
  return filters.token_at(law, index)


def _on_target(law, laws, tokens):
  """Proposals [K] and probabilities [K, N], [N] over the target's N atoms.

  A residual lives where the target does. Under top-k one atom more, impossible
  for the target, stands for all other tokens; what a draft gives them matters
  to no decision.
  """
  if law.tokens is None:
    return tokens, *(
      jax.nn.softmax(either.logits, axis=-1) for either in (laws, law)
    )
  drafts = jax.vmap(filters.probabilities_at, (0, None))(laws, law.tokens)
  target = jnp.append(jax.nn.softmax(law.logits), 0.0)
  here = tokens[:, None] == law.tokens[None]
  places = jnp.where(jnp.any(here, axis=1), gumbel.argmax(here), here.shape[1])
  return places, jnp.pad(drafts, ((0, 0), (0, 1))), target


def _specinfer(*step):
  return rejection.specinfer_accept(*step)


def _spectr(tokens, probs, target, uniforms, noise, live):
  shared = probs[gumbel.argmax(live)]  # dead drafts have laws of their own
  return rejection.spectr_accept(tokens, shared, target, uniforms, noise, live)


def _without_earlier(laws, tokens, live):
  """Laws [K, A] of live siblings drawn one after another, without return."""
  chex.assert_equal_shape([tokens, live])
  atoms = laws.tokens
  if atoms is None:
    atoms = jnp.arange(laws.logits.shape[-1], dtype=jnp.int32)[None]
  drawn = tokens[:, None, None] == atoms[None]
  drawn &= live[:, None, None]  # [K, K, A]
  earlier = jnp.tri(tokens.size, k=-1, dtype=bool).T[:, :, None]
  gone = jnp.any(earlier & drawn, axis=0)
  return laws._replace(logits=jnp.where(gone, -jnp.inf, laws.logits))


def _by(choose, **settings):
  """A verifier of chains from a choice of its tokens."""
  return functools.partial(
    _verify_chains, choose=functools.partial(choose, **settings)
  )


verify_gls = _by(_choose_gls, strong=False)
verify_gls_strong = _by(_choose_gls, strong=True)
verify_specinfer = _by(_choose_by_rejection, accept=_specinfer)
verify_spectr = _by(_choose_by_rejection, accept=_spectr)


def verify_block(context, tree, config, sampling) -> Verification:
  """Block verification: the longest acceptable prefix of one draft.

  With p_0 = 1 and p_i = min(1, p_{i-1} q(x_i) / p(x_i)), prefix i is accepted
  with probability h_i = r_i / (r_i + 1 - p_i), r_i = sum (p_i q - p)+, h_L =
  p_L, each with its own uniform; the longest accepted prefix i is followed by
  a draw from (p_i q - p)+ (from q for i = L).

  Arguments and result as `verify_canonical`.
  """
  row = functools.partial(_verify_block, sampling=sampling)
  return jax.vmap(row)(context, by_depth(tree, config))


def _verify_block(row, chain, *, sampling):
  tokens, laws = jax.tree.map(lambda leaf: leaf[:, 0], chain)
  length = tokens.shape[0]
  accept, residuals = _prefixes(row, tokens, laws, sampling)
  uniforms = gumbel.uniform(row.keys, length + 1, gumbel.ACCEPT)
  accepted = (uniforms <= accept).at[0].set(True)
  count = length - gumbel.argmax(accepted[::-1])  # longest accepted prefix
  residual = jax.tree.map(lambda leaf: node_at(leaf, count), residuals)
  path = jnp.arange(1, length + 1, dtype=jnp.int32)
  return write(row, tokens, path, count, residual, sampling)


def write(row, tokens, path, count, residual, sampling) -> Verification:
  """The first tokens of one chain, then a draw from a residual.

  Args:
    row: `Context` of one row.
    tokens: [L] of the chain.
    path: [L] its nodes.
    count: [] how many of them are accepted.
    residual: `Law` of the token behind them.
    sampling: see `SamplingParams`.

  Returns:
    The `Verification` of the row; nothing after a stop token is read.
  """
  chex.assert_rank([tokens, path, count], [1, 1, 0])
  chex.assert_equal_shape([tokens, path])
  length = tokens.size
  stops = jnp.append(is_stop(tokens, sampling), True)
  first_stop = gumbel.argmax(stops)  # index of the drafted stop token, or L
  key = gumbel.position_key(row.keys, row.root + count + 1)
  noise = filters.noise(key, residual, gumbel.RESIDUAL)
  extra = filters.sample(noise, residual)
  text = jnp.append(tokens, 0)
  text = jnp.where(jnp.arange(length + 1) < count, text, extra)
  stopped = first_stop < count
  return Verification(
    text,
    jnp.where(stopped, first_stop + 1, count + 1).astype(jnp.int32),
    path,
    jnp.where(stopped, first_stop + 1, count).astype(jnp.int32),
  )


def _prefixes(row, tokens, laws, sampling):
  """h_i [L + 1] and residuals, `Law` of [L + 1, N], of every prefix."""
  chex.assert_rank([tokens, row.logits], [1, 2])
  length = tokens.size
  # Past the last depth nothing was drafted: the residual is q itself.
  tokens = jnp.append(tokens, 0)
  laws = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1]]), laws)

  def step(carry, judged):
    depth, token, draft = judged
    weight, seen = carry
    law = filters.target_law(
      row.logits[depth], seen, row.num_new + depth, sampling
    )
    drafts = jax.tree.map(lambda leaf: leaf[None], draft)
    place, drafts, target = _on_target(law, drafts, token[None])
    proposed = jnp.where(depth == length, 0.0, drafts[0])
    residual = jnp.maximum(weight * target - proposed, 0)
    mass = jnp.sum(residual)
    accept = jnp.where(
      depth == length, weight, ratio(mass, mass + (1 - weight))
    )
    residual = jnp.where(mass > 0, residual, target)
    gain = ratio(target[place[0]], proposed[place[0]])
    # The carried weight and law belong to the next, longer prefix.
    weight = jnp.minimum(weight * gain, 1.0)
    seen = None if seen is None else seen.at[token].set(True)
    size = law.logits.size
    return (weight, seen), (
      accept,
      law._replace(logits=jnp.log(residual[:size])),
    )

  start = (jnp.float32(1), row.seen)
  judged = (jnp.arange(length + 1), tokens, laws)
  return jax.lax.scan(step, start, judged)[1]


def ratio(numerator, denominator) -> jax.Array:
  """numerator / denominator, 0 where both vanish, capped at 1e30."""
  safe = jnp.where(denominator > 0, denominator, 1.0)
  return jnp.where(denominator > 0, jnp.minimum(numerator / safe, 1e30), 0.0)
