"""Decoder-only transformer of the Llama / Qwen2 / Qwen3 family.

Pre-norm blocks of grouped-query attention with rotary positions and a SwiGLU
perceptron, as in Llama (Touvron et al., arXiv 2302.13971; llama3 frequency
scaling as in arXiv 2407.21783), with the options that tell the family apart:
a bias on queries, keys and values (Qwen2, arXiv 2407.10671), a norm on each
query and key head (Qwen3, arXiv 2505.09388), a tied output head.

One module serves training (no cache: new tokens see each other under `mask`)
and decoding (`listcoupling.decoding.language_model.Apply`).

Kernels keep apart what devices share: query, key and value columns lie by key
head, gate and up on an axis of their own.

Legend: B batch, S new tokens, C cache entries, D hidden size, J key/value
heads, G query heads per key head, E head size, F perceptron size, V vocabulary.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from listcoupling.decoding import language_model
from listcoupling.models import quantised
from listcoupling.models.attention import (
  attend,
  move_entries,
  padded,
  rope_frequencies,
  rotate,
  write_entries,
)
from listcoupling.models.transformer_config import (
  RopeScaling,
  TransformerConfig,
)

__all__ = [
  'Block',
  'Cache',
  'RopeScaling',
  'Transformer',
  'TransformerConfig',
  'causal_logits',
  'commit',
  'init_params',
  'make_apply',
  'make_init_cache',
  'make_language_model',
  'num_entries',
]


class Cache(NamedTuple):
  """What attention needs of the tokens so far."""

  layers: tuple  # per layer (keys, values), each [B, J, C, E]
  positions: jax.Array  # [B, C] int32, of the token in each entry


def _rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
  wide = x.astype(jnp.float32)
  square = jnp.mean(wide * wide, axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(square + eps)).astype(x.dtype) * weight


def _kernel(module: nn.Module, name: str, shape, scale=1.0):
  """A kernel as it is stored, which may be `quantised`."""
  if module.has_variable('params', name):
    return module.get_variable('params', name)
  init = nn.initializers.normal(0.02 * scale, jnp.float32)
  return module.param(name, init, shape)


class Block(nn.Module):
  """One pre-norm layer: attention, then perceptron, each with a residual."""

  config: TransformerConfig

  def _project(self, x, name: str, *shape: int, scale=1.0):
    """x [..., I] by a kernel [I, *shape]."""
    kernel = _kernel(self, name, (x.shape[-1], *shape), scale)
    return quantised.product(x, kernel)

  def _scale(self, name: str, size: int):
    scale = self.param(name, nn.initializers.ones, (size,))
    return scale.astype(self.config.dtype)

  def _norm(self, name: str, x: jax.Array) -> jax.Array:
    return _rms_norm(x, self._scale(name, x.shape[-1]), self.config.rms_eps)

  def _heads(self, x, cos, sin):
    """Rotated queries [B, S, J, G, E]; keys and values [B, J, S, E]."""
    c = self.config
    j, e = c.num_kv_heads, c.head_dim
    g = c.num_heads // j
    heads = self._project(x, 'qkv', j, g + 2, e)  # [B, S, J, G + 2, E]
    if c.qkv_bias:
      bias = self.param('qkv_bias', nn.initializers.zeros, (j, g + 2, e))
      heads = heads + bias.astype(heads.dtype)
    turned, values = heads[..., : g + 1, :], heads[..., g + 1, :]
    if c.qk_norm:
      queries = jnp.broadcast_to(self._scale('query_norm', e), (g, e))
      scale = jnp.concatenate([queries, self._scale('key_norm', e)[None]])
      turned = _rms_norm(turned, scale, c.rms_eps)
    turned = rotate(turned, cos, sin)
    queries, keys = turned[..., :g, :], turned[..., g, :]
    return queries, keys.swapaxes(1, 2), values.swapaxes(1, 2)

  @nn.compact
  def __call__(self, x, cos, sin, mask, cache, start):
    """[B, S, D] and this layer's (keys, values) -> the same, updated."""
    c = self.config
    residual_scale = (2 * c.num_layers) ** -0.5
    normed = self._norm('attention_norm', x)
    queries, keys, values = self._heads(normed, cos, sin)
    used = None
    if cache is not None:
      keys = write_entries(cache[0], keys, start)
      values = write_entries(cache[1], values, start)
      used = jnp.max(start) + x.shape[1]
    mixed = attend(queries, keys, values, mask, used)
    x = x + self._project(
      mixed, 'attention_out', c.hidden_size, scale=residual_scale
    )
    normed = self._norm('perceptron_norm', x)
    gate_up = self._project(normed, 'gate_up', 2, c.intermediate_size)
    gated = jax.nn.silu(gate_up[:, :, 0]) * gate_up[:, :, 1]
    down = self._project(gated, 'down', c.hidden_size, scale=residual_scale)
    return x + down, (keys, values)


