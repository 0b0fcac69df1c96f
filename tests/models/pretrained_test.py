"""Hugging Face directories: right numbers in, same bytes out, or refused."""

import dataclasses
import json
import pathlib
import pickle
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from scipy import stats

from listcoupling.data import text
from listcoupling.decoding import language_model
from listcoupling.models import (
  checkpoint_format,
  config_format,
  pretrained,
  rope,
  transformer,
  weight_files,
)
from listcoupling.models.transformer_config import (
  RopeScaling,
  TransformerConfig,
)
from tests import statistics
from tests.models import limits

BASE = TransformerConfig(
  vocab_size=300,
  hidden_size=16,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  intermediate_size=24,
  family='llama',
)
SCALING = RopeScaling('llama3', 4.0, 1.0, 4.0, 32)
FAMILIES = {
  'llama': dataclasses.replace(BASE, rope_scaling=SCALING, rope_theta=5e4),
  'qwen2': dataclasses.replace(
    BASE, family='qwen2', qkv_bias=True, tie_embeddings=False
  ),
  'qwen3': dataclasses.replace(
    BASE, family='qwen3', qk_norm='head', rms_eps=1e-5
  ),
}


full_logits = jax.jit(transformer.causal_logits, static_argnums=0)


def stored_tensors(config, seed=0):
  """Random weights under their names in `transformers`."""
  rng = np.random.default_rng(seed)
  return {
    name: (0.4 * rng.normal(size=shape)).astype(np.float32)
    for leaf in checkpoint_format.parameter_table(config)
    for name, shape in leaf.tensors.items()
  }


def write_directory(directory, config, tensors):
  directory.mkdir(exist_ok=True)
  raw = config_format.config_json(config, 'float32')
  (directory / 'config.json').write_text(json.dumps(raw))
  path = directory / 'model.safetensors'
  safetensors.numpy.save_file(tensors, path, metadata={'format': 'pt'})
  return directory


def reference_logits(config, tensors, tokens):
  """Forward pass of one row from stored names: loops over heads, float64."""
  c, n = config, len(tokens)
  get = {name: value.astype(np.float64) for name, value in tensors.items()}

  def norm(x, weight):
    square = (x * x).mean(-1, keepdims=True)
    return x / np.sqrt(square + c.rms_eps) * weight

  def rotate(x):  # rotate-half: pairs are (i, i + E / 2)
    angle = np.arange(n)[:, None] * rope.frequencies(c)[None]
    cos = np.cos(np.concatenate([angle, angle], -1))
    sin = np.sin(np.concatenate([angle, angle], -1))
    half = c.head_dim // 2
    turned = np.concatenate([-x[:, half:], x[:, :half]], -1)
    return x * cos + turned * sin

  def project(name, x):
    out = x @ get[f'{name}.weight'].T
    return out + get.get(f'{name}.bias', 0.0)

  x = get['model.embed_tokens.weight'][tokens]
  for i in range(c.num_layers):
    at = f'model.layers.{i}'
    h = norm(x, get[f'{at}.input_layernorm.weight'])
    q, k, v = (project(f'{at}.self_attn.{name}_proj', h) for name in 'qkv')
    mixed = []
    for head in range(c.num_heads):
      shared = head // (c.num_heads // c.num_kv_heads)
      rows = slice(head * c.head_dim, (head + 1) * c.head_dim)
      kv_rows = slice(shared * c.head_dim, (shared + 1) * c.head_dim)
      qh, kh = q[:, rows], k[:, kv_rows]
      if c.qk_norm:
        qh = norm(qh, get[f'{at}.self_attn.q_norm.weight'])
        kh = norm(kh, get[f'{at}.self_attn.k_norm.weight'])
      score = rotate(qh) @ rotate(kh).T / np.sqrt(c.head_dim)
      score = np.where(np.tri(n, dtype=bool), score, -np.inf)
      weight = np.exp(score - score.max(-1, keepdims=True))
      mixed.append(weight / weight.sum(-1, keepdims=True) @ v[:, kv_rows])
    x = x + project(f'{at}.self_attn.o_proj', np.concatenate(mixed, -1))
    h = norm(x, get[f'{at}.post_attention_layernorm.weight'])
    gate = project(f'{at}.mlp.gate_proj', h)
    gated = gate / (1 + np.exp(-gate)) * project(f'{at}.mlp.up_proj', h)
    x = x + project(f'{at}.mlp.down_proj', gated)
  x = norm(x, get['model.norm.weight'])
  head = 'model.embed_tokens' if c.tie_embeddings else 'lm_head'
  return x @ get[f'{head}.weight'].T


