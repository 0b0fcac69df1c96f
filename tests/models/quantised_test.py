"""Weights of few bits: near the float ones, small in memory, good drafters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import listcoupling as lc
from listcoupling.models import pretrained, quantised, transformer


@functools.lru_cache
def shipped(bits):
  target, _ = pretrained.shipped_pair()
  return target if bits == 32 else quantised.quantised_drafter(target, bits)


@pytest.mark.parametrize('bits', [8, 4])
@pytest.mark.parametrize('shape', [(128, 5), (64, 2, 3, 4)])
def test_product_is_that_of_the_nearest_kernel(bits, shape):
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=shape).astype(np.float32)
  kernel[:, 1] = 0  # outputs of nothing
  small = quantised.quantise(jnp.asarray(kernel), bits)
  # Read back with numpy alone.
  values = np.asarray(small.values)
  if bits == 4:
    signed = lambda x: np.where(x > 7, x.astype(int) - 16, x)  # noqa: E731
    values = np.concatenate([signed(values & 15), signed(values >> 4)])
    assert np.abs(values).max() <= 7
  whole = values * np.asarray(small.scales)
  largest = np.abs(kernel).max(axis=0)
  if bits == 8:
    assert (np.abs(whole - kernel) <= largest / 254 * (1 + 1e-5)).all()
  else:  # a cut scale may move the largest more, but not in the mean
    plain = np.where(largest > 0, largest, 1) / 7
    error = np.round(kernel / plain) * plain - kernel
    ours = ((whole - kernel) ** 2).sum(0)
    assert (ours <= (error**2).sum(0) * (1 + 1e-5)).all()
    assert ours.sum() < 0.97 * (error**2).sum()
  x = rng.normal(size=(2, 3, shape[0])).astype(np.float32)
  out = quantised.product(jnp.asarray(x), small)
  np.testing.assert_allclose(out, np.tensordot(x, whole, 1), atol=1e-5)
  assert out.dtype == jnp.float32


def test_bytes_are_those_of_the_bits():
  sizes = {
    bits: quantised.num_bytes(shipped(bits).params) for bits in (32, 8, 4)
  }
  params = shipped(32).params
  kernels = sum(
    leaf.size
    for name, layer in params.items()
    if isinstance(layer, dict)
    for leaf in layer.values()
    if leaf.ndim > 1
  )
  table, total = (
    params['embed'].size,
    sum(leaf.size for leaf in jax.tree.leaves(params)),
  )
  floats = 4 * (total - kernels - table)  # norms
  assert sizes[32] == 4 * total
  outputs = table // params['embed'].shape[1] + sum(
    leaf.size // leaf.shape[0]
    for layer in params.values()
    if isinstance(layer, dict)
    for leaf in layer.values()
    if leaf.ndim > 1
  )
  assert sizes[8] == kernels + table + 4 * outputs + floats  # with scales
  assert sizes[4] == sizes[8] - kernels // 2


@pytest.mark.parametrize('bits, error, agree', [(8, 0.02, 0.97), (4, 0.4, 0.7)])
def test_laws_are_close(bits, error, agree):
  target, small = shipped(32), shipped(bits)
  text = 'def read(self, path):\n  """Return the contents of a file."""\n'
  ids = jnp.asarray([target.tokenizer.encode(text).ids])
  full = jax.jit(transformer.causal_logits, static_argnums=0)
  laws = [
    jax.nn.softmax(full(m.config, m.params, ids)) for m in (target, small)
  ]
  distance = 0.5 * np.abs(laws[0] - laws[1]).sum(-1).mean()
  # Few bits are seen, and not too much of them.
  assert 1e-4 < distance < error
  same = (laws[0].argmax(-1) == laws[1].argmax(-1)).mean()
  assert same >= agree


@pytest.mark.parametrize('bits', [8, 4])
def test_bfloat16_and_a_head_of_its_own(bits):
  config = dataclasses.replace(
    shipped(32).config,
    num_layers=1,
    vocab_size=33,
    tie_embeddings=False,
    qkv_bias=True,
    dtype='bfloat16',
  )
  params = transformer.init_params(jax.random.key(0), config)
  model = transformer.make_language_model(config, params)
  small = quantised.quantised_drafter(model, bits)
  tokens = jnp.arange(12).reshape(2, 6)
  full = jax.jit(transformer.causal_logits, static_argnums=0)
  ours, exact = (full(config, m.params, tokens) for m in (small, model))
  assert ours.dtype == jnp.float32
  spread = float(jnp.std(exact))
  assert 0 < float(jnp.abs(ours - exact).mean()) < 0.2 * spread
  assert small.params['layer_0']['qkv_bias'] is params['layer_0']['qkv_bias']


def test_kernels_stay_small_in_a_loop():
  size, num_kernels = 256, 6
  rng = np.random.default_rng(0)
  kernels = [
    quantised.quantise(jnp.asarray(rng.normal(size=(size, size)), 'float32'), 8)
    for _ in range(num_kernels)
  ]

  def loop(multiply, x, kernels):
    def body(_, x):
      for kernel in kernels:
        x = jnp.tanh(multiply(x, kernel))
      return x

    return jax.lax.fori_loop(0, 5, body, x)

  def naive(x, kernel):
    return x @ kernel.values.astype(x.dtype) * kernel.scales

  x = jnp.asarray(rng.normal(size=(3, size)), 'float32')
  run = jax.jit(loop, static_argnums=0)
  temporary = {}
  for multiply in (quantised.product, naive):
    compiled = run.lower(multiply, x, kernels).compile()
    temporary[multiply] = compiled.memory_analysis().temp_size_in_bytes
  one = 4 * size * size
  assert temporary[quantised.product] < 1.5 * one
  # Negative control: taken out of the loop, all of them are floats at once.
  if jax.default_backend() == 'cpu':
    assert temporary[naive] > (num_kernels - 1) * one
  np.testing.assert_allclose(
    run(quantised.product, x, kernels), run(naive, x, kernels), atol=1e-5
  )


def test_an_int8_copy_drafts_well():
  target, small = shipped(32), shipped(8)
  options = lc.GenerateOptions(
    method='gumbel_tree', num_drafts=1, draft_length=4, max_new_tokens=64
  )
  ids = target.tokenizer.encode('def main(argv):\n').ids
  prompts, lengths = jnp.asarray([ids] * 4), jnp.full(4, len(ids))
  key = jax.random.key(0)
  out = lc.generate(key, target, [small], prompts, lengths, options)
  _, trained = pretrained.shipped_pair()
  other = lc.generate(key, target, [trained], prompts, lengths, options)
  # Of 5 tokens a block can have.
  assert out.metrics.block_efficiency.mean() > 4.5
  assert other.metrics.block_efficiency.mean() < 4  # negative control
  np.testing.assert_array_equal(out.tokens, other.tokens)


def test_what_cannot_be_quantised_is_refused(tmp_path):
  target, small = shipped(32), shipped(8)
  for bits in (2, 16, '8', None, 8.0, True, [8]):
    with pytest.raises(ValueError, match='bits must be 8 or 4, got'):
      quantised.quantised_drafter(target, bits)
  with pytest.raises(ValueError, match='quantised already'):
    quantised.quantised_drafter(small, 4)
  with pytest.raises(ValueError, match='config of type NoneType'):
    quantised.quantised_drafter(target._replace(config=None), 8)
  with pytest.raises(ValueError, match='got tuple with a config of type None'):
    quantised.quantised_drafter((target, small), 8)
  with pytest.raises(ValueError, match='a quantised model is not saved'):
    pretrained.save_pretrained(small, tmp_path / 'm')
  assert not list(tmp_path.iterdir())
