"""The protocol of the language tables: a pair, prompts, batches, jobs.

The tables of arXiv 2506.05632, section 5, run the same pair of models on the
same prompts and differ in what they measure. All go through data sets, seeds
and batches alike; a setting is what their rows differ in. The settings take
turns on every batch, so that a machine that slows down slows all of them; a
table with token rates keeps to one device of a process. On a mesh the devices
share the models and every batch. S seeds are `seed`, `seed + 1` ...: those of
another run from a seed among them are the same texts, on purpose.

Legend: S seeds, B prompts, R rows of a batch, P prompt tokens.
"""

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import listcoupling
from listcoupling import files, gumbel, standard_errors, tables
from listcoupling.config_fields import Field
from listcoupling.data import prompt_choice
from listcoupling.data import prompts as prompt_data
from listcoupling.decoding import placement, programs
from listcoupling.decoding.generate import (
  Generation,
  check_tokenizers,
  generate,
  place_models,
)
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment
from listcoupling.gumbel import Domain
from listcoupling.models import pretrained
from listcoupling.models.quantised import quantised_drafter

T = TypeVar('T')
_BUCKET = 32  # `generate` pads prompts to multiples of it
_TEXT = Field(str, empty=True)
_COUNT = Field(int, least=1)
SHARED = {  # fields of all tables
  'experiment': Field(str),
  'dtype': Field(str),
  'datasets': Field(str, among=tuple(prompt_data.FORMATS), many=True),
  'source': Field(str, among=prompt_data.SOURCES),
  'prompt_seed': Field(int, least=0),
  'max_prompt_tokens': Field(int, least=2),
  'long_prompts': Field(str, among=prompt_choice.LONG_PROMPTS),
  'templates': dict.fromkeys(prompt_data.FORMATS, _TEXT),
  'methods': Field(str, among=tuple(METHODS), many=True),
  'num_drafts': Field(int, least=1, many=True),
  'top_k': Field(int, least=0),
  'stop_tokens': Field(str, many=True, empty=True),
  **dict.fromkeys(('target', 'drafter', 'prompts'), _TEXT),
  **dict.fromkeys(
    ('num_prompts', 'max_new_tokens', 'seeds', 'batch_size'), _COUNT
  ),
}
FIELDS = SHARED | {
  'draft_length': _COUNT,
  'draft_temperatures': Field(str, many=True),
  'single_temperature': _TEXT,
  'temperature': Field(float, least=0),
}
COLORS = {
  'gumbel_tree': plots.GREEN,
  'gumbel_chains': plots.BLUE,
  'gls': plots.RED,
  'gls_strong': plots.PINK,
  'specinfer': plots.ORANGE,
  'spectr': plots.SKY,
  'single': '0.45',
  'block': '0.65',
  'traversal': plots.PINK,
  'autoregressive': '0.85',
}


class Setup(NamedTuple):
  """The pair and the prompts of a run, on one device of it."""

  target: LanguageModel
  drafter: LanguageModel
  config: Any
  choices: dict  # data set -> prompt_choice.Choice
  options: GenerateOptions  # of every run; methods and drafts differ
  sources: dict[str, str]  # data set -> where its prompts were found

  def on(self, device: jax.Device | str | None) -> 'Setup':
    """The same with the models on a device; what is none leaves them."""
    if not isinstance(device, jax.Device):  # or the name of a platform
      return self
    target, drafter = (
      model._replace(params=jax.device_put(model.params, device))
      for model in (self.target, self.drafter)
    )
    return self._replace(target=target, drafter=drafter)


class Once:
  """A cache of one value: what several settings of a batch need.

  Example:
    >>> once = Once()
    >>> once('a', lambda: 1), once('a', lambda: 2), once('b', lambda: 3)
    (1, 1, 3)
  """

  def __init__(self):
    self._latest = {}

  def __call__(self, place: Hashable, compute: Callable[[], T]) -> T:
    """The value of a place, computed unless it is the latest one."""
    if place not in self._latest:
      self._latest.clear()  # two may not fit
      self._latest[place] = compute()
    return self._latest[place]