@pytest.mark.parametrize('family', FAMILIES)
def test_loaded_model_computes_what_the_names_say(family, tmp_path):
  config = FAMILIES[family]
  tensors = stored_tensors(config)
  directory = write_directory(tmp_path / 'm', config, tensors)
  model = pretrained.load_pretrained(directory)
  assert model.config == config
  assert model.tokenizer is None
  tokens = np.random.default_rng(1).integers(0, 300, 9)
  logits = full_logits(config, model.params, tokens[None])
  expected = reference_logits(config, tensors, tokens)
  limit = limits.apart(config, model.params, tokens[None])
  np.testing.assert_allclose(logits[0], expected, rtol=0, atol=limit)
  # Negative control: two query heads swapped are two other heads.
  name = 'model.layers.0.self_attn.q_proj.weight'
  tensors[name] = np.roll(tensors[name], config.head_dim, axis=0)
  swapped = reference_logits(config, tensors, tokens)
  assert np.abs(swapped - expected).max() > limit


@pytest.mark.parametrize('family', FAMILIES)
def test_round_trip_is_exact(family, tmp_path):
  config = FAMILIES[family]
  first = write_directory(tmp_path / 'a', config, stored_tensors(config))
  model = pretrained.load_pretrained(first, dtype=jnp.bfloat16)
  pretrained.save_pretrained(model, tmp_path / 'b')
  assert json.loads((tmp_path / 'b/config.json').read_text())['model_type'] == (
    family
  )
  again = pretrained.load_pretrained(tmp_path / 'b', dtype=jnp.bfloat16)
  assert again.config == model.config
  same = jax.tree.map(lambda a, b: (a == b).all(), again.params, model.params)
  assert jax.tree.all(same)
  path = tmp_path / 'b/model.safetensors'
  with safetensors.safe_open(path, framework='np') as file:
    assert file.metadata() == {'format': 'pt'}
  stored = safetensors.numpy.load_file(path)
  assert stored.keys() == stored_tensors(config).keys()
  assert not list(tmp_path.glob('.b*'))


def test_tensors_in_memory_are_the_directory(tmp_path):
  config = FAMILIES['qwen3']
  raw = config_format.config_json(config, 'float32')
  tensors = stored_tensors(config)
  there = pretrained.load_pretrained(
    write_directory(tmp_path / 'm', config, tensors), dtype='bf16'
  )
  arrays = {name: jnp.asarray(x) for name, x in tensors.items()}
  here = pretrained.from_tensors(raw, arrays, dtype='bf16')
  assert here.config == there.config
  same = jax.tree.map(lambda a, b: (a == b).all(), here.params, there.params)
  assert jax.tree.all(same)


def _without(name):
  return lambda raw, tensors: tensors.pop(name)


def _transposed(raw, tensors):
  name = 'model.layers.0.mlp.up_proj.weight'
  tensors[name] = tensors[name].T


def _whole_numbers(raw, tensors):
  name = 'model.norm.weight'
  tensors[name] = tensors[name].astype(np.int32)


def _list(raw, tensors):
  tensors['model.norm.weight'] = [1.0] * BASE.hidden_size


def _other_head(raw, tensors):
  tensors['lm_head.weight'] = 1 + tensors['model.embed_tokens.weight']


@pytest.mark.parametrize(
  'change, match',
  [
    (_without('model.norm.weight'), r'tensors lacks 1.*model\.norm'),
    (_transposed, r'tensors: model.*up_proj.* has shape \[16, 24\]'),
    (_whole_numbers, 'tensors: model.norm.weight holds int32'),
    (_list, 'tensors: model.norm.weight holds list'),
    (_other_head, 'tensors: lm_head.weight is not'),
    (lambda raw, _: raw.pop('hidden_size'), "config has no 'hidden_size'"),
    (lambda raw, _: raw.update(model_type='x'), "config has model_type 'x'"),
  ],
)
def test_tensors_in_memory_that_do_not_fit(change, match):
  raw = config_format.config_json(BASE, 'float32')
  tensors = stored_tensors(BASE)
  change(raw, tensors)
  with pytest.raises(ValueError, match=match):
    pretrained.from_tensors(raw, tensors)