class Transformer(nn.Module):
  """Tokens in, float32 logits out; see `Apply` for the cached form."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, tokens, positions, mask, cache=None, start=None):
    """Forward pass.

    Args:
      tokens: [B, S] int32.
      positions: [B, S] int32.
      mask: [B, S, C] bool; without a cache C = S.
      cache: `Cache` of C entries, or None.
      start: [B] int32, or None without a cache.

    Returns:
      logits [B, S, V] float32 and the updated cache.
    """
    c = self.config
    embed = _kernel(self, 'embed', (c.vocab_size, c.hidden_size))
    x = quantised.rows(embed, tokens, c.dtype)
    phase = positions[..., None].astype(jnp.float32) * rope_frequencies(c)
    phase = phase[:, :, None, None]  # [B, S, 1, 1, E / 2]
    cos, sin = jnp.cos(phase).astype(c.dtype), jnp.sin(phase).astype(c.dtype)
    written = []
    for layer in range(c.num_layers):
      entry = None if cache is None else cache.layers[layer]
      block = Block(c, name=f'layer_{layer}')
      x, entry = block(x, cos, sin, mask, entry, start)
      written.append(entry)
    weight = self.param('final_norm', nn.initializers.ones, (c.hidden_size,))
    x = _rms_norm(x, weight.astype(x.dtype), c.rms_eps)
    if not c.tie_embeddings:
      embed = _kernel(self, 'head', (c.vocab_size, c.hidden_size))
    logits = quantised.logits(x, embed)
    if cache is not None:
      placed = write_entries(
        cache.positions[:, None, :, None], positions[:, None, :, None], start
      )
      cache = Cache(tuple(written), placed[:, 0, :, 0])
    return logits, cache


@functools.cache
def make_apply(config: TransformerConfig) -> language_model.Apply:
  """The `Apply` of a config: the same object for equal configs."""
  module = Transformer(config)

  def apply(params, tokens, positions, mask, cache, start):
    return module.apply(
      {'params': params}, tokens, positions, mask, cache, start
    )

  return apply


@functools.cache
def make_init_cache(config: TransformerConfig):
  """(batch, entries) -> empty `Cache` of at least so many entries."""

  def init_cache(batch: int, entries: int) -> Cache:
    entries = padded(entries)
    shape = (batch, config.num_kv_heads, entries, config.head_dim)
    layers = tuple(
      (jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))
      for _ in range(config.num_layers)
    )
    return Cache(layers, jnp.zeros((batch, entries), jnp.int32))

  return init_cache


def commit(cache: Cache, root: jax.Array, path: jax.Array) -> Cache:
  """Moves an accepted path behind the root; see `LanguageModel`."""

  def move(leaf):
    return move_entries(leaf, root[:, None] + path, root + 1)

  positions = move(cache.positions[:, None, :, None])
  return Cache(jax.tree.map(move, cache.layers), positions[:, 0, :, 0])


def num_entries(cache: Cache) -> int:
  """Capacity C of a cache; see `LanguageModel`."""
  return cache.positions.shape[1]


def causal_logits(config: TransformerConfig, params, tokens) -> jax.Array:
  """Logits [B, S, V] float32 of whole sequences [B, S], for training."""
  batch, length = tokens.shape
  positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
  mask = jnp.tril(jnp.ones((1, length, length), bool))
  logits, _ = Transformer(config).apply(
    {'params': params}, tokens, positions, mask
  )
  return logits


def init_params(key: jax.Array, config: TransformerConfig) -> Any:
  """Fresh float32 parameters: normal(0.02), residual outputs scaled down."""
  tokens = jnp.zeros((1, 1), jnp.int32)
  mask = jnp.ones((1, 1, 1), bool)
  init = jax.jit(Transformer(config).init)  # op by op takes seconds
  return init(key, tokens, tokens, mask)['params']


def make_language_model(
  config: TransformerConfig, params, tokenizer=None
) -> language_model.LanguageModel:
  """Config, parameters and tokenizer as the decoder wants them."""
  return language_model.LanguageModel(
    make_apply(config),
    params,
    config,
    tokenizer,
    make_init_cache(config),
    commit,
    num_entries,
  )
