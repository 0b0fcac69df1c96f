"""Decoder-only transformer of the Llama / Qwen2 / Qwen3 family.

Pre-norm blocks of grouped-query attention with rotary positions and a SwiGLU
perceptron, as in Llama (Touvron et al., arXiv 2302.13971; llama3 frequency
scaling as in arXiv 2407.21783), with the options that tell the family apart:
a bias on queries, keys and values (Qwen2, arXiv 2407.10671), a norm on each
query and key head (Qwen3, arXiv 2505.09388), a tied output head.

One module serves training (no cache: new tokens see each other under `mask`)
and decoding (`listcoupling.decoding.language_model.Apply`).

Legend: B batch, S new tokens, C cache entries, D hidden size, H query heads,
J key/value heads, G = H / J, E head size, F perceptron size, V vocabulary.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from listcoupling.decoding import language_model
from listcoupling.models.attention import (
  attend,
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
  'RopeScaling',
  'Transformer',
  'TransformerConfig',
  'attend',
  'causal_logits',
  'init_params',
  'make_apply',
  'make_init_cache',
  'make_language_model',
  'rope_frequencies',
  'write_entries',
]


def _rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
  wide = x.astype(jnp.float32)
  square = jnp.mean(wide * wide, axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(square + eps)).astype(x.dtype) * weight


class Block(nn.Module):
  """One pre-norm layer: attention, then perceptron, each with a residual."""

  config: TransformerConfig

  def _kernel(self, name: str, fan_in: int, fan_out: int, scale=1.0):
    init = nn.initializers.normal(0.02 * scale)
    kernel = self.param(name, init, (fan_in, fan_out))
    return kernel.astype(self.config.dtype)

  def _norm(self, name: str, x: jax.Array) -> jax.Array:
    weight = self.param(name, nn.initializers.ones, (x.shape[-1],))
    return _rms_norm(x, weight.astype(x.dtype), self.config.rms_eps)

  @nn.compact
  def __call__(self, x, cos, sin, mask, cache, start):
    """[B, S, D] and this layer's (keys, values) -> the same, updated."""
    c = self.config
    h, j, e = c.num_heads, c.num_kv_heads, c.head_dim
    residual_scale = (2 * c.num_layers) ** -0.5
    normed = self._norm('attention_norm', x)
    qkv = normed @ self._kernel('qkv', c.hidden_size, (h + 2 * j) * e)
    if c.qkv_bias:
      shape = ((h + 2 * j) * e,)
      bias = self.param('qkv_bias', nn.initializers.zeros, shape)
      qkv = qkv + bias.astype(qkv.dtype)
    heads = qkv.reshape(*x.shape[:2], h + 2 * j, e)  # [B, S, H + 2J, E]
    values = heads[:, :, h + j :]
    if c.qk_norm:
      queries = self._norm('query_norm', heads[:, :, :h])
      keys = self._norm('key_norm', heads[:, :, h : h + j])
      queries, keys = rotate(queries, cos, sin), rotate(keys, cos, sin)
    else:
      turned = rotate(heads[:, :, : h + j], cos, sin)
      queries, keys = turned[:, :, :h], turned[:, :, h:]
    if cache is not None:
      keys = write_entries(cache[0], keys, start)
      values = write_entries(cache[1], values, start)
    mixed = attend(queries, keys, values, mask)
    out = self._kernel('attention_out', h * e, c.hidden_size, residual_scale)
    x = x + mixed @ out
    normed = self._norm('perceptron_norm', x)
    f = c.intermediate_size
    gate_up = normed @ self._kernel('gate_up', c.hidden_size, 2 * f)
    gated = jax.nn.silu(gate_up[..., :f]) * gate_up[..., f:]
    return x + gated @ self._kernel('down', f, c.hidden_size, residual_scale), (
      keys,
      values,
    )


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
      cache: tuple over layers of (keys, values) [B, C, J, E], or None.
      start: [B] int32, or None without a cache.

    Returns:
      logits [B, S, V] float32 and the updated cache.
    """
    c = self.config
    init = nn.initializers.normal(0.02)
    embed = self.param('embed', init, (c.vocab_size, c.hidden_size))
    x = jnp.take(embed, tokens, axis=0, mode='clip').astype(c.dtype)
    phase = positions[..., None].astype(jnp.float32) * rope_frequencies(c)
    cos = jnp.cos(phase)[:, :, None].astype(c.dtype)  # [B, S, 1, E / 2]
    sin = jnp.sin(phase)[:, :, None].astype(c.dtype)
    written = []
    for layer in range(c.num_layers):
      entry = None if cache is None else cache[layer]
      block = Block(c, name=f'layer_{layer}')
      x, entry = block(x, cos, sin, mask, entry, start)
      written.append(entry)
    weight = self.param('final_norm', nn.initializers.ones, (c.hidden_size,))
    x = _rms_norm(x, weight.astype(x.dtype), c.rms_eps)
    if not c.tie_embeddings:
      embed = self.param('head', init, (c.vocab_size, c.hidden_size))
    logits = jnp.einsum(
      'bsd,vd->bsv',
      x,
      embed.astype(x.dtype),
      preferred_element_type=jnp.float32,
    )
    return logits, tuple(written)


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
  """(batch, entries) -> cache of zeros: per layer two [B, C, J, E]."""

  def init_cache(batch: int, entries: int):
    shape = (batch, entries, config.num_kv_heads, config.head_dim)
    return tuple(
      (jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))
      for _ in range(config.num_layers)
    )

  return init_cache


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
    make_apply(config), params, config, tokenizer, make_init_cache(config)
  )
