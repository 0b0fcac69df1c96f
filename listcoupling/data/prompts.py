"""Prompts of the paper's data sets, from files, TFDS or the hub.

GSM8K, HumanEval, MBPP, DROP and NaturalReasoning as in arXiv 2506.05632,
section 5, each read in its own format. A prompt is the question alone, in the
form that the training text of `configs/lm_pair_target.py` has: no instruction
and no worked example. `template` changes that. Of plain text (WikiText-2, Tiny
Shakespeare) every paragraph is a prompt.
"""

import itertools
import os
import pathlib
import string
from collections.abc import Iterator
from typing import NamedTuple

from listcoupling.data import records
from listcoupling.data.images import DATA_VARIABLE

SOURCES = ('files', 'tfds', 'hub')


class Format(NamedTuple):
  """Where a data set is found and what its records look like."""

  template: str  # fields in braces
  files: tuple[str, ...]  # below LISTCOUPLING_DATA, without .gz
  hub: tuple[str, str]  # data set and file
  tfds: tuple[str, str] | None = None  # name and split
  name: str | None = None  # field that names a record
  held_out: tuple[int, int] | None = None  # names of the test records
  head: int | None = None  # records read of a very large set
  least: int = 1  # characters of a prompt; headings are none


FORMATS = {
  'gsm8k': Format(
    '{question}\n',
    ('gsm8k/test.jsonl',),
    ('openai/gsm8k', 'main/test-00000-of-00001.parquet'),
    ('gsm8k', 'test'),
  ),
  'humaneval': Format(
    '{prompt}',
    ('humaneval/HumanEval.jsonl',),
    (
      'openai/openai_humaneval',
      'openai_humaneval/test-00000-of-00001.parquet',
    ),
    name='task_id',
  ),
  'mbpp': Format(
    '{text}\n',
    ('mbpp/mbpp.jsonl', 'mbpp/sanitized-mbpp.json'),
    ('google-research-datasets/mbpp', 'full/test-00000-of-00001.parquet'),
    name='task_id',
    held_out=(11, 510),
  ),
  'drop': Format(
    '{passage}\n{question}\n',
    ('drop/drop_dataset_dev.json', 'drop/validation.jsonl'),
    ('ucinlp/drop', 'data/validation-00000-of-00001.parquet'),
    ('drop', 'dev'),
    name='query_id',
  ),
  'natural_reasoning': Format(
    '{question}\n',
    ('natural_reasoning/full.jsonl',),
    ('facebook/natural_reasoning', 'full.jsonl'),
    head=5000,  # the file has 4 GB
  ),
  'wikitext2': Format(
    '{text}\n',
    ('wikitext2/test.txt', 'wikitext2/valid.txt'),
    ('Salesforce/wikitext', 'wikitext-2-raw-v1/test-00000-of-00001.parquet'),
    least=80,
  ),
  'tinyshakespeare': Format(
    '{text}\n\n',
    ('tinyshakespeare/input.txt',),
    ('karpathy/tiny_shakespeare', 'data/test-00000-of-00001.parquet'),
    least=80,
  ),
}
_LIKELY = 'text', 'prompt', 'question'  # fields that a prompt may be made of
# The sanitized MBPP calls the text a prompt.
_ALIASES = {'text': ('text', 'prompt')}


class Prompts(NamedTuple):
  """All prompts of a data set, in the order of the source."""

  names: tuple[str, ...]
  texts: tuple[str, ...]
  source: str


def load_prompts(
  dataset: str,
  path: str | os.PathLike | None = None,
  *,
  source: str = 'files',
  template: str | None = None,
) -> Prompts:
  """All prompts of a data set.

  Args:
    dataset: one of `FORMATS`.
    path: a file, or a folder with the data sets' folders in it; None takes the
      folder that the environment variable LISTCOUPLING_DATA names. Used with
      source 'files' alone.
    source: 'files'; 'tfds', prepared on this machine (gsm8k and drop); or
      'hub', downloaded from the Hugging Face hub.
    template: prompt with fields of the records in braces; None takes the
      data set's own.

  Returns:
    `Prompts`; of MBPP the test records (ids 11-510) alone.

  Raises:
    FileNotFoundError: no such file, folder, prepared data set or network.
    ValueError: unknown names, a record without a field of the template (path
      and line are named), or nothing but blank prompts.

  Example:
    >>> _ = pathlib.Path('gsm8k.jsonl').write_text('{"question": "1+1"}')
    >>> load_prompts('gsm8k', 'gsm8k.jsonl').texts
    ('1+1\\n',)
  """
  layout = _format(dataset, source, template)
  rows, where = _records(dataset, layout, path, source)
  template = layout.template if template is None else template
  names, texts = [], []
  for number, record in enumerate(itertools.islice(rows, layout.head), 1):
    name = str(number)
    if layout.name:
      name = _field(dataset, record, layout.name)
    if _is_test(record, name, layout):
      text = _fill(dataset, template, record)
      if len(text.strip()) >= layout.least:
        names.append(name)
        texts.append(text)
  if not texts:
    raise ValueError(
      f'{where} holds no prompt of {dataset}'
      + (
        f' with {layout.name} in {layout.held_out}.' if layout.held_out else '.'
      )
    )
  return Prompts(tuple(names), tuple(texts), where)