class Setting(NamedTuple):
  """A row of the tables whose drafts differ in number and temperature."""

  method: str
  num_drafts: int  # 0 where nothing is drafted
  draft_temperatures: str  # '0.5/1.0', '' for the target's

  @property
  def name(self) -> str:
    """For jobs and plots."""
    parts = [self.method]
    if self.num_drafts:
      parts.append(f'K{self.num_drafts}')
    if self.draft_temperatures:
      parts.append(f'T{self.draft_temperatures.replace("/", "+")}')
    return '-'.join(parts)


class Job(NamedTuple):
  """One batch under one setting."""

  dataset: str
  seed: int
  number: int  # of the batch
  batch: prompt_choice.Batch
  setting: Any


def temperatures(text: str) -> tuple[float, ...] | None:
  """Draft temperatures out of the paper's notation; None for ''.

  Example:
    >>> temperatures('0.5/1.0')
    (0.5, 1.0)
  """
  try:
    return tuple(float(part) for part in text.split('/')) if text else None
  except ValueError as error:
    raise ValueError(
      f"draft temperatures must look like '0.5/1.0', got {text!r}."
    ) from error


def load_pair(
  config, mesh: Mesh | None = None
) -> tuple[LanguageModel, LanguageModel]:
  """(target, drafter); the shipped pair where the config names none.

  Args:
    config: with target and drafter, directories or hub names, and dtype;
      with drafter_bits 8 or 4, a copy of the target with fewer bits drafts.
    mesh: in standard form, of the devices that read the models.

  Raises:
    ValueError: one is named without the other, a model has no tokenizer, the
      two have different ones, or the mesh does not divide the target.
    FileNotFoundError: a directory is missing.
  """
  names = config.target, config.drafter
  if not any(names):
    pair = pretrained.shipped_pair()
  elif all(names):
    load = functools.partial(
      pretrained.load_pretrained, dtype=config.dtype, mesh=mesh
    )
    pair = load(names[0]), load(names[1], strict=False)
  else:
    raise ValueError(
      f'target {names[0]!r} and drafter {names[1]!r} must be given both or, '
      'for the shipped pair, neither.'
    )
  for name, model in zip(names, pair, strict=True):
    if model.tokenizer is None:
      raise ValueError(f'{name} has no tokenizer.json, which text needs.')
  target, drafter = pair
  check_tokenizers(target, drafter)
  bits = config.get('drafter_bits', 0)
  return target, quantised_drafter(target, bits) if bits else drafter


