"""Sizes and options of the transformer family, hashable.

Field meanings follow config.json of Hugging Face directories, which
`config_format` reads.

Legend: see `transformer`.
"""

import dataclasses


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
