"""Is the text the same when everything but the target changes?

A batch of texts is written again with other drafters, shapes, caches or
neighbours, or on other devices, and compared token for token. For canonical
methods the reference is plain sampling. Networks run forwards of different
shape, whose logits may differ in the last bits: at a divergence the margin of
the canonical race tells whether rounding can explain it.

Legend: B rows of a batch, P prompt tokens, M new tokens.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
import tqdm
from jax.sharding import Mesh

from listcoupling import gumbel
from listcoupling.decoding import analysis
from listcoupling.decoding.drafters import NGramDrafter
from listcoupling.decoding.generate import generate
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.text import encode_prompts
from listcoupling.models import pretrained

ON_MESHES = ('autoregressive', 'gumbel_tree')  # what meshes are judged by
COMPARED = ('gumbel_tree', 'gumbel_chains', 'gls_strong', 'gls', 'specinfer')
_PROMPTS = ('def main(args):\n', 'class A:\n', 'import os\n', 'The with')
# Perturbed logits closer than this may change places by rounding: two logits
# of 16 to 32, each off by a step of bfloat16 (1/8) either way; the steps of
# float32 are 2^-16 of that, and a sum takes many.
EPSILON = {'float32': 1e-3, 'bfloat16': 0.5}


def shipped_arguments(seed: int, batch: int, dtype: str, **options) -> tuple:
  """Arguments of `count_changes` for the shipped pair and a few prompts.

  Args:
    seed: of the text.
    batch: rows.
    dtype: of the networks.
    **options: of `GenerateOptions`; texts end at their limit alone.
  """
  target, drafter = (
    pretrained.load_pretrained(pretrained.SHIPPED / name, dtype=dtype)
    for name in ('target', 'drafter')
  )
  prompts, lengths = encode_prompts(target.tokenizer, _PROMPTS)
  prompts = np.resize(prompts, (batch, prompts.shape[1]))
  options = GenerateOptions(stop_tokens=(), **options)
  key, lengths = gumbel.seed_key(seed), np.resize(lengths, batch)
  return key, target, drafter, prompts, lengths, options


def unexplained(rows: Sequence[dict], dtype: str | None) -> int:
  """Rows of canonical methods that differ beyond rounding.

  Args:
    rows: of `count_changes`.
    dtype: of the networks; None where no token may differ.

  Example:
    >>> row = dict(method='gumbel_tree', diverging_rows=1, largest_margin=1e-5)
    >>> unexplained([row], 'float32'), unexplained([row], None)
    (0, 1)
  """
  rows = [row for row in rows if METHODS[row['method']].canonical]
  if dtype is None:
    return sum(bool(row['diverging_rows'] > 0) for row in rows)
  return sum(bool(row['largest_margin'] >= EPSILON[dtype]) for row in rows)


def count_changes(
  key: jax.Array,
  target,
  drafter,
  prompts: np.ndarray,
  lengths: np.ndarray,
  options: GenerateOptions,
  *,
  methods: Sequence[str] | None = None,
  meshes: Mapping[str, Mesh] | None = None,
) -> list[dict]:
  """Identical tokens of every method under every change.

  With `forward_nodes` the number of rows is not changed, on which the logits
  still depend.

  Args:
    key: typed key.
    target: the target model.
    drafter: its drafter.
    prompts: [B, P].
    lengths: [B].
    options: the setting that is changed.
    methods: compared methods; None: those of `COMPARED`, the canonical ones
      alone with `forward_nodes`, and those of `ON_MESHES` on meshes.
    meshes: the changes, by name, in the place of all others; methods are
      canonical then.

  Returns:
    One row per method and change: tokens compared, identical tokens, rows
    that diverge, and for canonical methods the largest margin of the
    reference at a row's first divergence (NaN without one).
  """
  if methods is None:
    methods = ON_MESHES if meshes else _compared(options)
  texts = prompts, lengths
  plain = dataclasses.replace(options, method='autoregressive')
  out = generate(key, target, [], *texts, plain)
  margins = analysis.canonical_margins(key, target, *texts, out, plain)
  rows = []
  for method in tqdm.tqdm(methods, desc='methods'):
    own = dataclasses.replace(options, method=method)
    if meshes:
      runs = _on_meshes(key, target, drafter, *texts, own, meshes)
    else:
      runs = _changed(key, target, drafter, *texts, own)
    canonical = METHODS[method].canonical
    reference = out.tokens if canonical else runs['as it was']
    for name, tokens in runs.items():
      counts = analysis.differences(
        tokens, reference, margins if canonical else None
      )
      rows.append({'method': method, 'change': name, **counts})
  return rows


def _compared(options) -> list[str]:
  exact = options.forward_nodes is not None
  return [x for x in COMPARED if METHODS[x].canonical or not exact]


def _on_meshes(key, target, drafter, prompts, lengths, options, meshes):
  """Tokens [B, M] on every mesh, by its name."""
  drafters = [] if options.method == 'autoregressive' else [drafter]
  write = functools.partial(
    generate, key, target, drafters, prompts, lengths, options
  )
  return {name: write(mesh=mesh).tokens for name, mesh in meshes.items()}


def _changed(key, target, drafter, prompts, lengths, options):
  """Tokens [B, M] under every change, by its name."""
  runs = {
    name: generate(key, target, drafters, prompts, lengths, changed).tokens
    for name, (drafters, changed) in changes(target, drafter, options).items()
  }
  return runs | _other_batches(key, target, drafter, prompts, lengths, options)


def changes(target, drafter, options: GenerateOptions) -> dict[str, tuple]:
  """Name of a change: (drafters, options); no tree grows by one."""
  ngram = NGramDrafter(vocab_size=target.config.vocab_size)
  edit = functools.partial(dataclasses.replace, options)
  longer = edit(cache_length=2 * options.max_new_tokens + 256)
  smaller = {}
  if METHODS[options.method].best_first:
    smaller = {
      'N = 6': ([drafter], edit(num_nodes=6)),
      'N = 11, W = 8': ([drafter], edit(num_nodes=11, num_drafts=8)),
    }
  return smaller | {
    'as it was': ([drafter], options),
    'n-gram drafter': ([ngram], options),
    'drafter = target': ([target], options),
    'two drafters': ([drafter, ngram], options),
    'draft temperature 2': ([drafter], edit(draft_temperatures=(2.0,))),
    'K = 2': ([drafter], edit(num_drafts=2)),
    'L = 3': ([drafter], edit(draft_length=3)),
    'longer cache': ([drafter], longer),
  }


def _other_batches(key, target, drafter, prompts, lengths, options):
  """The same rows among other neighbours, one key per row."""
  batch = len(prompts)
  keys = jax.vmap(lambda row: gumbel.position_key(key, row))(np.arange(batch))

  def tokens(rows):
    return generate(
      keys[rows], target, [drafter], prompts[rows], lengths[rows], options
    ).tokens

  found = {'rows reversed': tokens(slice(None, None, -1))[::-1]}
  if options.forward_nodes is None:
    half = batch // 2
    parts = [tokens(slice(None, half)), tokens(slice(half, None))]
    found['two half batches'] = np.concatenate(parts)
  return found