class Table(NamedTuple):
  """One language table: settings, what a job measures, rows.

  Attributes:
    columns: of the printed table.
    settings: of a config, what the rows differ in: NamedTuples of their first
      columns, by label.
    measure: (setup, job, once) -> columns of its row in batches.csv; arrays
      hold a number for each row of the batch. See `Once`.
    summarize: (groups, place, setup) -> columns of a row of results.csv, from
      all (job, row) pairs by (data set, setting) and the place of the row
      among them.
    options: (setup, setting) -> options that `generate` must take.
    fields: of the config.
    shown: the rows that are printed, from all.
    legend: below the printed table.
    timed: rows hold token rates: all are measured on one device of a process.
      Rows of other tables are dealt over its devices.
  """

  columns: Sequence[tables.Column]
  settings: Callable[[Any], Mapping[str, Any]]
  measure: Callable[[Setup, Job, Once], dict]
  summarize: Callable[[dict, tuple[str, Any], Setup], dict]
  options: Callable[[Setup, Any], GenerateOptions] | None = None
  fields: Mapping[str, Any] = FIELDS
  shown: Callable[[Sequence[dict]], Sequence[dict]] = list
  legend: str = ''
  timed: bool = False

  def experiment(self, **figures) -> Experiment:
    """The experiment, with figures by the name of their PNG."""
    figures = {f'{name}.png': draw for name, draw in figures.items()}
    return Experiment(self.fields, self._prepare, self._as_text, figures)

  def _prepare(self, config, seed, mesh=None):
    settings = self.settings(config)
    setup = prepare(config, mesh)
    if self.options is not None:
      for setting in settings.values():
        self.options(setup, setting).check(setup.target.config.vocab_size)
    jobs = _jobs(setup, seed, settings)
    # Each device has the models once, and a cache of its own.
    place = functools.cache(lambda device: (setup.on(device), Once()))

    def measure(job):
      own, once = place(jax.config.jax_default_device)
      found = self.measure(own, job, once)
      size = job.batch.size  # the rest is padding
      return {
        name: tables.join(value[:size]) if np.ndim(value) else value
        for name, value in found.items()
      }

    def fill(record):
      # Settings take turns; each has a program for prompts and one for text.
      with programs.room(2 * (1 + len(settings))):
        measured = record.rows(
          jobs,
          measure,
          key='job',
          table='batches.csv',
          timed=self.timed,
          shared=mesh is not None,
        )
      rows = self._rows(zip(jobs.values(), measured, strict=True), setup)
      record.write(rows)
      record.note(**_told(setup))
      return rows

    return _identity(setup), fill

  def _rows(self, measured: Iterable[tuple[Job, dict]], setup) -> list[dict]:
    """Of results.csv, a setting on a data set each."""
    groups, rows = {}, []
    for job, row in measured:
      groups.setdefault((job.dataset, job.setting), []).append((job, row))
    for dataset, setting in groups:
      choice = setup.choices[dataset]
      rows.append(
        {
          'dataset': dataset,
          **setting._asdict(),
          **self.summarize(groups, (dataset, setting), setup),
          'seeds': setup.config.seeds,
          'prompts': len(choice.names),
          'prompts_cut': choice.num_cut,
          'prompts_dropped': choice.num_dropped,
        }
      )
    return rows

  def _as_text(self, rows: Sequence[dict]) -> str:
    """The table by data set, a line on its prompts above each."""
    parts = [
      f'{name}: {group[0]["prompts"]} prompts, {group[0]["prompts_cut"]} of '
      f'them cut at the left; {group[0]["prompts_dropped"]} more dropped as '
      f'too long\n{tables.as_text(group, self.columns)}'
      for name, group in by_dataset(self.shown(rows))
    ]
    return '\n\n'.join(parts + [self.legend] * bool(self.legend))


def _jobs(setup: Setup, seed: int, settings) -> dict[str, Job]:
  """All jobs by name; settings take turns on every batch."""
  config = setup.config
  return {
    f'{dataset}/s{seed + number}/b{index}/{label}': Job(
      dataset, seed + number, index, batch, setting
    )
    for dataset in config.datasets
    for number in range(config.seeds)
    for index, batch in enumerate(
      prompt_choice.deal(setup.choices[dataset].lengths, config.batch_size)
    )
    for label, setting in settings.items()
  }


def _told(setup: Setup) -> dict:
  """Notes for a reader of results.json, beside the settings."""
  models = {'target': setup.target, 'drafter': setup.drafter}
  return {
    'prompts': {name: ' '.join(x.names) for name, x in setup.choices.items()},
    'sources': setup.sources,
    'stop_tokens': setup.options.stop_tokens,
    'parameters': {
      name: sum(x.size for x in jax.tree.leaves(model.params))
      for name, model in models.items()
    },
  }


def options_of(setup: Setup, setting: Setting) -> GenerateOptions:
  """Options of a row whose drafts differ in number and temperature."""
  return dataclasses.replace(
    setup.options,
    method=setting.method,
    num_drafts=max(setting.num_drafts, 1),
    draft_temperatures=temperatures(setting.draft_temperatures),
  )


