"""Inputs of a training run: checked settings, text, tokenizer, teacher.

Everything that can be wrong is found here, before anything is written.
"""

import dataclasses
import pathlib
from typing import NamedTuple

import ml_collections
import numpy as np
import tokenizers

from listcoupling import files, gumbel
from listcoupling.config_fields import Field, check_config
from listcoupling.data import text
from listcoupling.decoding import language_model, placement
from listcoupling.models import pretrained
from listcoupling.models.transformer_config import TransformerConfig

_COUNT, _TEXT = Field(int, least=1), Field(str, empty=True)
_SIZES = dict.fromkeys(
  (
    *('vocab_size', 'hidden_size', 'num_layers', 'num_heads', 'num_kv_heads'),
    *('head_dim', 'intermediate_size'),
  ),
  _COUNT,
)
_OPTIONS = {field.name for field in dataclasses.fields(TransformerConfig)}


def _check_sizes(model) -> None:
  """The sizes that every model has, and options of `TransformerConfig`."""
  more = {name: _anything for name in _OPTIONS & set(model) - set(_SIZES)}
  check_config(model, _SIZES | more, 'config.model')


def _anything(value) -> None:
  """`TransformerConfig` itself says what it may be."""


FIELDS = {
  'seed': Field(int, least=0),
  'model': _check_sizes,
  'data': Field(str, many=True, empty=True),
  'tokenizer': _TEXT,
  'held_out_fraction': Field(float, least=0),
  'teacher': _TEXT,
  'distillation': Field(float, least=0),
  'sequence_length': _COUNT,
  'batch_size': _COUNT,
  'num_steps': _COUNT,
  'learning_rate': Field(float, above=0),
  'warmup_steps': Field(int, least=0),
  'weight_decay': Field(float, least=0),
  'clip_norm': Field(float, above=0),
  'eval_every': _COUNT,
  'eval_windows': _COUNT,
  'checkpoint_every': _COUNT,
  'log_every': _COUNT,
  'export_dtype': Field(str),
}


class Texts(NamedTuple):
  """Text as token rows.

  Attributes:
    corpus: documents and their record.
    tokenizer: what encoded them.
    train: [T] int32.
    held_out: [T'] int32.
  """

  corpus: text.Corpus
  tokenizer: tokenizers.Tokenizer
  train: np.ndarray
  held_out: np.ndarray


def check_settings(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError for settings that make no sense."""
  check_config(config, FIELDS)
  gumbel.seed_key(config.seed)  # refuses what is no seed
  if config.distillation > 1:
    raise ValueError(
      f'distillation is a share in [0, 1], got {config.distillation}.'
    )
  if config.distillation > 0 and not config.teacher:
    raise ValueError(
      f'distillation is {config.distillation} but teacher is empty; give the '
      'directory of the target model or set distillation to 0.'
    )
  if config.warmup_steps >= config.num_steps:
    raise ValueError(
      f'warmup_steps must be below num_steps, got {config.warmup_steps} and '
      f'{config.num_steps}.'
    )


def load_teacher(config, mesh=None) -> language_model.LanguageModel | None:
  """The model to distil from, or None where config.teacher is empty.

  Args:
    config: with teacher and model.vocab_size.
    mesh: whose devices read their own shards of it.

  Raises:
    FileNotFoundError: there is no such directory.
    ValueError: it has another vocabulary or no tokenizer.
  """
  if not config.teacher:
    return None
  teacher = pretrained.load_pretrained(config.teacher, mesh=mesh, strict=False)
  if teacher.config.vocab_size != config.model.vocab_size:
    raise ValueError(
      f'model.vocab_size is {config.model.vocab_size}, that of the teacher '
      f'{config.teacher} is {teacher.config.vocab_size}; they must be equal.'
    )
  if teacher.tokenizer is None:
    raise ValueError(
      f'The teacher {config.teacher} has no tokenizer.json, so its token ids '
      'cannot be matched to text; put the tokenizer it was trained with there.'
    )
  return teacher


def model_digest(model: language_model.LanguageModel) -> str:
  """SHA-256 of the sizes and of every byte of the parameters, as hex.

  The same on any mesh; processes that share one make the call together.

  Example:
    >>> len(model_digest(pretrained.shipped_pair()[1]))
    64
  """
  return files.digest(model.params, repr(model.config), placement.fetch)


def origin(texts: Texts, teacher: language_model.LanguageModel | None) -> dict:
  """Digests of text and teacher, of which the settings have only names."""
  return {
    'text_sha256': texts.corpus.record['sha256'],
    'teacher_sha256': teacher and model_digest(teacher),
  }


def _read_tokenizer(path: pathlib.Path) -> tokenizers.Tokenizer:
  """A tokenizer.json, or the one in a directory."""
  path = path / 'tokenizer.json' if path.is_dir() else path
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is not a file; tokenizer is the path of a tokenizer.json or of '
      'a directory that holds one.'
    )
  return pretrained.read_tokenizer(path)


def _choose_tokenizer(config, folder, teacher) -> tokenizers.Tokenizer | None:
  """The tokenizer of the run: given, kept, the teacher's; None: train one."""
  known = {}
  if config.tokenizer:
    known[config.tokenizer] = _read_tokenizer(pathlib.Path(config.tokenizer))
  if (folder / 'tokenizer.json').exists():
    known[str(folder)] = _read_tokenizer(folder)
  if teacher is not None:
    known[config.teacher] = teacher.tokenizer
  names = list(known)
  for name in names[1:]:
    if known[name].get_vocab() != known[names[0]].get_vocab():
      raise ValueError(
        f'The tokenizers of {names[0]} and {name} differ: a student must use '
        "its teacher's, and a run the one it began with."
      )
  return known[names[0]] if names else None


def load_texts(config, folder: pathlib.Path, teacher) -> Texts:
  """Reads, splits and encodes the text of a run; trains a tokenizer for it.

  Args:
    config: with data, held_out_fraction, tokenizer, model.vocab_size (257:
      bytes and the end of text, no merges) and sequence_length.
    folder: of the run; the tokenizer of a resumed run is there.
    teacher: LanguageModel or None.

  Returns:
    Texts.

  Raises:
    FileNotFoundError: text or tokenizer are missing.
    ValueError: too little text, or a tokenizer that does not fit.
  """
  tokenizer = _choose_tokenizer(config, folder, teacher)
  corpus = text.load_corpus(
    config.data, held_out_fraction=config.held_out_fraction
  )
  if tokenizer is None:
    texts = (document.text for document in corpus.train)
    tokenizer = text.train_tokenizer(texts, config.model.vocab_size)
  if tokenizer.get_vocab_size() > config.model.vocab_size:
    raise ValueError(
      f'The tokenizer has {tokenizer.get_vocab_size()} tokens, more than '
      f'model.vocab_size = {config.model.vocab_size}.'
    )
  rows = {
    'training': text.encode_documents(tokenizer, corpus.train),
    'held-out': text.encode_documents(tokenizer, corpus.held_out),
  }
  for name, row in rows.items():
    if len(row) <= config.sequence_length:
      raise ValueError(
        f'The {name} text has {len(row)} tokens, fewer than '
        f'sequence_length + 1 = {config.sequence_length + 1}; give more text '
        'or a shorter sequence_length.'
      )
  return Texts(corpus, tokenizer, rows['training'], rows['held-out'])
