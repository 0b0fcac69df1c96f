"""Table 9 of arXiv 2506.05632: does the text change with the drafter?

Every prompt is continued twice with the same seed, the drafter's temperature
changed in between, and the two texts are compared by ROUGE-L. A scheme that is
drafter invariant in the strong sense writes the same text twice; canonical
noise should score 1 up to the rounding of the networks.

Legend: R rows of a batch.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from listcoupling.decoding.methods import METHODS
from listcoupling.experiments import cells as work
from listcoupling.experiments import language_plots
from listcoupling.experiments import language_setup as base
from listcoupling.experiments.language_cells import (
  Cell,
  cells_of,
  continue_prompts,
  fill,
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


def continuations(
  setup: base.Setup, cell: Cell, config, draft: str
) -> list[list[int]]:
  """Token ids of the new text of every row, under one draft temperature."""
  options = dataclasses.replace(
    setup.options,
    method=cell.setting,
    num_drafts=config.num_drafts[0],
    draft_temperatures=base.temperatures(draft),
  )
  out = continue_prompts(setup, cell, options)
  return [row[:count].tolist() for row, count in zip(out.tokens, out.lengths)][
    : cell.batch.size
  ]


def measure(setup: base.Setup, cell: Cell, config) -> dict:
  """Columns of a cell: ROUGE-L of the texts, equality of the token ids."""
  pairs = list(
    zip(
      *(
        continuations(setup, cell, config, draft)
        for draft in config.draft_temperatures
      )
    )
  )
  decode = setup.target.tokenizer.decode
  return {
    'rows': work.join(cell.batch.rows[: cell.batch.size]),
    'rouge_l': work.join([rouge_l(decode(a), decode(b)) for a, b in pairs]),
    'same': work.join([float(a == b) for a, b in pairs]),
  }


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  if len(config.draft_temperatures) != 2:
    raise ValueError(
      'draft_temperatures must be two, before and after the change, got '
      f'{config.draft_temperatures}.'
    )
  if len(config.num_drafts) != 1:
    raise ValueError(f'num_drafts must be one, got {config.num_drafts}.')


def run(config, workdir, seed: int = 0) -> list[dict]:
  """Fills the table cell by cell, resuming what an earlier run left.

  Args:
    config: see configs/decoding_consistency.py.
    workdir: folder of cells.csv, results.csv, results.json, consistency.png.
    seed: the first of config.seeds.

  Returns:
    One dictionary per data set and method, the columns of results.csv: mean
    ROUGE-L and share of equal texts, with standard errors over seeds (`_se`).

  Raises:
    ValueError: for settings that make no sense, or a workdir of another run.
    FileNotFoundError: if models or prompts are missing.
  """
  check_config(config)
  setup = base.prepare(config)
  settings = {method: method for method in config.methods}
  cells = cells_of(setup, config, seed, settings)
  found = fill(
    workdir,
    setup,
    config,
    seed,
    cells,
    lambda cell: measure(setup, cell, config),
  )
  rows = base.with_prompt_counts(setup, summarize(cells, found, config))
  base.finish(workdir, setup, rows)
  language_plots.consistency(rows, pathlib.Path(workdir) / 'consistency.png')
  return rows


def summarize(
  cells: Sequence[Cell], found: Sequence[dict], config
) -> list[dict]:
  """Rows of results.csv: means of the seeds' means and standard errors."""
  groups = {}
  for cell, row in zip(cells, found, strict=True):
    seeds = groups.setdefault((cell.dataset, cell.setting), {})
    seeds.setdefault(cell.seed, []).append(row)
  table = []
  for (dataset, method), seeds in groups.items():
    out = {
      'dataset': dataset,
      'method': method,
      'num_drafts': 1 if METHODS[method].single_draft else config.num_drafts[0],
      'draft_temperatures': ' then '.join(config.draft_temperatures),
    }
    for name, column in (('rouge_l', 'rouge_l'), ('same_tokens', 'same')):
      values = [
        np.concatenate([work.split(row[column]) for row in rows])
        for rows in seeds.values()
      ]
      mean, error = work.mean_and_error([value.mean() for value in values])
      out.update({name: mean, f'{name}_se': error})
    out.update(seeds=len(seeds), prompts=values[0].size)
    table.append(out)
  return table


def as_text(rows: Sequence[dict]) -> str:
  """The paper's layout: methods down, data sets across."""
  datasets = list(dict.fromkeys(row['dataset'] for row in rows))
  lines = [
    f'{"ROUGE-L":<15}' + ''.join(f'{name:>18}' for name in datasets) + '  same'
  ]
  for method in dict.fromkeys(row['method'] for row in rows):
    own = [row for row in rows if row['method'] == method]
    cells = ''
    for row in own:
      error = row['rouge_l_se']
      spread = '' if error is None else f' ± {error:.4f}'
      text = f'{row["rouge_l"]:.4f}{spread}'
      cells += f'{text:>18}'
    same = np.mean([row['same_tokens'] for row in own])
    lines.append(f'{method:<15}{cells}{same:>6.0%}')
  return '\n'.join([*lines, *base.prompt_lines(rows).values()])
