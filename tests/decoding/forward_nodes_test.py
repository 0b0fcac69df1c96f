"""`forward_nodes`: logits are the same to the last bit, however drafted.

The target's cache carries the logits of every entry beside keys and values,
so that what each position gave can be read off at the end.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.decoding import language_model, loop
from listcoupling.decoding.generate import generate, prepare
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.tuning import settings
from listcoupling.models import transformer
from listcoupling.models.transformer_config import TransformerConfig
from tests import fakes

VOCAB, ROWS, PROMPT, LENGTH = 61, 5, 20, 130  # past a stride of 128 positions
CONFIG = TransformerConfig(
  vocab_size=VOCAB,
  hidden_size=40,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=12,
  intermediate_size=56,
  windows=(0, 30),
)
KEYS = jax.random.split(jax.random.key(3), ROWS)
PROMPTS = np.random.default_rng(0).integers(0, VOCAB, (ROWS, PROMPT))
LENGTHS = np.array([20, 1, 13, 7, 20])
PLAIN = GenerateOptions(
  method='autoregressive', max_new_tokens=LENGTH, forward_nodes=17
)


def recording(model):
  """The model with the logits of every entry in its cache: [B, C, V]."""

  def wrap(apply):
    def recorded(params, tokens, positions, mask, cache, start):
      logits, inner = apply(params, tokens, positions, mask, cache[0], start)
      put = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=0)
      return logits, (inner, jax.vmap(put)(cache[1], logits, start))

    return recorded

  def init_cache(batch, entries):
    inner = model.init_cache(batch, entries)
    size = model.capacity(inner)
    return inner, jnp.zeros((batch, size, VOCAB), jnp.float32)

  def commit(cache, root, path):
    moved = language_model.move_entries(cache[1], root, path)
    return model.commit(cache[0], root, path), moved

  return model._replace(
    apply=wrap(model.apply),
    ordered=wrap(model.ordered),
    init_cache=init_cache,
    commit=commit,
    capacity=lambda cache: model.capacity(cache[0]),
  )


@functools.cache
def networks(dtype):
  """A target that records, and two drafters at a distance from it."""
  config = dataclasses.replace(CONFIG, dtype=dtype)
  if dtype == 'bfloat16':  # takes long to compile: the layer with a window
    config = dataclasses.replace(config, num_layers=1, windows=(30,))
  shapes = jax.eval_shape(
    functools.partial(transformer.init_params, config=config), KEYS[0]
  )
  rng = np.random.default_rng(1)

  def moved(params, scale):
    return jax.tree.map(
      lambda x: (x + scale * rng.normal(size=x.shape)).astype(np.float32),
      params,
    )

  # The scales of norms lie about 1, all else about 0.
  start = jax.tree.map(lambda x: np.full(x.shape, float(x.ndim == 1)), shapes)
  params = moved(start, 0.3)
  target, *drafters = (
    transformer.make_language_model(config, jax.tree.map(jnp.asarray, each))
    for each in (params, moved(params, 0.03), moved(params, 0.1))
  )
  return recording(target), *drafters


def write(dtype, options, drafters=0, prompts=(PROMPTS, LENGTHS), keys=KEYS):
  """Tokens [B, T], lengths [B], logits [B, T, V] of prompt and text; calls."""
  target, *known = networks(dtype)
  call = prepare(keys, target, known[:drafters], *prompts, options)
  state, info = call.prefill()
  step = call.compiled(loop.run, state, info)
  state, info = step(*call.arguments, state, info)
  calls = np.asarray(info.target_calls)
  return jax.tree.map(
    np.asarray, (state.tokens, state.lengths, state.cache[1], calls)
  )


@functools.cache
def plain(dtype):
  return write(dtype, PLAIN)


def differing(ours, theirs):
  """Positions of rows with other tokens, and with other bits of logits."""
  tokens, logits = 0, 0
  for row, size in enumerate(ours[1][:ROWS]):
    tokens += (ours[0][row, :size] != theirs[0][row, :size]).sum()
    same = ours[2][row, : size - 1] == theirs[2][row, : size - 1]
    logits += (~same.all(-1)).sum()
  return tokens, logits


TREE = dataclasses.replace(
  PLAIN, method='gumbel_tree', num_drafts=2, draft_length=6, num_nodes=16
)
CHAINS = dataclasses.replace(
  PLAIN, method='gumbel_chains', num_drafts=5, draft_length=3
)


@pytest.mark.parametrize(
  'dtype,options,drafters',
  [('float32', TREE, 2), ('float32', CHAINS, 1), ('bfloat16', TREE, 1)],
  ids=['tree', 'chains', 'bfloat16'],
)
def test_no_draft_changes_a_bit(dtype, options, drafters):
  out = write(dtype, options, drafters)
  assert differing(plain(dtype), out) == (0, 0)
  # Accepted drafts moved blocks, so equal logits are no equal blocks.
  assert (out[3] < plain(dtype)[3])[:ROWS].all()


def test_without_it_bits_differ():
  """Negative control: what the forwards of other shapes round."""
  out = write('float32', dataclasses.replace(CHAINS, forward_nodes=None), 1)
  assert differing(plain('float32'), out)[1] > 0


def test_neither_the_order_of_rows_nor_the_end_of_the_prompt_matters():
  tokens, lengths, *_ = ours = plain('float32')
  # The first 80 tokens of each text, in rows the other way round.
  prompts = tokens[:ROWS, :80][::-1], np.full(ROWS, 80)
  rest = dataclasses.replace(PLAIN, max_new_tokens=PROMPT + LENGTH - 80)
  out = write('float32', rest, 0, prompts, KEYS[::-1])
  back = [leaf[:ROWS][::-1] for leaf in out]
  shorter = [ours[0], np.minimum(lengths[:ROWS], back[1]), *ours[2:]]
  assert differing(shorter, back) == (0, 0)


def test_every_forward_has_so_many_nodes():
  """Prompts included, and a prompt shorter than a chunk; on a table model."""
  target, drafters = fakes.random_pair(7, 0.7, 5)
  sizes = []

  def counted(params, tokens, positions, mask, *args):
    if mask.shape[2] != 8:  # a cache of 8 is the check of a model's shapes
      sizes.append(tokens.shape[1])
    return target.apply(params, tokens, positions, mask, *args)

  texts = [
    generate(
      KEYS[0],
      target._replace(apply=counted),
      drafters,
      [[1, 2]],
      [2],
      GenerateOptions(method, 2, 3, 9, forward_nodes=40),
    ).tokens.tolist()
    for method in ('gumbel_tree', 'autoregressive', 'specinfer')
  ]
  assert set(sizes) == {40}
  assert texts[0] == texts[1]


def test_too_few_nodes_are_refused():
  for options in (TREE, dataclasses.replace(CHAINS, num_drafts=6)):
    short = dataclasses.replace(options, forward_nodes=options.tree_nodes())
    least = 1 + short.tree_nodes()
    with pytest.raises(ValueError, match=f'below the {least} nodes'):
      short.check(VOCAB)
  dataclasses.replace(PLAIN, forward_nodes=1).check(VOCAB)
  with pytest.raises(ValueError, match='forward_nodes must be at least 1'):
    dataclasses.replace(PLAIN, forward_nodes=0).check(VOCAB)


def test_trees_that_do_not_fit_are_not_tried():
  tried = settings(dataclasses.replace(PLAIN, forward_nodes=9))
  assert [each.num_nodes for each in tried] == [None, 2, 4, 8, 8]
  for each in tried:
    each.check(VOCAB)