def test_a_directory_is_no_config():
  with pytest.raises(ValueError, match='config must be a mapping, got str'):
    pretrained.from_tensors('here', {})
  with pytest.raises(ValueError, match='named by strings, got 5'):
    pretrained.from_tensors({}, {5: np.zeros(3)})
  with pytest.raises(ValueError, match='Tokenizer or None, got str'):
    pretrained.from_tensors({}, {}, tokenizer='here')


@pytest.mark.parametrize('name', [None, '', 5, ('a', 'b')])
def test_a_model_must_be_named(name):
  with pytest.raises(ValueError, match='directory or hub name must be given'):
    pretrained.load_pretrained(name)


def test_nothing_is_not_saved(tmp_path):
  model, words = language_model.LanguageModel(None, {}, None), 'Only trans'
  with pytest.raises(ValueError, match=f'{words}.*NoneType'):
    pretrained.save_pretrained(model, tmp_path / 'm')
  with pytest.raises(ValueError, match='be a LanguageModel, got a str'):
    pretrained.save_pretrained('m', model)


def test_saving_again_replaces_every_file(tmp_path):
  target, _ = pretrained.shipped_pair()
  pretrained.save_pretrained(target, tmp_path / 'm')
  (tmp_path / 'm/notes.txt').write_text('kept')
  bare = write_directory(tmp_path / 'bare', BASE, stored_tensors(BASE))
  bare = pretrained.load_pretrained(bare)
  pretrained.save_pretrained(bare, tmp_path / 'm')
  assert sorted(path.name for path in (tmp_path / 'm').iterdir()) == [
    'config.json',
    'model.safetensors',
    'notes.txt',
  ]
  assert pretrained.load_pretrained(tmp_path / 'm').config == BASE


def test_shards_load_like_one_file(tmp_path):
  tensors = stored_tensors(BASE)
  one = write_directory(tmp_path / 'one', BASE, tensors)
  many = write_directory(tmp_path / 'many', BASE, tensors)
  (many / 'model.safetensors').unlink()
  names = sorted(tensors)
  weight_map = {}
  for shard in range(2):
    part = {name: tensors[name] for name in names[shard::2]}
    file = f'model-{shard + 1:05}-of-00002.safetensors'
    safetensors.numpy.save_file(part, many / file, metadata={'format': 'pt'})
    weight_map |= dict.fromkeys(part, file)
  index = many / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': weight_map}))
  same = jax.tree.map(
    lambda a, b: (a == b).all(),
    pretrained.load_pretrained(one).params,
    pretrained.load_pretrained(many).params,
  )
  assert jax.tree.all(same)
  with pytest.raises(ValueError, match='sharded'):
    pretrained.save_pretrained(pretrained.load_pretrained(one), many)
  (many / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match='model-00002-of-00002'):
    pretrained.load_pretrained(many)
  weight_map['model.norm.weight'] = '../one/model.safetensors'
  index.write_text(json.dumps({'weight_map': weight_map}))
  with pytest.raises(ValueError, match='beside'):
    pretrained.load_pretrained(many)


def edit_config(directory, **changes):
  path = directory / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(directory, change):
  path = directory / 'model.safetensors'
  tensors = dict(safetensors.numpy.load_file(path))
  change(tensors)
  safetensors.numpy.save_file(tensors, path, metadata={'format': 'pt'})


def truncate(directory):
  path = directory / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-100])


def only_pickle(directory):
  (directory / 'model.safetensors').rename(directory / 'pytorch_model.bin')


def only_index(directory, weight_map):
  (directory / 'model.safetensors').unlink()
  whole = json.dumps({'weight_map': weight_map})
  text = whole if isinstance(weight_map, dict) else weight_map
  (directory / 'model.safetensors.index.json').write_text(text)


def large_tokenizer(directory):
  pretrained.shipped_pair()[0].tokenizer.save(str(directory / 'tokenizer.json'))


