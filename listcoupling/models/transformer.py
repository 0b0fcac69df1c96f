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

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from listcoupling.decoding import language_model

_MASKED = -1e30  # finite: a row that sees nothing averages, never NaN


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """How rotary frequencies are stretched for contexts past training.

  Attributes:
    kind: 'linear' (all frequencies / factor) or 'llama3' (low frequencies
      / factor, high ones kept, a ramp between).
    factor: how much longer the context is.
    low_freq_factor: llama3: below this many turns per original context a
      frequency is divided by `factor`.
    high_freq_factor: llama3: above this many turns it is kept.
    original_max_positions: llama3: tokens of the original context.
  """

  kind: str
  factor: float
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_max_positions: int = 8192


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Sizes and options; hashable. Field meanings follow config.json.

  Raises ValueError for sizes that do not fit each other.
  """

  vocab_size: int  # V
  hidden_size: int  # D
  num_layers: int
  num_heads: int  # H
  num_kv_heads: int  # J
  head_dim: int  # E
  intermediate_size: int  # F
  rope_theta: float = 10000.0
  rope_scaling: RopeScaling | None = None
  rms_eps: float = 1e-6
  tie_embeddings: bool = True
  qkv_bias: bool = False
  qk_norm: bool = False
  max_positions: int = 2048
  stop_tokens: tuple[int, ...] = ()  # that end a text, for GenerateOptions
  dtype: str = 'float32'  # of activations and cache

  def __post_init__(self):
    for field in dataclasses.fields(self)[:7]:
      value = getattr(self, field.name)
      if value < 1:
        raise ValueError(f'{field.name} must be at least 1, got {value}.')
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f'num_heads must be a multiple of num_kv_heads, got {self.num_heads} '
        f'and {self.num_kv_heads}.'
      )
    if self.head_dim % 2:
      raise ValueError(
        f'head_dim must be even (rotary pairs), got {self.head_dim}.'
      )
    kind = self.rope_scaling.kind if self.rope_scaling else 'linear'
    if kind not in ('linear', 'llama3'):
      raise ValueError(
        f"rope_scaling.kind must be 'linear' or 'llama3', got {kind!r}."
      )


def rope_frequencies(config: TransformerConfig) -> np.ndarray:
  """Radians per position of each rotary pair: [E / 2] float32."""
  exponents = np.arange(0, config.head_dim, 2, dtype=np.float32)
  frequencies = 1.0 / np.float32(config.rope_theta) ** (
    exponents / np.float32(config.head_dim)
  )
  scaling = config.rope_scaling
  if scaling is None:
    return frequencies
  if scaling.kind == 'linear':
    return frequencies / np.float32(scaling.factor)
  turns = scaling.original_max_positions * frequencies / (2 * np.pi)
  width = scaling.high_freq_factor - scaling.low_freq_factor
  kept = np.clip((turns - scaling.low_freq_factor) / width, 0.0, 1.0)
  mixed = kept * frequencies + (1.0 - kept) * frequencies / scaling.factor
  return mixed.astype(np.float32)


def _rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
  wide = x.astype(jnp.float32)
  square = jnp.mean(wide * wide, axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(square + eps)).astype(x.dtype) * weight


def _rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Rotary phase on [B, S, heads, E]; pair i is (i, i + E / 2)."""
  first, second = jnp.split(x, 2, axis=-1)
  return jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  )


def write_entries(
  cache: jax.Array, values: jax.Array, start: jax.Array
) -> jax.Array:
  """cache[b, start[b] : start[b] + S] = values[b], row by row.

  Args:
    cache: [B, C, ...].
    values: [B, S, ...].
    start: [B] int32, start + S <= C.

  Returns:
    The cache after the write.
  """
  # A scatter to XLA: in place inside a loop, and on CPU no slower than B
  # single updates (1 to 7 us), one third of a masked rewrite at C = 2048.
  return jax.vmap(
    lambda row, new, at: jax.lax.dynamic_update_slice_in_dim(row, new, at, 0)
  )(cache, values.astype(cache.dtype), start)


def attend(
  queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array
) -> jax.Array:
  """Grouped-query attention, softmax in float32.

  Args:
    queries: [B, S, H, E].
    keys: [B, C, J, E]; J divides H.
    values: [B, C, J, E].
    mask: [B, S, C] bool.

  Returns:
    [B, S, H * E]; the mean of all values in a row that sees nothing.
  """
  b, s, h, e = queries.shape
  j, c = keys.shape[2], keys.shape[1]
  g = h // j
  # All S * G rows of a key head in one product: 2 to 3 times faster on CPU
  # than an einsum over five axes.
  rows = queries.reshape(b, s, j, g, e).swapaxes(1, 2).reshape(b, j, s * g, e)
  # One token: keys stay the left operand, which halves the step at batch 8.
  order = 'bcje,bjre->bjcr' if s == 1 else 'bjre,bcje->bjrc'
  operands = (keys, rows) if s == 1 else (rows, keys)
  scores = jnp.einsum(order, *operands, preferred_element_type=jnp.float32)
  scores = scores.swapaxes(2, 3) if s == 1 else scores
  scores = scores.reshape(b, j, s, g, c)
  scores = jnp.where(mask[:, None, :, None], scores * e**-0.5, _MASKED)
  weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
  weights = weights.reshape(b, j, s * g, c)
  mixed = jnp.einsum('bjrc,bcje->bjre', weights, values)
  return mixed.reshape(b, j, s, g, e).swapaxes(1, 2).reshape(b, s, h * e)


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
      queries, keys = _rotate(queries, cos, sin), _rotate(keys, cos, sin)
    else:
      turned = _rotate(heads[:, :, : h + j], cos, sin)
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
