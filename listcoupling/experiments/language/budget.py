"""Draft trees on pairs of tables at a known distance.

Target logits are 2.5 N(0, 1) for every pair of tokens, those of the drafter
add sigma N(0, 1). Nothing is trained and nothing costs time: tokens per target
call tell how good the tree is.

Legend: V vocabulary.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel
from listcoupling.decoding.generate import generate
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.options import GenerateOptions

SIGMAS = (0.2, 0.5, 1.0, 2.0, 4.0)
_SPREAD = 2.5  # of the target's logits


class TableConfig(NamedTuple):
  """Config of a table."""

  vocab_size: int


def _apply(params, tokens, positions, mask, cache, start):
  del positions, mask, start
  return params[tokens], cache


def table_pair(
  key: jax.Array, sigma: float, *, vocab_size: int = 200
) -> tuple[LanguageModel, LanguageModel]:
  """Target and drafter whose next token depends on the last one alone.

  Args:
    key: typed key.
    sigma: distance of the drafter's logits.
    vocab_size: V.

  Example:
    >>> target, drafter = table_pair(gumbel.seed_key(0), 0.5)
    >>> target.params.shape
    (200, 200)
  """
  key = gumbel.domain_key(key, gumbel.Domain.LAWS)
  own, other = jax.random.normal(key, (2, vocab_size, vocab_size), jnp.float32)
  config = TableConfig(vocab_size)
  target = _SPREAD * own
  return (
    LanguageModel(_apply, target, config),
    LanguageModel(_apply, target + sigma * other, config),
  )


def tokens_per_call(
  key: jax.Array,
  sigma: float,
  options: Sequence[GenerateOptions],
  *,
  num_rows: int = 32,
) -> list[dict]:
  """Block efficiency of several options on one pair, with its error.

  Args:
    key: typed key; of the pair and the texts.
    sigma: see `table_pair`.
    options: one row of the result each.
    num_rows: texts, from random first tokens.

  Returns:
    Per options: sigma, method, num_drafts, draft_length, num_nodes, tokens
    per target call and its standard error over the rows.
  """
  target, drafter = table_pair(key, sigma)
  size = target.config.vocab_size
  prompts = np.arange(num_rows)[:, None] % size
  rows = []
  for each in options:
    drafters = [] if each.method == 'autoregressive' else [drafter]
    out = generate(
      gumbel.domain_key(key, gumbel.Domain.TEXTS),
      target,
      drafters,
      prompts,
      np.ones(num_rows, np.int32),
      each,
    )
    found = out.metrics.block_efficiency
    rows.append(
      dict(
        sigma=sigma,
        method=each.method,
        num_drafts=each.num_drafts,
        draft_length=each.draft_length,
        num_nodes=each.tree_nodes(),
        tokens_per_call=float(found.mean()),
        tokens_per_call_se=float(found.std(ddof=1) / num_rows**0.5),
      )
    )
  return rows


def budget_options(
  num_nodes: int, base: GenerateOptions | None = None
) -> list[GenerateOptions]:
  """The tree of a budget, and SpecInfer at every K and L that fill it.

  Example:
    >>> [o.num_drafts for o in budget_options(4)[1:]]
    [1, 2, 4]
  """
  base = base or GenerateOptions(max_new_tokens=256, pad_token=0)
  tree = dataclasses.replace(
    base,
    method='gumbel_tree',
    num_drafts=min(8, num_nodes),
    draft_length=min(16, num_nodes),
    num_nodes=num_nodes,
  )
  widths = [k for k in range(1, num_nodes + 1) if num_nodes % k == 0]
  return [tree] + [
    dataclasses.replace(
      base,
      method='specinfer',
      num_drafts=width,
      draft_length=num_nodes // width,
      num_nodes=None,
    )
    for width in widths
  ]