HEAD = 'lm_head.weight'
NORM = 'model.norm.weight'
INTEGERS = np.zeros(16, np.int8)
WRONG_SHAPE = np.zeros(17, np.float32)
REFUSED = {
  'model type': (
    lambda d: edit_config(d, model_type='gpt2'),
    "'gpt2'.*function of its own",
  ),
  'activation': (lambda d: edit_config(d, hidden_act='relu'), 'hidden_act'),
  'window': (
    lambda d: edit_config(d, model_type='mistral', sliding_window='8'),
    "sliding_window='8'.*positive integer",
  ),
  'window of some layers': (
    lambda d: edit_config(
      d,
      model_type='mistral',
      sliding_window=8,
      layer_types=['full_attention', 'sliding_attention'],
    ),
    'layer_types=.*a mistral has',
  ),
  'layers without positions': (
    lambda d: edit_config(d, model_type='smollm3', no_rope_layers=[1]),
    'no_rope_layers=.*a list of 2 layers',
  ),
  'rope': (
    lambda d: edit_config(d, rope_scaling={'rope_type': 'ntk', 'factor': 4}),
    "'ntk'",
  ),
  'no size': (lambda d: (d / 'config.json').write_text('{}'), 'model_type'),
  'attention bias': (
    lambda d: edit_config(d, model_type='qwen2', attention_bias=True),
    'attention_bias=True',
  ),
  'quantised': (
    lambda d: edit_config(d, quantization_config={'bits': 4}),
    'quantization_config',
  ),
  'part of a head': (
    lambda d: edit_config(d, partial_rotary_factor=0.5),
    'partial_rotary_factor=0.5',
  ),
  'layer types': (
    lambda d: edit_config(
      d, model_type='qwen3', layer_types=['full_attention', 'sliding_attention']
    ),
    'sliding_attention',
  ),
  'size as text': (
    lambda d: edit_config(d, hidden_size='16'),
    "hidden_size='16'.*positive integer",
  ),
  'size left out': (
    lambda d: edit_config(d, intermediate_size=None),
    "no 'intermediate_size'",
  ),
  'scaling left out': (
    lambda d: edit_config(d, rope_scaling={'rope_type': 'llama3', 'factor': 4}),
    "no 'low_freq_factor'",
  ),
  'eos': (
    lambda d: edit_config(d, eos_token_id='<end>'),
    "eos_token_id.*'<end>'",
  ),
  'integers': (
    lambda d: edit_tensors(d, lambda t: t.update({NORM: INTEGERS})),
    'model.safetensors: model.norm.weight holds I8.*quantised',
  ),
  'not json': (
    lambda d: (d / 'config.json').write_text('{'),
    'config.json is damaged: no JSON',
  ),
  'deep config': (
    lambda d: (d / 'config.json').write_text('[' * 100_000),
    'config.json is damaged: no JSON',
  ),
  'deep generation config': (
    lambda d: (d / 'generation_config.json').write_text('[' * 100_000),
    'generation_config.json is damaged',
  ),
  'deep tokenizer': (
    lambda d: (d / 'tokenizer.json').write_text('{"a":' * 100_000),
    'tokenizer.json is damaged',
  ),
  'a million million layers': (
    lambda d: edit_config(d, num_hidden_layers=10**12),
    'config.json has num_hidden_layers=1000000000000',
  ),
  'more layers than are stored': (
    lambda d: edit_config(d, num_hidden_layers=9999),
    'lacks .* belong together',
  ),
  'a vocabulary that is not stored': (
    lambda d: edit_config(d, vocab_size=2**31 - 1),
    'embed_tokens.weight has shape .*2147483647',
  ),
  'a size past all indices': (
    lambda d: edit_config(d, intermediate_size=2**31),
    'intermediate_size=2147483648',
  ),
  'a size past all floats': (
    lambda d: edit_config(d, rope_theta=10**400),
    'rope_theta=1000',
  ),
  'sizes that do not fit': (
    lambda d: edit_config(d, num_attention_heads=3),
    'config.json: num_heads must be a multiple',
  ),
  'a long shard': (
    lambda d: only_index(d, {'a': 'a' * 5000 + '.safetensors'}),
    'aaa is missing, named by',
  ),
  'deep index': (
    lambda d: only_index(d, '[' * 100_000),
    'index.json is damaged',
  ),
  'missing': (
    lambda d: edit_tensors(d, lambda t: t.pop(NORM)),
    'lacks 1 .*norm',
  ),
  'extra': (
    lambda d: edit_tensors(d, lambda t: t.update(x=t[NORM])),
    "unknown 1 .*'x'",
  ),
  'a head that is not tied': (
    lambda d: (
      edit_config(d, tie_word_embeddings=True),
      edit_tensors(
        d, lambda t: t.update({HEAD: t['model.embed_tokens.weight'] + 1})
      ),
    ),
    'lm_head.weight is not model.embed_tokens.weight',
  ),
  'a head of integers': (
    lambda d: (
      edit_config(d, tie_word_embeddings=True),
      edit_tensors(d, lambda t: t.update({HEAD: INTEGERS})),
    ),
    'lm_head.weight is not model.embed_tokens.weight',
  ),
  'tie as text': (
    lambda d: edit_config(d, tie_word_embeddings='false'),
    "tie_word_embeddings='false'",
  ),
  'theta': (lambda d: edit_config(d, rope_theta=None), 'rope_theta=None'),
  'epsilon': (lambda d: edit_config(d, rms_norm_eps='x'), "rms_norm_eps='x'"),
  'rope as a list': (
    lambda d: edit_config(d, rope_scaling=[1]),
    r'rope_scaling=\[1\]',
  ),
  'rope by layer': (
    lambda d: edit_config(
      d, rope_parameters={'full_attention': {'rope_type': 'default'}}
    ),
    'one block for all layers',
  ),
  'llama3 factors': (
    lambda d: edit_config(
      d,
      rope_scaling={
        'rope_type': 'llama3',
        'factor': 4,
        'low_freq_factor': 4,
        'high_freq_factor': 4,
        'original_max_position_embeddings': 32,
      },
    ),
    'low_freq_factor=4.0, which must be below',
  ),
  'shape': (
    lambda d: edit_tensors(d, lambda t: t.update({NORM: WRONG_SHAPE})),
    r'model.safetensors: model.norm.weight .*\[17\].*\[16\]',
  ),
  'truncated': (truncate, 'truncated'),
  'pickled': (only_pickle, 'pytorch_model.bin.*safetensors'),
  'tokenizer': (large_tokenizer, '1023.*300'),
  'bad tokenizer': (
    lambda d: (d / 'tokenizer.json').write_text('{}'),
    'not a tokenizer file',
  ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused_by_name(case, tmp_path):
  directory = write_directory(tmp_path / 'm', BASE, stored_tensors(BASE))
  spoil, message = REFUSED[case]
  spoil(directory)
  begin = time.monotonic()
  with pytest.raises((ValueError, FileNotFoundError), match=f'(?s){message}'):
    pretrained.load_pretrained(directory)
  assert time.monotonic() - begin < 5  # a second where nothing else runs


class Bomb:
  # Unpickled anywhere, this would leave a file.
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'model.pt', 'model.pth'])
def test_pickles_are_never_read(name, tmp_path):
  directory = write_directory(tmp_path / 'm', BASE, stored_tensors(BASE))
  mark = tmp_path / 'executed'
  (directory / name).write_bytes(pickle.dumps(Bomb(mark)))
  pretrained.load_pretrained(directory)  # beside safetensors: left alone
  (directory / 'model.safetensors').unlink()
  with pytest.raises(ValueError, match=f'{name}.*save_pretrained'):
    pretrained.load_pretrained(directory)
  # Under a name that promises safetensors, and named by an index.
  (directory / name).rename(directory / 'model.safetensors')
  with pytest.raises(ValueError, match='no safetensors file'):
    pretrained.load_pretrained(directory)
  (directory / 'model.safetensors').rename(directory / name)
  index = json.dumps({'weight_map': {'model.norm.weight': name}})
  (directory / 'model.safetensors.index.json').write_text(index)
  with pytest.raises(ValueError, match=f'{name}.*must be safetensors'):
    pretrained.load_pretrained(directory)
  assert not mark.exists()
  # Negative control: the pickle does what it says.
  pickle.loads((directory / name).read_bytes())
  assert mark.exists()


