"""Weights of few bits: near the float ones, small in memory, good drafters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import listcoupling as lc
from listcoupling.models import pretrained, quantised, transformer
from tests import floats, statistics


@functools.lru_cache
def shipped(bits):
  target, _ = pretrained.shipped_pair()
  return target if bits == 32 else quantised.quantised_drafter(target, bits)


def read_back(small):
  """Kernel [I, ...] or table [V, D] of few bits, with numpy alone."""
  values, scales = np.asarray(small.values), np.asarray(small.scales)
  if values.dtype == np.uint8:
    values = np.concatenate([values & 15, values >> 4]).astype(int)
    values = np.where(values > 7, values - 16, values)
    assert np.abs(values).max() <= 7
  # A table has a scale per row, a kernel one per output.
  is_table = values.shape[0] == scales.size
  return np.float64(values) * (scales[:, None] if is_table else scales)


def written_out(x, values, scales):
  return jnp.tensordot(x, values * scales[None], 1)


def errors(model, small):
  """Tree of the model: what its copy of few bits is off by, 0 where exact."""
  return jax.tree.map(
    lambda small, leaf: (
      read_back(small) - np.asarray(leaf, np.float32)
      if isinstance(small, quantised.Quantised)
      else np.zeros(leaf.shape, np.float32)
    ),
    small.params,
    model.params,
    is_leaf=lambda leaf: isinstance(leaf, quantised.Quantised),
  )


_full = jax.jit(transformer.causal_logits, static_argnums=0)


def laws_of(config, params, tokens):
  """[B, S, V] after each of the tokens."""
  return np.asarray(jax.nn.softmax(_full(config, params, tokens)))


@pytest.mark.parametrize('bits', [8, 4])
@pytest.mark.parametrize('shape', [(128, 5), (64, 2, 3, 4)])
def test_product_is_that_of_the_nearest_kernel(bits, shape):
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=shape).astype(np.float32)
  kernel[:, 1] = 0  # outputs of nothing
  small = quantised.quantise(jnp.asarray(kernel), bits)
  whole = read_back(small)
  largest = np.abs(kernel).max(axis=0)
  if bits == 8:
    # The quotient that is rounded, of up to 127, and the scale round as well.
    slack = statistics.rounding(127 + 1)
    assert (np.abs(whole - kernel) <= largest / 254 * (1 + slack)).all()
  else:  # a cut scale may move the largest more, but not in the mean
    plain = np.where(largest > 0, largest, 1) / 7
    error = np.round(kernel / plain) * plain - kernel
    ours, most = ((whole - kernel) ** 2).sum(0), (error**2).sum(0)
    slack = most * statistics.rounding(len(kernel))  # terms of the sum
    assert (ours <= most + slack).all()
    assert ours.sum() < (most - slack).sum()
  x = rng.normal(size=(2, 3, shape[0])).astype(np.float32)
  out = quantised.product(jnp.asarray(x), small)
  scales = np.asarray(small.scales)
  limit = floats.apart(written_out, x, np.float32(whole / scales), scales)
  expected = np.tensordot(x, whole, 1)
  np.testing.assert_allclose(out, expected, rtol=0, atol=limit)
  assert out.dtype == jnp.float32


def _num_bytes(params):
  return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def test_bytes_are_those_of_the_bits():
  sizes = {bits: _num_bytes(shipped(bits).params) for bits in (32, 8, 4)}
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


@pytest.mark.parametrize('bits', [8, 4])
def test_laws_are_as_close_as_rounding_leaves_them(bits):
  """As if the errors of rounding had random signs."""
  target, small = shipped(32), shipped(bits)
  text = 'def read(self, path):\n  """Return the contents of a file."""\n'
  ids = jnp.asarray([target.tokenizer.encode(text).ids])
  exact = laws_of(target.config, target.params, ids)

  def compare(params):
    laws = laws_of(target.config, params, ids)
    distance = 0.5 * np.abs(laws - exact).sum(-1).mean()
    return distance, (laws.argmax(-1) != exact.argmax(-1)).sum()

  rng, wrong = np.random.default_rng(0), errors(target, small)
  count, found = 8, []
  for _ in range(count):
    shaken = jax.tree.map(
      lambda leaf, error: leaf + error * rng.choice([-1, 1], leaf.shape),
      target.params,
      wrong,
    )
    found.append(compare(jax.tree.map(jnp.float32, shaken)))
  distances, misses = np.array(found).T
  distance, missed = compare(small.params)
  spread = distances.std(ddof=1) * (1 + 1 / count) ** 0.5
  assert abs(distance - distances.mean()) < statistics.SIGMAS * spread
  assert distances.mean() > statistics.SIGMAS * spread  # 0 would be seen
  # Tokens that are no longer the likeliest: counts of a mean that is known
  # from `count` times as many.
  mean = (misses.sum() + 1) / count
  assert missed < mean + statistics.SIGMAS * (mean * (1 + 1 / count)) ** 0.5


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
  ours, exact = (_full(config, m.params, tokens) for m in (small, model))
  assert ours.dtype == jnp.float32
  # Each product is off by the error of its kernel, and by its own rounding.
  limit = sum(
    np.linalg.norm(error) / np.linalg.norm(np.asarray(leaf, np.float32)) + 2**-8
    for error, leaf in zip(
      jax.tree.leaves(errors(model, small)), jax.tree.leaves(params)
    )
    if error.any()
  )
  off = np.linalg.norm(ours - exact) / np.linalg.norm(exact)
  assert 0 < off < limit
  assert small.params['layer_0']['qkv_bias'] is params['layer_0']['qkv_bias']


def test_kernels_stay_small_in_a_loop():
  size, num_kernels = 256, 6
  rng = np.random.default_rng(0)
  kernels = [
    # Of a gain that lets roundings die out, where larger ones are chaos.
    quantised.quantise(
      jnp.float32(rng.normal(size=(size, size)) / size**0.5), 8
    )
    for _ in range(num_kernels)
  ]

  def loop(multiply, x, kernels):
    def body(_, x):
      for kernel in kernels:
        x = jnp.tanh(multiply(x, kernel))
      return x

    return jax.lax.fori_loop(0, 5, body, x)

  def naive(x, kernel):
    return x @ kernel.values.astype(x.dtype) * kernel.scales[None]

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

  def unrolled(x, kernels):
    for values, scales in kernels * 5:
      x = jnp.tanh(written_out(x, values, scales))
    return x

  arrays = [(jnp.float32(k.values), k.scales) for k in kernels]
  limit = floats.apart(unrolled, x, arrays)
  ours = run(quantised.product, x, kernels)
  np.testing.assert_allclose(ours, run(naive, x, kernels), rtol=0, atol=limit)
  # Negative control: one kernel for another.
  other = run(quantised.product, x, [kernels[1], *kernels[1:]])
  assert np.abs(ours - other).max() > limit


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
  np.testing.assert_array_equal(out.tokens, other.tokens)
  # A race is lost with probability 2 d / (1 + d) at most, d apart; a block
  # ends with a lost race, with its fifth token, or with the text.
  texts = jnp.concatenate([prompts, out.tokens], axis=1)
  laws = [laws_of(m.config, m.params, texts) for m in (target, small)]
  apart = 0.5 * np.abs(laws[0] - laws[1]).sum(-1)[:, len(ids) - 1 : -1]
  lost = (2 * apart / (1 + apart)).sum()
  lost += statistics.SIGMAS * lost**0.5
  most = out.tokens.size / 5 + lost + len(prompts)
  assert out.metrics.target_calls.sum() < most
  assert other.metrics.target_calls.sum() > most  # negative control


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
