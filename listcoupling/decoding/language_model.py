"""What decoding asks of a language model: one forward call, one cache rule.

A model is a pure function over an explicit cache. The cache is any pytree of
arrays with leading axes [B, C] (rows, entries); entry c of row b holds what
attention needs of one token. The engine alone decides which entry a token is
written to and which entries it sees, so prefixes of different length, draft
trees and roll-backs need nothing from the model.

Legend: B batch, S new tokens per call, C cache entries, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

Cache = Any  # pytree of [B, C, ...]


class Apply(Protocol):
  """One forward pass over S new tokens per row."""

  def __call__(
    self,
    params: Any,
    tokens: jax.Array,  # [B, S] int32
    positions: jax.Array,  # [B, S] int32, absolute position in the sequence
    mask: jax.Array,  # [B, S, C] bool, True where token s may see entry c
    cache: Cache,
    start: jax.Array,  # [B] int32, first entry written
  ) -> tuple[jax.Array, Cache]:
    """Writes the S tokens to entries start..start+S-1, then attends.

    Args:
      params: the model's parameters.
      tokens: [B, S] token ids.
      positions: [B, S] absolute positions (rotary phase); tokens of one tree
        depth share a position.
      mask: [B, S, C] visibility after the write; a token sees itself. A row
        of padding may see nothing; its logits are unused but must not be NaN
        in a way that reaches other rows.
      cache: pytree of [B, C, ...].
      start: [B] entry of the first new token; start + S <= C.

    Returns:
      logits [B, S, V] float32 of the token that follows each new token, and
      the cache with the S entries written.
    """


def no_cache(batch: int, entries: int) -> Cache:
  """The cache of a model that needs none: one word per entry, to be ignored.

  Its length still tells the engine how wide masks are.
  """
  return jnp.zeros((batch, entries), jnp.int32)


class LanguageModel(NamedTuple):
  """A language model as the decoder sees it.

  Attributes:
    apply: the forward pass, see `Apply`.
    params: pytree passed to `apply`.
    config: hashable, with an int attribute `vocab_size`.
    tokenizer: `tokenizers.Tokenizer` or None where only ids are known.
    init_cache: (batch, entries) -> empty cache; none is a model without one.
  """

  apply: Apply
  params: Any
  config: Any
  tokenizer: Any = None
  init_cache: Callable[[int, int], Cache] = no_cache
