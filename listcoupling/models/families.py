"""The families of checkpoints, one row each: their names and their switches.

A family is a `model_type` of the `transformers` library. All run through the
one decoder of `transformer`; a row says which of its options the family fixes,
which its config.json sets, and what its tensors are called. To add a family:
a row here, a fixture in tests/models/make_fixtures.py, and, if it computes
something new, an option of `TransformerConfig`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

# Parameter of a layer -> stored name below model.layers.N. Parts with the same
# name lie in one tensor, one after the other.
_NAMES = {
  'query': 'self_attn.q_proj',
  'key': 'self_attn.k_proj',
  'value': 'self_attn.v_proj',
  'attention_out': 'self_attn.o_proj',
  'gate': 'mlp.gate_proj',
  'up': 'mlp.up_proj',
  'down': 'mlp.down_proj',
  'attention_norm': 'input_layernorm',
  'perceptron_norm': 'post_attention_layernorm',
  'query_norm': 'self_attn.q_norm',
  'key_norm': 'self_attn.k_norm',
}


class Family(NamedTuple):
  """One row.

  Attributes:
    architecture: beginning of the class names in `transformers`.
    switches: options of `TransformerConfig` that every checkpoint has.
    silent: what `transformers` takes where config.json is silent, if it is not
      what `config_format` says for all.
    biases: of attention_bias and mlp_bias, those that config.json may set.
    windows: '' none, 'all' the same for all layers, 'listed' by layer_types.
    renamed: stored names that differ.
    partial_rotary: config.json may rotate a part of each head.
    skips_rotary: config.json may leave layers without rotary positions.
  """

  architecture: str
  switches: Mapping[str, Any] = {}
  silent: Mapping[str, Any] = {}
  biases: tuple[str, ...] = ()
  windows: str = ''
  renamed: Mapping[str, str] = {}
  partial_rotary: bool = False
  skips_rotary: bool = False

  @property
  def names(self) -> dict[str, str]:
    """Stored names of the parameters of a layer."""
    return _NAMES | dict(self.renamed)


FAMILIES = {
  'llama': Family('Llama', biases=('attention_bias', 'mlp_bias')),
  'mistral': Family(
    'Mistral',
    silent=dict(
      num_key_value_heads=8,
      max_position_embeddings=131072,
      sliding_window=4096,
    ),
    windows='all',
  ),
  'qwen2': Family(
    'Qwen2',
    switches=dict(qkv_bias=True),
    silent=dict(num_key_value_heads=32, max_position_embeddings=32768),
    windows='listed',
  ),
  'qwen3': Family(
    'Qwen3',
    switches=dict(qk_norm='head'),
    silent=dict(
      num_key_value_heads=32, max_position_embeddings=32768, head_dim=128
    ),
    biases=('attention_bias',),
    windows='listed',
  ),
  'phi3': Family(
    'Phi3',
    silent=dict(max_position_embeddings=4096, rms_norm_eps=1e-5),
    windows='all',
    renamed=dict.fromkeys(('query', 'key', 'value'), 'self_attn.qkv_proj')
    | dict.fromkeys(('gate', 'up'), 'mlp.gate_up_proj'),
    partial_rotary=True,
  ),
  'smollm3': Family(
    'SmolLM3',
    silent=dict(
      num_key_value_heads=4,
      max_position_embeddings=32768,
      rope_theta=2e6,
      tie_word_embeddings=True,
    ),
    biases=('attention_bias', 'mlp_bias'),
    windows='listed',
    skips_rotary=True,
  ),
  'olmo2': Family(
    'Olmo2',
    switches=dict(qk_norm='all', post_norm=True),
    silent=dict(rms_norm_eps=1e-5),
    biases=('attention_bias',),
    renamed=dict(
      attention_norm='post_attention_layernorm',
      perceptron_norm='post_feedforward_layernorm',
    ),
  ),
}
