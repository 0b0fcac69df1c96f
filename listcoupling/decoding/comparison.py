"""Methods side by side on the same prompts and seed.

Block efficiency as in arXiv 2506.05632, section 5 (tokens returned per target
call), and tokens per second.
"""

import dataclasses
import textwrap
from collections.abc import Sequence

import jax
import numpy as np

from listcoupling import standard_errors, tables
from listcoupling.decoding.drafters import as_list
from listcoupling.decoding.generate import Generation, generate
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.tables import Column

COLUMNS = (
  Column('method', 'method'),
  Column('K', 'num_drafts'),
  Column('block efficiency', 'block_efficiency', '.3f'),
  Column('tokens/s', 'tokens_per_second', '.0f'),
  Column('accepted', 'acceptance_rate', '.1%'),
  Column('same text', 'same_text', '.0%'),
)
LEGEND = textwrap.fill(
  'block efficiency: tokens per call of the target, ± over prompts; accepted: '
  'share of the drafted tokens; same text: share of prompts whose text is that '
  'of autoregressive of the same seed.',
  width=79,
)


def _of(options: GenerateOptions, name: str) -> GenerateOptions:
  """`options` under another method, less what that method does not take."""
  method = METHODS[name]
  return dataclasses.replace(
    options,
    method=name,
    num_nodes=options.num_nodes if method.best_first else None,
    draft_cost=options.draft_cost if method.best_first else 0.0,
    draft_temperatures=None if method.one_law else options.draft_temperatures,
    replacement=options.replacement or not method.distinct,
  )


def timed(
  key, target, drafters, prompts, lengths, options, *, repeats: int = 3
) -> tuple[Generation, float]:
  """A generation and the median tokens per second of `repeats` runs."""
  runs = [
    generate(key, target, drafters, prompts, lengths, options)
    for _ in range(repeats)
  ]
  return runs[0], float(
    np.median([run.metrics.tokens_per_second for run in runs])
  )


def plain_text(key, target, prompts, lengths, options) -> np.ndarray:
  """Tokens [B, M] that the plain sampler writes."""
  plain = _of(options, 'autoregressive')
  return generate(key, target, [], prompts, lengths, plain).tokens


def measure_method(
  key: jax.Array,
  target,
  drafters: Sequence,
  prompts: np.ndarray,
  lengths: np.ndarray,
  options: GenerateOptions,
  *,
  reference: np.ndarray,
  repeats: int = 3,
) -> dict:
  """One row of `compare_methods`; `reference` is the `plain_text` [B, M]."""
  method, drafters = METHODS[options.method], as_list(drafters)
  one = method.single_draft or method.one_law
  run, rate = timed(
    key,
    target,
    drafters[:1] if one else drafters,
    prompts,
    lengths,
    options,
    repeats=repeats,
  )
  figures = run.metrics
  efficiency = figures.block_efficiency
  drafted = max(int(figures.drafted_tokens.sum()), 1)
  return dict(
    method=options.method,
    num_drafts=options.num_drafts,
    **standard_errors.means({'block_efficiency': efficiency}),
    tokens_per_second=rate,
    acceptance_rate=float(figures.accepted_tokens.sum() / drafted),
    same_text=float((run.tokens == reference).all(axis=1).mean()),
  )


def compare_methods(
  key: jax.Array,
  target,
  drafters: Sequence,
  prompts: np.ndarray,
  lengths: np.ndarray,
  options: GenerateOptions,
  *,
  methods: Sequence[str] = tuple(METHODS),
  repeats: int = 3,
) -> list[dict]:
  """Runs every method on the same prompts and seed.

  Args:
    key: typed key.
    target: the target model.
    drafters: as for `generate`.
    prompts: [B, P].
    lengths: [B].
    options: of every method but the number of drafts, 1 where only one is
      possible, 0 of autoregressive.
    methods: names.
    repeats: timed runs; the median counts.

  Returns:
    One row per method, of block efficiency over the rows with its standard
    error (None for a single row), tokens per second, share of drafted tokens
    accepted, and the share of rows whose text is the plain sampler's.

  Raises:
    ValueError: as `generate`.

  Example:
    >>> import listcoupling as lc
    >>> target, drafter = lc.shipped_pair()
    >>> options = lc.GenerateOptions(max_new_tokens=4)
    >>> [row] = compare_methods(
    ...     jax.random.key(0), target, [drafter], np.array([[5]]),
    ...     np.array([1]), options, methods=['autoregressive'], repeats=1)
    >>> row['method'], row['block_efficiency']
    ('autoregressive', 1.0)
  """
  texts = prompts, lengths
  reference = plain_text(key, target, *texts, options)
  rows = [
    measure_method(
      key,
      target,
      drafters,
      *texts,
      _of(options, method),
      reference=reference,
      repeats=repeats,
    )
    for method in methods
  ]
  return [
    row if METHODS[row['method']].drafts else row | {'num_drafts': 0}
    for row in rows
  ]


def format_comparison(rows: Sequence[dict]) -> str:
  """The rows of `compare_methods` as aligned text, and what it shows."""
  return f'{tables.as_text(rows, COLUMNS)}\n\n{LEGEND}'
