"""Cells of the language tables: a batch of prompts, once per setting.

The tables of arXiv 2506.05632, section 5, go through data sets, seeds and
batches alike; a setting is what their rows differ in. The settings take turns
on every batch, so that a machine that slows down slows all of them.

Legend: R rows of a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from listcoupling.data.prompt_choice import Batch
from listcoupling.decoding.generate import Generation, generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import cells as work
from listcoupling.experiments import language_setup as base


class Cell(NamedTuple):
  """One batch under one setting."""

  dataset: str
  seed: int
  number: int  # of the batch
  batch: Batch
  setting: Any
  label: str  # of the setting

  @property
  def name(self) -> str:
    """Key of the cell."""
    return f'{self.dataset}/s{self.seed}/b{self.number}/{self.label}'


def cells_of(
  setup: base.Setup, config, seed: int, settings: Mapping[str, Any]
) -> list[Cell]:
  """All cells of a table.

  Args:
    setup: of `language_setup.prepare`.
    config: with datasets, seeds and batch_size.
    seed: the first one.
    settings: by label.
  """
  return [
    Cell(dataset, seed + number, index, batch, setting, label)
    for dataset in config.datasets
    for number in range(config.seeds)
    for index, batch in enumerate(base.batches(setup, config, dataset))
    for label, setting in settings.items()
  ]


def fill(
  workdir,
  setup: base.Setup,
  config,
  seed: int,
  cells: Sequence[Cell],
  compute: Callable[[Cell], dict],
) -> list[dict]:
  """`cells.fill` with all that a language table depends on."""
  settings = {'config': config, 'seed': seed, **setup.identity}
  named = [(cell.name, cell) for cell in cells]
  return work.fill(workdir, settings, named, compute)


def continue_prompts(
  setup: base.Setup, cell: Cell, options: GenerateOptions, *, plain=False
) -> Generation:
  """Continues the prompts of a cell; its rows R include the padding.

  Args:
    setup: the models and prompts.
    cell: what to run.
    options: of the run.
    plain: without the drafter.
  """
  choice, rows = setup.choices[cell.dataset], cell.batch.rows
  return generate(
    base.row_keys(cell.seed, cell.dataset, rows),
    setup.target,
    [] if plain else [setup.drafter],
    choice.tokens[rows],
    choice.lengths[rows],
    options,
  )