def test_tensor_in_two_shards_is_refused(tmp_path):
  tensors = stored_tensors(BASE)
  directory = write_directory(tmp_path / 'm', BASE, tensors)
  names = [f'model-{shard}-of-2.safetensors' for shard in (1, 2)]
  for name in names:
    safetensors.numpy.save_file(tensors, directory / name)
  (directory / 'model.safetensors').unlink()
  index = directory / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': dict(zip('ab', names))}))
  with pytest.raises(ValueError, match='in both .*model-1.*model-2'):
    pretrained.load_pretrained(directory)
  index.write_text('{}')
  with pytest.raises(ValueError, match='no weight_map'):
    pretrained.load_pretrained(directory)


@pytest.mark.parametrize('family', ['llama', 'qwen2', 'qwen3'])
def test_a_config_without_a_family_takes_the_first_that_fits(family, tmp_path):
  config = dataclasses.replace(FAMILIES[family], family='')
  params = transformer.init_params(jax.random.key(0), config)
  model = transformer.make_language_model(config, params)
  pretrained.save_pretrained(model, tmp_path / 'm')
  again = pretrained.load_pretrained(tmp_path / 'm')
  assert again.config == FAMILIES[family]
  jax.tree.map(np.testing.assert_array_equal, again.params, params)


def test_blocks_of_a_parameter_are_blocks_of_the_whole():
  config = dataclasses.replace(
    BASE, family='phi3', hidden_size=6, head_dim=4, intermediate_size=10
  )
  rng = np.random.default_rng(0)
  for leaf in checkpoint_format.parameter_table(config):
    stored = {k: rng.normal(size=v) for k, v in leaf.tensors.items()}

    def fetch(name, rows, stored=stored):
      return stored[name][rows]

    whole = leaf.read(fetch)
    assert whole.shape == leaf.shape
    back = leaf.split(whole)
    assert back.keys() == stored.keys()
    for name, value in back.items():
      np.testing.assert_array_equal(value, stored[name])
    for axis, size in enumerate(leaf.shape):
      for part in (slice(0, size // 2), slice(size // 2, size)):
        index = tuple(
          part if k == axis else slice(None) for k in range(whole.ndim)
        )
        np.testing.assert_array_equal(leaf.read(fetch, index), whole[index])
  leaf = checkpoint_format.parameter_table(config)[0]
  read = []
  leaf.read(
    lambda name, rows: read.append(rows) or np.zeros((150, 6)),
    (slice(150, 300), slice(6)),
  )
  assert read == [slice(150, 300)]  # no other rows of the vocabulary
  with pytest.raises(
    ValueError, match='embed.*has shape .3,., the config asks'
  ):
    leaf.split(np.zeros(3))


def test_window_that_no_layer_has_is_accepted(tmp_path):
  config = FAMILIES['qwen2']
  directory = write_directory(tmp_path / 'm', config, stored_tensors(config))
  edit_config(directory, use_sliding_window=True, max_window_layers=2)
  assert pretrained.load_pretrained(directory).config == config
  edit_config(
    directory, use_sliding_window=False, sliding_window=8, max_window_layers=0
  )
  assert pretrained.load_pretrained(directory).config == config


def test_stop_tokens(tmp_path):
  directory = write_directory(tmp_path / 'm', BASE, stored_tensors(BASE))
  path = directory / 'config.json'

  def stops():
    return config_format.read_config(path).stop_tokens

  assert stops() == ()
  edit_config(directory, eos_token_id=7)
  assert stops() == (7,)
  edit_config(directory, eos_token_id=[7, 9, 7, 300, -1])
  assert stops() == (7, 9)
  # generation_config.json has the last word, if it has one.
  beside = directory / 'generation_config.json'
  beside.write_text('{}')
  assert stops() == (7, 9)
  beside.write_text('{"eos_token_id": [5, 6]}')
  assert stops() == (5, 6)
  model = pretrained.load_pretrained(directory)
  pretrained.save_pretrained(model, tmp_path / 'again')
  again = pretrained.load_pretrained(tmp_path / 'again')
  assert again.config.stop_tokens == (5, 6)
  # One left from an older checkpoint does not override the new config.
  stale = tmp_path / 'again' / 'generation_config.json'
  stale.write_text('{"eos_token_id": 1}')
  pretrained.save_pretrained(model, tmp_path / 'again')
  assert not stale.exists()


def test_missing_files_are_named(tmp_path, monkeypatch):
  with pytest.raises(FileNotFoundError, match='not a directory'):
    pretrained.load_pretrained(tmp_path / 'nowhere')
  with pytest.raises(FileNotFoundError, match='config.json is missing'):
    pretrained.load_pretrained(tmp_path)
  directory = write_directory(tmp_path / 'm', BASE, stored_tensors(BASE))
  (directory / 'model.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match='neither model.safetensors'):
    pretrained.load_pretrained(directory)
  monkeypatch.setattr('huggingface_hub.snapshot_download', no_network)
  with pytest.raises(FileNotFoundError, match='Where there is network'):
    pretrained.load_pretrained('owner/name')
  with pytest.raises(FileNotFoundError, match='not a directory'):
    pretrained.load_pretrained('a' * 5000)


@pytest.mark.parametrize(
  'dtype, name',
  [
    ('bf16', 'bfloat16'),
    ('float16', 'float16'),
    (np.float32, 'float32'),
    (np.dtype('float32'), 'float32'),
    (jnp.bfloat16, 'bfloat16'),
    ('auto', 'float16'),
  ],
)
def test_dtype_words(dtype, name, tmp_path):
  tensors = stored_tensors(BASE)
  tensors = {key: value.astype(np.float16) for key, value in tensors.items()}
  directory = write_directory(tmp_path / 'm', BASE, tensors)
  model = pretrained.load_pretrained(directory, dtype=dtype)
  assert model.config.dtype == name
  assert {leaf.dtype.name for leaf in jax.tree.leaves(model.params)} == {name}
  assert model.init_cache(1, 2).layers[0][0].dtype == name


def test_auto_is_a_type_that_holds_all(tmp_path):
  tensors = stored_tensors(BASE)
  for kind, wanted in ((jnp.bfloat16, 'float32'), (np.float64, 'float32')):
    tensors[NORM] = tensors[NORM].astype(kind)
    rest = {k: v.astype(np.float16) for k, v in tensors.items() if k != NORM}
    directory = write_directory(
      tmp_path / wanted, BASE, rest | {NORM: tensors[NORM]}
    )
    model = pretrained.load_pretrained(directory, dtype='auto')
    assert model.config.dtype == wanted


@pytest.mark.parametrize('dtype', [jnp.int32, 'bf8', None, 'float64', 3])
def test_other_dtypes_are_refused(dtype, tmp_path):
  directory = write_directory(tmp_path / 'm', BASE, stored_tensors(BASE))
  with pytest.raises(ValueError, match="dtype must be 'float32'.*got"):
    pretrained.load_pretrained(directory, dtype=dtype)


@pytest.mark.parametrize('state', ['truncation', 'padding'])
def test_state_of_the_tokenizer_file_is_off(state, tmp_path):
  directory = tmp_path / 'm'
  shutil.copytree(pretrained.SHIPPED / 'target', directory)
  tokenizer = pretrained.shipped_pair()[0].tokenizer
  ids = tokenizer.encode(SAMPLE).ids
  if state == 'truncation':
    tokenizer.enable_truncation(6)
  else:
    tokenizer.enable_padding(length=128)
  tokenizer.save(str(directory / 'tokenizer.json'))
  loaded = pretrained.load_pretrained(directory).tokenizer
  assert loaded.encode(SAMPLE).ids == ids
  assert loaded.encode_batch([SAMPLE, 'a'])[0].ids == ids
  # Negative control: the file does hold the state.
  assert len(tokenizer.encode(SAMPLE).ids) != len(ids)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
  target, _ = pretrained.shipped_pair()

  def full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(safetensors.numpy, 'save_file', full)
  with pytest.raises(OSError, match="No space left.*free space.*/m'"):
    pretrained.save_pretrained(target, tmp_path / 'm')
  assert not list(tmp_path.iterdir())


def no_network(name, **kwargs):
  raise OSError(f'no route to {name} {kwargs}')


def test_hub_name_is_downloaded_without_pickles(tmp_path, monkeypatch):
  directory = write_directory(tmp_path / 'm', BASE, stored_tensors(BASE))
  asked = {}

  def download(name, allow_patterns):
    asked[name] = allow_patterns
    return str(directory)

  monkeypatch.setattr('huggingface_hub.snapshot_download', download)
  monkeypatch.chdir(tmp_path)
  assert pretrained.load_pretrained('owner/name').config == BASE
  assert not any('bin' in pattern for pattern in asked['owner/name'])


def test_both_spellings_of_rope(tmp_path):
  # transformers 5 writes rope_parameters, 4 rope_theta and rope_scaling.
  config = FAMILIES['llama']
  directory = write_directory(tmp_path / 'm', config, stored_tensors(config))
  raw = json.loads((directory / 'config.json').read_text())
  rope = raw.pop('rope_scaling') | {'rope_theta': raw.pop('rope_theta')}
  raw['rope_parameters'] = rope
  (directory / 'config.json').write_text(json.dumps(raw))
  path = directory / 'config.json'
  assert config_format.read_config(path) == config


def test_family_that_does_not_exist_is_not_saved(tmp_path):
  params = transformer.init_params(jax.random.key(0), BASE)
  for change in (
    dict(family='', qk_norm='head', post_norm=True),
    dict(qk_norm='head'),
    dict(family='mistral', qkv_bias=True),
  ):
    config = dataclasses.replace(BASE, **change)
    model = transformer.make_language_model(config, params)
    with pytest.raises(ValueError, match='no family of .* has all options'):
      pretrained.save_pretrained(model, tmp_path / 'm')
  assert not list(tmp_path.iterdir())
  table = transformer.make_language_model(None, {})
  with pytest.raises(ValueError, match='NoneType'):
    pretrained.save_pretrained(table, tmp_path / 'm')


SAMPLE = '''def read(self, path):
    """Return the contents of the file as a string."""
    with open(path, encoding="utf-8") as file:
        return file.read()
'''


def test_a_checkpoint_is_read_without_compiling():
  seen = []

  def listener(name, *args, **kwargs):
    seen.append(name)

  jax.clear_caches()  # what was compiled before would not be seen
  jax.monitoring.register_event_duration_secs_listener(listener)
  try:
    model = pretrained.load_pretrained(pretrained.SHIPPED / 'target')
    assert not [name for name in seen if 'compile' in name]
    jax.tree.leaves(model.params)[0].astype('bfloat16')  # the check can fail
    assert [name for name in seen if 'compile' in name]
  finally:
    jax.monitoring.unregister_event_duration_listener(listener)


def test_parameters_are_no_view_of_memory_that_others_may_write():
  leaf = checkpoint_format.parameter_table(BASE)[0]
  ((name, shape),) = leaf.tensors.items()
  memory = np.ones(np.prod(shape) + 64, np.float32)
  first = -memory.ctypes.data % 64 // 4  # JAX would take what lies so as it is
  stored = memory[first : first + np.prod(shape)].reshape(shape)
  source = weight_files.in_memory({name: stored})
  own = weight_files.read_leaf(source, leaf, 'float32')
  stored[...] = 0
  assert (np.asarray(own) == 1).all()


def test_shipped_pair_models_text():
  target, drafter = pretrained.shipped_pair()
  end = target.tokenizer.token_to_id('<|endoftext|>')
  assert target.config.stop_tokens == drafter.config.stop_tokens == (end,)
  size = sum(
    path.stat().st_size
    for path in pathlib.Path(pretrained.SHIPPED).rglob('*')
    if path.is_file()
  )
  assert size < 4e6
  assert target.tokenizer.to_str() == drafter.tokenizer.to_str()
  assert target.tokenizer.token_to_id(text.END_OF_TEXT) is not None
  ids = jnp.asarray([target.tokenizer.encode(SAMPLE).ids])
  losses, laws = [], []
  for model in (target, drafter):
    logits = full_logits(model.config, model.params, ids)
    log_p = jax.nn.log_softmax(logits[0, :-1])
    picked = jnp.take_along_axis(log_p, ids[0, 1:, None], axis=-1)
    losses.append(-float(picked.mean()))
    laws.append(np.exp(log_p))
  # Of the laws without memory the one that knows how often each token comes.
  _, counts = np.unique(ids[0, 1:], return_counts=True)
  assert losses[0] < losses[1] < stats.entropy(counts)
  p, q = laws
  gain = (np.minimum(p, q) - np.minimum(p, np.roll(q, 1, axis=0))).sum(-1)
  # They agree on each place, not on any.
  assert gain.mean() > statistics.SIGMAS * stats.sem(gain)