def prepare(config, mesh: Mesh | None = None) -> Setup:
  """Loads the pair and the prompts of a config that was checked.

  Args:
    config: see configs/decoding_iid.py.
    mesh: over devices of all processes; the pair is placed on it.

  Raises:
    ValueError: for checkpoints or prompts that make no sense, or a mesh that
      does not divide the target or a batch.
    FileNotFoundError: if models or prompts are missing.
  """
  if mesh is not None:
    mesh = placement.mesh_of_all(mesh)
  # Prompts first: what is missing there is known without loading a model.
  texts = {
    name: prompt_data.load_prompts(
      name,
      config.prompts or None,
      source='files' if config.prompts else config.source,
      template=config.templates.get(name) or None,
    )
    for name in config.datasets
  }
  target, drafter = load_pair(config, mesh)
  size = max(target.config.vocab_size, drafter.config.vocab_size)
  target, (drafter,) = place_models(target, [drafter], mesh, size)
  choices = {
    name: prompt_choice.choose(
      own,
      target.tokenizer,
      num_prompts=config.num_prompts,
      seed=config.prompt_seed,
      max_tokens=config.max_prompt_tokens,
      long_prompts=config.long_prompts,
    )
    for name, own in texts.items()
  }
  for choice in choices.values():
    for batch in prompt_choice.deal(choice.lengths, config.batch_size):
      placement.rows_on(mesh, len(batch.rows), 0, 'prompts of a batch')
  options = _options(config, target, choices)
  sources = {name: own.source for name, own in texts.items()}
  return Setup(target, drafter, config, choices, options, sources)


