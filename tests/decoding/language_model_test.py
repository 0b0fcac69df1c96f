"""The cache rule: what `commit` and `capacity` promise."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.decoding import generate, language_model, options
from listcoupling.models import transformer
from tests.models.transformer_test import TINY


def random_cache(rng, entries):
  """A [B, C, ...] cache of three rows."""
  return {
    'keys': rng.normal(size=(3, entries, 2, 4)),
    'ids': rng.integers(0, 99, (3, entries)),
  }


@pytest.mark.parametrize('length,width', [(1, 1), (3, 2), (4, 3)])
def test_move_entries_of_an_accepted_path(length, width):
  """Up to the very end of the cache, and nothing before the root."""
  rng = np.random.default_rng(5)
  size = 1 + length * width
  entries = 6 + size
  root = np.array([0, 2, 6])  # the last tree ends with the cache
  cache = random_cache(rng, entries)
  slots = rng.integers(0, width, (3, length))
  path = 1 + np.arange(length) * width + slots
  moved = language_model.move_entries(
    jax.tree.map(jnp.asarray, cache), jnp.asarray(root), jnp.asarray(path)
  )
  assert language_model.num_entries(moved) == entries
  for name, leaf in cache.items():
    leaf = leaf.astype(np.asarray(moved[name]).dtype)
    for row in range(3):
      wanted = leaf[row].copy()
      first = root[row] + 1
      wanted[first : first + length] = leaf[row][root[row] + path[row]]
      np.testing.assert_array_equal(moved[name][row], wanted)


def test_transformer_moves_every_layer_and_the_positions():
  rng = np.random.default_rng(6)
  empty = transformer.make_init_cache(TINY)(3, 9)
  assert transformer.num_entries(empty) == 9
  cache = jax.tree.map(
    lambda leaf: jnp.asarray(100 * rng.normal(size=leaf.shape), leaf.dtype),
    empty,
  )
  root, path = jnp.array([0, 2, 4]), jnp.array([[2, 3], [1, 4], [2, 4]])
  moved = transformer.commit(cache, root, path)
  for row in range(3):
    source = np.arange(9)
    first = root[row] + 1
    source[first : first + 2] = root[row] + path[row]
    for new, old in zip(
      jax.tree.leaves(moved.layers), jax.tree.leaves(cache.layers)
    ):
      np.testing.assert_array_equal(new[row], old[row][:, source])
    np.testing.assert_array_equal(
      moved.positions[row], cache.positions[row][source]
    )


@dataclasses.dataclass(frozen=True)
class _Config:
  vocab_size: int = 7
  other: Any = None


def _model(**changes):
  def apply(params, tokens, positions, mask, cache, start):
    return params[tokens], cache

  table = jnp.zeros((7, 7), jnp.float32)
  model = language_model.LanguageModel(apply, table, _Config())
  return model._replace(**changes)


def _returns(function):
  """A model whose forward pass returns this of (params, tokens, cache)."""
  return _model(apply=lambda p, t, at, mask, c, start: function(p, t, c))


@pytest.mark.parametrize(
  ('model', 'words'),
  [
    (_model(config=None), ['config.vocab_size', 'None']),
    (_model(config={'vocab_size': 7}), ['must be an attribute', 'a dict']),
    (_model(init_cache=lambda b, c: ()), ['no arrays', 'leave init_cache out']),
    (_model(config=_Config('7')), ['config.vocab_size', "'7'"]),
    (_model(config=_Config(0)), ['config.vocab_size', 'got 0']),
    (_model(config=_Config(7, [])), ['target.config', 'hashable', 'list']),
    (_model(params='abc'), ['target.params', "'abc'"]),
    (_model(params=[1.0]), ['target.params', '1.0']),
    (_model(apply=None), ['target.apply', 'NoneType']),
    (_model(apply=lambda params, tokens: tokens), ['target.apply', 'takes 2']),
    (_model(commit=None), ['target.apply', 'commit']),
    (_model(init_cache=lambda b, c: jnp.zeros((b, 2))), ['has 2 entries']),
    (_returns(lambda p, t, c: p[t]), ['target.apply', 'unpack']),
    (_returns(lambda p, t, c: (p[t][:, 0], c)), ['(1, 2, 7)', '(1, 7)']),
    (_returns(lambda p, t, c: (p[t][..., 1:], c)), ['(1, 2, 7)', '(1, 2, 6)']),
    (_returns(lambda p, t, c: (t, c)), ['float', 'int32']),
    (_returns(lambda p, t, c: (p[t], c[:, 1:])), ['init_cache', '(1, 7)']),
  ],
)
def test_a_model_that_breaks_the_protocol_is_refused_by_name(model, words):
  with pytest.raises(ValueError) as refused:
    language_model.check_model(model, 'target')
  message = str(refused.value)
  assert all(word in message for word in words), message
  assert '\n' not in message


def test_the_ordered_form_is_checked_where_it_is_used():
  model = _model(ordered=lambda params: params)
  language_model.check_model(model, 'target')
  with pytest.raises(ValueError, match='target.ordered.*takes 1'):
    language_model.check_model(model, 'target', 'ordered')
  call = [[1]], [1], options.GenerateOptions(max_new_tokens=2, forward_nodes=17)
  with pytest.raises(ValueError, match='target.ordered.*takes 1'):
    generate.generate(jax.random.key(0), model, _model(), *call)


def test_generate_checks_its_models():
  call = [[1]], [1], options.GenerateOptions()
  broken = _model(config=_Config(7, {}))
  for target, drafter in ((broken, _model()), (_model(), broken)):
    role = 'drafter' if target is not broken else 'target'
    with pytest.raises(ValueError, match=f'{role}.config.*hashable'):
      generate.generate(jax.random.key(0), target, drafter, *call)
  language_model.check_model(_model(params=np.zeros((7, 7))), 'target')
