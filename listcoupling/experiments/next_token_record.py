"""What a next-token table was made from, as its results.json tells.

The settings, with digests of models and contexts: rows of two models or two
texts must never stand in one table. And whether the contexts are known to be
held out of training.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Mapping

from absl import logging

from listcoupling.experiments import results
from listcoupling.models import pretrained
from listcoupling.training import inputs

# Of the shipped pair; both models, see listcoupling/models/shipped/README.md.
SHIPPED_TEXT = (
  '55939deabcf0c585db86373af4d57e83149021bfe5dfd3c331bfa6d852cc753a',
  0.05,
)


def settings(config, seed: int, text: Mapping, models: Mapping, windows):
  """All that the rows depend on, in plain types.

  Args:
    config: see configs/next_token.py.
    seed: of the places and of all noise.
    text: record of the text.
    models: name to LanguageModel; a digest of each is kept.
    windows: [M, S] tokens, which depend on the tokenizer, too.

  Returns:
    dict that JSON can hold.
  """
  digests = {name: inputs.model_digest(model) for name, model in models.items()}
  contexts = f'{zlib.crc32(windows.tobytes()):08x}'
  return results.plain(
    {
      'config': config,
      'seed': seed,
      'text': text,
      'models': digests,
      'contexts': contexts,
    }
  )


def is_training_split(
  directory: str | os.PathLike, sha256: str, held_out_fraction: float
) -> bool | None:
  """Whether a text and its split are those a model was trained with.

  Then, and only then, is it known that the held-out side was not trained on.

  Args:
    directory: of the model. The record is known for the shipped pair, and
      where record.json and train_config.json of the training run stand in
      the directory or in the one above.
    sha256: of the text, see `listcoupling.data.text`.
    held_out_fraction: of the split.

  Returns:
    True or False; None where there is no record.
  """
  directory = pathlib.Path(directory)
  if directory.absolute().parent == pretrained.SHIPPED.absolute():
    return (sha256, held_out_fraction) == SHIPPED_TEXT
  for folder in (directory, directory.parent):
    record, config = folder / 'record.json', folder / 'train_config.json'
    if record.exists() and config.exists():
      known = json.loads(record.read_text())['text']['sha256']
      fraction = json.loads(config.read_text())['held_out_fraction']
      return (sha256, held_out_fraction) == (known, fraction)
  return None


def training_splits(
  directories: Mapping, sha256: str, held_out_fraction: float
) -> dict[str, bool | None]:
  """`is_training_split` of several models; warns unless all are True."""
  splits = {
    name: is_training_split(directory, sha256, held_out_fraction)
    for name, directory in directories.items()
  }
  if not all(splits.values()):
    logging.warning(
      'The contexts are not known to be held out of training (None: no record '
      'of it; False: another text or split): %s',
      splits,
    )
  return splits
