"""Speed: ratios against a physical limit or a peer, in one run.

Every figure is the median of several runs after compilation. Times that are
compared by `milliseconds` are taken in turn, round by round, so that a machine
that slows down slows all of them.
"""

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from listcoupling import coupling, gumbel
from listcoupling.decoding import comparison
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import peer_checkpoints, results
from listcoupling.models import pretrained, transformer

_DECODING = GenerateOptions(draft_length=4, max_new_tokens=128)


def milliseconds(
  functions: Mapping[str, Callable], *, rounds: int = 20, show: bool = False
) -> dict[str, float]:
  """Median time of each function, interleaved, compilation apart.

  Args:
    functions: by name, without arguments.
    rounds: in which each is called once.
    show: progress.
  """
  times = {name: [] for name in functions}
  for turn in tqdm.trange(rounds + 1, desc='round', disable=not show):
    for name, function in functions.items():
      began = time.perf_counter()
      jax.block_until_ready(function())
      if turn:  # the first one compiles
        times[name].append(time.perf_counter() - began)
  return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


class Case(NamedTuple):
  """One row of a table, yet to be measured."""

  name: str
  measure: Callable[[], dict]


def run(cases: Sequence[Case], path: str | os.PathLike) -> list[dict]:
  """Measures the rows of a table and writes each as soon as it is done.

  Args:
    cases: in the order of the table.
    path: of the CSV file.

  Returns:
    The rows.
  """
  rows = []
  progress = tqdm.tqdm(cases, desc=pathlib.Path(path).stem)
  for case in progress:
    progress.set_postfix_str(case.name)
    rows.append(case.measure())
    results.write_csv(path, rows)
  return rows


def _samplers(vocab_size: int, num_drafts: int) -> dict[str, Callable]:
  """Functions of a key by name, the random bits first."""
  key = jax.random.key(0)
  p, q = 3 * jax.random.normal(key, (2, vocab_size))
  shape = (num_drafts, vocab_size)
  return {
    'random bits': lambda key: jax.random.bits(key, shape),
    'exponential noise': lambda key: gumbel.exponential_streams(
      key, vocab_size, num_drafts
    ),
    'jax.random.gumbel, low': lambda key: jax.random.gumbel(key, shape),
    'jax.random.gumbel, high': lambda key: jax.random.gumbel(
      key, shape, mode='high'
    ),
    'GLS draw': lambda key: coupling.gumbel_list_sampling(
      key, p, q, num_drafts=num_drafts
    ),
    'K categorical draws': lambda key: jax.random.categorical(
      key, p, shape=(num_drafts,)
    ),
    'shared-race draw (one race)': lambda key: (
      coupling.shared_race_list_sampling(key, p, q, num_drafts=num_drafts)
    ),
  }


def sampler_table(
  *, vocab_size: int = 151_936, num_drafts: int = 8, rounds: int = 20
) -> list[dict]:
  """One draw of each sampler against its random bits alone."""
  key = jax.random.key(0)
  functions = {
    name: functools.partial(jax.jit(function), key)
    for name, function in _samplers(vocab_size, num_drafts).items()
  }
  times = milliseconds(functions, rounds=rounds, show=True)
  bits = times['random bits']
  return [
    dict(
      what=name,
      vocab_size=vocab_size,
      num_drafts=num_drafts,
      milliseconds=ms,
      ratio_to_bits=ms / bits,
    )
    for name, ms in times.items()
  ]


def load_pair(size: str):
  """(target, drafter): the shipped pair, or a random target beside its drafter.

  Args:
    size: 'shipped', or of `peer_checkpoints.SIZES`: a random target with the
      shipped tokenizer.
  """
  target, drafter = pretrained.shipped_pair()
  if size == 'shipped':
    return target, drafter
  config = peer_checkpoints.SIZES[size]
  params = transformer.init_params(jax.random.key(0), config)
  model = transformer.make_language_model(config, params, target.tokenizer)
  return model, drafter


def decoding_cases(
  target,
  drafter,
  prompts,
  lengths,
  *,
  batches: Sequence[int] = (1, 8, 32),
  drafts: Sequence[int] = (1, 2, 4, 8),
  options: GenerateOptions = _DECODING,
  methods: Sequence[str] = tuple(METHODS),
  rounds: int = 3,
) -> list[Case]:
  """Tokens per second and block efficiency of every method, K and batch.

  Methods of one draft stand once, at the least K.
  """
  key = jax.random.key(0)

  def texts(batch):
    tokens = np.resize(prompts, (batch, prompts.shape[1]))
    return tokens, np.resize(lengths, batch)

  @functools.cache
  def reference(batch, num_drafts):
    own = dataclasses.replace(options, num_drafts=num_drafts)
    return comparison.plain_text(key, target, *texts(batch), own)

  def measure(batch, num_drafts, method):
    row = comparison.measure_method(
      key,
      target,
      [drafter],
      *texts(batch),
      dataclasses.replace(options, method=method, num_drafts=num_drafts),
      reference=reference(batch, num_drafts),
      repeats=rounds,
    )
    return dict(batch=batch, **row)

  once = [
    name
    for name, method in METHODS.items()
    if method.propose is None or method.single_draft
  ]
  return [
    Case(
      f'{method}, K = {num_drafts}, batch {batch}',
      functools.partial(measure, batch, num_drafts, method),
    )
    for batch in batches
    for num_drafts in drafts
    for method in methods
    if num_drafts == min(drafts) or method not in once
  ]


def format_rows(rows: Sequence[dict]) -> str:
  """Rows of one table as aligned text."""
  names = list(rows[0])
  cells = [names] + [
    [f'{v:.3f}' if isinstance(v, float) else str(v) for v in row.values()]
    for row in rows
  ]
  widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
  return '\n'.join(
    '  '.join(cell.rjust(width) for cell, width in zip(line, widths))
    for line in cells
  )
