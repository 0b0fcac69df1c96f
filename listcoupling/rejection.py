"""Rejection schemes of multi-draft speculative decoding, one step each.

Single draft (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv
2302.01318), SpecInfer (Miao et al., arXiv 2305.09781) and SpecTr k-SEQ (Sun et
al., arXiv 2310.15141). Their draft noise is independent of the verifier's: a
proposal that shared it would bias the output.

`specinfer_accept` and `spectr_accept` are the pure maths of one step; the
decoding loop calls them with its own noise.

Legend: N atoms, K drafts.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from listcoupling import gumbel, validation
from listcoupling.coupling import ListSample, Pair

__all__ = [
  'excess',
  'maximal_coupling',
  'rejection_step',
  'specinfer_accept',
  'specinfer_step',
  'spectr_accept',
  'spectr_ratio',
  'spectr_step',
]


def __dir__():
  return __all__


_BISECTIONS = 30  # past the resolution of float32 on [1, K]


def _accepts(uniform, proposed, wanted) -> jax.Array:
  """Whether u <= wanted / proposed, with no quotient and never on 0."""
  return (uniform * proposed <= wanted) & (wanted > 0)


def excess(law: jax.Array, covered: jax.Array) -> jax.Array:
  """(law - covered)+ normalised; `law` itself if rounding leaves no mass."""
  chex.assert_equal_shape([law, covered])
  rest = jnp.maximum(law - covered, 0)
  mass = jnp.sum(rest)
  return jnp.where(mass > 0, rest / jnp.where(mass > 0, mass, 1), law)


def specinfer_accept(
  proposals: jax.Array,
  draft_probs: jax.Array,
  target_probs: jax.Array,
  uniforms: jax.Array,
  noise: jax.Array,
  alive: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """One step of SpecInfer: the drafts are tried in order.

  r_1 = q; draft k is accepted with probability min(1, r_k(X_k) / p_k(X_k)),
  else r_{k+1} = (r_k - p_k)+ normalised; r_{K+1} is sampled if all fail.

  Args:
    proposals: [K] integers, X_k ~ p_k drawn with noise of its own.
    draft_probs: [K, N] p_k.
    target_probs: [N] q.
    uniforms: [K] uniform noise in (0, 1].
    noise: [N] Exp(1) noise of the race on the residual.
    alive: [K] bool; the other drafts are skipped.

  Returns:
    token [] int32 of law q, and whether it is an accepted proposal, [] bool.
  """
  num_drafts, num_atoms = draft_probs.shape
  chex.assert_shape([proposals, uniforms, alive], (num_drafts,))
  chex.assert_shape([target_probs, noise], (num_atoms,))

  def judge(state, draft):
    law, token, accepted = state
    proposal, probs, uniform, is_alive = draft
    tried = is_alive & ~accepted
    good = tried & _accepts(uniform, probs[proposal], law[proposal])
    law = jnp.where(tried & ~good, excess(law, probs), law)
    token = jnp.where(good, proposal, token)
    return (law, token, accepted | good), None

  start = (target_probs, jnp.int32(-1), jnp.bool_(False))
  drafts = (proposals.astype(jnp.int32), draft_probs, uniforms, alive)
  # Unrolled, a few drafts cost a third on CPU.
  (law, token, accepted), _ = jax.lax.scan(judge, start, drafts, unroll=8)
  rest = gumbel.race(noise, jnp.log(law))
  return jnp.where(accepted, token, rest), accepted


def spectr_ratio(
  draft_probs: jax.Array, target_probs: jax.Array, num_alive: jax.Array
) -> jax.Array:
  """rho* of SpecTr k-SEQ: 1 - (1 - b)^K = rho b, b = sum min(p, q / rho).

  Args:
    draft_probs: [N] p, common to all drafts.
    target_probs: [N] q.
    num_alive: [] K, may be traced; 0 counts as 1.

  Returns:
    [] the upper end of the bisection on [1, K], within K 2^-30 of rho*; with
    the residual (q - rho p)+ only rho* keeps the output law exact.
  """
  chex.assert_rank([draft_probs, target_probs, num_alive], [1, 1, 0])
  chex.assert_equal_shape([draft_probs, target_probs])
  count = jnp.maximum(num_alive, 1).astype(target_probs.dtype)

  def halve(_, interval):
    low, high = interval
    middle = (low + high) / 2
    accept = jnp.sum(jnp.minimum(draft_probs, target_probs / middle))
    accept = jnp.minimum(accept, 1.0)
    some = -jnp.expm1(count * jnp.log1p(-accept))
    enough = some <= middle * accept
    return (
      jnp.where(enough, low, middle),
      jnp.where(enough, middle, high),
    )

  interval = (jnp.ones_like(count), count)
  return jax.lax.fori_loop(0, _BISECTIONS, halve, interval)[1]


def spectr_accept(
  proposals: jax.Array,
  draft_probs: jax.Array,
  target_probs: jax.Array,
  uniforms: jax.Array,
  noise: jax.Array,
  alive: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """One step of SpecTr k-SEQ, for iid drafts of one law.

  Draft k is accepted with probability min(1, q(X_k) / (rho* p(X_k))); if all
  fail, (q - rho* p)+ is sampled. K is the number of live drafts.

  Args:
    proposals: [K] integers, iid from p with noise of their own.
    draft_probs: [N] p.
    target_probs: [N] q.
    uniforms: [K] uniform noise in (0, 1].
    noise: [N] Exp(1) noise of the race on the residual.
    alive: [K] bool; the other drafts are skipped.

  Returns:
    token [] int32 of law q, and whether it is an accepted proposal, [] bool.
  """
  chex.assert_equal_shape([proposals, uniforms, alive])
  chex.assert_equal_shape([draft_probs, target_probs, noise])
  num_alive = jnp.sum(alive)
  ratio = spectr_ratio(draft_probs, target_probs, num_alive)
  scaled = ratio * draft_probs
  good = _accepts(uniforms, scaled[proposals], target_probs[proposals]) & alive
  accepted = jnp.any(good)
  token = proposals[gumbel.argmax(good)].astype(jnp.int32)
  covered = jnp.where(num_alive > 0, scaled, 0)
  rest = gumbel.race(noise, jnp.log(excess(target_probs, covered)))
  return jnp.where(accepted, token, rest), accepted


def specinfer_step(
  key: jax.Array,
  draft_logits: jax.Array,
  target_logits: jax.Array,
  *,
  num_drafts: int | None = None,
) -> ListSample:
  """K independent proposals and one SpecInfer verification.

  Args:
    key: typed key; consumed.
    draft_logits: [N] with `num_drafts`, or [K, N] for different drafts.
    target_logits: [N].
    num_drafts: K; may be left out with [K, N].

  Returns:
    `ListSample`; is_match tells whether a proposal was accepted, which is
    the same as the target being in the list.

  Raises:
    ValueError: for non-finite or wrongly shaped laws, K < 1, legacy keys.

  Example:
    >>> sample = specinfer_step(
    ...     jax.random.key(0), jnp.zeros(5), jnp.zeros(5), num_drafts=2)
    >>> bool(sample.is_match)
    True
  """
  *laws, num_drafts = validation.as_lists(
    key, draft_logits, target_logits, num_drafts
  )
  return _specinfer_step(key, *laws, num_drafts=num_drafts)


def _propose(key, draft_logits, num_drafts):
  """Proposals [K], uniforms [K], residual noise [N], all independent."""
  num_atoms = draft_logits.shape[-1]
  noise = gumbel.exponential_streams(key, num_atoms, num_drafts)
  proposals = gumbel.race(noise, jnp.atleast_2d(draft_logits))
  uniforms = gumbel.uniform(key, num_drafts, gumbel.ACCEPT)
  residual = gumbel.exponential(key, num_atoms, gumbel.RESIDUAL)
  return proposals, uniforms, residual


@functools.partial(jax.jit, static_argnames='num_drafts')
def _specinfer_step(key, draft_logits, target_logits, *, num_drafts):
  proposals, uniforms, noise = _propose(key, draft_logits, num_drafts)
  target_probs = jax.nn.softmax(target_logits)
  draft_probs = jnp.broadcast_to(
    jax.nn.softmax(draft_logits), (num_drafts, target_probs.size)
  )
  alive = proposals >= 0
  target, accepted = specinfer_accept(
    proposals, draft_probs, target_probs, uniforms, noise, alive
  )
  return ListSample(proposals, target, accepted)


def rejection_step(
  key: jax.Array, draft_logits: jax.Array, target_logits: jax.Array
) -> ListSample:
  """One proposal and its verification (Leviathan; Chen): SpecInfer at K = 1.

  Arguments, errors as `specinfer_step`; P[accept] = 1 - TV(p, q).

  Example:
    >>> law = jnp.zeros(5)
    >>> bool(rejection_step(jax.random.key(0), law, law).is_match)
    True
  """
  laws = validation.as_pair(key, draft_logits, target_logits)
  return _specinfer_step(key, *laws, num_drafts=1)


def maximal_coupling(
  key: jax.Array, draft_logits: jax.Array, target_logits: jax.Array
) -> Pair:
  """A coupling that matches as often as any can: P[match] = 1 - TV(p, q).

  X ~ p; Y = X with probability min(1, q(X) / p(X)), else Y ~ (q - p)+. One
  party must know both laws.

  Args:
    key: typed key; consumed.
    draft_logits: [N] unnormalised, any float type, -inf = impossible.
    target_logits: [N].

  Returns:
    `Pair` of proposal [], target [] and is_match [].

  Raises:
    ValueError: for non-finite or wrongly shaped laws, legacy keys.

  Example:
    >>> law = jnp.zeros(5)
    >>> bool(maximal_coupling(jax.random.key(0), law, law).is_match)
    True
  """
  sample = rejection_step(key, draft_logits, target_logits)
  return Pair(sample.proposals[0], sample.target, sample.is_match)


def spectr_step(
  key: jax.Array,
  draft_logits: jax.Array,
  target_logits: jax.Array,
  *,
  num_drafts: int,
) -> ListSample:
  """K iid proposals and one SpecTr k-SEQ verification.

  Args:
    key: typed key; consumed.
    draft_logits: [N]; k-SEQ is for drafts of one law.
    target_logits: [N].
    num_drafts: K.

  Returns:
    `ListSample`; is_match tells whether a proposal was accepted.

  Raises:
    ValueError: for non-finite or wrongly shaped laws, K < 1, legacy keys.

  Example:
    >>> spectr_step(jax.random.key(0), jnp.zeros(5), jnp.zeros(5),
    ...     num_drafts=2).proposals.shape
    (2,)
  """
  laws = validation.as_pair(key, draft_logits, target_logits)
  validation.check_positive_int(num_drafts, 'num_drafts')
  return _spectr_step(key, *laws, num_drafts=num_drafts)


@functools.partial(jax.jit, static_argnames='num_drafts')
def _spectr_step(key, draft_logits, target_logits, *, num_drafts):
  proposals, uniforms, noise = _propose(key, draft_logits, num_drafts)
  target, accepted = spectr_accept(
    proposals,
    jax.nn.softmax(draft_logits),
    jax.nn.softmax(target_logits),
    uniforms,
    noise,
    proposals >= 0,
  )
  return ListSample(proposals, target, accepted)
