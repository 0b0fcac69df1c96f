"""Drafters: anything that gives laws for the children of draft nodes.

A drafter is an object with the members of `Drafter`. Its arrays stand in
`params` and in its state; the rest of it is static. A bad drafter costs speed
alone.

Legend: B batch, K slots of this drafter, L draft length, T tokens, R tokens
read again, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation
from listcoupling.decoding import tree
from listcoupling.decoding.language_model import (
  LanguageModel,
  check_model,
  read_tokens,
)

_MOST_ORDER = 64  # of n-grams: each is an operation of the program
_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)


class Text(NamedTuple):
  """The rows as they stand at the start of a block."""

  tokens: jax.Array  # [B, T] int32
  root: jax.Array  # [B] int32, index of the last token


class Drafter(Protocol):
  """Laws for the children of draft nodes, one depth at a time.

  Every method is traced: arrays come through its arguments, `params` among
  them. A drafter that can be hashed is compiled once for all its equals, any
  other once for itself.

  Example:
    A table of what follows each token, learned elsewhere:

    >>> class Bigrams:
    ...   vocab_size = 1024
    ...   def __init__(self, logits):
    ...     self.params = logits  # [V, V]
    ...   def prefill(self, params, text, shape, capacity):
    ...     return ()
    ...   def open_block(self, params, state, text):
    ...     last = jnp.take_along_axis(text.tokens, text.root[:, None], 1)
    ...     return params[last], state  # [B, R, V] with R = 1
    ...   def extend(self, params, state, text, depth, nodes, parents):
    ...     return params[nodes], state  # [B, K, V]
    >>> import listcoupling as lc
    >>> target, _ = lc.shipped_pair()
    >>> drafter = Bigrams(jnp.zeros((1024, 1024)))
    >>> options = lc.GenerateOptions(max_new_tokens=4)
    >>> lc.generate(
    ...     jax.random.key(0), target, drafter, [[1, 2]], [2], options
    ... ).lengths.tolist()
    [4]
  """

  vocab_size: int
  params: Any  # pytree of arrays, handed to every method; may be None

  def prefill(self, params, text: Text, shape, capacity: int) -> Any:
    """State after reading the prompt, of the form `open_block` returns.

    `shape` is (L, K): depths and own slots of every block; `capacity` tokens
    per row are enough.
    """

  def open_block(self, params, state, text: Text):
    """Logits after the last tokens, and a state without draft nodes.

    The logits are [B, R, V], those after the root last, or [B, V] of the root
    alone. With R > 1 a best-first tree learns from the tokens in between how
    far to trust the drafter.
    """

  def extend(self, params, state, text: Text, depth, nodes, parents):
    """Logits [B, K, V] after the nodes just drafted at `depth`, and a state.

    `nodes` [B, K] are tokens, -1 where a slot is empty; `parents` [B, K] their
    slots one depth up.
    """


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
    batch = text.tokens.shape[0]
    length, slots = shape
    scratch = length * (slots + 1)
    cache = self.model.init_cache(batch, capacity + scratch)
    tokens = self._known(text.tokens)
    cache = read_tokens(self.model, params, tokens, text.root + 1, cache)
    return _ModelState(cache, jnp.zeros((batch, slots, length * slots), bool))

  def _known(self, tokens):
    """No proposal, or a token of the target's alone: any token will do."""
    return jnp.clip(tokens, 0, self.vocab_size - 1)

  def open_block(self, params, state, text):
    """Forwards the last L + 1 tokens."""
    batch, slots, nodes = state.visible.shape
    size = nodes // slots + 1
    start = jnp.maximum(text.root + 1 - size, 0)  # [B]
    places = start[:, None] + jnp.arange(size, dtype=jnp.int32)[None]
    window = jnp.take_along_axis(text.tokens, places, axis=1)
    entries = self.model.capacity(state.cache)
    mask = tree.cache_mask(tree.causal(size, batch), start, entries)
    positions = start[:, None] + jnp.arange(size)[None]
    logits, cache = self.model.apply(
      params, self._known(window), positions, mask, state.cache, start
    )
    # A text shorter than the window starts with logits that nobody asks for.
    places = (text.root - start)[:, None] + jnp.arange(1 - size, 1)[None]
    places = jnp.maximum(places, 0)[:, :, None]
    logits = jnp.take_along_axis(logits, places, axis=1)
    return logits, _ModelState(cache, jnp.zeros_like(state.visible))

  def extend(self, params, state, text, depth, nodes, parents):
    """Forwards one depth of nodes under their paths."""
    slots = nodes.shape[1]
    paths = jnp.take_along_axis(state.visible, parents[:, :, None], axis=1)
    first = (depth - 1) * slots
    places = jnp.arange(paths.shape[-1])[None]
    itself = jnp.arange(slots)[:, None] + first == places
    paths = paths | itself[None]
    entries = self.model.capacity(state.cache)
    mask = tree.cache_mask(paths, text.root + 1, entries)
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
  vote for the token that follows them, with weight `sharpness^n`.

  Attributes:
    vocab_size: V, the number of tokens.
    order: longest suffix compared.
    sharpness: how much one more token of agreement counts.

  Raises:
    ValueError: a size or the sharpness is not positive.

  Example:
    >>> drafter = NGramDrafter(vocab_size=151936)
  """

  vocab_size: int
  order: int = 3
  sharpness: float = 100.0

  params = None

  def __post_init__(self):
    for name in ('vocab_size', 'order'):
      validation.check_positive_int(getattr(self, name), name)
    if self.order > _MOST_ORDER:
      raise ValueError(
        f'order must be at most {_MOST_ORDER}, got {self.order}.'
      )
    validation.check_positive(sharpness=self.sharpness)

  def prefill(self, params, text, shape, capacity):
    """Nothing to read: the row itself is the memory."""
    del params, capacity
    return jnp.zeros((text.tokens.shape[0], shape[1], self.order), jnp.int32)

  def open_block(self, params, state, text):
    """State: the last `order` tokens of every slot's path, [B, K, order]."""
    del params
    # Two laws: what it would have said of the root is what trust rests on.
    before = text._replace(root=jnp.maximum(text.root - 1, 0))
    logits = [
      self._logits(each, self._suffix(each)[:, None]) for each in (before, text)
    ]
    suffix = jnp.broadcast_to(self._suffix(text)[:, None], state.shape)
    return jnp.concatenate(logits, axis=1), suffix

  def _suffix(self, text):
    """The last `order` tokens up to the root, -1 before the row: [B, order]."""
    back = text.root[:, None] - jnp.arange(self.order - 1, -1, -1)[None]
    suffix = jnp.take_along_axis(text.tokens, jnp.maximum(back, 0), axis=1)
    return jnp.where(back >= 0, suffix, -1)

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
      length = jnp.zeros(tokens.shape[0], jnp.float32)
      for back in range(self.order):
        shifted = jnp.where(ends >= back, jnp.roll(tokens, back), -2)
        agree &= shifted == suffix[self.order - 1 - back]
        length += agree.astype(jnp.float32)
      # Ratios count alone: the longest agreement weighs 1, whatever its power.
      earlier = ends < root
      best = jnp.max(jnp.where(earlier, length, 0.0))
      votes = jnp.where(earlier, self.sharpness ** (length - best), 0.0)
      following = jnp.roll(tokens, -1)
      counts = (
        jnp.zeros(self.vocab_size, jnp.float32)
        .at[following]
        .add(votes, mode='drop')
      )
      # No earlier token at all: every guess is as good.
      return jnp.where(root > 0, jnp.log(counts), 0.0)

    slots = jax.vmap(row, in_axes=(None, None, 0))
    return jax.vmap(slots)(text.tokens, text.root, suffix)


