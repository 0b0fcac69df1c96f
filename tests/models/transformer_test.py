"""The transformer against itself: cached, masked, padded and batched forms."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from listcoupling import kernels
from listcoupling.models import attention, transformer
from listcoupling.models.transformer_config import (
  RopeScaling,
  TransformerConfig,
)
from tests.models import limits

TINY = TransformerConfig(
  vocab_size=29,
  hidden_size=16,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  intermediate_size=24,
)
ENTRIES = 16


@functools.lru_cache
def tiny_params():
  """Parameters away from zero, so that every path through the net counts."""
  params = transformer.init_params(jax.random.key(0), TINY)
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: jnp.asarray(x + 0.3 * rng.normal(size=x.shape), x.dtype), params
  )


def random_tokens(seed, batch, length):
  return jax.random.randint(jax.random.key(seed), (batch, length), 0, 29)


_full = jax.jit(transformer.causal_logits, static_argnums=0)
_call = jax.jit(transformer.make_apply(TINY))


def full_logits(tokens):
  """Causal logits; padded to one shape, so that XLA compiles once."""
  batch, length = tokens.shape
  return _full(TINY, tiny_params(), _padded(tokens))[:batch, :length]


@functools.lru_cache
def limit():
  """Most that roundings alone set two forms of the network apart."""
  return limits.apart(TINY, tiny_params(), random_tokens(2, 3, 12))


def _padded(tokens):
  batch, length = tokens.shape
  return jnp.pad(tokens, ((0, 3 - batch), (0, 12 - length)))


def _places(entries):
  return jnp.arange(entries)[None, None]


def prefill(tokens, start, cache=None, entries=ENTRIES):
  """Causal call of S tokens at entries and positions start..start+S-1."""
  batch, length = tokens.shape
  if cache is None:
    cache = transformer.make_init_cache(TINY)(batch, entries)
  positions = start[:, None] + jnp.arange(length)[None]
  mask = _places(entries) <= positions[..., None]
  return _call(tiny_params(), tokens, positions, mask, cache, start)


def test_incremental_equals_full():
  tokens = random_tokens(2, 2, 12)
  full = full_logits(tokens)
  logits, cache = prefill(tokens[:, :5], jnp.zeros(2, jnp.int32))
  parts = [logits]
  for t in range(5, 12):
    start = jnp.full(2, t, jnp.int32)
    logits, cache = prefill(tokens[:, t : t + 1], start, cache)
    parts.append(logits)
  np.testing.assert_allclose(
    jnp.concatenate(parts, axis=1), full, rtol=0, atol=limit()
  )
  assert full.dtype == jnp.float32


@pytest.mark.parametrize('switch', ['ATTENTION', 'SPLASH'])
def test_a_layer_is_traced_for_each_choice_of_kernels(monkeypatch, switch):
  seen, params = [], tiny_params()

  def attend(*args):
    seen.append(getattr(kernels, switch))
    return attention.attend(*args)

  monkeypatch.setattr(transformer, 'attend', attend)
  transformer._layer.clear_cache()
  for choice in (True, False, True):
    monkeypatch.setattr(kernels, switch, choice)
    logits = functools.partial(transformer.causal_logits, TINY)
    jax.eval_shape(logits, params, random_tokens(2, 1, 3))
  assert seen == [True, False]  # once for all layers, and again for another


def test_incremental_needs_the_right_position():
  # Negative control of the test above: a shifted rotary phase is visible.
  tokens = random_tokens(2, 2, 6)
  full = full_logits(tokens)
  _, cache = prefill(tokens[:, :5], jnp.zeros(2, jnp.int32))
  positions = jnp.full((2, 1), 6)
  mask = _places(ENTRIES) <= positions[..., None] - 1
  logits, _ = _call(
    tiny_params(),
    tokens[:, 5:],
    positions,
    mask,
    cache,
    jnp.full(2, 5, jnp.int32),
  )
  assert jnp.abs(logits[:, 0] - full[:, 5]).max() > limit()


def test_tree_equals_its_paths():
  prefix = random_tokens(3, 1, 5)
  _, cache = prefill(prefix, jnp.zeros(1, jnp.int32))
  #        0 root of the block, children 1 2, grandchildren 3 (of 2), 4 (of 1)
  parents = [-1, 0, 0, 2, 1]
  nodes = random_tokens(4, 1, 5)
  depth, seen = [], np.zeros((5, ENTRIES), bool)
  seen[:, :5] = True
  paths = []
  for node, parent in enumerate(parents):
    path = ([] if parent < 0 else paths[parent]) + [node]
    paths.append(path)
    depth.append(5 + len(path) - 1)
    seen[node, 5 + np.asarray(path)] = True
  logits, _ = _call(
    tiny_params(),
    nodes,
    jnp.asarray([depth]),
    jnp.asarray(seen)[None],
    cache,
    jnp.full(1, 5, jnp.int32),
  )
  for node, path in enumerate(paths):
    line = jnp.concatenate([prefix, nodes[:, jnp.asarray(path)]], axis=1)
    alone = full_logits(line)
    np.testing.assert_allclose(
      logits[0, node], alone[0, -1], rtol=0, atol=limit()
    )


def test_padding_and_neighbours_change_nothing():
  tokens = random_tokens(5, 3, 6)
  zeros = jnp.zeros(3, jnp.int32)
  logits, _ = prefill(tokens, zeros)
  # Row 1 is 4 tokens long: what is right of them must not reach them.
  other = tokens.at[1, 4:].set(7).at[0].set(3)
  changed, dirty = prefill(other, zeros)
  np.testing.assert_array_equal(changed[1, :4], logits[1, :4])
  np.testing.assert_array_equal(changed[2], logits[2])
  assert jnp.abs(changed[0] - logits[0]).max() > limit()
  # Rows continue at their own lengths; stale entries are overwritten.
  start = jnp.asarray([6, 4, 6])
  following, _ = prefill(tokens[:, 4:], start, dirty)
  whole = jnp.concatenate([other[1, :4], tokens[1, 4:]])[None]
  alone = full_logits(whole)
  np.testing.assert_allclose(following[1], alone[0, 4:], rtol=0, atol=limit())
  # A longer cache changes nothing either.
  longer, _ = prefill(tokens, zeros, entries=2 * ENTRIES)
  np.testing.assert_allclose(longer, logits, rtol=0, atol=limit())


def test_row_that_sees_nothing_is_finite():
  tokens = random_tokens(6, 2, 3)
  mask = _places(ENTRIES) <= jnp.arange(3)[None, :, None]
  mask = jnp.concatenate([mask, jnp.zeros_like(mask)])
  logits, _ = _call(
    tiny_params(),
    tokens,
    jnp.broadcast_to(jnp.arange(3), (2, 3)),
    mask,
    transformer.make_init_cache(TINY)(2, ENTRIES),
    jnp.zeros(2, jnp.int32),
  )
  chex.assert_tree_all_finite(logits)
  full = full_logits(tokens)
  np.testing.assert_allclose(logits[0], full[0], rtol=0, atol=limit())


def test_apply_is_one_object_per_config():
  twin = dataclasses.replace(TINY)
  assert twin is not TINY
  assert transformer.make_apply(twin) is transformer.make_apply(TINY)
  assert transformer.make_init_cache(twin) is transformer.make_init_cache(TINY)
  other = dataclasses.replace(TINY, rope_theta=5e5)
  assert transformer.make_apply(other) is not transformer.make_apply(TINY)
  traces = []

  @functools.partial(jax.jit, static_argnums=0)
  def call(apply, x):
    traces.append(apply)
    return x

  call(transformer.make_apply(TINY), 1.0)
  call(transformer.make_apply(twin), 2.0)
  assert len(traces) == 1


@pytest.mark.parametrize('unrotated, traced', [((), 1), ((1, 4), 2)])
def test_layers_of_one_shape_are_traced_once(monkeypatch, unrotated, traced):
  calls, heads = [], transformer.Block._heads
  monkeypatch.setattr(
    transformer.Block,
    '_heads',
    lambda *args: calls.append(args) or heads(*args),
  )
  config = dataclasses.replace(TINY, num_layers=5, unrotated=unrotated)
  params = jax.eval_shape(
    lambda key: transformer.init_params(key, config), jax.random.key(0)
  )
  calls.clear()
  tokens = jax.ShapeDtypeStruct((2, 11), jnp.int32)
  jax.eval_shape(
    lambda p, x: transformer.causal_logits(config, p, x), params, tokens
  )
  assert len(calls) == traced


def _effect_of_rounding(tokens, count):
  """Root mean square change of the logits by `count` rounded arrays.

  That by the weights kept in bfloat16, where products and sums are exact;
  squares of independent roundings add up, one for each array.
  """
  rounded = jax.tree.map(
    lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), tiny_params()
  )
  changed = _full(TINY, rounded, _padded(tokens))
  batch, length = tokens.shape
  change = changed[:batch, :length] - full_logits(tokens)
  weights = len(jax.tree.leaves(rounded))
  return np.sqrt(np.mean(change**2) * count / weights)


def _count_bfloat16(jaxpr):
  """Arrays in bfloat16 of a program: what it is given, what it rounds to."""
  inner = core.jaxprs_in_params
  return sum(
    sum(map(_count_bfloat16, inner(eqn.params)))
    + sum(x.aval.dtype == jnp.bfloat16 for x in eqn.outvars)
    for eqn in jaxpr.eqns
  )


def test_bfloat16_keeps_float32_logits():
  config = dataclasses.replace(TINY, dtype='bfloat16')
  cache = transformer.make_init_cache(config)(1, 4)
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny_params())
  tokens = random_tokens(7, 1, 4)
  mask = jnp.tril(jnp.ones((1, 4, 4), bool))
  arguments = (
    params, tokens, jnp.arange(4)[None], mask, cache, jnp.zeros(1, jnp.int32)
  )  # fmt: skip
  traced = jax.jit(transformer.make_apply(config)).trace(*arguments)
  logits, cache = traced.lower().compile()(*arguments)
  assert logits.dtype == jnp.float32
  chex.assert_tree_all_finite(logits)
  assert {leaf.dtype.name for leaf in jax.tree.leaves(cache.layers)} == {
    'bfloat16'
  }
  chex.assert_tree_shape(cache.layers, (1, 2, 4, 8))
  np.testing.assert_array_equal(cache.positions, jnp.arange(4)[None])
  count = len(jax.tree.leaves(params)) + _count_bfloat16(traced.jaxpr.jaxpr)
  exact, limit = full_logits(tokens), _effect_of_rounding(tokens, count)
  assert np.sqrt(np.mean((logits - exact) ** 2)) < limit
  others = full_logits(tokens[:, ::-1])[:, ::-1]  # control: another order
  assert np.sqrt(np.mean((others - exact) ** 2)) > limit


@pytest.mark.parametrize(
  'change, message',
  [
    ({'num_layers': 0}, 'num_layers.*0'),
    ({'num_kv_heads': 3}, 'multiple of num_kv_heads.*4 and 3'),
    ({'head_dim': 7}, 'head_dim.*7'),
    ({'rope_scaling': RopeScaling('ntk', 2.0)}, "'ntk'"),
    ({'activation': 'relu'}, "activation.*'relu'"),
    ({'windows': (4,)}, 'windows must name 2 layers, got 1'),
    ({'rotary_dim': 10}, 'rotary_dim 10'),
  ],
)
def test_bad_sizes_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **change)