def _options(config, target, choices) -> GenerateOptions:
  # One cache length for all data sets: one compilation per method and K.
  longest = max(choice.tokens.shape[1] for choice in choices.values())
  stops = [target.tokenizer.token_to_id(name) for name in config.stop_tokens]
  shared = 'draft_length', 'max_new_tokens', 'temperature', 'top_k'
  options = GenerateOptions(
    method='autoregressive',
    **{name: config[name] for name in shared if name in config},
    stop_tokens=tuple(stop for stop in stops if stop is not None),
    cache_length=-(-longest // _BUCKET) * _BUCKET + config.max_new_tokens,
  )
  options.check(target.config.vocab_size)
  return options


def _identity(setup: Setup) -> dict:
  """All that texts and rates depend on beside the config and the seed."""
  device, mesh = jax.devices()[0], placement.mesh_of(setup.target.params)
  found = {} if mesh is None else {'mesh': dict(mesh.shape)}
  return found | {
    'library': listcoupling.__version__,
    'jax': jax.__version__,
    'device': f'{device.platform} {device.device_kind}',
    'prompts': {
      name: files.digest((choice.tokens, choice.lengths))
      for name, choice in setup.choices.items()
    },
    'target': _digest(setup.target),
    'drafter': _digest(setup.drafter),
  }


def _digest(model) -> str:
  return files.digest(model.params, str(model.config), placement.fetch)


def row_keys(seed: int, dataset: str, rows: np.ndarray) -> jax.Array:
  """[R] keys: a prompt's text depends on seed, data set and prompt alone."""
  key = dataset_key(Domain.TEXTS, seed, dataset)
  return gumbel.row_keys(key, jnp.asarray(rows))


def dataset_key(domain: Domain, seed: int, dataset: str, *numbers) -> jax.Array:
  """Key of one job on one data set."""
  name = zlib.crc32(dataset.encode())
  return gumbel.domain_key(gumbel.seed_key(seed), domain, name, *numbers)


def continue_prompts(
  setup: Setup, job: Job, options: GenerateOptions
) -> Generation:
  """Continues the prompts of a job; its rows R include the padding."""
  choice, rows = setup.choices[job.dataset], job.batch.rows
  return generate(
    row_keys(job.seed, job.dataset, rows),
    setup.target,
    [setup.drafter] if METHODS[options.method].drafts else [],
    choice.tokens[rows],
    choice.lengths[rows],
    options,
  )


def timed_prompts(
  setup: Setup, job: Job, options: GenerateOptions
) -> Generation:
  """`continue_prompts`, again if it compiled: a program's first run is slow."""
  compiling = programs.seconds()
  out = continue_prompts(setup, job, options)
  if programs.seconds() > compiling:
    out = continue_prompts(setup, job, options)
  return out


def per_prompt(
  pairs: Sequence[tuple[Job, dict]], names: Sequence[str]
) -> list[np.ndarray]:
  """Columns that hold a number for each prompt, of one setting and data set.

  Args:
    pairs: jobs and their rows in batches.csv.
    names: of columns.

  Returns:
    [S, B] for each name: S seeds, B prompts.
  """
  seeds = sorted({job.seed for job, _ in pairs})
  size = sum(job.batch.size for job, _ in pairs) // len(seeds)
  columns = np.zeros((len(names), len(seeds), size))
  for job, row in pairs:
    place = seeds.index(job.seed), job.batch.rows[: job.batch.size]
    for name, column in zip(names, columns):
      column[place] = tables.split(row[name])
  return list(columns)


def tokens_per_call(
  pairs: Sequence[tuple[Job, dict]],
) -> tuple[float, np.ndarray]:
  """Tokens per target call of a setting on a data set, all texts together.

  Returns:
    The ratio, and each prompt's share [B] of its error, for
    `standard_errors.cluster_error`.
  """
  tokens, calls = (
    each.sum(axis=0) for each in per_prompt(pairs, ('tokens', 'calls'))
  )
  return tokens.sum() / calls.sum(), standard_errors.ratio_terms(tokens, calls)


def lead(
  name: str, groups: dict, ours: tuple[str, Any], theirs: tuple[str, Any]
) -> dict[str, float | None]:
  """Tokens per call that one setting is above another, on the same prompts.

  Args:
    name: of the column.
    groups: see `Table.summarize`.
    ours: place among them.
    theirs: likewise.

  Returns:
    The difference and, as name_se, its standard error over prompts; None where
    there is no other setting.
  """
  if ours == theirs or not {ours, theirs} <= groups.keys():
    return {name: None, f'{name}_se': None}
  rate, terms = tokens_per_call(groups[ours])
  their_rate, their_terms = tokens_per_call(groups[theirs])
  error = standard_errors.cluster_error(terms - their_terms)
  return {name: float(rate - their_rate), f'{name}_se': error}


def by_dataset(rows: Iterable[dict]) -> list[tuple[str, list[dict]]]:
  """Rows of each data set, in their order."""
  groups = itertools.groupby(rows, key=lambda row: row['dataset'])
  return [(name, list(group)) for name, group in groups]


def bars(
  rows: Sequence[dict],
  path,
  *,
  column: str,
  title: str,
  label: Callable[[dict], str] = lambda row: row['method'],
  size: float = 2.8,
) -> None:
  """A bar for each row, down a panel for each data set, with errors.

  Args:
    rows: of a table.
    path: see `plots.figure`.
    column: how long the bars are.
    title: of that axis.
    label: of a row.
    size: width of a panel, inches.
  """
  most = max(len(own) for _, own in by_dataset(rows))
  with plots.panels(
    path,
    rows,
    'dataset',
    title=lambda row: row['dataset'],
    labels=(title, ''),
    size=(size, 0.6 + 0.2 * most),
    sharey=False,
  ) as panels:
    for number, (axes, own) in enumerate(panels):
      places = range(len(own))
      axes.grid(axis='y', visible=False)
      axes.barh(
        places,
        [row[column] for row in own],
        xerr=[row[f'{column}_se'] or 0 for row in own],
        color=[COLORS[row['method']] for row in own],
        height=0.7,
      )
      if number:  # the first panel names the rows of all
        axes.set_yticks([])
      else:
        axes.set_yticks(places, list(map(label, own)))
      axes.set_ylim(len(own) - 0.4, -0.6)
