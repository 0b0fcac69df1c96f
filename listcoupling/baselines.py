"""What Gumbel races are compared with.

*   `maximal_coupling`: one party knows both laws, P[match] = 1 - TV.
*   `weighted_minhash_coupling`, `low_communication_coupling`: public darts
    (Daliri, Musco, Suresh, arXiv 2408.07978), see `darts`.
*   `rejection_step`, `specinfer_step`, `spectr_step`: one step of the schemes
    of speculative decoding, see `rejection`.
"""

import jax
import jax.numpy as jnp  # noqa: F401 (examples)

from listcoupling.coupling import Pair
from listcoupling.darts import (
  low_communication_coupling,
  weighted_minhash_coupling,
)
from listcoupling.rejection import (
  rejection_step,
  specinfer_accept,
  specinfer_step,
  spectr_accept,
  spectr_step,
)

__all__ = [
  'low_communication_coupling',
  'maximal_coupling',
  'rejection_step',
  'specinfer_accept',
  'specinfer_step',
  'spectr_accept',
  'spectr_step',
  'weighted_minhash_coupling',
]


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
