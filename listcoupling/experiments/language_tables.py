"""Tables 1 to 6 of arXiv 2506.05632: block efficiency and token rate.

Rows are methods, columns data sets. BE is the number of tokens returned per
target call, over all prompts of a seed; TR% is the token rate above that of
single draft speculative decoding with the same L, the median over batches of
the ratio within a batch, for the methods take turns on every batch, so that a
machine that slows down slows all of them. The clock excludes compilation and
the forward of the prompt. A text ends at the token limit, so the last block of
a row counts fewer tokens than it found. BE is a little low, and lower for
methods with longer blocks, which lose more: differences between methods are
told a little too small, the more so the shorter the texts.

Legend: K drafts, L draft length, R rows of a batch.
"""

import dataclasses
import pathlib
from typing import NamedTuple

from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import cells as work
from listcoupling.experiments import language_plots, language_summary
from listcoupling.experiments import language_setup as base
from listcoupling.experiments.language_cells import (
  Cell,
  cells_of,
  continue_prompts,
  fill,
)


class Setting(NamedTuple):
  """One row of the table."""

  method: str
  num_drafts: int  # 0 where nothing is drafted
  draft_temperatures: str  # '0.5/1.0', '' for the target's

  @property
  def name(self) -> str:
    """For cells and plots."""
    parts = [self.method]
    if self.num_drafts:
      parts.append(f'K{self.num_drafts}')
    if self.draft_temperatures:
      parts.append(f'T{self.draft_temperatures.replace("/", "+")}')
    return '-'.join(parts)


def settings_of(config) -> list[Setting]:
  """The rows of the table; `single` is always among them.

  Methods of one draft stand once, at config.single_temperature. SpecTr needs
  drafts of one law and is left out where the temperatures differ.
  """
  methods = list(config.methods)
  if language_summary.REFERENCE not in methods:
    methods.insert(0, language_summary.REFERENCE)
  rows = []
  for method in methods:
    if method == 'autoregressive':
      rows.append(Setting(method, 0, ''))
    elif METHODS[method].single_draft:
      rows.append(Setting(method, 1, config.single_temperature))
  for text in config.draft_temperatures:
    varied = len(set(base.temperatures(text) or ())) > 1
    for num_drafts in config.num_drafts:
      for method in methods:
        if method == 'autoregressive' or METHODS[method].single_draft:
          continue
        if not (method == 'spectr' and varied):
          rows.append(Setting(method, num_drafts, text))
  return rows


def options_of(setup: base.Setup, setting: Setting) -> GenerateOptions:
  """Options of a row of the table."""
  return dataclasses.replace(
    setup.options,
    method=setting.method,
    num_drafts=max(setting.num_drafts, 1),
    draft_temperatures=base.temperatures(setting.draft_temperatures),
  )


def measure(setup: base.Setup, cell: Cell, *, warm_up: bool = False) -> dict:
  """Columns of a cell: tokens and target calls of every row, and the rate.

  Args:
    setup: of `language_setup.prepare`.
    cell: what to run.
    warm_up: run it once before, off the clock: the first run of a program is
      slow.
  """
  options = options_of(setup, cell.setting)
  for _ in range(2 if warm_up else 1):
    out = continue_prompts(setup, cell, options)
  real = slice(cell.batch.size)
  return {
    'rows': work.join(cell.batch.rows[real]),
    'tokens': work.join(out.lengths[real]),
    'calls': work.join(out.metrics.target_calls[real]),
    'drafted': int(out.metrics.drafted_tokens[real].sum()),
    'accepted': work.join(out.metrics.accepted_per_position[real].sum(axis=0)),
    'tokens_per_second': out.metrics.tokens_per_second,
  }


def run(config, workdir, seed: int = 0) -> list[dict]:
  """Fills the table cell by cell, resuming what an earlier run left.

  Args:
    config: see configs/decoding_iid.py.
    workdir: folder of cells.csv, results.csv, results.json and the plots.
    seed: the first of config.seeds.

  Returns:
    One dictionary per data set and setting, the columns of results.csv.

  Raises:
    ValueError: for settings that make no sense, or a workdir of another run.
    FileNotFoundError: if models or prompts are missing.
  """
  setup = base.prepare(config)
  settings = {setting.name: setting for setting in settings_of(config)}
  for setting in settings.values():
    options_of(setup, setting).check(setup.target.config.vocab_size)
  cells, warm = cells_of(setup, config, seed, settings), set()

  def compute(cell):
    shape = base.program_shape(setup, cell.dataset, cell.batch)
    program = cell.setting, shape
    row = measure(setup, cell, warm_up=program not in warm)
    warm.add(program)
    return row

  found = fill(workdir, setup, config, seed, cells, compute)
  rows = language_summary.summarize(cells, found, config)
  rows = base.with_prompt_counts(setup, rows)
  base.finish(workdir, setup, rows)
  language_plots.block_efficiency(
    rows, pathlib.Path(workdir) / 'block_efficiency.png'
  )
  return rows


as_text = language_summary.as_text
