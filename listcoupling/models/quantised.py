"""Weights of 8 or 4 bits, for models that read their weights and little else.

A kernel w [I, ...] becomes whole numbers q and one float32 scale per output,
w ~ q * scale; q are found by rounding to the nearest. Products are taken with
q, in the precision of the activations, and scaled afterwards, so no kernel is
ever whole in floats in the parameters. Norms and biases stay as they are.

The embedding and the output head keep 8 bits in either form: their errors go
straight into the logits.

Legend: I inputs of a kernel, O its outputs, D hidden size, V vocabulary.
"""

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from listcoupling.decoding import language_model
from listcoupling.models.transformer_config import TransformerConfig

# Kernels by name, and the axis of their inputs.
_LAYER_KERNELS = ('qkv', 'attention_out', 'gate_up', 'down')
_TABLES = ('embed', 'head')  # [V, D]
# Shares of the largest weight that a scale is tried for: 15 levels are few,
# and cutting off a stray weight can serve the rest.
_CLIPS = {8: (1.0,), 4: (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)}


class Quantised(NamedTuple):
  """A kernel in few bits.

  Attributes:
    values: int8 [I, ...] (or [V, D] of a table); uint8 [I / 2, ...] holds two
      numbers of 4 bits: input i in the low half, input I / 2 + i in the high.
    scales: float32, of the shape of the outputs.
  """

  values: jax.Array
  scales: jax.Array


def quantise(kernel: jax.Array, bits: int, axis: int = 0) -> Quantised:
  """Nearest whole numbers, one scale per output.

  Args:
    kernel: floats, inputs along `axis`.
    bits: 8 or 4; with 4 the inputs are the first axis and even in number.
    axis: of the inputs.

  Returns:
    Quantised. With 8 bits each weight is off by at most 1 / 254 of the largest
    of its output; with 4 the scale is that of least squared error.

  Example:
    >>> small = quantise(jnp.asarray([[1.0], [-0.5]]), 8)
    >>> small.values.tolist(), small.scales.tolist()
    ([[127], [-64]], [0.007874015718698502])
  """
  wide = kernel.astype(jnp.float32)
  levels = 2 ** (bits - 1) - 1
  largest = jnp.max(jnp.abs(wide), axis=axis, keepdims=True)
  largest = jnp.where(largest > 0, largest, 1.0)

  def rounded(clip):
    scale = largest * (clip / levels)
    values = jnp.clip(jnp.round(wide / scale), -levels, levels)
    error = jnp.sum((values * scale - wide) ** 2, axis=axis, keepdims=True)
    return values.astype(jnp.int8), scale, error

  values, scale, error = rounded(1.0)
  for clip in _CLIPS[bits][1:]:
    values_, scale_, error_ = rounded(clip)
    better = error_ < error
    values = jnp.where(better, values_, values)
    scale = jnp.where(better, scale_, scale)
    error = jnp.minimum(error, error_)
  if bits == 4:
    values = _pack(values)
  return Quantised(values, jnp.squeeze(scale, axis))


def _pack(values: jax.Array) -> jax.Array:
  low, high = jnp.split(values.astype(jnp.uint8), 2)
  return (low & 15) | (high << 4)


def _unpack(values: jax.Array) -> jax.Array:
  """int8 numbers of a `Quantised`, either form."""
  if values.dtype == jnp.int8:
    return values
  both = jax.lax.bitcast_convert_type(values, jnp.int8)
  return jnp.concatenate([(both << 4) >> 4, both >> 4])


def _kept_small(values: jax.Array, x: jax.Array) -> jax.Array:
  """`values`, tied to `x`.

  In a loop over tokens the conversion to floats is the same in each round;
  taken out of it, the compiler would keep all kernels as floats.
  """
  return jax.lax.platform_dependent(
    values,
    x,
    # Barriers do not last on CPU. The sum is `values` where x has no NaN.
    cpu=lambda q, x: q + jnp.isnan(x.reshape(-1)[0]).astype(q.dtype),
    default=lambda q, x: jax.lax.optimization_barrier((q, x))[0],
  )


