"""The protocol of language models: one forward call, one cache rule.

A model is a pure function over an explicit cache of entries: entry c of row b
holds what attention needs of one token. The decoding loop alone decides which
entry a token is written to and which entries it sees, so prefixes of different
length, draft trees and roll-backs need nothing from the model. Where they lie
in the arrays is the model's business: it says how many there are (`capacity`)
and moves them (`commit`). The defaults serve caches of [B, C, ...].

Attention that depends on distance (sliding windows) needs the position of an
entry, and neither its index nor the arguments of one call tell it: nodes of
earlier calls lie in any order behind the prefix. Such a model keeps the
positions of its entries in its cache, as `transformer.Cache` does: `apply`
writes them, `commit` moves them with the rest.

Legend: B batch, S new tokens per call, C cache entries, V vocabulary.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from listcoupling import validation
from listcoupling.decoding import placement

__all__ = [
  'Apply',
  'Cache',
  'LanguageModel',
  'check_model',
  'move_entries',
  'no_cache',
  'num_entries',
  'place_whole',
  'read_tokens',
]


def __dir__():
  return __all__


Cache = Any  # pytree of arrays

_CHUNK = 64  # prompt tokens read at once
_LONG = 1024  # rows of more capacity are read in
_LONG_CHUNK = 256  # tokens, which fill an accelerator


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
      cache: from `init_cache`, an earlier call or `commit`.
      start: [B] entry of the first new token; start + S <= C.

    Returns:
      logits [B, S, V] float32 of the token that follows each new token, and
      the cache with the S entries written.
    """


def no_cache(batch: int, entries: int) -> Cache:
  """The cache of a model that needs none: one word per entry, to be ignored.

  Its length still tells the decoder how wide masks are.
  """
  return jnp.zeros((batch, entries), jnp.int32)


def move_entries(cache: Cache, root: jax.Array, path: jax.Array, axis=1):
  """Copies entry root + path[:, j] to entry root + 1 + j, all j at once.

  Args:
    cache: pytree of arrays with the rows first and C entries along `axis`.
    root: [B] entry of the root; root + 1 + L <= C.
    path: [B, L] distances from the root, below C - root.
    axis: of the entries.

  Returns:
    The cache after the copy; every other entry as it was.
  """

  def move(row, root, path):
    moved = jnp.take(row, root + path, axis=axis - 1, mode='clip')
    return jax.lax.dynamic_update_slice_in_dim(row, moved, root + 1, axis - 1)

  return jax.tree.map(lambda leaf: jax.vmap(move)(leaf, root, path), cache)


def num_entries(cache: Cache) -> int:
  """C of a cache of [B, C, ...]."""
  leaves = jax.tree.leaves(cache)
  if not leaves:
    raise ValueError(
      'init_cache gave no arrays: give capacity, too, or leave init_cache out '
      'for a model without a cache'
    )
  return leaves[0].shape[1]


def place_whole(model: 'LanguageModel', mesh: Mesh, **settings):
  """The model with all its parameters on every device of a mesh."""
  del settings
  whole = NamedSharding(mesh, PartitionSpec())
  return model._replace(params=placement.put(model.params, whole))


class LanguageModel(NamedTuple):
  """A language model as the decoder sees it.

  Attributes:
    apply: the forward pass, see `Apply`.
    params: pytree passed to `apply`.
    config: hashable, with an int attribute `vocab_size`.
    tokenizer: `tokenizers.Tokenizer` or None where only ids are known.
    init_cache: (batch, entries) -> empty cache of at least so many entries;
      none is a model without one.
    commit: (cache, root [B], path [B, L]) -> cache whose entry root + 1 + j is
      what was entry root + path[:, j]: the accepted path of a tree moves behind
      the root. Past its end `path` holds any node.
    capacity: cache -> C, the number of entries; the width of the mask.
    place: (model, mesh, vocab_size=V of all models, strict=bool) -> the model
      with its parameters on a mesh in the standard form of `placement`. With
      `strict` sizes that the mesh does not divide are refused, else such
      parameters are whole on every device.
    ordered: `apply` with the logits of a token the same to the last bit
      wherever in the cache and among the S tokens it and what it sees may lie;
      it takes the place of `apply` under `GenerateOptions.forward_nodes`. None
      where `apply` is so itself.
  """

  apply: Apply
  params: Any
  config: Any
  tokenizer: Any = None
  init_cache: Callable[[int, int], Cache] = no_cache
  commit: Callable[[Cache, jax.Array, jax.Array], Cache] = move_entries
  capacity: Callable[[Cache], int] = num_entries
  place: Callable[..., 'LanguageModel'] = place_whole
  ordered: Apply | None = None

  @property
  def static(self) -> 'LanguageModel':
    """The model without parameters and tokenizer: hashable."""
    return self._replace(params=None, tokenizer=None)


