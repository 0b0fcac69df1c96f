"""Exact little language models: a table of laws over the last two tokens.

They go through the cache like a real model: the token before is found among
the visible entries by its position, so a wrong mask, position or commit shows
in the text.
"""

import functools
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import tokenizers

from listcoupling.decoding.language_model import LanguageModel


class TableConfig(NamedTuple):
  vocab_size: int


def _apply(params, tokens, positions, mask, cache, start):
  def write(leaf, new, start):
    return jax.lax.dynamic_update_slice_in_dim(leaf, new, start, axis=0)

  cache = {
    'tokens': jax.vmap(write)(cache['tokens'], tokens, start),
    'positions': jax.vmap(write)(cache['positions'], positions, start),
  }
  before = cache['positions'][:, None, :] == positions[:, :, None] - 1
  before = before & mask
  index = jnp.argmax(before, axis=-1)
  previous = jnp.take_along_axis(cache['tokens'], index, axis=1)
  # Exactly one visible token sits one position back, except at the start.
  count = before.sum(-1)
  table = params[previous, tokens]
  alone = params[tokens, tokens]
  logits = jnp.where((count == 1)[..., None], table, alone)
  logits = jnp.where((count > 1)[..., None], jnp.nan, logits)
  return logits, cache


def _init_cache(batch, entries):
  return {
    'tokens': jnp.zeros((batch, entries), jnp.int32),
    'positions': jnp.full((batch, entries), -5, jnp.int32),
  }


def table_model(logits) -> LanguageModel:
  """The model whose next-token logits are logits[before, last]: [V, V, V]."""
  logits = jnp.asarray(logits, jnp.float32)
  return LanguageModel(
    _apply,
    logits,
    TableConfig(logits.shape[-1]),
    init_cache=_init_cache,
  )


def counting_model(size) -> LanguageModel:
  """After every token comes the next number below `size`, then 0."""
  following = jnp.roll(jnp.eye(size), 1, axis=1)
  return table_model(jnp.broadcast_to(9 * following, (size,) * 3))


def timed(rate):
  """A result of `generate` of which only the tokens per second are read."""
  figures = types.SimpleNamespace(tokens_per_second=rate)
  return types.SimpleNamespace(metrics=figures)


def refusal(function, *args, **kwargs) -> str:
  """The message of the ValueError of a call; empty if it does not refuse."""
  try:
    function(*args, **kwargs)
  except ValueError as error:
    return str(error)
  return ''


def word_tokenizer(words, pattern=None):
  """One token per word; unknown ones are the first, `pattern` cuts text."""
  vocabulary = {word: index for index, word in enumerate(words)}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token=words[0])
  )
  if pattern is not None:
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(
      tokenizers.Regex(pattern), 'isolated'
    )
  return tokenizer


@functools.cache
def random_pair(vocab_size=7, noise=1.0, seed=0, num_drafters=1):
  """A random target and drafters at a distance set by `noise`."""
  keys = jax.random.split(jax.random.key(seed), num_drafters + 1)
  shape = (vocab_size,) * 3
  target = 1.5 * jax.random.normal(keys[0], shape)
  drafters = [
    table_model(target + noise * jax.random.normal(key, shape))
    for key in keys[1:]
  ]
  return table_model(target), drafters
