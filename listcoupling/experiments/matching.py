"""Tables 7 and 8 of arXiv 2506.05632: matching probability of one step.

The target writes a text; at every token of it the two laws are compared: the
list matching bound (Theorem 1), the exact probability that GLS matches, what
sampling it gives, the exact acceptance of SpecInfer and of SpecTr, the optimum
of any scheme with K iid drafts and of any with K drafts without replacement,
and the shared-race list, sampled. All are averages over the same tokens: the
engine's own share of accepted drafts is not, for its steps begin where the
last block failed.

Legend: R rows of a batch, P places of a row, M new tokens, T = R M, A atoms, K
drafts.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.decoding import analysis, filters
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import cells as work
from listcoupling.experiments import language_plots
from listcoupling.experiments import language_setup as base
from listcoupling.experiments.language_cells import (
  Cell,
  cells_of,
  continue_prompts,
  fill,
)
from listcoupling.experiments.matching_values import (
  COLUMNS,
  common_atoms,
  step_values,
)


class Laws(NamedTuple):
  """Laws along the texts of a batch; the last ones are padding."""

  owner: np.ndarray  # [<= T] row of the token
  draft: jax.Array  # [T, A]
  target: jax.Array  # [T, A]


def laws_along(
  setup: base.Setup, rows, chosen, options: GenerateOptions
) -> Laws:
  """Laws at the chosen places [R, P] of the rows [R, P]."""
  size = setup.target.config.vocab_size
  owner, places = np.nonzero(chosen)
  # Texts may end early; one shape for all batches is compiled once.
  missing = (0, len(rows) * options.max_new_tokens - len(owner))
  at = np.pad(owner, missing), np.pad(places, missing)
  logits = []
  for model in (setup.drafter, setup.target):
    own = analysis.logits_along(model, rows)[at]
    absent = ((0, 0), (0, size - own.shape[-1]))
    logits.append(jnp.pad(own, absent, constant_values=-jnp.inf))
  heat = options.slot_temperatures()[0], options.temperature
  pairs = _common_atoms(tuple(logits), heat=heat, size=size, options=options)
  return Laws(owner, *pairs)


@functools.partial(jax.jit, static_argnames=('heat', 'size', 'options'))
def _common_atoms(logits, *, heat, size, options):
  def one(pair):
    laws = (filters.warp(row, t, options) for row, t in zip(pair, heat))
    return common_atoms(*laws, size)

  return jax.lax.map(one, logits)


@functools.partial(jax.jit, static_argnames=('num_drafts', 'repetitions'))
def _values(keys, draft, target, *, num_drafts, repetitions):
  def one(step):
    return step_values(*step, num_drafts=num_drafts, repetitions=repetitions)

  return jax.lax.map(one, (keys, draft, target))


def write_text(setup: base.Setup, cell: Cell):
  """The target's own text of a batch: rows [R, P], chosen places [R, P]."""
  choice, index = setup.choices[cell.dataset], cell.batch.rows
  prompts, lengths = choice.tokens[index], choice.lengths[index]
  out = continue_prompts(setup, cell, setup.options, plain=True)
  rows = analysis.rows_of(prompts, lengths, out)
  # Padded to the cache, so that every batch has the same shape.
  rows = np.pad(rows, ((0, 0), (0, setup.options.cache_length - rows.shape[1])))
  places = np.arange(rows.shape[1])
  first = lengths[:, None] - 1
  chosen = (places >= first) & (places < first + out.lengths[:, None])
  chosen[cell.batch.size :] = False
  return rows, chosen


