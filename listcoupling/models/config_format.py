"""config.json of Hugging Face directories, in and out.

Reads what transformers 4 and 5 write for model_type llama, qwen2 and qwen3;
whatever would change the numbers and is not implemented is refused by name.
"""

import pathlib
import sys

from listcoupling.models import checkpoint_format as form
from listcoupling.models import transformer

_FAMILIES = ('llama', 'qwen2', 'qwen3')
# Options that change the numbers, and the value that is implemented.
_FIXED = {
  'hidden_act': 'silu',
  'attention_bias': False,
  'mlp_bias': False,
  'quantization_config': None,
}
_QWEN3_HEAD_DIM = 128  # what transformers takes where config.json is silent
# What no model reaches: beyond, a file is damaged, or made to waste memory.
_MAX_SIZE = 2**31 - 1
_MAX_LAYERS = 10_000


def _rope(raw: dict, path):
  """(theta, RopeScaling or None) from rope_scaling or rope_parameters."""
  rope = _table(raw, path, 'rope_parameters') | _table(
    raw, path, 'rope_scaling'
  )
  theta = _number(raw | rope, path, 'rope_theta', 10000.0)
  kind = rope.get('rope_type', rope.get('type', 'default'))
  part = rope.get(
    'partial_rotary_factor', raw.get('partial_rotary_factor', 1.0)
  )
  if part != 1.0:
    raise ValueError(
      f'{path} rotates a part of each head (partial_rotary_factor={part}); '
      'only 1.0 is supported.'
    )
  if kind == 'default':
    return theta, None
  if kind not in ('linear', 'llama3'):
    raise ValueError(
      f"{path} asks for rope scaling {kind!r}; supported are 'default', "
      "'linear' and 'llama3'."
    )
  options = {}
  if kind == 'llama3':
    options = dict(
      low_freq_factor=_number(rope, path, 'low_freq_factor'),
      high_freq_factor=_number(rope, path, 'high_freq_factor'),
      original_max_positions=_size(
        rope, path, 'original_max_position_embeddings'
      ),
    )
    if options['low_freq_factor'] >= options['high_freq_factor']:
      raise ValueError(
        f'{path} has low_freq_factor={options["low_freq_factor"]}, which must '
        f'be below high_freq_factor={options["high_freq_factor"]}; download it '
        'again.'
      )
  factor = _number(rope, path, 'factor')
  return theta, transformer.RopeScaling(kind, factor, **options)


def _table(raw: dict, path, name: str) -> dict:
  """A block of rotary settings common to all layers; {} if left out."""
  value = raw.get(name) or {}
  if not isinstance(value, dict) or any(
    isinstance(part, dict) for part in value.values()
  ):
    raise ValueError(
      f'{path} has {name}={value!r}; one block for all layers is supported.'
    )
  return value


def _damaged(path, name: str, value, wanted: str) -> ValueError:
  return ValueError(
    f'{path} has {name}={value!r:.80}, which must be {wanted}; download it '
    'again.'
  )


def _number(raw: dict, path, name: str, default=None) -> float:
  """A positive finite number, or ValueError; KeyError if left out."""
  value = raw.get(name, default)
  if value is None and name not in raw:
    raise KeyError(name)
  if (
    not isinstance(value, (int, float))
    or isinstance(value, bool)
    or not 0 < value <= sys.float_info.max
  ):
    raise _damaged(path, name, value, 'a positive number')
  return float(value)


def _refuse_unsupported(raw: dict, path) -> None:
  family = raw.get('model_type')
  if family not in _FAMILIES:
    raise ValueError(
      f'{path} has model_type {family!r}; supported are {list(_FAMILIES)}.'
    )
  for name, value in _FIXED.items():
    if raw.get(name, value) != value:
      raise ValueError(
        f'{path} has {name}={raw[name]!r}; only {value!r} is supported.'
      )
  if _slides(raw):
    raise ValueError(
      f'{path} has layers that attend within a sliding window '
      f'(use_sliding_window={raw.get("use_sliding_window")!r}, layer_types='
      f'{raw.get("layer_types")!r}); only full attention is supported.'
    )


def _slides(raw: dict) -> bool:
  """Whether any layer sees only a window; a llama has none."""
  if raw['model_type'] == 'llama':
    return False
  if isinstance(raw.get('layer_types'), list):
    return any(kind != 'full_attention' for kind in raw['layer_types'])
  window = raw.get('use_sliding_window', False) and raw.get('sliding_window', 1)
  # The window starts at this layer; many Qwen2 name one past the last.
  first = raw.get('max_window_layers', 28)
  if not isinstance(first, int):
    first = 0  # nothing that can be trusted: every layer
  return bool(window) and first < raw.get('num_hidden_layers', 0)


