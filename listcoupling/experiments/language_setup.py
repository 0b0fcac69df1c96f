"""What the language experiments share: models, prompts, and rows of a batch.

The tables of arXiv 2506.05632, section 5, run the same pair of models on the
same prompts and differ in what they measure.

Legend: B prompts, R rows of a batch, P prompt tokens.
"""

import pathlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import listcoupling
from listcoupling.data import prompt_choice
from listcoupling.data import prompts as prompt_data
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import results
from listcoupling.models import pretrained

_BUCKET = 32  # `generate` pads prompts to multiples of it


class Setup(NamedTuple):
  """The pair and the prompts of a run."""

  target: LanguageModel
  drafter: LanguageModel
  choices: dict  # data set -> prompt_choice.Choice
  options: GenerateOptions  # of every run; methods and drafts differ
  record: dict  # for results.json
  identity: dict  # what must be the same for a run to be resumed


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  for name in ('num_prompts', 'batch_size', 'seeds', 'max_new_tokens'):
    if config[name] < 1:
      raise ValueError(f'{name} must be at least 1, got {config[name]}.')
  for name in ('datasets', 'methods', 'num_drafts'):
    if not config[name]:
      raise ValueError(f'{name} must name at least one, got {config[name]}.')
  unknown = set(config.datasets) - set(prompt_data.FORMATS)
  if unknown:
    raise ValueError(
      f'datasets must be among {", ".join(prompt_data.FORMATS)}, got '
      f'{", ".join(sorted(unknown))}.'
    )
  unknown = set(config.methods) - set(METHODS)
  if unknown:
    raise ValueError(
      f'methods must be among {", ".join(METHODS)}, got '
      f'{", ".join(sorted(unknown))}.'
    )
  if min(config.num_drafts) < 1:
    raise ValueError(f'num_drafts must be positive, got {config.num_drafts}.')
  if bool(config.target) != bool(config.drafter):
    raise ValueError(
      f'target {config.target!r} and drafter {config.drafter!r} must be given '
      'both or, for the shipped pair, neither.'
    )


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


def prepare(config) -> Setup:
  """Loads the pair and the prompts.

  Args:
    config: see configs/decoding_iid.py.

  Returns:
    `Setup`.

  Raises:
    ValueError: for settings, checkpoints or prompts that make no sense.
    FileNotFoundError: if models or prompts are missing.
  """
  check_config(config)
  # Prompts first: what is missing there is known without loading a model.
  texts = {name: _load_prompts(config, name) for name in config.datasets}
  target, drafter = _load_pair(config)
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
    'models': {'target': _size(target), 'drafter': _size(drafter)},
    'stop_tokens': options.stop_tokens,
    'cache_length': options.cache_length,
  }
  identity = _identity(target, drafter, choices)
  return Setup(target, drafter, choices, options, record, identity)


def _identity(target, drafter, choices) -> dict:
  """What texts and rates depend on beside the settings."""
  device = jax.devices()[0]
  return {
    'library': listcoupling.__version__,
    'jax': jax.__version__,
    'device': f'{device.platform} {device.device_kind}',
    'prompts': {n: _digest([c.tokens, c.lengths]) for n, c in choices.items()},
    'target': _digest(jax.tree.leaves(target.params)),
    'target_config': str(target.config),
    'drafter': _digest(jax.tree.leaves(drafter.params)),
    'drafter_config': str(drafter.config),
  }


def _options(config, target, choices) -> GenerateOptions:
  # One cache length for all data sets: one compilation per method and K.
  longest = max(choice.tokens.shape[1] for choice in choices.values())
  stops = [target.tokenizer.token_to_id(name) for name in config.stop_tokens]
  options = GenerateOptions(
    method='autoregressive',
    draft_length=config.draft_length,
    max_new_tokens=config.max_new_tokens,
    temperature=config.temperature,
    top_k=config.top_k,
    stop_tokens=tuple(stop for stop in stops if stop is not None),
    cache_length=-(-longest // _BUCKET) * _BUCKET + config.max_new_tokens,
  )
  options.check(target.config.vocab_size)
  return options


def _load_prompts(config, dataset):
  return prompt_data.load_prompts(
    dataset,
    config.prompts or None,
    source='files' if config.prompts else config.source,
    template=config.templates.get(dataset) or None,
  )


def _load_pair(config):
  if not config.target:
    return pretrained.shipped_pair()
  dtype = jnp.dtype(config.dtype)
  return tuple(
    pretrained.load_pretrained(name, dtype=dtype)
    for name in (config.target, config.drafter)
  )


def _size(model) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(model.params))


def _digest(arrays) -> str:
  """A short check sum of types, shapes and all values."""
  total = 0
  for array in arrays:
    kind = f'{array.dtype} {array.shape}'
    total = zlib.crc32(kind.encode(), total)
    total = zlib.crc32(np.asarray(array).tobytes(), total)
  return f'{total:08x}'


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


def row_keys(seed: int, dataset: str, rows: np.ndarray) -> jax.Array:
  """[R] keys: a prompt's text does not depend on its batch."""
  key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(dataset.encode()))
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.asarray(rows))


def batches(setup: Setup, config, dataset) -> list[prompt_choice.Batch]:
  """The batches of a data set."""
  return prompt_choice.deal(setup.choices[dataset].lengths, config.batch_size)


def program_shape(setup: Setup, dataset, batch) -> tuple[int, int]:
  """(rows, padded prompt tokens): batches alike in it share programs."""
  longest = int(setup.choices[dataset].lengths[batch.rows].max())
  return len(batch.rows), -(-longest // _BUCKET) * _BUCKET


def with_prompt_counts(setup: Setup, rows: Sequence[dict]) -> list[dict]:
  """Rows of results.csv, and how many prompts were cut or passed over."""
  return [
    {
      **row,
      'prompts_cut': setup.choices[row['dataset']].num_cut,
      'prompts_dropped': setup.choices[row['dataset']].num_dropped,
    }
    for row in rows
  ]


def prompt_lines(rows: Sequence[dict]) -> dict[str, str]:
  """Per data set, a line on its prompts out of `with_prompt_counts`."""
  return {
    row['dataset']: (
      f'{row["dataset"]}: {row["prompts"]} prompts, {row["prompts_cut"]} of '
      f'them cut at the left; {row["prompts_dropped"]} more dropped as too long'
    )
    for row in rows
  }


def finish(workdir, setup: Setup, rows: Sequence[dict]) -> None:
  """Writes results.csv and completes results.json."""
  workdir = pathlib.Path(workdir)
  results.write_csv(workdir / 'results.csv', rows)
  record = results.read_json(workdir / 'results.json')
  record.update(setup.record)
  results.write_json(workdir / 'results.json', record)
