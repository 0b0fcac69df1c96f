"""The transformer against what the transformers library computed.

The checkpoints and figures in `fixtures` were written by `make_fixtures`;
neither torch nor transformers is needed here.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import listcoupling as lc
from listcoupling.decoding import drafters
from listcoupling.models import pretrained, transformer
from tests.models import limits

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'
NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())

full_logits = jax.jit(transformer.causal_logits, static_argnums=0)


@functools.lru_cache
def fixture(name):
  """(model, expected figures) of one folder."""
  with np.load(FIXTURES / name / 'expected.npz') as file:
    expected = dict(file)
  return pretrained.load_pretrained(FIXTURES / name), expected


@functools.lru_cache
def limit(name):
  """Most that roundings alone set two ways to compute the logits apart."""
  model, expected = fixture(name)
  return limits.apart(model.config, model.params, expected['prompts'])


@functools.lru_cache
def worst_in_bfloat16(name):
  _, expected = fixture(name)
  half = pretrained.load_pretrained(FIXTURES / name, dtype=jnp.bfloat16)
  logits = full_logits(half.config, half.params, expected['prompts'])
  return worst(logits, expected)


def worst(logits, expected):
  """Largest difference over the tokens that are not padding."""
  size = expected['prompts'].shape[1]
  valid = np.arange(size) < expected['lengths'][:, None]
  return np.abs(logits - expected['logits'])[valid].max()


def test_fixtures_are_there_and_small():
  assert len(NAMES) == 9
  files = [path for path in FIXTURES.rglob('*') if path.is_file()]
  assert sum(path.stat().st_size for path in files) < 700_000
  assert len(list((FIXTURES / 'llama_sharded').glob('*.safetensors'))) == 2


@pytest.mark.parametrize('name', NAMES)
def test_logits(name):
  model, expected = fixture(name)
  logits = full_logits(model.config, model.params, expected['prompts'])
  assert worst(logits, expected) < limit(name)
  most = limits.worst_in_bfloat16(
    model.config, model.params, expected['prompts']
  )
  assert limit(name) < worst_in_bfloat16(name) < most
  assert worst(0 * logits, expected) > most  # control: zeros are seen


# What tells the families apart, left out: the figures must notice.
CONTROLS = [
  ('llama_sharded', {'rope_scaling': None}),
  ('llama_sharded', {'rope_theta': 10000.0}),
  ('qwen2_bfloat16', {'qkv_bias': False}),
  ('qwen3', {'qk_norm': ''}),
  ('qwen3', {'rms_eps': 1e-2}),
  ('mistral_window', {'windows': ()}),
  ('mistral_window', {'windows': (7, 7)}),
  ('qwen2_window_yarn', {'windows': (5, 5)}),
  ('qwen2_window_yarn', {'rope_scaling': None}),
  ('phi3_longrope', {'rope_scaling': None}),
  ('smollm3', {'unrotated': ()}),
  ('smollm3', {'activation': 'silu'}),
  ('smollm3', {'out_bias': False}),
  ('smollm3', {'perceptron_bias': False}),
  ('olmo2', {'qk_norm': ''}),
  ('olmo2', {'post_norm': False}),
]


@pytest.mark.parametrize('name, change', CONTROLS)
def test_a_missing_part_is_seen(name, change):
  model, expected = fixture(name)
  config = dataclasses.replace(model.config, **change)
  assert config != model.config
  logits = full_logits(config, model.params, expected['prompts'])
  # By more than what bfloat16 costs, which is more than the limit.
  assert worst(logits, expected) > worst_in_bfloat16(name)


@pytest.mark.parametrize(
  'name, limit, hard',
  [
    ('llama_sharded', 128, ''),
    ('mistral_dynamic', 128, 'dynamic'),
    ('qwen2_window_yarn', 128, ''),
    ('phi3_longrope', 96, 'longrope'),
  ],
)
def test_limits_are_read(name, limit, hard):
  config = fixture(name)[0].config
  assert config.max_positions == limit
  assert bool(config.hard_limit) == bool(hard) and hard in config.hard_limit


def test_a_hard_limit_cannot_be_insisted_away():
  model, expected = fixture('phi3_longrope')
  prompts = expected['prompts'], expected['lengths']
  options = lc.GenerateOptions(
    method='autoregressive', max_new_tokens=96, allow_long=True
  )
  with pytest.raises(ValueError, match='96 positions.*longrope rotary'):
    lc.generate(jax.random.key(0), model, [], *prompts, options)


def tree_call(prompts, lengths, root):
  """Every row's last tokens as a tree, the true path among wrong nodes.

  Node 2 i is the token at `root + i` of a row, node 2 i + 1 a wrong token
  beside it; each true node sees the prefix and the true nodes before it.
  """
  size = prompts.shape[1] - root
  nodes = np.zeros((len(prompts), 2 * size), np.int32)
  nodes[:, ::2] = prompts[:, root:]
  nodes[:, 1::2] = (prompts[:, root:] + 7) % 89
  depth = np.arange(2 * size) // 2
  true = np.arange(2 * size) % 2 == 0
  seen = (true & (depth < depth[:, None])) | np.eye(2 * size, dtype=bool)
  entries = prompts.shape[1] + size
  mask = np.zeros((2 * size, entries), bool)
  mask[:, :root] = True
  mask[:, root:] = seen
  batch = len(prompts)
  positions = np.broadcast_to(root + depth, nodes.shape)
  mask = np.broadcast_to(mask, (batch, *mask.shape))
  return nodes, positions, mask, np.full(batch, root, np.int32)


@pytest.mark.parametrize('name', NAMES)
def test_cache_and_tree_mask(name):
  model, expected = fixture(name)
  prompts, lengths = expected['prompts'], expected['lengths']
  root = 4  # every row is longer
  nodes, positions, mask, start = tree_call(prompts, lengths, root)
  apply = jax.jit(model.apply)
  cache = model.init_cache(len(prompts), mask.shape[2])
  head = np.broadcast_to(np.arange(root), (len(prompts), root))
  causal = np.arange(mask.shape[2]) <= head[..., None]
  first, cache = apply(
    model.params, prompts[:, :root], head, causal, cache, 0 * start
  )
  second, _ = apply(model.params, nodes, positions, mask, cache, start)
  logits = np.concatenate([first, second[:, ::2]], axis=1)
  assert worst(logits, expected) < limit(name)
  # A node that sees its wrong sibling is another text.
  mask = mask.copy()
  mask[:, 2, root + 1] = True
  second, _ = apply(model.params, nodes, positions, mask, cache, start)
  logits = np.concatenate([first, second[:, ::2]], axis=1)
  assert worst(logits, expected) > limit(name)


def continued(name, method, drafts, stop_tokens=()):
  """Greedy continuation of a fixture's prompts."""
  model, expected = fixture(name)
  options = lc.GenerateOptions(
    method=method,
    num_drafts=2,
    draft_length=3,
    temperature=0.0,
    max_new_tokens=expected['greedy'].shape[1],
    stop_tokens=stop_tokens,
  )
  prompts = expected['prompts'], expected['lengths']
  return lc.generate(jax.random.key(0), model, drafts, *prompts, options)