def check_model(model: LanguageModel, role: str, member: str = 'apply') -> None:
  """Raises ValueError unless a model keeps to the protocol.

  Its forward pass is traced once, on two tokens.

  Args:
    model: the language model.
    role: what it is, for the message: "target" or "drafter".
    member: the forward pass that is used, 'apply' or 'ordered'.
  """
  name = f'{role}.config.vocab_size'
  if isinstance(model.config, Mapping):
    raise ValueError(
      f'{name} must be an attribute, got a {type(model.config).__name__} with '
      'keys; a frozen dataclass or NamedTuple has attributes.'
    )
  size = getattr(model.config, 'vocab_size', None)
  validation.check_positive_int(size, name)
  try:
    hash(model.static)
  except TypeError as error:
    raise ValueError(
      f'{role}.config, and all of the model but params and tokenizer, must be '
      f'hashable ({error}); a frozen dataclass is.'
    ) from error
  leaves, structure = jax.tree.flatten(model.params)
  for leaf in leaves:
    if not hasattr(leaf, 'shape') or not hasattr(leaf, 'dtype'):
      raise ValueError(
        f'{role}.params must be a pytree of arrays, got '
        f'{validation.shown(leaf)} in it.'
      )
  kinds = tuple((leaf.shape, jnp.result_type(leaf)) for leaf in leaves)
  _check_forward(model.static, role, member, structure, kinds)


@functools.lru_cache(maxsize=32)  # a second call traces nothing
def _check_forward(model, role, member, structure, kinds):
  """Traces a forward pass and `commit` of a model of such parameters."""
  apply = getattr(model, member)
  params = structure.unflatten([jax.ShapeDtypeStruct(*kind) for kind in kinds])

  def forward(params):
    cache = model.init_cache(1, 8)
    tokens, start = jnp.zeros((1, 2), jnp.int32), jnp.zeros((1,), jnp.int32)
    entries = model.capacity(cache)
    if entries < 8:
      raise ValueError(f'init_cache(1, 8) has {entries} entries')
    mask = jnp.zeros((1, 2, entries), bool)
    logits, after = apply(params, tokens, tokens, mask, cache, start)
    return logits, (cache, after, model.commit(after, start, tokens))

  try:
    logits, caches = jax.eval_shape(forward, params)
  except Exception as error:
    about = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
    raise ValueError(
      f'{role}.{member} cannot be traced with init_cache, capacity and commit '
      f'({about}); see listcoupling.decoding.language_model.Apply.'
    ) from error
  wanted = (1, 2, model.config.vocab_size)
  found = getattr(logits, 'shape', None), getattr(logits, 'dtype', None)
  if found[0] != wanted or not jnp.issubdtype(found[1], jnp.floating):
    raise ValueError(
      f'{role}.{member} must give float logits [B, S, V], here of shape '
      f'{wanted}, got {found[1]} of shape {found[0]}.'
    )
  forms = [
    [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(cache)]
    for cache in caches
  ]
  if not forms[0] == forms[1] == forms[2]:
    raise ValueError(
      f'{role}.{member} and commit must give a cache of the shapes and types '
      f'of init_cache, got {forms[1]}, {forms[2]} and {forms[0]}.'
    )


def read_tokens(
  model: LanguageModel,
  params,
  tokens: jax.Array,
  lengths: jax.Array,
  cache,
  chunk: int | None = None,
) -> Cache:
  """Reads rows into entries 0, 1, ... of a cache, chunk by chunk.

  One program serves prompts of every length, and what a forward needs in
  passing does not grow with them.

  Args:
    model: the language model.
    params: its parameters.
    tokens: [B, T], T at most the cache's capacity.
    lengths: [B] tokens that count; the rest may be read or not.
    cache: an empty cache.
    chunk: tokens read at once, at most the cache's capacity; None chooses.

  Returns:
    The cache with all tokens that count.
  """
  if chunk is not None:
    tokens = jnp.pad(tokens, ((0, 0), (0, max(0, chunk - tokens.shape[1]))))
  batch, size = tokens.shape
  chunk = chunk or min(size, _CHUNK if size <= _LONG else _LONG_CHUNK)
  causal = jnp.tri(chunk, dtype=bool)

  def step(carry):
    index, cache = carry
    first = jnp.minimum(index * chunk, size - chunk)  # the last one overlaps
    start = jnp.broadcast_to(first, (batch,))
    own = jax.lax.dynamic_slice_in_dim(tokens, first, chunk, axis=1)
    seen = jnp.arange(model.capacity(cache)) < first
    mask = jnp.broadcast_to(seen, (chunk, seen.size))
    mask = jax.lax.dynamic_update_slice(mask, causal, (0, first))
    positions = start[:, None] + jnp.arange(chunk)[None]
    mask = jnp.broadcast_to(mask, (batch, *mask.shape))
    _, cache = model.apply(params, own, positions, mask, cache, start)
    return index + 1, cache

  end = jnp.max(lengths)
  _, cache = jax.lax.while_loop(
    lambda carry: carry[0] * chunk < end, step, (jnp.int32(0), cache)
  )
  return cache
