"""Decoder-only transformer, one for all families of `families`.

Blocks of grouped-query attention with rotary positions and a gated perceptron,
as in Llama (Touvron et al., arXiv 2302.13971). `TransformerConfig` has the
options that tell families apart: biases (Qwen2, arXiv 2407.10671), norms on
queries and keys per head (Qwen3, arXiv 2505.09388) or on all of them, norms
behind the layers (OLMo 2, arXiv 2501.00656), windows (Mistral, arXiv
2310.06825), layers without rotary positions (SmolLM3), a tied output head.

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

from listcoupling import kernels
from listcoupling.decoding import language_model
from listcoupling.models import quantised, rope, sharding
from listcoupling.models.attention import (
  attend,
  attend_in_order,
  move_entries,
  order_entries,
  padded,
  write_entries,
)
from listcoupling.models.transformer_config import TransformerConfig

_ACTIVATIONS = {
  'silu': jax.nn.silu,
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
}


class Cache(NamedTuple):
  """Keys and values of the tokens so far."""

  layers: tuple  # per layer (keys, values), each [B, J, C, E]
  positions: jax.Array  # [B, C] int32, of the token in each entry


def _rms_norm(x: jax.Array, scale: jax.Array, eps: float, axes=-1):
  wide = x.astype(jnp.float32)
  square = jnp.mean(wide * wide, axis=axes, keepdims=True)
  scale = jax.lax.broadcast_to_rank(scale, x.ndim)
  return (wide * jax.lax.rsqrt(square + eps)).astype(x.dtype) * scale


def _kernel(module: nn.Module, name: str, shape, scale=1.0):
  """A kernel as it is stored, which may be `quantised`."""
  if module.has_variable('params', name):
    return module.get_variable('params', name)
  init = nn.initializers.normal(0.02 * scale, jnp.float32)
  return module.param(name, init, shape)


class Block(nn.Module):
  """One layer: attention, then perceptron, each with a residual.

  If `ordered`, the mask is what `attention.order_entries` makes of one.
  """

  config: TransformerConfig
  ordered: bool = False

  def _vector(self, name: str, *shape: int, init=nn.initializers.ones):
    value = self.param(name, init, shape, jnp.float32)
    return value.astype(self.config.dtype)

  def _linear(self, x, name: str, *shape: int, bias=False, scale=1.0):
    """x [..., I] by a kernel [I, *shape], and a bias."""
    kernel = _kernel(self, name, (x.shape[-1], *shape), scale)
    out = quantised.product(*sharding.gathered(name, x, kernel))
    if bias:
      zeros = nn.initializers.zeros
      vector = self._vector(f'{name}_bias', *shape, init=zeros)
      out = out + jax.lax.broadcast_to_rank(vector, out.ndim)
    return out

  def _around(self, name: str, x: jax.Array, inner) -> jax.Array:
    """x + inner(norm(x)), or x + norm(inner(x)) with `post_norm`."""

    def norm(x):
      scale = self._vector(name, x.shape[-1])
      return _rms_norm(x, scale, self.config.rms_eps)

    if self.config.post_norm:
      return x + norm(inner(x))
    return x + inner(norm(x))

  def _heads(self, x, phases):
    """Rotated queries [B, S, J, G, E]; keys and values [B, J, S, E]."""
    c = self.config
    j, e, eps = c.num_kv_heads, c.head_dim, c.rms_eps
    g = c.num_heads // j
    heads = self._linear(x, 'qkv', j, g + 2, e, bias=c.qkv_bias)
    turned, values = heads[..., : g + 1, :], heads[..., g + 1, :]
    if c.qk_norm == 'head':
      queries = jnp.broadcast_to(self._vector('query_norm', e), (g, e))
      scale = jnp.concatenate([queries, self._vector('key_norm', e)[None]])
      turned = _rms_norm(turned, scale, eps)
    if c.qk_norm == 'all':
      queries, keys = turned[..., :g, :], turned[..., g:, :]
      scales = (
        self._vector('query_norm', j, g, e),
        self._vector('key_norm', j, e),
      )
      queries = _rms_norm(queries, scales[0], eps, (-3, -2, -1))
      keys = _rms_norm(keys, scales[1][:, None], eps, (-3, -2, -1))
      turned = jnp.concatenate([queries, keys], axis=-2)
    if phases is not None:
      turned = rope.rotate(turned, *phases)
    queries, keys = turned[..., :g, :], turned[..., g, :]
    return queries, keys.swapaxes(1, 2), values.swapaxes(1, 2)

  @nn.compact
  def __call__(self, x, phases, mask, cache, start):
    """[B, S, D] and this layer's (keys, values) -> the same, updated."""
    c = self.config
    residual_scale = (2 * c.num_layers) ** -0.5
    written = []

    def attention(x):
      queries, keys, values = self._heads(x, phases)
      used = None
      if cache is not None:
        keys = write_entries(cache[0], keys, start)
        values = write_entries(cache[1], values, start)
        used = start + x.shape[1]
      written.extend((keys, values))
      read = attend_in_order if self.ordered else attend
      mixed = read(queries, keys, values, mask, used)
      name, size = 'attention_out', c.hidden_size
      return self._linear(
        mixed, name, size, bias=c.out_bias, scale=residual_scale
      )

    def perceptron(x):
      bias = c.perceptron_bias
      gate_up = self._linear(x, 'gate_up', 2, c.intermediate_size, bias=bias)
      gate = _ACTIVATIONS[c.activation](gate_up[:, :, 0])
      hidden = gate * gate_up[:, :, 1]
      return self._linear(
        hidden, 'down', c.hidden_size, bias=bias, scale=residual_scale
      )

    x = self._around('attention_norm', x, attention)
    x = self._around('perceptron_norm', x, perceptron)
    return x, tuple(written)