@pytest.mark.parametrize('name', ['llama_sharded', 'qwen3'])
def test_greedy_text(name):
  _, expected = fixture(name)
  assert expected['greedy'].shape[1] >= 48
  out = continued(name, 'autoregressive', [])
  np.testing.assert_array_equal(out.tokens, expected['greedy'])


# One program each; the two left out add nothing to what the others compute.
@pytest.mark.parametrize(
  'name', sorted(set(NAMES) - {'mistral_dynamic', 'qwen3'})
)
def test_greedy_text_with_drafts(name):
  model, expected = fixture(name)
  # Look-up compiles fastest; one model drafts for itself, too.
  drafts = [drafters.NGramDrafter(vocab_size=89)]
  if name == 'llama_sharded':
    drafts = [*drafts, model]
  out = continued(name, 'gumbel_tree', drafts)
  np.testing.assert_array_equal(out.tokens, expected['greedy'])
  least = 1.3 if name == 'llama_sharded' else 1.05  # drafts were accepted
  assert out.metrics.block_efficiency.max() > least


def test_greedy_text_stops_where_the_checkpoint_says():
  name = 'qwen2_bfloat16'
  model, expected = fixture(name)
  assert set(model.config.stop_tokens) == set(expected['stop_tokens'])
  out = continued(name, 'autoregressive', [], model.config.stop_tokens)
  np.testing.assert_array_equal(out.lengths, expected['stopped_lengths'])
  assert out.lengths.min() < expected['greedy'].shape[1]
  for row, length, greedy in zip(out.tokens, out.lengths, expected['greedy']):
    np.testing.assert_array_equal(row[:length], greedy[:length])


@pytest.mark.parametrize('name', NAMES)
def test_saved_again_is_the_same_model(name, tmp_path):
  model, expected = fixture(name)
  pretrained.save_pretrained(model, tmp_path / 'm')
  again = pretrained.load_pretrained(tmp_path / 'm')
  assert again.config == model.config
  assert jax.tree.all(
    jax.tree.map(lambda a, b: (a == b).all(), again.params, model.params)
  )
