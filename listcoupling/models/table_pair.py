"""A random target and a drafter at a known distance, both tables.

The next token depends on the last one alone. Nothing is trained and a forward
costs next to nothing; the target's law given the drafter's is known.

Legend: V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import bounds, gumbel, validation
from listcoupling.decoding.language_model import LanguageModel

__all__ = ['TableConfig', 'overlap', 'posterior', 'table_pair']


def __dir__():
  return __all__


_SPREAD = 2.5  # standard deviation of the target's logits


class TableConfig(NamedTuple):
  """Config of a table."""

  vocab_size: int


def table_pair(
  key: jax.Array, sigma: float, *, vocab_size: int
) -> tuple[LanguageModel, LanguageModel]:
  """Target logits are 2.5 N(0, 1), those of the drafter add sigma N(0, 1).

  Args:
    key: typed key.
    sigma: distance of the drafter's logits, at least 0.
    vocab_size: V.

  Returns:
    (target, drafter), whose parameters are logits [V, V] by the last token.

  Raises:
    ValueError: for a key that is not typed, a negative distance, or a
      vocabulary without tokens.

  Example:
    >>> target, drafter = table_pair(gumbel.seed_key(0), 0.5, vocab_size=200)
    >>> target.params.shape
    (200, 200)
  """
  validation.check_key(key)
  validation.check_scalar(sigma, 'sigma', minimum=0)
  validation.check_positive_int(vocab_size, 'vocab_size')
  key = gumbel.domain_key(key, gumbel.Domain.LAWS)
  shape = 2, vocab_size, vocab_size
  own, other = jax.random.normal(key, shape, jnp.float32)
  laws = _SPREAD * own, _SPREAD * own + sigma * other
  return tuple(LanguageModel(_apply, x, TableConfig(vocab_size)) for x in laws)


def _apply(params, tokens, positions, mask, cache, start):
  del positions, mask, start
  return params[tokens], cache


def posterior(draft_logits: jax.Array, sigma: float) -> tuple[jax.Array, float]:
  """Laws of the target's logits, given the drafter's d: independent normals.

  Their mean is b d and their variance b sigma^2, b = S^2 / (S^2 + sigma^2) with
  S the spread of the target's own.

  Args:
    draft_logits: of any shape.
    sigma: see `table_pair`.

  Returns:
    The means, in the shape of the logits, and the deviation of all.

  Example:
    >>> mean, deviation = posterior(jnp.array(1.0), 2.5)
    >>> float(mean), round(deviation, 3)
    (0.5, 1.768)
  """
  share = _SPREAD**2 / (_SPREAD**2 + sigma**2)
  return share * draft_logits, sigma * share**0.5


def overlap(
  target: LanguageModel, drafter: LanguageModel, temperature: float = 1.0
) -> float:
  """1 - TV of a pair of tables at a temperature, the mean over its laws.

  Example:
    >>> target, _ = table_pair(gumbel.seed_key(0), 0.5, vocab_size=9)
    >>> overlap(target, target)
    1.0
  """
  scale = max(temperature, 1e-6)
  laws = [jax.nn.softmax(x.params / scale) for x in (target, drafter)]
  return 1 - float(jax.vmap(bounds.total_variation)(*laws).mean())
