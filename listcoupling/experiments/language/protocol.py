"""The protocol of the language tables: a pair, prompts, batches, jobs.

The tables of arXiv 2506.05632, section 5, run the same pair of models on the
same prompts and differ in what they measure. All go through data sets, seeds
and batches alike; a setting is what their rows differ in. The settings take
turns on every batch, so that a machine that slows down slows all of them; a
table with token rates keeps to one device of a process.

Legend: S seeds, B prompts, R rows of a batch, P prompt tokens.
"""

import functools
import itertools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import listcoupling
from listcoupling import files, gumbel, tables
from listcoupling.config_fields import Field
from listcoupling.data import prompt_choice
from listcoupling.data import prompts as prompt_data
from listcoupling.decoding.generate import Generation, generate
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment
from listcoupling.gumbel import Domain
from listcoupling.models import pretrained
from listcoupling.models.quantised import quantised_drafter

_BUCKET = 32  # `generate` pads prompts to multiples of it
_TEXT = Field(str, empty=True)
_COUNT = Field(int, least=1)
FIELDS = {
  'experiment': Field(str),
  'target': _TEXT,
  'drafter': _TEXT,
  'dtype': Field(str),
  'datasets': Field(str, among=tuple(prompt_data.FORMATS), many=True),
  'prompts': _TEXT,
  'source': Field(str, among=prompt_data.SOURCES),
  'num_prompts': _COUNT,
  'prompt_seed': Field(int, least=0),
  'max_prompt_tokens': Field(int, least=2),
  'long_prompts': Field(str, among=prompt_choice.LONG_PROMPTS),
  'templates': dict.fromkeys(prompt_data.FORMATS, _TEXT),
  'methods': Field(str, among=tuple(METHODS), many=True),
  'num_drafts': Field(int, least=1, many=True),
  'draft_length': _COUNT,
  'draft_temperatures': Field(str, many=True),
  'single_temperature': _TEXT,
  'temperature': Field(float, least=0),
  'top_k': Field(int, least=0),
  'max_new_tokens': _COUNT,
  'stop_tokens': Field(str, many=True, empty=True),
  'seeds': _COUNT,
  'batch_size': _COUNT,
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
  """The pair and the prompts of a run."""

  target: LanguageModel
  drafter: LanguageModel
  choices: dict  # data set -> prompt_choice.Choice
  options: GenerateOptions  # of every run; methods and drafts differ
  record: dict  # for results.json
  identity: dict  # what must be the same for a run to be resumed

  def on(self, device: jax.Device | str | None) -> 'Setup':
    """The same with the models on a device; what is none leaves them."""
    if not isinstance(device, jax.Device):  # or the name of a platform
      return self
    target, drafter = (
      model._replace(params=jax.device_put(model.params, device))
      for model in (self.target, self.drafter)
    )
    return self._replace(target=target, drafter=drafter)


class Job(NamedTuple):
  """One batch under one setting."""

  dataset: str
  seed: int
  number: int  # of the batch
  batch: prompt_choice.Batch
  setting: Any
  label: str  # of the setting

  @property
  def name(self) -> str:
    """Of its row in batches.csv."""
    return f'{self.dataset}/s{self.seed}/b{self.number}/{self.label}'


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


def load_pair(config) -> tuple[LanguageModel, LanguageModel]:
  """(target, drafter); the shipped pair where the config names none.

  Args:
    config: with target and drafter, directories or hub names, and dtype;
      with drafter_bits 8 or 4, a copy of the target with fewer bits drafts.

  Raises:
    ValueError: one is named without the other, a model has no tokenizer, or
      the two have different ones.
    FileNotFoundError: a directory is missing.
  """
  target, drafter = _named_pair(config)
  bits = config.get('drafter_bits', 0)
  return target, quantised_drafter(target, bits) if bits else drafter


def _named_pair(config) -> tuple[LanguageModel, LanguageModel]:
  names = config.target, config.drafter
  if not any(names):
    return pretrained.shipped_pair()
  if not all(names):
    raise ValueError(
      f'target {names[0]!r} and drafter {names[1]!r} must be given both or, '
      'for the shipped pair, neither.'
    )
  pair = [
    pretrained.load_pretrained(name, dtype=config.dtype) for name in names
  ]
  for name, model in zip(names, pair, strict=True):
    if model.tokenizer is None:
      raise ValueError(f'{name} has no tokenizer.json, which text needs.')
  if pair[0].tokenizer.get_vocab() != pair[1].tokenizer.get_vocab():
    raise ValueError(
      f'{names[0]} and {names[1]} have different tokenizers; their laws are on '
      'different tokens.'
    )
  return tuple(pair)


class Table(NamedTuple):
  """One language table: settings, what a job measures, rows.

  Attributes:
    columns: of the printed table.
    settings: (setup, config) -> what the rows differ in, by label.
    measure: (setup, config, jobs) -> a function of a `Job`, the columns of its
      row in batches.csv.
    summarize: (groups, place, config) -> a row of results.csv, from all (job,
      row) pairs by (data set, setting) and the place of the row among them.
    fields: of the config.
    legend: below the printed table.
    timed: rows hold token rates: all are measured on one device of a process.
      Rows of other tables are dealt over its devices.
  """

  columns: Sequence[tables.Column]
  settings: Callable[[Setup, Any], Mapping[str, Any]]
  measure: Callable[[Setup, Any, Sequence[Job]], Callable[[Job], dict]]
  summarize: Callable[[dict, tuple[str, Any], Any], dict]
  fields: Mapping[str, Any] = FIELDS
  legend: str = ''
  timed: bool = False

  def experiment(self, **figures) -> Experiment:
    """The experiment, with figures by the name of their PNG."""
    return Experiment(
      self.fields,
      self._prepare,
      self._as_text,
      {f'{name}.png': draw for name, draw in figures.items()},
    )

  def _prepare(self, config, seed):
    setup = prepare(config)
    jobs = jobs_of(setup, config, seed, self.settings(setup, config))

    @functools.cache  # each device has the models once
    def measure_on(device):
      return self.measure(setup.on(device), config, jobs)

    def measure(job):
      return measure_on(jax.config.jax_default_device)(job)

    def fill(record):
      named = {job.name: job for job in jobs}
      measured = record.rows(
        named, measure, key='job', table='batches.csv', timed=self.timed
      )
      groups = {}
      for job, row in zip(named.values(), measured, strict=True):
        groups.setdefault((job.dataset, job.setting), []).append((job, row))
      rows = [
        self.summarize(groups, place, config)
        | {
          'prompts_cut': setup.choices[place[0]].num_cut,
          'prompts_dropped': setup.choices[place[0]].num_dropped,
        }
        for place in groups
      ]
      record.write(rows)
      record.note(**setup.record)
      return rows

    return setup.identity, fill

  def _as_text(self, rows: Sequence[dict]) -> str:
    """The table by data set, a line on its prompts above each."""
    parts = [
      f'{name}: {group[0]["prompts"]} prompts, {group[0]["prompts_cut"]} of '
      f'them cut at the left; {group[0]["prompts_dropped"]} more dropped as '
      f'too long\n{tables.as_text(group, self.columns)}'
      for name, group in by_dataset(rows)
    ]
    return '\n\n'.join(parts + [self.legend] * bool(self.legend))


def prepare(config) -> Setup:
  """Loads the pair and the prompts of a config that was checked.

  Args:
    config: see configs/decoding_iid.py.

  Raises:
    ValueError: for checkpoints or prompts that make no sense.
    FileNotFoundError: if models or prompts are missing.
  """
  # Prompts first: what is missing there is known without loading a model.
  texts = {name: _load_prompts(config, name) for name in config.datasets}
  target, drafter = load_pair(config)
  choices = {
    name: prompt_choice.choose(
      texts[name],
      target.tokenizer,
      num_prompts=config.num_prompts,
      seed=config.prompt_seed,
      max_tokens=config.max_prompt_tokens,
      long_prompts=config.long_prompts,
    )
    for name in config.datasets
  }
  options = _options(config, target, choices)
  record = {
    'prompts': {n: _describe(texts[n], choices[n]) for n in config.datasets},
    'parameters': {
      name: sum(leaf.size for leaf in jax.tree.leaves(model.params))
      for name, model in (('target', target), ('drafter', drafter))
    },
    'stop_tokens': options.stop_tokens,
    'cache_length': options.cache_length,
  }
  identity = _identity(target, drafter, choices)
  return Setup(target, drafter, choices, options, record, identity)


def _load_prompts(config, dataset) -> prompt_data.Prompts:
  return prompt_data.load_prompts(
    dataset,
    config.prompts or None,
    source='files' if config.prompts else config.source,
    template=config.templates.get(dataset) or None,
  )


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


def _identity(target, drafter, choices) -> dict:
  """All that texts and rates depend on beside the settings."""
  device = jax.devices()[0]
  return {
    'library': listcoupling.__version__,
    'jax': jax.__version__,
    'device': f'{device.platform} {device.device_kind}',
    'prompts': {
      name: files.digest((choice.tokens, choice.lengths))
      for name, choice in choices.items()
    },
    'target': files.digest(target.params, str(target.config)),
    'drafter': files.digest(drafter.params, str(drafter.config)),
  }


def _describe(prompts, choice) -> dict:
  return {
    'source': prompts.source,
    'available': len(prompts.texts),
    'chosen': len(choice.names),
    'cut': choice.num_cut,
    'dropped': choice.num_dropped,
    'tokens': int(choice.lengths.sum()),
    'names': ' '.join(choice.names),
  }


def jobs_of(
  setup: Setup, config, seed: int, settings: Mapping[str, Any]
) -> list[Job]:
  """All jobs of a table: by data set, seed, batch and setting.

  Args:
    setup: of `prepare`.
    config: with datasets, seeds and batch_size.
    seed: the first one.
    settings: by label.
  """
  return [
    Job(dataset, seed + number, index, batch, setting, label)
    for dataset in config.datasets
    for number in range(config.seeds)
    for index, batch in enumerate(
      prompt_choice.deal(setup.choices[dataset].lengths, config.batch_size)
    )
    for label, setting in settings.items()
  ]


def row_keys(seed: int, dataset: str, rows: np.ndarray) -> jax.Array:
  """[R] keys: a prompt's text depends on seed, data set and prompt alone."""
  key = dataset_key(Domain.TEXTS, seed, dataset)
  return jax.vmap(lambda row: gumbel.position_key(key, row))(jnp.asarray(rows))


def dataset_key(domain: Domain, seed: int, dataset: str, *numbers) -> jax.Array:
  """Key of one job on one data set."""
  name = zlib.crc32(dataset.encode())
  return gumbel.domain_key(gumbel.seed_key(seed), domain, name, *numbers)


def continue_prompts(
  setup: Setup, job: Job, options: GenerateOptions, *, plain=False
) -> Generation:
  """Continues the prompts of a job; its rows R include the padding.

  Args:
    setup: the models and prompts.
    job: what to run.
    options: of the run.
    plain: without the drafter.
  """
  choice, rows = setup.choices[job.dataset], job.batch.rows
  return generate(
    row_keys(job.seed, job.dataset, rows),
    setup.target,
    [] if plain else [setup.drafter],
    choice.tokens[rows],
    choice.lengths[rows],
    options,
  )


def checked(settings_of, options_of) -> Callable[[Setup, Any], dict[str, Any]]:
  """Settings of a config by name; `generate` would take the options of each."""

  def settings(setup, config):
    found = {setting.name: setting for setting in settings_of(config)}
    for setting in found.values():
      options_of(setup, setting).check(setup.target.config.vocab_size)
    return found

  return settings


def per_prompt(
  pairs: Sequence[tuple[Job, dict]], names: Sequence[str]
) -> dict[str, np.ndarray]:
  """Cells that hold a number for each prompt, of one setting and data set.

  Args:
    pairs: jobs and their rows in batches.csv.
    names: of columns.

  Returns:
    [S, B] for each name: S seeds, B prompts.
  """
  seeds = sorted({job.seed for job, _ in pairs})
  size = sum(job.batch.size for job, _ in pairs) // len(seeds)
  columns = {name: np.zeros((len(seeds), size)) for name in names}
  for job, row in pairs:
    place = seeds.index(job.seed), job.batch.rows[: job.batch.size]
    for name, column in columns.items():
      column[place] = tables.split(row[name])
  return columns


def by_dataset(rows: Iterable[dict]) -> list[tuple[str, list[dict]]]:
  """Rows of each data set, in their order."""
  groups = itertools.groupby(rows, key=lambda row: row['dataset'])
  return [(name, list(group)) for name, group in groups]
