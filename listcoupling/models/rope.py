"""Rotary positions, and how they are stretched to longer contexts.

Su et al., arXiv 2104.09864, in the layout of Llama: pair i of a head is
(i, i + E / 2). The kinds of scaling and their sources:

*   linear: all frequencies / factor (Chen et al., arXiv 2306.15595).
*   llama3: low frequencies / factor, high ones kept, a ramp between
    (arXiv 2407.21783).
*   yarn: the same with a ramp over pairs, and larger scores (Peng et al.,
    arXiv 2309.00071).
*   longrope: each frequency by a divisor of its own (Ding et al., arXiv
    2402.13753); dynamic: a larger base. Both change only beyond the original
    context, which `TransformerConfig.hard_limit` does not let pass.

Legend: E rotated features of a head.
"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.models.transformer_config import TransformerConfig


def frequencies(config: TransformerConfig) -> np.ndarray:
  """Radians per position of each rotary pair: [E / 2] float32."""
  size = config.rotary_dim or config.head_dim
  exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
  plain = 1.0 / np.float32(config.rope_theta) ** exponents
  scaling = config.rope_scaling
  if scaling is None or scaling.kind == 'dynamic':
    return plain
  if scaling.kind == 'linear':
    return plain / np.float32(scaling.factor)
  if scaling.kind == 'longrope':
    return plain / np.asarray(scaling.short_factors, np.float32)
  if scaling.kind == 'yarn':
    kept = _yarn_kept(config, size)
  else:
    turns = scaling.original_max_positions * plain / (2 * np.pi)
    width = scaling.high_freq_factor - scaling.low_freq_factor
    kept = np.clip((turns - scaling.low_freq_factor) / width, 0.0, 1.0)
  mixed = kept * plain + (1.0 - kept) * plain / scaling.factor
  return mixed.astype(np.float32)


def _yarn_kept(config: TransformerConfig, size: int) -> np.ndarray:
  """Share of each frequency that is kept: 1 for the fastest, then a ramp."""
  scaling = config.rope_scaling

  def pair(turns):  # that makes so many turns in the original context
    context = scaling.original_max_positions / (2 * math.pi * turns)
    return size * math.log(context) / (2 * math.log(config.rope_theta))

  low, high = pair(scaling.beta_fast), pair(scaling.beta_slow)
  if scaling.truncate:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, size - 1)
  width = high - low if high != low else 1e-3
  return 1.0 - np.clip((np.arange(size // 2) - low) / width, 0.0, 1.0)


def phases(config: TransformerConfig, positions: jax.Array):
  """Cosines and sines of positions [B, S]: two of [B, S, 1, 1, E / 2]."""
  chex.assert_rank(positions, 2)
  phase = positions[:, :, None, None, None].astype(jnp.float32)
  phase = phase * frequencies(config)[None, None, None, None]
  scaling = config.rope_scaling
  factor = np.float32(scaling.attention_factor if scaling else 1.0)
  cos, sin = jnp.cos(phase) * factor, jnp.sin(phase) * factor
  return cos.astype(config.dtype), sin.astype(config.dtype)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Rotary phase on the first E features of [...]; the rest is kept."""
  chex.assert_equal_shape([cos, sin])
  half = cos.shape[-1]
  first, second, rest = jnp.split(x, (half, 2 * half), axis=-1)
  turned = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(turned + [rest] if rest.shape[-1] else turned, axis=-1)
