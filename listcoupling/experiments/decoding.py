"""Decoding experiments: the methods side by side on the same prompts.

Block efficiency and token rate as in arXiv 2506.05632, section 5: tokens
returned per target call, and tokens per second as a percentage above single
draft speculative decoding of the same length.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
import tqdm

from listcoupling.decoding.generate import Generation, generate
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions


def encode_prompts(
  tokenizer, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Token ids of several texts, right-padded.

  Args:
    tokenizer: a `tokenizers.Tokenizer`.
    texts: non-empty strings.

  Returns:
    prompts [B, P] int32 and their lengths [B] int32.

  Raises:
    ValueError: for a text without a token, or without a tokenizer.

  Example:
    >>> from listcoupling.models.pretrained import shipped_pair
    >>> prompts, lengths = encode_prompts(shipped_pair()[0].tokenizer, ['def'])
    >>> prompts.shape[0], int(lengths[0]) >= 1
    (1, True)
  """
  if tokenizer is None:
    raise ValueError(
      'the target has no tokenizer.json, got text prompts; give token ids.'
    )
  rows = [tokenizer.encode(text).ids for text in texts]
  for text, row in zip(texts, rows):
    if not row:
      raise ValueError(
        f'prompt {text!r} has no tokens; give at least one character.'
      )
  return pad_prompts(rows)


def pad_prompts(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
  """Rows of token ids, right-padded: prompts [B, P] and lengths [B]."""
  lengths = np.array([len(row) for row in rows], np.int32)
  prompts = np.zeros((len(rows), lengths.max()), np.int32)
  for index, row in enumerate(rows):
    prompts[index, : len(row)] = row
  return prompts, lengths


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
  """What the plain sampler writes: tokens [B, M]."""
  plain = dataclasses.replace(options, method='autoregressive')
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
  run, rate = timed(
    key,
    target,
    drafters[:1] if METHODS[options.method].single_draft else drafters,
    prompts,
    lengths,
    options,
    repeats=repeats,
  )
  figures = run.metrics
  efficiency = figures.block_efficiency
  error = None  # one row tells nothing about the spread
  if efficiency.size > 1:
    error = float(efficiency.std(ddof=1) / efficiency.size**0.5)
  drafted = max(int(figures.drafted_tokens.sum()), 1)
  return dict(
    method=options.method,
    num_drafts=options.num_drafts,
    block_efficiency=float(efficiency.mean()),
    block_efficiency_se=error,
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
      possible.
    methods: names.
    repeats: timed runs; the median counts.

  Returns:
    One row per method: block efficiency over the rows with its standard
    error (None for a single row), tokens per second, share of drafted tokens
    accepted, and the share of rows whose text is the plain sampler's.
  """
  texts = prompts, lengths
  reference = plain_text(key, target, *texts, options)
  return [
    measure_method(
      key,
      target,
      drafters,
      *texts,
      dataclasses.replace(options, method=method),
      reference=reference,
      repeats=repeats,
    )
    for method in tqdm.tqdm(methods, desc='methods', leave=False)
  ]


def format_comparison(rows: Sequence[dict]) -> str:
  """The rows of `compare_methods` as aligned text."""
  lines = [
    f'{"method":<15}{"K":>3}{"block efficiency":>20}{"tokens/s":>10}'
    f'{"accepted":>10}{"same text":>11}'
  ]
  for row in rows:
    drafts = row['num_drafts'] if row['method'] != 'autoregressive' else 0
    efficiency, error = row['block_efficiency'], row['block_efficiency_se']
    efficiency = f'{efficiency:.3f} +- ' + (
      '  ?  ' if error is None else f'{error:.3f}'
    )
    lines.append(
      f'{row["method"]:<15}{drafts:>3}{efficiency:>20}'
      f'{row["tokens_per_second"]:>10.0f}{row["acceptance_rate"]:>10.1%}'
      f'{row["same_text"]:>11.0%}'
    )
  return '\n'.join(lines)


def report(
  generation: Generation, tokenizer, prompts: np.ndarray, lengths: np.ndarray
) -> dict:
  """A generation as plain Python values, for JSON.

  Returns:
    `rows`, one per prompt (prompt_ids, token_ids, text or None, block
    efficiency, target calls, accepted per position), and tokens_per_second.
  """
  figures = generation.metrics
  rows = []
  for b, count in enumerate(generation.lengths):
    ids = generation.tokens[b, :count].tolist()
    rows.append(
      dict(
        prompt_ids=prompts[b, : lengths[b]].tolist(),
        token_ids=ids,
        text=None if tokenizer is None else tokenizer.decode(ids),
        block_efficiency=float(figures.block_efficiency[b]),
        target_calls=int(figures.target_calls[b]),
        drafted_tokens=int(figures.drafted_tokens[b]),
        accepted_tokens=int(figures.accepted_tokens[b]),
        accepted_per_position=figures.accepted_per_position[b].tolist(),
      )
    )
  return dict(rows=rows, tokens_per_second=figures.tokens_per_second)


def format_report(report_: dict) -> str:
  """A `report` for people: the texts, then a line of figures."""
  parts = [
    row['text'] if row['text'] is not None else str(row['token_ids'])
    for row in report_['rows']
  ]
  tokens = sum(len(row['token_ids']) for row in report_['rows'])
  calls = sum(row['target_calls'] for row in report_['rows'])
  parts.append(
    f'[{tokens} tokens, {tokens / max(calls, 1):.2f} per target call, '
    f'{report_["tokens_per_second"]:.0f} tokens/s]'
  )
  return '\n\n'.join(parts)


def printer(tokenizer):
  """An `on_block` that prints what each block added to the first row."""
  shown = ''

  def on_block(tokens, lengths):
    nonlocal shown
    text = tokenizer.decode(tokens[0, : lengths[0]].tolist())
    if not text.endswith('\ufffd'):  # half a character waits for the rest
      print(text[len(shown) :], end='', flush=True)
      shown = text

  return on_block
