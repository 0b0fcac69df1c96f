"""Same seed, same text: methods against changes of everything but the target.

The reference of every row is one setting (K = 4, L = 4, the first drafter);
each change is generated anew and compared token for token. For the canonical
methods the reference is plain sampling. Networks run forwards of different
shape, whose logits may differ in the last bits: at a divergence the margin of
the canonical race tells whether rounding can explain it.
"""

import dataclasses

import jax
import numpy as np
import tqdm

from listcoupling.decoding import analysis
from listcoupling.decoding.drafters import NGramDrafter
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions

CANONICAL = ('autoregressive', 'gumbel_tree', 'gumbel_chains')
# Perturbed logits closer than this may change places by rounding in float32.
EPSILON = 1e-3


def changes(target, drafter, options: GenerateOptions) -> dict[str, tuple]:
  """Name of a change: (drafters, options)."""
  ngram = NGramDrafter(vocab_size=target.config.vocab_size)
  edit = dataclasses.replace
  return {
    'as it was': ([drafter], options),
    'n-gram drafter': ([ngram], options),
    'drafter = target': ([target], options),
    'two drafters': ([drafter, ngram], options),
    'draft temperature 2': (
      [drafter],
      edit(options, draft_temperatures=(2.0,)),
    ),
    'K = 2': ([drafter], edit(options, num_drafts=2)),
    'L = 3': ([drafter], edit(options, draft_length=3)),
    'longer cache': (
      [drafter],
      edit(options, cache_length=2 * options.max_new_tokens + 256),
    ),
  }


def table(
  key: jax.Array,
  target,
  drafter,
  prompts: np.ndarray,
  lengths: np.ndarray,
  options: GenerateOptions,
  *,
  methods=('gumbel_tree', 'gumbel_chains', 'gls_strong', 'gls', 'specinfer'),
) -> list[dict]:
  """Identical tokens of every method under every change.

  Args:
    key: typed key.
    target: the target model.
    drafter: its drafter.
    prompts: [B, P].
    lengths: [B].
    options: the setting that is changed.
    methods: compared methods.

  Returns:
    One row per method and change: tokens compared, identical tokens, rows
    that diverge, and for canonical methods the largest margin of the
    reference at a row's first divergence (NaN without one).
  """
  plain = dataclasses.replace(options, method='autoregressive')
  reference = generate(key, target, [], prompts, lengths, plain)
  margins = analysis.canonical_margins(
    key, target, prompts, lengths, reference, plain
  )
  rows = []
  for method in tqdm.tqdm(methods, desc='methods'):
    base = dataclasses.replace(options, method=method)
    runs = {
      name: generate(key, target, drafters, prompts, lengths, changed).tokens
      for name, (drafters, changed) in changes(target, drafter, base).items()
    }
    runs |= _other_batches(key, target, drafter, prompts, lengths, base)
    canonical = method in CANONICAL
    expected = reference.tokens if canonical else runs['as it was']
    for name, tokens in runs.items():
      same = tokens == expected
      rows.append(
        dict(
          method=method,
          change=name,
          tokens=same.size,
          identical=int(same.sum()),
          diverging_rows=int((~same).any(axis=1).sum()),
          largest_margin=_margin(same, margins) if canonical else np.nan,
        )
      )
  return rows


def _other_batches(key, target, drafter, prompts, lengths, options):
  """The same rows among other neighbours, one key per row."""
  batch = len(prompts)
  keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(np.arange(batch))

  def tokens(rows):
    run = generate(
      keys[rows], target, [drafter], prompts[rows], lengths[rows], options
    )
    return run.tokens

  half = batch // 2
  parts = [tokens(slice(None, half)), tokens(slice(half, None))]
  return {
    'rows reversed': tokens(slice(None, None, -1))[::-1],
    'two half batches': np.concatenate(parts),
  }


def _margin(same, margins):
  """Largest |margin| where a row first differs; NaN where none does."""
  found = [
    abs(margins[row, np.argmin(agree)])
    for row, agree in enumerate(same)
    if not agree.all()
  ]
  return max(found, default=np.nan)