class _Unhashable:
  """A drafter that compares by identity, so that it can be static."""

  def __init__(self, drafter):
    self.drafter = drafter

  def __getattr__(self, name):
    return getattr(self.drafter, name)

  def __hash__(self):
    return id(self.drafter)

  def __eq__(self, other):
    return isinstance(other, _Unhashable) and self.drafter is other.drafter


def as_drafter(drafter):
  """A hashable drafter and its params from what the caller gave."""
  if isinstance(drafter, LanguageModel):
    return ModelDrafter(drafter.static), drafter.params
  params = getattr(drafter, 'params', None)
  try:
    hash(drafter)
  except TypeError:  # a dataclass of arrays, say
    drafter = _Unhashable(drafter)
  return drafter, params


def as_list(drafters) -> list:
  """One drafter or several as a list; a `LanguageModel` is a tuple, too."""
  if drafters is None:
    return []
  single = isinstance(drafters, LanguageModel) or hasattr(
    drafters, 'open_block'
  )
  if single:
    return [drafters]
  if isinstance(drafters, (str, bytes)) or not isinstance(drafters, Iterable):
    raise ValueError(
      f'drafters must be a drafter or a sequence of them, got '
      f'{drafters!r:.80}; load_pretrained and NGramDrafter make one.'
    )
  return list(drafters)