def _format(dataset, source, template) -> Format:
  if dataset not in FORMATS:
    raise ValueError(
      f'dataset must be one of {", ".join(FORMATS)}, got {dataset!r}.'
    )
  if source not in SOURCES:
    raise ValueError(
      f'source must be one of {", ".join(SOURCES)}, got {source!r}.'
    )
  if template is not None and not _template_fields(template):
    raise ValueError(
      f'template must name fields in braces, got {template!r}; such as '
      f'{FORMATS[dataset].template!r}.'
    )
  return FORMATS[dataset]


def _records(dataset, layout, path, source) -> tuple[Iterator, str]:
  if source == 'hub':
    return records.read_hub(*layout.hub), f'hub {"/".join(layout.hub)}'
  if source == 'tfds':
    if layout.tfds is None:
      named = [name for name, other in FORMATS.items() if other.tfds]
      raise ValueError(
        f'TFDS has {", ".join(named)}, got {dataset!r}; use files or the hub.'
      )
    return records.read_tfds(*layout.tfds), f'TFDS {"/".join(layout.tfds)}'
  found = find_file(dataset, path)
  return records.read(found), os.fspath(found)


def find_file(
  dataset: str, path: str | os.PathLike | None = None
) -> pathlib.Path:
  """The file of a data set; arguments and errors of `load_prompts`."""
  root = path if path is not None else os.environ.get(DATA_VARIABLE)
  candidates = FORMATS[dataset].files
  if not root:
    raise FileNotFoundError(
      f'prompts of {dataset} need a file: give it with --prompts, or set '
      f'{DATA_VARIABLE} to a folder that holds {candidates[0]}, or take '
      'those of the hub with --config.source=hub.'
    )
  root = pathlib.Path(root)
  if not root.is_dir():
    return root  # read as a file, or missed by name
  for candidate in candidates:
    for name in (candidate, f'{candidate}.gz'):
      if (root / name).is_file():
        return root / name
  raise FileNotFoundError(
    f'{root} holds no prompts of {dataset}; put one of '
    f'{", ".join(candidates)} (perhaps with .gz) there, or give a file.'
  )


def _is_test(record, name, layout) -> bool:
  if layout.held_out is None:
    return True
  try:
    return layout.held_out[0] <= int(name) <= layout.held_out[1]
  except ValueError as error:
    raise ValueError(
      f'{record.where}: field {layout.name!r} must be a number, got {name!r}.'
    ) from error


def _template_fields(template) -> list[str]:
  try:
    parts = list(string.Formatter().parse(template))
  except ValueError as error:
    raise ValueError(f'template {template!r} is malformed: {error}.') from error
  for _, name, spec, conversion in parts:
    if name is not None and (spec or conversion or not name.isidentifier()):
      raise ValueError(
        f'template {template!r} is malformed: a field is a name in braces and '
        f'no more, got {name!r}.'
      )
  return [name for _, name, _, _ in parts if name]


def _fill(dataset, template, record) -> str:
  values = {
    name: _field(dataset, record, *_ALIASES.get(name, (name,)))
    for name in _template_fields(template)
  }
  return template.format_map(values)


def _field(dataset, record, *names) -> str:
  """`records.field`, with the remedy where there is none."""
  if record.fields.keys().isdisjoint(names):
    there = sorted(record.fields)
    text = next((x for x in _LIKELY if x in there), (*there, 'text')[0])
    # A template of one that names no records is all that it needs.
    alone = 'gsm8k' if FORMATS[dataset].name else dataset
    raise ValueError(
      f'{record.where} has no field {" or ".join(map(repr, names))} of '
      f'{dataset}; it has {there}. Give a file in the format of {dataset}, or '
      f'ask for one data set alone, with a template of your own: '
      f'--config.datasets="(\'{alone}\',)" '
      f"--config.templates.{alone}='{{{text}}}'."
    )
  return records.field(record, *names)
