"""Where the files of a checkpoint are: a directory here, or the hub's cache."""

import os
import pathlib
import re

# All that is ever read, so that a name stands for one directory.
PATTERNS = (
  'config.json',
  'generation_config.json',
  '*.safetensors',
  'model.safetensors.index.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
)


def find_directory(name: str | os.PathLike) -> pathlib.Path:
  """The directory of that name, or else that of the hub's model.

  Args:
    name: path, or 'owner/name' to download, or take from the hub's cache, when
      there is no such directory.

  Raises:
    FileNotFoundError: it is neither, or the hub cannot be reached.
    ValueError: for what is no name.

  Example:
    >>> find_directory('.')
    PosixPath('.')
  """
  if not isinstance(name, (str, os.PathLike)) or not os.fspath(name):
    raise ValueError(f'a directory or hub name must be given, got {name!r}.')
  directory, text = pathlib.Path(name), os.fspath(name)
  if os.path.isdir(directory):  # no error for a name that cannot be
    return directory
  is_hub_name = re.fullmatch(r'\w[\w.-]{0,95}/\w[\w.-]{0,95}', text)
  if is_hub_name and not os.path.exists(directory):
    return _download(text)
  raise FileNotFoundError(
    f'{text[:200]!r} is not a directory; give a directory with config.json and '
    "model.safetensors, or a hub name such as 'Qwen/Qwen2.5-0.5B'."
  )


def _download(name: str) -> pathlib.Path:
  import huggingface_hub

  try:
    return pathlib.Path(
      huggingface_hub.snapshot_download(name, allow_patterns=list(PATTERNS))
    )
  except Exception as error:  # one remedy for every way the hub can fail
    raise FileNotFoundError(
      f'{name!r} is neither a directory here nor reachable on the Hugging '
      f'Face hub ({type(error).__name__}). Where there is network, download '
      f'{", ".join(PATTERNS)} of https://huggingface.co/{name} into a '
      'directory, bring it here and give its path.'
    ) from error
