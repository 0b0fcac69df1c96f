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
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from listcoupling import gumbel
from listcoupling.decoding import analysis
from listcoupling.decoding.drafters import NGramDrafter
from listcoupling.decoding.generate import generate, prepare
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions

__all__ = [
  'COMPARED',
  'EPSILON',
  'ON_MESHES',
  'changes',
  'count_changes',
]


def __dir__():
  return __all__


ON_MESHES = ('autoregressive', 'gumbel_tree')  # compared there
COMPARED = ('gumbel_tree', 'gumbel_chains', 'gls_strong', 'gls', 'specinfer')
# Perturbed logits closer than this may change places by rounding: two logits
# of 16 to 32, each off by a step of bfloat16 (1/8) either way; the steps of
# float32 are 2^-16 of that, and a sum takes many.
EPSILON = {'float32': 1e-3, 'bfloat16': 0.5}


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
  progress: bool = False,
) -> list[dict]:
  """Identical tokens of every method under every change.

  With `forward_nodes` the number of rows is not changed, on which the logits
  still depend, and no token of a canonical method may differ. Minutes on a CPU:
  every change of a method compiles programs of its own.

  Args:
    key: typed key.
    target: the target model.
    drafter: its drafter.
    prompts: [B, P], two rows or more.
    lengths: [B].
    options: the setting that is changed.
    methods: compared methods; None: those of `COMPARED`, the canonical ones
      alone with `forward_nodes`, and those of `ON_MESHES` on meshes.
    meshes: the changes, by name, in the place of all others.
    progress: shows a bar over the methods.

  Returns:
    One row per method and change: tokens compared, identical tokens, rows that
    diverge; of canonical methods the largest margin of the reference at a row's
    first divergence (NaN without one), and whether nothing differs that
    rounding does not explain.

  Raises:
    ValueError: a method is unknown or, on meshes, not canonical, or weights
      have a float type that `EPSILON` has not; there is one row; and as
      `generate` under any change. All before the first text is written.

  Example:
    >>> import listcoupling as lc
    >>> rows = count_changes(
    ...   jax.random.key(0), *lc.shipped_pair(), np.ones((2, 3), int),
    ...   np.full(2, 3), GenerateOptions(max_new_tokens=8),
    ...   methods=('gumbel_tree',), meshes={'one': jax.make_mesh((1,), 'tp')})
    >>> rows[0]['change'], rows[0]['explained']
    ('one', True)
  """
  if methods is None:
    methods = ON_MESHES if meshes else _compared(options)
  settings = [dataclasses.replace(options, method=name) for name in methods]
  epsilon = _epsilon(target, options, methods, meshes)
  texts = prompts, lengths
  plain = dataclasses.replace(options, method='autoregressive')
  _check(key, target, drafter, *texts, [plain, *settings], meshes)
  out = generate(key, target, [], *texts, plain)
  margins = analysis.canonical_margins(key, target, *texts, out, plain)
  rows = []
  for own in _shown(settings) if progress else settings:
    if meshes:
      runs = _on_meshes(key, target, drafter, *texts, own, meshes)
    else:
      runs = _changed(key, target, drafter, *texts, own)
    for name, tokens in runs.items():
      row = {'method': own.method, 'change': name}
      if METHODS[own.method].canonical:
        row |= analysis.differences(tokens, out.tokens, margins)
        near = row['largest_margin'] < epsilon
        row['explained'] = row['diverging_rows'] == 0 or near
      else:
        row |= analysis.differences(tokens, runs['as it was'])
      rows.append(row)
  return rows


def _check(key, target, drafter, prompts, lengths, settings, meshes) -> None:
  """Refuses what `generate` would, before it has run for minutes."""
  if len(prompts) < 2:
    raise ValueError(
      f'prompts must have at least 2 rows, got {len(prompts)}: a row is '
      'compared among other neighbours.'
    )
  for name, drafters, *how in _planned(target, drafter, settings, meshes):
    try:
      with jax.enable_x64(False):
        prepare(key, target, drafters, prompts, lengths, *how)
    except ValueError as error:
      raise ValueError(f'{name}: {error}') from error


def _planned(target, drafter, settings, meshes):
  """Yields what a text is called, its drafters, options and mesh."""
  for own in settings:
    drafters = [drafter] if METHODS[own.method].drafts else []
    found = {'as it was': (drafters, own)}
    if drafters and not meshes:
      found = changes(target, drafter, own)
    for name, run in found.items():
      yield f'{own.method}, {name}', *run, None
    for name, mesh in (meshes or {}).items():
      yield f'{own.method}, {name}', drafters, own, mesh


def _shown(settings):
  import tqdm  # of scripts alone

  return tqdm.tqdm(settings, desc='methods')


def _compared(options) -> list[str]:
  exact = options.forward_nodes is not None
  return [x for x in COMPARED if METHODS[x].canonical or not exact]


def _epsilon(target, options, methods, meshes) -> float:
  """The margin from which on rounding explains nothing."""
  others = [name for name in methods if not METHODS[name].canonical]
  if meshes and others:
    raise ValueError(
      'on meshes texts are compared with plain sampling, which only canonical '
      f'methods write; got {", ".join(others)}.'
    )
  exact = options.forward_nodes is not None and not meshes
  return 0.0 if exact else _rounding(target.params)


def _rounding(params) -> float:
  """`EPSILON` of the least precise float leaf; integers hold its multiples."""
  dtypes = {jnp.dtype(leaf.dtype) for leaf in jax.tree.leaves(params)}
  names = {x.name for x in dtypes if jnp.issubdtype(x, jnp.floating)}
  if not names or names - set(EPSILON):
    raise ValueError(
      f'weights must be {" or ".join(EPSILON)}, got '
      f'{", ".join(sorted(x.name for x in dtypes))}: the rounding of others is '
      'not known here.'
    )
  return max(EPSILON[name] for name in names)


def _on_meshes(key, target, drafter, prompts, lengths, options, meshes):
  """Tokens [B, M] on every mesh, by its name."""
  drafters = [drafter] if METHODS[options.method].drafts else []
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
  keys = gumbel.row_keys(key, np.arange(batch))

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
