"""Which axis of a mesh shares which axis of a parameter.

Vocabulary, key heads and perceptron lie over 'tp', hidden sizes are stored over
'fsdp' and gathered where a kernel is used (`gathered`). The mesh is in the
standard form of `listcoupling.decoding.placement`.

Legend: D hidden size, J key/value heads, G query heads per key head, E head
size, F perceptron size, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from listcoupling.decoding import placement
from listcoupling.models.quantised import Quantised
from listcoupling.models.transformer_config import TransformerConfig

# Parameters by name; all others are whole on every device.
RULES = {
  'embed': ('vocabulary', 'hidden'),
  'head': ('vocabulary', 'hidden'),
  'qkv': ('hidden', 'heads', None, None),
  'qkv_bias': ('heads', None, None),
  'query_norm': ('heads', None, None),  # if over all heads
  'key_norm': ('heads', None),
  'attention_out': ('heads', 'hidden'),
  'gate_up': ('hidden', None, 'perceptron'),
  'gate_up_bias': (None, 'perceptron'),
  'down': ('perceptron', 'hidden'),
}
_AXIS = {
  'vocabulary': 'tp',
  'heads': 'tp',
  'perceptron': 'tp',
  'hidden': 'fsdp',
}
_SIZES = {
  'vocabulary': 'vocab_size',
  'heads': 'num_kv_heads',
  'perceptron': 'intermediate_size',
  'hidden': 'hidden_size',
}
_TABLES = ('embed', 'head')  # inputs last


def key_head_copies(config: TransformerConfig, mesh: Mesh) -> int:
  """Times each key head is stored so that 'tp' divides their number."""
  tp, j = mesh.shape['tp'], config.num_kv_heads
  copies = tp // j if tp % j == 0 else 1
  return copies if (config.num_heads // j) % copies == 0 else 1


def shared_sizes(
  config: TransformerConfig,
  mesh: Mesh,
  *,
  vocab_size: int | None = None,
  strict: bool = True,
) -> frozenset[str]:
  """The sizes of a model that the mesh divides.

  Args:
    config: of the model, with key heads as they are stored.
    mesh: in standard form.
    vocab_size: of all models of a generation; a model with fewer tokens keeps
      its vocabulary whole, so that logits line up.
    strict: whether a size that does not divide is an error.

  Raises:
    ValueError: for one.
  """
  found = set()
  for name, field in _SIZES.items():
    size, shards = getattr(config, field), mesh.shape[_AXIS[name]]
    if size % shards == 0:
      found.add(name)
    elif strict:
      raise ValueError(
        f"{field}={size} cannot be shared by the mesh's {_AXIS[name]}="
        f'{shards}; take a divisor of {size}.'
      )
  if vocab_size not in (None, config.vocab_size):
    found.discard('vocabulary')
  return frozenset(found)


def specs(params: Any, shared: frozenset[str]) -> Any:
  """`PartitionSpec` of every array of a parameter tree.

  Args:
    params: nested dicts of arrays, shapes or `Quantised`.
    shared: of `shared_sizes`.
  """

  def spec(path, leaf):
    names = [getattr(key, 'key', getattr(key, 'name', None)) for key in path]
    part = names.pop() if names[-1] in Quantised._fields else ''
    rule = RULES.get(names[-1], ())
    if part == 'scales':
      rule = rule[:1] if names[-1] in _TABLES else rule[1:]
    if len(rule) != leaf.ndim:
      return PartitionSpec()
    axes = [_AXIS[name] if name in shared else None for name in rule]
    if part == 'values' and leaf.dtype == jnp.uint8:
      axes[0] = None  # two halves of the inputs share a byte
    return PartitionSpec(*axes)

  return jax.tree_util.tree_map_with_path(spec, params)


def place(
  config: TransformerConfig,
  params: Any,
  mesh: Mesh,
  *,
  vocab_size: int | None = None,
  strict: bool = True,
) -> tuple[TransformerConfig, Any]:
  """Parameters on a mesh.

  Args:
    config: of the model.
    params: wherever they are.
    mesh: in standard form.
    vocab_size: see `shared_sizes`.
    strict: likewise.

  Returns:
    The config and the parameters, with key heads repeated where 'tp' has more
    shards than the model has key heads.

  Raises:
    ValueError: see `shared_sizes`.
  """
  copies = key_head_copies(config, mesh)
  if copies > 1:
    config, params = _repeat_key_heads(config, params, copies)
  shared = shared_sizes(config, mesh, vocab_size=vocab_size, strict=strict)
  placed = jax.tree.map(
    lambda leaf, spec: placement.put(leaf, NamedSharding(mesh, spec)),
    params,
    specs(params, shared),
  )
  return config, placed


def _repeat_key_heads(config, params, copies):
  """The same model with every key head stored `copies` times."""

  def repeat(path, leaf):
    names = {getattr(key, 'key', getattr(key, 'name', None)) for key in path}
    if names & {'qkv', 'qkv_bias'}:
      *before, j, g, e = leaf.shape  # [..., J, G + 2, E]
      queries = leaf[..., : g - 2, :].reshape(*before, j, copies, -1, e)
      pairs = jnp.broadcast_to(
        leaf[..., None, g - 2 :, :], (*before, j, copies, 2, e)
      )
      whole = jnp.concatenate([queries, pairs], axis=-2)
      return whole.reshape(*before, j * copies, -1, e)
    if 'query_norm' in names and leaf.ndim > 1:  # [J, G, E]
      return leaf.reshape(leaf.shape[0] * copies, -1, leaf.shape[-1])
    if 'key_norm' in names and leaf.ndim > 1:  # [J, E]
      return jnp.repeat(leaf, copies, axis=0)
    return leaf

  params = jax.tree_util.tree_map_with_path(repeat, params)
  heads = config.num_kv_heads * copies
  return dataclasses.replace(config, num_kv_heads=heads), params


def gathered(name: str, x: jax.Array, kernel: Any) -> tuple[jax.Array, Any]:
  """Inputs and their kernel without 'fsdp' shards, in a program for a mesh.

  The inputs come first: the compiler would otherwise gather all layers before
  the loop of blocks and keep them.
  """
  if placement.automatic('fsdp') == 1:
    return x, kernel
  x, kernel = jax.lax.optimization_barrier((x, kernel))
  free = PartitionSpec.UNCONSTRAINED
  rule = RULES[name]

  def gather(leaf):
    inputs = rule if leaf.ndim == len(rule) else ()
    axes = [None if size == 'hidden' else free for size in inputs]
    return jax.lax.with_sharding_constraint(leaf, PartitionSpec(*axes))

  return x, jax.tree.map(gather, kernel)


def whole(x: jax.Array) -> jax.Array:
  """Activations on every device that shares rows, in a program for a mesh."""
  if placement.automatic('fsdp') == 1:
    return x
  return jax.lax.with_sharding_constraint(x, PartitionSpec())


def by_key_head(leaf: jax.Array) -> jax.Array:
  """[B, J, ...] with its key heads over 'tp', in a program for a mesh."""
  shards = placement.automatic('tp')
  if shards == 1 or leaf.shape[1] % shards:
    return leaf
  return jax.lax.with_sharding_constraint(leaf, PartitionSpec(None, 'tp'))


def per_key_head(function: Callable) -> Callable:
  """`function` run by every device on its own key heads, inside a program.

  It takes three arrays [B, J, ...], then others without heads, and returns one
  [B, J, ...]. The compiler cannot divide a kernel; this can.
  """
  mesh = jax.sharding.get_abstract_mesh()
  kinds = zip(mesh.axis_names, mesh.axis_types)
  rest = {name for name, kind in kinds if kind == AxisType.Auto}
  if not rest:
    return function

  def shared(queries, keys, values, *others):
    heads = PartitionSpec(None, 'tp')
    return jax.shard_map(
      function,
      in_specs=(heads, heads, heads, *[PartitionSpec()] * len(others)),
      out_specs=heads,
      axis_names=rest,
      check_vma=False,
    )(queries, keys, values, *others)

  return shared
