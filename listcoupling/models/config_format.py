"""config.json of Hugging Face directories, in and out.

Reads what transformers 4 and 5 write for the model types of `families`;
whatever would change the numbers and is not implemented is refused by name.
"""

import dataclasses
import math
import pathlib
import sys

from listcoupling.models import checkpoint_format
from listcoupling.models.families import FAMILIES
from listcoupling.models.transformer_config import (
  ROPE_KINDS,
  RopeScaling,
  TransformerConfig,
)

# Spellings of hidden_act; the first of each is the one that is written.
_ACTIVATIONS = {
  'silu': ('silu', 'swish'),
  'gelu': ('gelu', 'gelu_python'),
  'gelu_tanh': (
    'gelu_pytorch_tanh',
    'gelu_new',
    'gelu_fast',
    'gelu_python_tanh',
  ),
}
# What transformers takes where config.json is silent, unless the family says
# something else.
_SILENT = {
  'rope_theta': 10000.0,
  'rms_norm_eps': 1e-6,
  'tie_word_embeddings': False,
  'max_position_embeddings': 2048,
  'hidden_act': 'silu',
  'max_window_layers': 28,
  'no_rope_layer_interval': 4,
}
# What no model reaches: beyond, a file is damaged, or made to waste memory.
_MAX_SIZE = 2**31 - 1
_MAX_LAYERS = 10_000


class _Raw(dict):
  """Entries of a config.json, read by type; complaints name the file."""

  path: pathlib.Path

  def damaged(self, name: str, wanted: str) -> ValueError:
    return ValueError(
      f'{self.path} has {name}={self.get(name)!r:.80}, which must be {wanted}; '
      'download it again.'
    )

  def refused(self, name: str, supported: str) -> ValueError:
    return ValueError(
      f'{self.path} has {name}={self.get(name)!r:.80}; {supported}.'
    )

  def size(self, name: str, default=None, most=_MAX_SIZE, least=1) -> int:
    """A whole number in least..most."""
    value = self.get(name)
    value = default if value is None else value
    if value is None:
      raise ValueError(f'{self.path} has no {name!r}; download it again.')
    if type(value) is not int or not least <= value <= most:
      wanted = 'a positive' if least else 'a'
      raise self.damaged(name, f'{wanted} integer of at most {most}')
    return value

  def number(self, name: str, default=None) -> float:
    """A positive finite number."""
    value = self.get(name, default)
    if value is None and name not in self:
      raise ValueError(f'{self.path} has no {name!r}; download it again.')
    if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
      raise self.damaged(name, 'a positive number')
    return float(value)

  def numbers(self, name: str, length: int) -> tuple[float, ...]:
    """A list of positive finite numbers."""
    value = self.get(name)
    if (
      not isinstance(value, list)
      or len(value) != length
      or not all(
        type(x) in (int, float) and 0 < x <= sys.float_info.max for x in value
      )
    ):
      raise self.damaged(name, f'a list of {length} positive numbers')
    return tuple(float(x) for x in value)

  def flag(self, name: str, default=False) -> bool:
    value = self.get(name, default)
    if not isinstance(value, bool):
      raise self.damaged(name, 'true or false')
    return value

  def part(self, entries: dict) -> '_Raw':
    """Other entries of the same file."""
    part = _Raw(entries)
    part.path = self.path
    return part


def read_config(path, *, dtype='float32') -> TransformerConfig:
  """TransformerConfig from a config.json.

  Args:
    path: of the file; a generation_config.json beside it names stop tokens.
    dtype: of activations and cache.

  Returns:
    TransformerConfig.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not JSON, or a model this library does not implement.

  Example:
    >>> from listcoupling.models.pretrained import SHIPPED
    >>> read_config(SHIPPED / 'target' / 'config.json').vocab_size
    1024
  """
  path = pathlib.Path(path)
  raw = checkpoint_format.read_json(path)
  beside = path.with_name(checkpoint_format.GENERATION)
  if beside.is_file():
    said = checkpoint_format.read_json(beside)
    raw['eos_token_id'] = said.get('eos_token_id', raw.get('eos_token_id'))
  return from_entries(raw, path, dtype=dtype)


def _family_name(raw) -> str:
  name = raw.get('model_type')
  if not isinstance(name, str) or name not in FAMILIES:
    raise ValueError(
      f'{raw.path} has model_type {name!r:.80}; supported are '
      f'{list(FAMILIES)}. Another network takes part with a function of its '
      'own: LanguageModel(apply, params, config), see '
      'listcoupling.decoding.language_model.'
    )
  return name