@functools.partial(jax.jit, static_argnames=('config', 'ordered', 'switches'))
def _layer(params, *arrays, config: TransformerConfig, ordered: bool, switches):
  """A layer as a function: a network traces those of one shape once."""
  del switches  # `attend` has asked `kernels` while this was traced
  return Block(config, ordered).apply({'params': params}, *arrays)


class Transformer(nn.Module):
  """Tokens in, float32 logits out; see `Apply` for the cached form.

  If `ordered`, a cache is read as `attention.attend_in_order` says; if
  `headless`, what the output head would read comes out.
  """

  config: TransformerConfig
  ordered: bool = False
  headless: bool = False

  def _block(self, name: str):
    """The layer of this name, whose parameters may have to be made."""
    if not self.has_variable('params', name):
      return Block(self.config, self.ordered, name=name)
    params = self.get_variable('params', name)
    return functools.partial(
      _layer,
      params,
      config=self.config,
      ordered=self.ordered,
      switches=(kernels.ATTENTION, kernels.SPLASH),
    )

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
      logits [B, S, V] float32, or [B, S, D], and the updated cache.
    """
    c = self.config
    embed = _kernel(self, 'embed', (c.vocab_size, c.hidden_size))
    x = sharding.whole(quantised.rows(embed, tokens, c.dtype))
    phases = rope.phases(c, positions)
    entries = positions
    if cache is not None:
      entries = write_entries(
        cache.positions[:, None, :, None], positions[:, None, :, None], start
      )[:, 0, :, 0]
    masks = {0: mask}
    for window in set(c.windows) - {0}:
      near = positions[:, :, None] - entries[:, None] < window
      masks[window] = mask & near
    if self.ordered:
      masks = {
        window: order_entries(mask, entries) for window, mask in masks.items()
      }
    written = []
    for layer in range(c.num_layers):
      x, pair = self._block(f'layer_{layer}')(
        x,
        None if layer in c.unrotated else phases,
        masks[c.windows[layer] if c.windows else 0],
        None if cache is None else cache.layers[layer],
        start,
      )
      written.append(pair)
    ones = nn.initializers.ones
    scale = self.param('final_norm', ones, (c.hidden_size,), jnp.float32)
    x = _rms_norm(x, scale.astype(x.dtype), c.rms_eps)
    if not c.tie_embeddings:
      embed = _kernel(self, 'head', (c.vocab_size, c.hidden_size))
    if cache is not None:
      cache = Cache(tuple(written), entries)
    if self.headless:
      return x, cache
    logits = quantised.logits(*sharding.gathered('head', x, embed))
    return logits, cache


@functools.cache
def make_apply(
  config: TransformerConfig, ordered: bool = False
) -> language_model.Apply:
  """The `Apply` of a config, or its ordered form; see `LanguageModel`.

  The same object for equal configs.
  """
  module = Transformer(config, ordered)

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
      tuple(sharding.by_key_head(jnp.zeros(shape, config.dtype)) for _ in 'kv')
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


def causal_hidden(config: TransformerConfig, params, tokens) -> jax.Array:
  """Inputs of the output head, [B, S, D], for whole sequences [B, S]."""
  batch, length = tokens.shape
  positions = jnp.arange(length, dtype=jnp.int32)
  positions = jnp.broadcast_to(positions, (batch, length))
  mask = jnp.tril(jnp.ones((1, length, length), bool))
  hidden, _ = Transformer(config, headless=True).apply(
    {'params': params}, tokens, positions, mask
  )
  return hidden


def output_table(config: TransformerConfig, params):
  """The table [V, D] of the output head."""
  return params['embed' if config.tie_embeddings else 'head']


def causal_logits(config: TransformerConfig, params, tokens) -> jax.Array:
  """Logits [B, S, V] float32 of whole sequences [B, S]."""
  hidden = causal_hidden(config, params, tokens)
  return quantised.logits(hidden, output_table(config, params))


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
    place,
    make_apply(config, ordered=True),
  )


def place(
  model: language_model.LanguageModel, mesh, **settings
) -> language_model.LanguageModel:
  """The model with its parameters on a mesh, see `sharding.place`.

  Args:
    model: of `make_language_model`.
    mesh: in the standard form of `listcoupling.decoding.placement`.
    **settings: of `sharding.place`.
  """
  config, params = sharding.place(model.config, model.params, mesh, **settings)
  return make_language_model(config, params, model.tokenizer)
