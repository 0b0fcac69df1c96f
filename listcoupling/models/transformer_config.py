"""Sizes and options of the decoder, hashable.

Field meanings follow config.json of Hugging Face directories, which
`config_format` reads; `families` says which options each family has.

Legend: see `transformer`.
"""

import dataclasses

ACTIVATIONS = ('silu', 'gelu', 'gelu_tanh')
QK_NORMS = ('', 'head', 'all')
ROPE_KINDS = ('linear', 'llama3', 'yarn', 'dynamic', 'longrope')


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """How rotary frequencies are stretched for contexts past training.

  Attributes:
    kind: of `ROPE_KINDS`, see `rope.frequencies`.
    factor: how much longer the context is.
    low_freq_factor: llama3: below this many turns per original context a
      frequency is divided by `factor`.
    high_freq_factor: llama3: above this many turns it is kept.
    original_max_positions: tokens of the original context; unused by linear
      and dynamic.
    attention_factor: yarn and longrope: cosines and sines are multiplied by it.
    beta_fast: yarn: above this many turns a frequency is kept.
    beta_slow: yarn: below this many turns it is divided by `factor`.
    truncate: yarn: the ramp between them begins and ends at whole pairs.
    short_factors: longrope: divisors of each frequency within the original
      context.
    long_factors: longrope: beyond it; kept for files, and not used here.
  """

  kind: str
  factor: float
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_max_positions: int = 8192
  attention_factor: float = 1.0
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  truncate: bool = True
  short_factors: tuple[float, ...] = ()
  long_factors: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Sizes and options; hashable.

  Attributes:
    windows: per layer the number of positions a token sees, itself included; 0
      sees all. Empty: all layers see all.
    unrotated: layers without rotary positions.
    rotary_dim: features of a head that are rotated; 0 rotates all.
    qk_norm: '' none, 'head' each query and key head, 'all' all heads at once.
    post_norm: norms stand behind attention and perceptron, not before.
    max_positions: of a text; a longer one is untried, or `hard_limit` says why
      it cannot be.
    stop_tokens: that end a text, for `GenerateOptions`.
    family: row of `families.FAMILIES` that files name; '' takes the first that
      has these options.

  Raises ValueError for values that do not fit each other.
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
  rotary_dim: int = 0
  unrotated: tuple[int, ...] = ()
  windows: tuple[int, ...] = ()
  rms_eps: float = 1e-6
  tie_embeddings: bool = True
  qkv_bias: bool = False
  out_bias: bool = False
  perceptron_bias: bool = False
  qk_norm: str = ''
  post_norm: bool = False
  activation: str = 'silu'
  max_positions: int = 2048
  stop_tokens: tuple[int, ...] = ()
  dtype: str = 'float32'  # of activations and cache
  family: str = ''

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
    rotated = self.rotary_dim or self.head_dim
    if rotated % 2 or rotated > self.head_dim:
      raise ValueError(
        f'head_dim {self.head_dim} and rotary_dim {self.rotary_dim} must be '
        'even (rotary pairs), the second no larger.'
      )
    if self.windows and len(self.windows) != self.num_layers:
      raise ValueError(
        f'windows must name {self.num_layers} layers, got {len(self.windows)}.'
      )
    scaling = self.rope_scaling
    for name, value, known in (
      ('activation', self.activation, ACTIVATIONS),
      ('qk_norm', self.qk_norm, QK_NORMS),
      ('rope_scaling.kind', scaling.kind if scaling else 'linear', ROPE_KINDS),
    ):
      if value not in known:
        raise ValueError(f'{name} must be one of {known}, got {value!r}.')

  @property
  def hard_limit(self) -> str:
    """Why a text must end at max_positions; '' if it need not."""
    if self.rope_scaling and self.rope_scaling.kind in ('dynamic', 'longrope'):
      return (
        f'its {self.rope_scaling.kind} rotary frequencies are others for '
        'longer texts, so that logits would depend on where blocks begin'
      )
    return ''
