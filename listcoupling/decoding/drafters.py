"""Drafters: anything that gives laws for the children of draft nodes.

A drafter is a hashable object with the four members of `Drafter`; its arrays
travel beside it as `params` and `state`. A bad drafter costs speed alone.

Legend: B batch, K slots of this drafter, L draft length, T tokens, V
vocabulary.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from listcoupling.decoding import tree
from listcoupling.decoding.language_model import LanguageModel


class Text(NamedTuple):
  """The rows as they stand at the start of a block."""

  tokens: jax.Array  # [B, T] int32
  root: jax.Array  # [B] int32, index of the last token


class Drafter(Protocol):
  """Laws for the children of draft nodes, one depth at a time."""

  vocab_size: int

  def prefill(self, params, text: Text, shape, capacity: int) -> Any:
    """State after reading the prompt, of the form `open_block` returns.

    `shape` is (L, K): depths and own slots of every block; `capacity` tokens
    per row are enough.
    """

  def open_block(self, params, state, text: Text):
    """Logits [B, V] after the root, and a state without draft nodes."""

  def extend(self, params, state, text: Text, depth, nodes, parents):
    """Logits [B, K, V] after the nodes [B, K] just drafted at `depth`."""


class _ModelState(NamedTuple):
  cache: Any  # of C entries
  visible: jax.Array  # [B, K, L K] bool, path of every slot


@dataclasses.dataclass(frozen=True)
class ModelDrafter:
  """A language model that drafts with its own cache.

  The cache holds the text up to the root, then the nodes of this block.
  Every block forwards the last L + 1 tokens again: whichever nodes the target
  accepted, nothing needs to be moved or rolled back.
  """

  model: LanguageModel  # without parameters

  @property
  def vocab_size(self) -> int:
    """V of the model."""
    return self.model.config.vocab_size

  def prefill(self, params, text, shape, capacity):
    """Reads all tokens up to the root."""
    batch, size = text.tokens.shape
    length, slots = shape
    scratch = length * (slots + 1)
    cache = self.model.init_cache(batch, capacity + scratch)
    start = jnp.zeros(batch, jnp.int32)
    mask = tree.cache_mask(
      tree.causal(size, batch), start, self.model.capacity(cache)
    )
    positions = jnp.broadcast_to(jnp.arange(size), (batch, size))
    tokens = self._known(text.tokens)
    _, cache = self.model.apply(params, tokens, positions, mask, cache, start)
    return _ModelState(cache, jnp.zeros((batch, slots, length * slots), bool))

  def _known(self, tokens):
    """No proposal, or a token of the target's alone: any token will do."""
    return jnp.clip(tokens, 0, self.vocab_size - 1)

  def open_block(self, params, state, text):
    """Forwards the last L + 1 tokens."""
    batch, slots, nodes = state.visible.shape
    size = nodes // slots + 1
    start = jnp.maximum(text.root + 1 - size, 0)  # [B]
    window = jax.vmap(
      lambda row, first: jax.lax.dynamic_slice_in_dim(row, first, size)
    )(text.tokens, start)
    mask = tree.cache_mask(
      tree.causal(size, batch), start, self.model.capacity(state.cache)
    )
    positions = start[:, None] + jnp.arange(size)
    logits, cache = self.model.apply(
      params, self._known(window), positions, mask, state.cache, start
    )
    last = (text.root - start)[:, None, None]
    logits = jnp.take_along_axis(logits, last, axis=1)[:, 0]
    return logits, _ModelState(cache, jnp.zeros_like(state.visible))

  def extend(self, params, state, text, depth, nodes, parents):
    """Forwards one depth of nodes under their paths."""
    slots = nodes.shape[1]
    paths = jnp.take_along_axis(state.visible, parents[:, :, None], axis=1)
    first = (depth - 1) * slots
    itself = jnp.arange(slots)[:, None] + first == jnp.arange(paths.shape[-1])
    paths = paths | itself
    mask = tree.cache_mask(
      paths, text.root + 1, self.model.capacity(state.cache)
    )
    positions = jnp.broadcast_to((text.root + depth)[:, None], nodes.shape)
    logits, cache = self.model.apply(
      params,
      self._known(nodes),
      positions,
      mask,
      state.cache,
      text.root + 1 + first,
    )
    return logits, _ModelState(cache, paths)


@dataclasses.dataclass(frozen=True)
class NGramDrafter:
  """Prompt look-up: continues the longest suffix seen before in the row.

  Earlier places of the row whose last n tokens agree with the node's path
  vote for the token that follows them, with weight `sharpness`^n.

  Attributes:
    vocab_size: V.
    order: longest suffix compared.
    sharpness: how much one more token of agreement counts.

  Example:
    >>> drafter = NGramDrafter(vocab_size=151936)
  """

  vocab_size: int
  order: int = 3
  sharpness: float = 100.0

  def prefill(self, params, text, shape, capacity):
    """Nothing to read: the row itself is the memory."""
    del params, capacity
    return jnp.zeros((text.tokens.shape[0], shape[1], self.order), jnp.int32)

  def open_block(self, params, state, text):
    """State: the last `order` tokens of every slot's path, [B, K, order]."""
    del params
    back = text.root[:, None] - jnp.arange(self.order - 1, -1, -1)
    suffix = jnp.take_along_axis(text.tokens, jnp.maximum(back, 0), axis=1)
    suffix = jnp.where(back >= 0, suffix, -1)[:, None]  # [B, 1, order]
    logits = self._logits(text, suffix)[:, 0]
    return logits, jnp.broadcast_to(suffix, state.shape)

  def extend(self, params, state, text, depth, nodes, parents):
    """Appends the nodes to their paths."""
    del params, depth
    suffix = jnp.take_along_axis(state, parents[:, :, None], axis=1)
    suffix = jnp.concatenate([suffix[:, :, 1:], nodes[:, :, None]], axis=2)
    return self._logits(text, suffix), suffix

  def _logits(self, text, suffix):
    def row(tokens, root, suffix):  # [T], [], [order]
      ends = jnp.arange(tokens.shape[0])
      agree = jnp.ones(tokens.shape[0], bool)
      length = jnp.zeros(tokens.shape[0])
      for back in range(self.order):
        shifted = jnp.where(ends >= back, jnp.roll(tokens, back), -2)
        agree &= shifted == suffix[self.order - 1 - back]
        length += agree
      votes = jnp.where(ends < root, self.sharpness**length, 0.0)
      following = jnp.roll(tokens, -1)
      counts = jnp.zeros(self.vocab_size).at[following].add(votes, mode='drop')
      # No earlier token at all: every guess is as good.
      return jnp.where(root > 0, jnp.log(counts), 0.0)

    slots = jax.vmap(row, in_axes=(None, None, 0))
    return jax.vmap(slots)(text.tokens, text.root, suffix)


def as_drafter(drafter):
  """A drafter object and its params from what the caller gave."""
  if isinstance(drafter, LanguageModel):
    return ModelDrafter(drafter.static), drafter.params
  return drafter, getattr(drafter, 'params', None)


def check_drafter(drafter) -> None:
  """Raises ValueError unless `drafter` is something that can draft."""
  if isinstance(drafter, LanguageModel):
    return
  members = ('vocab_size', 'prefill', 'open_block', 'extend')
  missing = [name for name in members if not hasattr(drafter, name)]
  if missing:
    raise ValueError(
      f'a drafter must be a LanguageModel or have {", ".join(members)}; '
      f'{type(drafter).__name__} lacks {", ".join(missing)}.'
    )