def from_entries(entries, origin, *, dtype='float32') -> TransformerConfig:
  """TransformerConfig from the entries of a config.json.

  Args:
    entries: mapping; what it leaves out is as in the `transformers` library.
    origin: of the entries, named in errors.
    dtype: of activations and cache.

  Raises:
    ValueError: a model this library does not implement.
  """
  raw = _Raw(entries)
  raw.path = origin
  name = _family_name(raw)
  family = FAMILIES[name]
  raw = raw.part({**_SILENT, **family.silent, **raw})
  heads, hidden = raw.size('num_attention_heads'), raw.size('hidden_size')
  layers = raw.size('num_hidden_layers', most=_MAX_LAYERS)
  if raw.get('num_key_value_heads') is None:
    raw['num_key_value_heads'] = heads
  head_dim = raw.size('head_dim', hidden // heads)
  vocab_size = raw.size('vocab_size')
  fields = dict(
    vocab_size=vocab_size,
    hidden_size=hidden,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=raw.size('num_key_value_heads'),
    head_dim=head_dim,
    intermediate_size=raw.size('intermediate_size'),
    rms_eps=raw.number('rms_norm_eps'),
    tie_embeddings=raw.flag('tie_word_embeddings'),
    activation=_activation(raw),
    stop_tokens=_stop_tokens(raw, vocab_size),
    dtype=dtype,
    family=name,
    **_biases(raw, family),
    **_rotary(raw, family, head_dim, layers),
  )
  fields['windows'] = _windows(raw, family, layers, fields['unrotated'])
  fields |= family.switches
  try:
    return TransformerConfig(**fields)
  except ValueError as error:
    raise ValueError(f'{raw.path}: {error} Download it again.') from error


def _activation(raw: _Raw) -> str:
  for name, spellings in _ACTIVATIONS.items():
    if raw['hidden_act'] in spellings:
      return name
  known = [name for names in _ACTIVATIONS.values() for name in names]
  raise raw.refused('hidden_act', f'supported are {known}')


def _biases(raw: _Raw, family) -> dict[str, bool]:
  if raw.get('quantization_config') is not None:
    raise raw.refused(
      'quantization_config',
      'take the checkpoint that is not quantised, and lc.quantised_drafter',
    )
  for name in ('attention_bias', 'mlp_bias'):
    if raw.flag(name) and name not in family.biases:
      raise raw.refused(
        name, f'only false is supported for {raw["model_type"]}'
      )
  attention = raw.flag('attention_bias')
  return dict(
    qkv_bias=attention, out_bias=attention, perceptron_bias=raw.flag('mlp_bias')
  )


def _windows(raw: _Raw, family, layers: int, unrotated) -> tuple[int, ...]:
  """Window of each layer; () where all layers see all."""
  listed = raw.get('layer_types')
  size = raw.get('sliding_window')
  if family.windows == 'listed' and not raw.flag('use_sliding_window'):
    size = None
  elif family.windows == 'listed' and 'sliding_window' not in raw:
    size = None if family.skips_rotary else 4096
  if not family.windows or size is None:
    slides = [False] * layers
  elif family.windows == 'all':
    slides = [True] * layers
  elif isinstance(listed, list):
    slides = [kind == 'sliding_attention' for kind in listed[:layers]]
  elif family.skips_rotary:
    slides = [layer in unrotated for layer in range(layers)]
  else:
    first = raw.size('max_window_layers', least=0)
    slides = [layer >= first for layer in range(layers)]
  kinds = ['sliding_attention' if x else 'full_attention' for x in slides]
  if listed is not None and listed != kinds:
    raise raw.refused(
      'layer_types',
      f'with sliding_window={raw.get("sliding_window")!r} and '
      f'use_sliding_window={raw.get("use_sliding_window")!r} a '
      f'{raw["model_type"]} has {str(kinds)[:80]}',
    )
  if not any(slides):
    return ()
  window = raw.size('sliding_window', size)
  return tuple(window if x else 0 for x in slides)


def _rotary(raw: _Raw, family, head_dim: int, layers: int) -> dict:
  """Fields of the config that say what is rotated, how, and how far."""
  rope = raw.part(_table(raw, 'rope_parameters') | _table(raw, 'rope_scaling'))
  both = raw.part({**raw, **rope})
  declared = raw.size('max_position_embeddings')
  fields = dict(
    rope_theta=both.number('rope_theta'),
    rotary_dim=0,
    unrotated=(),
    max_positions=declared,
  )
  share = both.number('partial_rotary_factor', 1.0)
  if share != 1.0:
    if not family.partial_rotary or share > 1:
      raise both.refused(
        'partial_rotary_factor',
        f'only 1.0 is supported for {raw["model_type"]}',
      )
    fields['rotary_dim'] = int(head_dim * share)
  if family.skips_rotary:
    fields['unrotated'] = _unrotated(raw, layers)
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if raw['model_type'] == 'phi3' and kind in ('su', 'yarn'):
    kind = 'longrope'  # as older files call it
  if kind == 'default':
    return fields
  if not isinstance(kind, str) or kind not in ROPE_KINDS:
    raise ValueError(
      f'{raw.path} asks for rope scaling {kind!r:.80}; supported are '
      f'{["default", *ROPE_KINDS]}.'
    )
  scaling = _scaling(raw, rope, kind, fields['rotary_dim'] or head_dim)
  fields['rope_scaling'] = scaling
  if kind == 'longrope':
    fields['max_positions'] = min(declared, scaling.original_max_positions)
  elif kind == 'yarn':
    whole = int(scaling.factor * scaling.original_max_positions)
    fields['max_positions'] = max(declared, whole)
  return fields


def _table(raw: _Raw, name: str) -> dict:
  """A block of rotary settings common to all layers; {} if left out."""
  value = raw.get(name) or {}
  if not isinstance(value, dict) or any(
    isinstance(part, dict) for part in value.values()
  ):
    raise raw.refused(name, 'one block for all layers is supported')
  return value


def _unrotated(raw: _Raw, layers: int) -> tuple[int, ...]:
  listed = raw.get('no_rope_layers')
  if listed is None:
    every = raw.size('no_rope_layer_interval')
    return tuple(range(every - 1, layers, every))
  if not isinstance(listed, list) or len(listed) < layers:
    raise raw.damaged('no_rope_layers', f'a list of {layers} layers')
  return tuple(layer for layer in range(layers) if not listed[layer])


def _scaling(raw: _Raw, rope: _Raw, kind: str, rotated: int) -> RopeScaling:
  declared = raw.size('max_position_embeddings')
  original = raw.size(
    'original_max_position_embeddings',
    rope.size('original_max_position_embeddings', declared),
  )
  if kind in ('linear', 'dynamic'):
    return RopeScaling(kind, rope.number('factor'))
  if kind == 'llama3':
    low, high = (rope.number(f'{x}_freq_factor') for x in ('low', 'high'))
    if low >= high:
      raise ValueError(
        f'{raw.path} has low_freq_factor={low}, which must be below '
        f'high_freq_factor={high}; download it again.'
      )
    return RopeScaling(kind, rope.number('factor'), low, high, original)
  ratio = declared / original
  if rope.get('factor') is not None:
    ratio = rope.number('factor')
  stretch = dict(
    factor=ratio,
    original_max_positions=original,
    attention_factor=_attention_factor(rope, kind, ratio, original),
  )
  if kind == 'yarn':
    return RopeScaling(
      kind,
      **stretch,
      beta_fast=rope.number('beta_fast', 32.0),
      beta_slow=rope.number('beta_slow', 1.0),
      truncate=rope.flag('truncate', True),
    )
  short, long = (
    rope.numbers(f'{x}_factor', rotated // 2) for x in ('short', 'long')
  )
  return RopeScaling(kind, **stretch, short_factors=short, long_factors=long)


def _attention_factor(rope: _Raw, kind: str, ratio: float, original: int):
  """Factor of cosines and sines, if the file does not say it."""
  if rope.get('attention_factor') is not None:
    return rope.number('attention_factor')
  if ratio <= 1.0:
    return 1.0
  if kind == 'longrope':
    return math.sqrt(1 + math.log(ratio) / math.log(original))
  if rope.get('mscale') and rope.get('mscale_all_dim'):
    scales = (rope.number(name) for name in ('mscale', 'mscale_all_dim'))
    one, all_dim = (0.1 * scale * math.log(ratio) + 1.0 for scale in scales)
    return one / all_dim
  return 0.1 * math.log(ratio) + 1.0


def _stop_tokens(raw: _Raw, vocab_size: int) -> tuple[int, ...]:
  stated = raw.get('eos_token_id')
  if stated is None:
    return ()
  listed = stated if isinstance(stated, list) else [stated]
  if not all(type(token) is int for token in listed):
    raise raw.damaged('eos_token_id', 'token ids')
  # One outside the vocabulary (as in some cut-down models) never comes.
  known = [token for token in listed if 0 <= token < vocab_size]
  return tuple(dict.fromkeys(known))


def config_json(config: TransformerConfig, dtype: str) -> dict:
  """The config.json of a config with weights of type `dtype`.

  Raises:
    ValueError: no family has these options.
  """
  for name in [config.family] if config.family else FAMILIES:
    raw = _write(config, name) | {'torch_dtype': dtype}
    try:
      back = from_entries(raw, 'config.json', dtype=config.dtype)
    except ValueError:
      continue
    if back == dataclasses.replace(config, family=name):
      return raw
  raise ValueError(
    f'no family of {[config.family] if config.family else list(FAMILIES)} has '
    f'all options of {config}; such a model cannot be saved.'
  )


def _write(config: TransformerConfig, name: str) -> dict:
  c, family = config, FAMILIES[name]
  raw = {
    'architectures': [f'{family.architecture}ForCausalLM'],
    'model_type': name,
    'vocab_size': c.vocab_size,
    'hidden_size': c.hidden_size,
    'num_hidden_layers': c.num_layers,
    'num_attention_heads': c.num_heads,
    'num_key_value_heads': c.num_kv_heads,
    'intermediate_size': c.intermediate_size,
    'head_dim': c.head_dim,
    'hidden_act': _ACTIVATIONS[c.activation][0],
    'rope_theta': c.rope_theta,
    'rms_norm_eps': c.rms_eps,
    'tie_word_embeddings': c.tie_embeddings,
    'max_position_embeddings': c.max_positions,
    # Left out, transformers fills in the ids of the original models.
    'bos_token_id': None,
    'eos_token_id': list(c.stop_tokens) or None,
    'pad_token_id': None,
  }
  if 'attention_bias' in family.biases:
    raw['attention_bias'] = c.out_bias
  if 'mlp_bias' in family.biases:
    raw['mlp_bias'] = c.perceptron_bias
  if c.rotary_dim:
    raw['partial_rotary_factor'] = c.rotary_dim / c.head_dim
  return raw | _write_layers(c, family) | _write_scaling(c, name)


def _write_layers(config: TransformerConfig, family) -> dict:
  """Entries on windows and rotation, which differ from layer to layer."""
  c, raw = config, {}
  if family.windows:
    raw['sliding_window'] = max(c.windows, default=0) or None
  if family.windows == 'listed':
    raw['use_sliding_window'] = bool(c.windows)
    raw['layer_types'] = [
      'sliding_attention' if window else 'full_attention'
      for window in c.windows or [0] * c.num_layers
    ]
  if family.skips_rotary:
    raw['no_rope_layers'] = [
      int(layer not in c.unrotated) for layer in range(c.num_layers)
    ]
  return raw


def _write_scaling(config: TransformerConfig, name: str) -> dict:
  s, raw = config.rope_scaling, {}
  if s is None:
    return raw
  block = {'rope_type': s.kind, 'factor': s.factor}
  if s.kind in ('llama3', 'yarn', 'longrope'):
    block['original_max_position_embeddings'] = s.original_max_positions
  if s.kind == 'llama3':
    block['low_freq_factor'] = s.low_freq_factor
    block['high_freq_factor'] = s.high_freq_factor
  if s.kind == 'yarn':
    block['attention_factor'] = s.attention_factor
    block['beta_fast'], block['beta_slow'] = s.beta_fast, s.beta_slow
    block['truncate'] = s.truncate
  if s.kind == 'longrope':
    whole = max(round(s.factor * s.original_max_positions), 1)
    raw['max_position_embeddings'] = whole
    block['attention_factor'] = s.attention_factor
    block['short_factor'] = list(s.short_factors)
    block['long_factor'] = list(s.long_factors)
    if name == 'phi3':  # stands outside, where transformers looks first
      raw['original_max_position_embeddings'] = s.original_max_positions
  return raw | {'rope_scaling': block}
