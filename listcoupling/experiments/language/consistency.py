"""Does the text change when everything but the target does?

`run` is Table 9 of arXiv 2506.05632: every prompt is continued twice with the
same seed, the drafter's temperature changed in between, and the two texts
are compared by ROUGE-L. A scheme that is drafter invariant in the strong sense
writes the same text twice; canonical noise should score 1 up to the rounding
of the networks.

`count_changes` makes many changes and compares token for token, `count_meshes`
shares the devices' work in several ways. For canonical methods the reference is
plain sampling. Networks run forwards of different
shape, whose logits may differ in the last bits: at a divergence the margin of
the canonical race tells whether rounding can explain it.

Legend: R rows of a batch.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
import tqdm
from jax.sharding import Mesh

from listcoupling import gumbel, tables
from listcoupling.decoding import analysis
from listcoupling.decoding.drafters import NGramDrafter
from listcoupling.decoding.generate import generate
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.text import encode_prompts
from listcoupling.experiments.language import protocol
from listcoupling.experiments.language.protocol import (
  Job,
  Setting,
  Setup,
  Table,
)
from listcoupling.models import pretrained
from listcoupling.tables import Column

ON_MESHES = ('autoregressive', 'gumbel_tree')  # what meshes are judged by
CANONICAL = ('autoregressive', 'gumbel_tree', 'gumbel_chains')
COMPARED = ('gumbel_tree', 'gumbel_chains', 'gls_strong', 'gls', 'specinfer')
_PROMPTS = ('def main(args):\n', 'class A:\n', 'import os\n', 'The with')
# Perturbed logits closer than this may change places by rounding: two logits
# of 16 to 32, each off by a step of bfloat16 (1/8) either way; the steps of
# float32 are 2^-16 of that, and a sum takes many.
EPSILON = {'float32': 1e-3, 'bfloat16': 0.5}
COLUMNS = (
  Column('method', 'method'),
  Column('ROUGE-L', 'rouge_l', '.4f'),
  Column('same tokens', 'same_tokens', '.1%'),
)


@functools.cache
def _scorer():
  from rouge_score import rouge_scorer

  return rouge_scorer.RougeScorer(['rougeL'])


def rouge_l(first: str, second: str) -> float:
  """ROUGE-L F-measure of two texts; equal texts have 1, even without words.

  Words are runs of letters and digits, lower-cased, as in the rouge-score
  package.

  Example:
    >>> round(rouge_l('two plus two is four', 'two plus one is three'), 4)
    0.6
  """
  if first == second:
    return 1.0
  return _scorer().score(first, second)['rougeL'].fmeasure


def continuations(setup: Setup, job: Job, draft: str) -> list[list[int]]:
  """Token ids of the new text of every row, under one draft temperature."""
  options = dataclasses.replace(
    setup.options,
    method=job.setting.method,
    num_drafts=job.setting.num_drafts,
    draft_temperatures=protocol.temperatures(draft),
  )
  out = protocol.continue_prompts(setup, job, options)
  rows = list(zip(out.tokens, out.lengths))[: job.batch.size]
  return [tokens[:count].tolist() for tokens, count in rows]


def measure(setup: Setup, config, job: Job, once) -> dict:
  """Columns of a job: ROUGE-L of the texts, equality of the token ids."""
  del once
  runs = (continuations(setup, job, x) for x in config.draft_temperatures)
  pairs, decode = list(zip(*runs)), setup.target.tokenizer.decode
  return {
    'rouge_l': [rouge_l(decode(a), decode(b)) for a, b in pairs],
    'same': [float(a == b) for a, b in pairs],
  }


def settings_of(config) -> dict[str, Setting]:
  """The rows of the table: one K, two draft temperatures."""
  for name, count in (('draft_temperatures', 2), ('num_drafts', 1)):
    if len(config[name]) != count:
      raise ValueError(
        f'config.{name} must hold {count} here, got {config[name]}.'
      )
  texts = ' then '.join(config.draft_temperatures)
  return {
    method: Setting(
      method, 1 if METHODS[method].single_draft else config.num_drafts[0], texts
    )
    for method in config.methods
  }


def summarize(groups: dict, place: tuple[str, Setting], config) -> dict:
  """Columns of a row: means of the seeds' means and standard errors."""
  del config
  rouge, same = protocol.per_prompt(groups[place], ('rouge_l', 'same'))
  return tables.means({'rouge_l': rouge.mean(1), 'same_tokens': same.mean(1)})


