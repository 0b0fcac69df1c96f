"""The prefix is stored once: drafts share it and own a scratch block each."""

import jax
import numpy as np

from listcoupling import gumbel
from listcoupling.decoding import generate, loop
from listcoupling.decoding.options import GenerateOptions
from listcoupling.models import attention
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig

_CAPACITY, _LENGTH = 2048, 4


def test_eight_drafts_take_no_prefix_of_their_own():
  key, size = gumbel.seed_key(0), _CAPACITY - 64
  config = TransformerConfig(64, 128, 2, 4, 4, 32, 128)
  target, drafter = random_pair(key, config, draft_layers=1, gain=0.1)
  options = GenerateOptions(
    num_drafts=8,
    draft_length=_LENGTH,
    max_new_tokens=64,
    cache_length=_CAPACITY,
  )
  prompts = np.ones((1, size), np.int32), [size]
  call = generate.prepare(key, target, [drafter], *prompts, options)
  state, info = jax.eval_shape(call.prefill)
  entries = target.capacity(state.cache)
  assert 0 < entries - _CAPACITY <= 1 + 8 * _LENGTH + attention.BLOCK
  leaves = jax.tree.leaves(state.cache)
  cache = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  analysis = call.compiled(loop.run, state, info).memory_analysis()
  # Seven more prefixes would take seven caches.
  assert 0 < analysis.temp_size_in_bytes < cache