def _size(raw: dict, path, name: str, default=None, most=_MAX_SIZE) -> int:
  """A whole number in 1..most, or ValueError; KeyError if left out."""
  value = raw.get(name)
  value = default if value is None else value
  if value is None:
    raise KeyError(name)
  whole = isinstance(value, int) and not isinstance(value, bool)
  if not whole or not 1 <= value <= most:
    raise _damaged(path, name, value, f'a positive integer of at most {most}')
  return value


def _flag(raw: dict, path, name: str) -> bool:
  value = raw.get(name, False)
  if not isinstance(value, bool):
    raise _damaged(path, name, value, 'true or false')
  return value


def _stop_tokens(raw: dict, path: pathlib.Path) -> tuple[int, ...]:
  """eos_token_id of generation_config.json, else of config.json."""
  beside = path.with_name(form.GENERATION)
  stated = raw.get('eos_token_id')
  if beside.is_file():
    stated = form.read_json(beside).get('eos_token_id', stated)
  if stated is None:
    return ()
  listed = stated if isinstance(stated, list) else [stated]
  if not all(type(token) is int for token in listed):
    raise ValueError(
      f'eos_token_id beside {path} must be token ids, got {stated!r}; '
      'download it again.'
    )
  # One outside the vocabulary (as in some cut-down models) never comes.
  known = [token for token in listed if 0 <= token < raw['vocab_size']]
  return tuple(dict.fromkeys(known))


def read_config(path, *, dtype='float32') -> transformer.TransformerConfig:
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
  raw = form.read_json(path)
  _refuse_unsupported(raw, path)
  try:
    return _convert(raw, path, dtype)
  except KeyError as error:
    raise ValueError(
      f'{path} has no {error.args[0]!r}; download it again.'
    ) from error


def _convert(raw: dict, path, dtype) -> transformer.TransformerConfig:
  theta, scaling = _rope(raw, path)
  heads = _size(raw, path, 'num_attention_heads')
  hidden = _size(raw, path, 'hidden_size')
  qwen3 = raw['model_type'] == 'qwen3'
  head_dim = _QWEN3_HEAD_DIM if qwen3 else hidden // heads
  fields = dict(
    vocab_size=_size(raw, path, 'vocab_size'),
    hidden_size=hidden,
    num_layers=_size(raw, path, 'num_hidden_layers', most=_MAX_LAYERS),
    num_heads=heads,
    num_kv_heads=_size(raw, path, 'num_key_value_heads', heads),
    head_dim=_size(raw, path, 'head_dim', head_dim),
    intermediate_size=_size(raw, path, 'intermediate_size'),
    rope_theta=theta,
    rope_scaling=scaling,
    rms_eps=_number(raw, path, 'rms_norm_eps', 1e-6),
    tie_embeddings=_flag(raw, path, 'tie_word_embeddings'),
    qkv_bias=raw['model_type'] == 'qwen2',
    qk_norm=qwen3,
    max_positions=_size(raw, path, 'max_position_embeddings', 2048),
    stop_tokens=_stop_tokens(raw, path),
    dtype=dtype,
  )
  try:
    return transformer.TransformerConfig(**fields)
  except ValueError as error:
    raise ValueError(f'{path}: {error} Download it again.') from error


def config_json(config: transformer.TransformerConfig, dtype: str) -> dict:
  """What config.json says of a config with weights of type `dtype`."""
  c = config
  family = 'qwen2' if c.qkv_bias else 'qwen3' if c.qk_norm else 'llama'
  names = {'llama': 'Llama', 'qwen2': 'Qwen2', 'qwen3': 'Qwen3'}
  raw = {
    'architectures': [f'{names[family]}ForCausalLM'],
    'model_type': family,
    'vocab_size': c.vocab_size,
    'hidden_size': c.hidden_size,
    'num_hidden_layers': c.num_layers,
    'num_attention_heads': c.num_heads,
    'num_key_value_heads': c.num_kv_heads,
    'head_dim': c.head_dim,
    'intermediate_size': c.intermediate_size,
    'hidden_act': 'silu',
    'rope_theta': c.rope_theta,
    'rms_norm_eps': c.rms_eps,
    'tie_word_embeddings': c.tie_embeddings,
    'max_position_embeddings': c.max_positions,
    'torch_dtype': dtype,
    # Left out, transformers fills in the ids of the original Llama.
    'bos_token_id': None,
    'eos_token_id': list(c.stop_tokens) or None,
  }
  if c.rope_scaling is not None:
    s = c.rope_scaling
    raw['rope_scaling'] = {'rope_type': s.kind, 'factor': s.factor}
    if s.kind == 'llama3':
      raw['rope_scaling'] |= {
        'low_freq_factor': s.low_freq_factor,
        'high_freq_factor': s.high_freq_factor,
        'original_max_position_embeddings': s.original_max_positions,
      }
  return raw