def measure(cell: Cell, laws: Laws, repetitions: int) -> dict:
  """Columns of a cell: sums over the tokens of every row."""
  key = jax.random.fold_in(jax.random.key(cell.seed), cell.setting)
  keys = jax.random.split(
    jax.random.fold_in(key, cell.number), len(laws.target)
  )
  values = _values(
    keys,
    laws.draft,
    laws.target,
    num_drafts=cell.setting,
    repetitions=repetitions,
  )
  owner, size = laws.owner, cell.batch.size
  count = np.bincount(owner, minlength=size)
  row = {'rows': work.join(cell.batch.rows[:size]), 'tokens': work.join(count)}
  values = np.asarray(values)[: len(owner)].T
  for name, column in zip(COLUMNS, values, strict=True):
    row[name] = work.join(np.bincount(owner, column, minlength=size))
  return row


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  if config.repetitions < 1:
    raise ValueError(
      f'repetitions must be at least 1, got {config.repetitions}.'
    )
  if len(config.draft_temperatures) != 1 or '/' in config.draft_temperatures[0]:
    raise ValueError(
      'draft_temperatures must be one number here, got '
      f'{config.draft_temperatures}: the optimum is known for iid drafts.'
    )


def run(config, workdir, seed: int = 0) -> list[dict]:
  """Fills the table cell by cell, resuming what an earlier run left.

  Args:
    config: see configs/decoding_matching.py.
    workdir: folder of cells.csv, results.csv, results.json and matching.png.
    seed: the first of config.seeds.

  Returns:
    One dictionary per data set and K, the columns of results.csv: means of
    `COLUMNS` over all tokens, with standard errors over prompts (`_se`).

  Raises:
    ValueError: for settings that make no sense, or a workdir of another run.
    FileNotFoundError: if models or prompts are missing.
  """
  check_config(config)
  setup = base.prepare(config)
  options = dataclasses.replace(
    setup.options,
    draft_temperatures=base.temperatures(config.draft_temperatures[0]),
  )
  settings = {f'K{count}': count for count in config.num_drafts}
  cells = cells_of(setup, config, seed, settings)

  @functools.lru_cache(maxsize=1)  # every K looks at the same text
  def laws(dataset, seed, number):
    place = dataset, seed, number
    cell = next(cell for cell in cells if cell[:3] == place)
    rows, chosen = write_text(setup, cell)
    return laws_along(setup, rows, chosen, options)

  found = fill(
    workdir,
    setup,
    config,
    seed,
    cells,
    lambda cell: measure(cell, laws(*cell[:3]), config.repetitions),
  )
  rows = base.with_prompt_counts(setup, summarize(cells, found))
  base.finish(workdir, setup, rows)
  language_plots.matching(rows, pathlib.Path(workdir) / 'matching.png')
  return rows


def summarize(cells: Sequence[Cell], found: Sequence[dict]) -> list[dict]:
  """Rows of results.csv: means over tokens, standard errors over prompts."""
  groups = {}
  for cell, row in zip(cells, found, strict=True):
    groups.setdefault((cell.dataset, cell.setting), []).append((cell, row))
  table = []
  for (dataset, num_drafts), pairs in groups.items():
    sums = {name: {} for name in ('tokens', *COLUMNS)}
    for _, row in pairs:
      for name, total in sums.items():
        values = zip(work.split(row['rows']), work.split(row[name]))
        for prompt, value in values:
          total[prompt] = total.get(prompt, 0) + value
    tokens = np.array(list(sums['tokens'].values()))
    out = {'dataset': dataset, 'num_drafts': num_drafts}
    for name in COLUMNS:
      values = np.array(list(sums[name].values()))
      mean = values.sum() / tokens.sum()
      error = work.cluster_error((values - mean * tokens) / tokens.sum())
      out.update({name: float(mean), f'{name}_se': error})
    out.update(
      tokens=int(tokens.sum()),
      prompts=tokens.size,
      seeds=len({cell.seed for cell, _ in pairs}),
    )
    table.append(out)
  return table


def as_text(rows: Sequence[dict]) -> str:
  """The table for a terminal."""
  names = [name.replace('_without_replacement', ' top-K') for name in COLUMNS]
  lines = [
    f'{"data set":<18}{"K":>2}' + ''.join(f'{name:>16}' for name in names)
  ]
  for row in rows:
    cells = ''
    for name in COLUMNS:
      error = row[f'{name}_se']
      spread = '' if error is None else f' ±{error:.4f}'
      text = f'{row[name]:.4f}{spread}'
      cells += f'{text:>16}'
    lines.append(f'{row["dataset"]:<18}{row["num_drafts"]:>2}{cells}')
  return '\n'.join([*lines, *base.prompt_lines(rows).values()])
