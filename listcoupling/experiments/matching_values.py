"""What one step of each scheme is worth on a pair of laws.

Exact values and samples, all from the two laws alone; `matching` averages
them along a text. References: arXiv 2506.05632 (GLS), 2305.09781 (SpecInfer),
2310.15141 (SpecTr), 2502.18779 (the optimum).

Legend: A atoms, K drafts, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp

from listcoupling import bounds, coupling, rejection
from listcoupling.decoding import filters

COMPUTED = (
  'bound',
  'exact',
  'specinfer',
  'spectr',
  'optimum',
  'optimum_without_replacement',
)
SAMPLED = ('sampled', 'shared_race')
COLUMNS = COMPUTED + SAMPLED


def specinfer_probability(p, q, num_drafts: int) -> jax.Array:
  """Probability that SpecInfer accepts one of K drafts, iid from p.

  1 - prod_k (1 - sum_i min(p_i, r_k,i)) with r_1 = q and r_{k+1} = (r_k - p)+
  normalised (arXiv 2305.09781).

  Args:
    p: [A] draft law.
    q: [A] target law.
    num_drafts: K.

  Returns:
    [] float.

  Example:
    >>> p, q = jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])
    >>> float(specinfer_probability(p, q, 2))
    0.75
  """
  law, failed = q, jnp.ones(())
  for _ in range(num_drafts):
    failed *= 1 - jnp.minimum(jnp.sum(jnp.minimum(p, law)), 1)
    rest = jnp.maximum(law - p, 0)
    mass = jnp.sum(rest)
    law = jnp.where(mass > 0, rest / jnp.where(mass > 0, mass, 1), law)
  return 1 - failed


def spectr_probability(p, q, num_drafts: int) -> jax.Array:
  """Probability that SpecTr k-SEQ accepts one of K drafts, iid from p.

  1 - (1 - b)^K, b = sum_i min(p_i, q_i / rho*) (arXiv 2310.15141). Arguments
  and value as for `specinfer_probability`.

  Example:
    >>> law = jnp.array([0.5, 0.5])
    >>> abs(float(spectr_probability(law, law, 1)) - 1) < 1e-6
    True
  """
  ratio = rejection.spectr_ratio(p, q, jnp.asarray(num_drafts))
  accept = jnp.minimum(jnp.sum(jnp.minimum(p, q / ratio)), 1)
  return -jnp.expm1(num_drafts * jnp.log1p(-accept))


def common_atoms(draft: filters.Law, target: filters.Law, vocab_size: int):
  """Both laws as probabilities on the tokens that either can have.

  Args:
    draft: law over tokens.
    target: law over tokens.
    vocab_size: V.

  Returns:
    p [A] and q [A]; under top-k A is the number of tokens kept by both
    together, far below V.
  """
  p, q = jax.nn.softmax(draft.logits), jax.nn.softmax(target.logits)
  if draft.tokens is None or target.tokens is None:
    return tuple(
      filters.probabilities(law, vocab_size) for law in (draft, target)
    )
  same = draft.tokens[:, None] == target.tokens  # [draft, target]
  shared = jnp.sum(jnp.where(same, p[:, None], 0), axis=0)
  alone = jnp.where(jnp.any(same, axis=1), 0, p)
  return (
    jnp.concatenate([shared, alone]),
    jnp.concatenate([q, jnp.zeros_like(alone)]),
  )


@functools.partial(jax.jit, static_argnames=('num_drafts', 'repetitions'))
def step_values(key, p, q, *, num_drafts: int, repetitions: int) -> jax.Array:
  """Values of `COLUMNS` at one token: [8]."""
  optimum = bounds.optimal_list_acceptance
  sampled = []
  for number, sampler in enumerate(
    (coupling.gumbel_list_sampling, coupling.shared_race_list_sampling)
  ):
    keys = jax.random.split(jax.random.fold_in(key, number), repetitions)
    draw = functools.partial(sampler, num_drafts=num_drafts)
    matches = jax.vmap(draw, (0, None, None))(keys, jnp.log(p), jnp.log(q))
    sampled.append(jnp.mean(matches.is_match))
  return jnp.stack(
    [
      bounds.list_matching_bound(p, q, num_drafts),
      bounds.list_matching_probability(p, q, num_drafts),
      specinfer_probability(p, q, num_drafts),
      spectr_probability(p, q, num_drafts),
      optimum(p, q, num_drafts),
      optimum(p, q, num_drafts, replace=False),
      *sampled,
    ]
  )