def check_drafter(drafter) -> None:
  """Raises ValueError unless `drafter` is something that can draft."""
  if isinstance(drafter, LanguageModel):
    return check_model(drafter, 'drafter')
  members = ('vocab_size', 'prefill', 'open_block', 'extend')
  missing = [name for name in members if not hasattr(drafter, name)]
  if missing:
    raise ValueError(
      f'a drafter must be a LanguageModel or have {", ".join(members)}; '
      f'{type(drafter).__name__} lacks {", ".join(missing)}.'
    )
  name = type(drafter).__name__
  validation.check_positive_int(drafter.vocab_size, f'{name}.vocab_size')
  for leaf in jax.tree.leaves(getattr(drafter, 'params', None)):
    if not isinstance(leaf, _ARRAYS):
      raise ValueError(
        f'{name}.params must be a pytree of arrays, got {leaf!r:.60} in it.'
      )


def check_shapes(drafter, params, batch: int, shape, capacity: int) -> None:
  """Traces a drafter and raises ValueError where its results do not fit.

  Args:
    drafter: hashable, see `as_drafter`.
    params: its arrays.
    batch: B.
    shape: (L, K).
    capacity: T.
  """
  leaves, structure = jax.tree.flatten(params)
  kinds = tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
  _check_shapes(drafter, structure, kinds, batch, shape, capacity)


@functools.lru_cache(maxsize=16)  # a second call traces nothing
def _check_shapes(drafter, structure, kinds, batch, shape, capacity):
  params = structure.unflatten([jax.ShapeDtypeStruct(*kind) for kind in kinds])

  def array(*size):
    return jax.ShapeDtypeStruct(size, np.int32)

  def prefill(params, text):
    return drafter.prefill(params, text, shape, capacity)

  text = Text(array(batch, capacity), array(batch))
  state = _trace(drafter, 'prefill', prefill, params, text)
  root, opened = _logits_and_state(
    drafter, 'open_block', drafter.open_block, params, state, text
  )
  shapes = ((batch, None), (batch, None, None))
  _expect(drafter, 'open_block', root, shapes)
  nodes = array(batch, shape[1])
  logits, extended = _logits_and_state(
    *(drafter, 'extend', drafter.extend),
    *(params, opened, text, array(), nodes, nodes),
  )
  _expect(drafter, 'extend', logits, ((*nodes.shape, None),))
  for method, other in (('prefill', state), ('extend', extended)):
    if _layout(other) != _layout(opened):
      raise ValueError(
        f'{_name(drafter)}.{method} must return a state like that of '
        f'open_block, got {_layout(other)} and {_layout(opened)}.'
      )


def _layout(state) -> str:
  """Structure, shapes and types of a state."""
  leaves, structure = jax.tree.flatten(state)
  parts = ', '.join(f'{leaf.dtype}{list(leaf.shape)}' for leaf in leaves)
  return f'{structure} of [{parts}]'


def _name(drafter):
  own = drafter.drafter if isinstance(drafter, _Unhashable) else drafter
  return type(own).__name__


def _trace(drafter, method, function, *args):
  try:
    return jax.eval_shape(function, *args)
  except Exception as error:
    raise ValueError(
      f'{_name(drafter)}.{method} cannot be traced ({error}); its arrays must '
      'come through params and state, see listcoupling.decoding.Drafter.'
    ) from error


def _logits_and_state(drafter, method, function, *args):
  returned = _trace(drafter, method, function, *args)
  if not isinstance(returned, tuple) or len(returned) != 2:
    raise ValueError(
      f'{_name(drafter)}.{method} must return (logits, state), got '
      f'{type(returned).__name__}.'
    )
  return returned


def _expect(drafter, method, logits, shapes):
  """Raises unless the logits have one of the shapes, V last, None any."""
  found = getattr(logits, 'shape', None)
  wanted = [(*shape[:-1], drafter.vocab_size) for shape in shapes]
  if not any(
    found is not None
    and len(found) == len(shape)
    and all(size in (None, own) for size, own in zip(shape, found))
    for shape in wanted
  ):
    shown = ' or '.join(str(shape).replace('None', 'R') for shape in wanted)
    raise ValueError(
      f'{_name(drafter)}.{method} must give logits of shape {shown}, got '
      f'{found}.'
    )