def _as_last(scales: jax.Array, out: jax.Array) -> jax.Array:
  return jax.lax.broadcast_to_rank(scales, out.ndim)


def product(x: jax.Array, kernel: jax.Array | Quantised) -> jax.Array:
  """x [..., I] @ kernel [I, ...O] -> [..., ...O], of the type of x."""
  if not isinstance(kernel, Quantised):
    return jnp.tensordot(x, kernel.astype(x.dtype), 1)
  whole = _unpack(_kept_small(kernel.values, x)).astype(x.dtype)
  out = jnp.tensordot(x, whole, 1, preferred_element_type=jnp.float32)
  return (out * _as_last(kernel.scales, out)).astype(x.dtype)


def rows(table: jax.Array | Quantised, tokens: jax.Array, dtype) -> jax.Array:
  """Rows of an embedding table [V, D] at tokens [B, S] -> [B, S, D]."""
  if not isinstance(table, Quantised):
    return jnp.take(table, tokens, axis=0, mode='clip').astype(dtype)
  scales = jnp.take(table.scales, tokens, mode='clip')
  whole = jnp.take(table.values, tokens, axis=0, mode='clip')
  return (whole.astype(jnp.float32) * scales[..., None]).astype(dtype)


def logits(x: jax.Array, table: jax.Array | Quantised) -> jax.Array:
  """x [B, S, D] on the rows of a table [V, D] -> [B, S, V] float32."""
  if isinstance(table, Quantised):
    whole, scales = _kept_small(table.values, x), table.scales
  else:
    whole, scales = table, None
  out = jnp.einsum(
    'bsd,vd->bsv',
    x,
    whole.astype(x.dtype),
    preferred_element_type=jnp.float32,
  )
  return out if scales is None else out * _as_last(scales, out)


def quantised_drafter(
  model: language_model.LanguageModel, bits: int
) -> language_model.LanguageModel:
  """A copy of a model with weights of few bits, without training.

  It drafts for the model it was made of, with which it agrees on most tokens;
  or it takes the place of a target that would not fit.

  Args:
    model: a transformer with float weights, see `load_pretrained`.
    bits: of the kernels: 8 or 4; embedding and head have 8.

  Returns:
    LanguageModel of the same config, tokenizer, `apply` and cache; arrays that
    are not quantised are shared.

  Raises:
    ValueError: other bits, another kind of model, one that is quantised.

  Example:
    >>> from listcoupling.models import pretrained
    >>> target, _ = pretrained.shipped_pair()
    >>> small = quantised_drafter(target, 8)
    >>> bytes_of = lambda x: sum(leaf.nbytes for leaf in jax.tree.leaves(x))
    >>> bytes_of(target.params) / bytes_of(small.params) > 3.9
    True
  """
  if isinstance(bits, bool) or not hasattr(bits, '__index__'):
    raise ValueError(f'bits must be 8 or 4, got {bits!r} ({type(bits)}).')
  bits = operator.index(bits)
  if bits not in (8, 4):
    raise ValueError(f'bits must be 8 or 4, got {bits}.')
  config = getattr(model, 'config', None)
  if not isinstance(config, TransformerConfig):
    raise ValueError(
      'only models of load_pretrained can be quantised, got '
      f'{type(model).__name__} with a config of type {type(config).__name__}.'
    )
  if is_quantised(model.params):
    raise ValueError('the model is quantised already; take the float one.')

  def shrink(name, leaf):
    if isinstance(leaf, dict):
      return {key: shrink(key, part) for key, part in leaf.items()}
    if name in _TABLES:
      return _quantise(leaf, 8, 1)
    if name not in _LAYER_KERNELS:
      return leaf
    return _quantise(leaf, 8 if leaf.shape[0] % 2 else bits, 0)

  return model._replace(params=shrink('', model.params))


_quantise = jax.jit(quantise, static_argnums=(1, 2))


def is_quantised(params: Any) -> bool:
  """Whether any kernel of a parameter tree has few bits."""
  leaves = jax.tree.leaves(
    params, is_leaf=lambda node: isinstance(node, Quantised)
  )
  return any(isinstance(leaf, Quantised) for leaf in leaves)