plot = functools.partial(
  protocol.bars, column='rouge_l', title='ROUGE-L of two runs', size=2.2
)
run = Table(COLUMNS, settings_of, measure, summarize).experiment(
  consistency=plot
)


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
  rows = [row for row in rows if row['method'] in CANONICAL]
  if dtype is None:
    return sum(bool(row['diverging_rows'] > 0) for row in rows)
  return sum(bool(row['largest_margin'] >= EPSILON[dtype]) for row in rows)


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


def count_changes(
  key: jax.Array,
  target,
  drafter,
  prompts: np.ndarray,
  lengths: np.ndarray,
  options: GenerateOptions,
  *,
  methods: Sequence[str] | None = None,
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
      alone with `forward_nodes`.

  Returns:
    One row per method and change: tokens compared, identical tokens, rows
    that diverge, and for canonical methods the largest margin of the
    reference at a row's first divergence (NaN without one).
  """
  texts = prompts, lengths
  if methods is None:
    exact = options.forward_nodes is not None
    methods = [x for x in COMPARED if not exact or x in CANONICAL]
  plain, margins = _plain_text(key, target, *texts, options)
  rows = []
  for method in tqdm.tqdm(methods, desc='methods'):
    own = dataclasses.replace(options, method=method)
    runs = {
      name: generate(key, target, drafters, *texts, changed).tokens
      for name, (drafters, changed) in changes(target, drafter, own).items()
    } | _other_batches(key, target, drafter, *texts, own)
    canonical = method in CANONICAL
    expected = plain if canonical else runs['as it was']
    rows += _rows(method, runs, expected, margins if canonical else None)
  return rows


def count_meshes(
  key: jax.Array,
  target,
  drafter,
  prompts: np.ndarray,
  lengths: np.ndarray,
  options: GenerateOptions,
  *,
  meshes: Mapping[str, Mesh],
) -> list[dict]:
  """Identical tokens on every mesh, of the methods in `ON_MESHES`.

  The reference is plain sampling on one device.

  Args:
    key: typed key.
    target: the target model.
    drafter: its drafter.
    prompts: [B, P].
    lengths: [B].
    options: of every text, but for the method.
    meshes: by name.

  Returns:
    Rows as those of `count_changes`, a mesh in the place of a change.
  """
  plain, margins = _plain_text(key, target, prompts, lengths, options)
  rows = []
  for method in tqdm.tqdm(ON_MESHES, desc='methods'):
    drafters = [] if method == 'autoregressive' else [drafter]
    own = dataclasses.replace(options, method=method)
    runs = {
      name: generate(
        key, target, drafters, prompts, lengths, own, mesh=mesh
      ).tokens
      for name, mesh in meshes.items()
    }
    rows += _rows(method, runs, plain, margins)
  return rows


def _plain_text(key, target, prompts, lengths, options):
  """Tokens [B, M] of plain sampling and their margins."""
  plain = dataclasses.replace(options, method='autoregressive')
  out = generate(key, target, [], prompts, lengths, plain)
  return out.tokens, analysis.canonical_margins(
    key, target, prompts, lengths, out, plain
  )


def _rows(method, runs, expected, margins):
  """A row for the tokens [B, M] of every run, by its name."""
  return [
    {
      'method': method,
      'change': name,
      **analysis.differences(tokens, expected, margins),
    }
    for name, tokens in runs.items()
  ]


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
