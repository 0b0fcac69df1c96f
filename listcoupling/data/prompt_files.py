"""Prompts from a user's own files: lines, whole files, JSON lines."""

import json
import os
import pathlib
from typing import Any

from listcoupling import files

_NAMES = 'prompt', 'text', 'messages'  # of a prompt in an object of JSON


def read_prompts(
  path: str | os.PathLike, *, whole_file: bool = False
) -> list[Any]:
  r"""The prompts in a file.

  Args:
    path: UTF-8 text. A name that ends in .jsonl holds one JSON value a line: a
      string, or an object with a string under "prompt" or "text" or a
      conversation under "messages", the first of these that it has. Any other
      holds one prompt a line. Only \n, or \r\n, ends a line; blank lines are
      passed over.
    whole_file: the file is one prompt, line ends included.

  Returns:
    At least one string or list of messages.

  Raises:
    ValueError: no UTF-8, no prompt, or a line that is none; the message names
      the file and the line.

  Example:
    >>> with files.replacing('prompts.txt') as new:
    ...   _ = new.write_text('One\n\nTwo\n')
    >>> read_prompts('prompts.txt')
    ['One', 'Two']
  """
  path = pathlib.Path(path)
  files.check_regular(path)
  try:
    text = path.read_bytes().decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{path} is not UTF-8 text: byte {error.start}; save it as UTF-8.'
    ) from error
  if whole_file:
    prompts = [text] if text.strip() else []
  else:
    lines = enumerate(text.replace('\r\n', '\n').split('\n'), 1)
    lines = [(number, line) for number, line in lines if line.strip()]
    if path.suffix.lower() == '.jsonl':
      prompts = [_from_json(path, *line) for line in lines]
    else:
      prompts = [line for _, line in lines]
  if not prompts:
    raise ValueError(f'{path} holds no prompt; write at least one line.')
  return prompts


def _from_json(path, number, line):
  """The prompt of one line of JSON."""
  try:
    value = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}, line {number}: no JSON ({error}).') from error
  prompt = value
  if isinstance(value, dict):
    prompt = next((value[name] for name in _NAMES if name in value), None)
  is_conversation = isinstance(prompt, list) and all(
    isinstance(message, dict) for message in prompt
  )
  if not prompt or not (isinstance(prompt, str) or is_conversation):
    raise ValueError(
      f'{path}, line {number}: a prompt must be a non-empty string, or an '
      f'object with "prompt", "text" or "messages", got {line[:80]!r}.'
    )
  return prompt


def collect(texts, path, ids, *, whole_file: bool = False) -> list[Any]:
  """All prompts that a command line names.

  Args:
    texts: strings.
    path: see `read_prompts`; None or '' for no file.
    ids: strings, see `read_ids`.
    whole_file: see `read_prompts`.

  Returns:
    The texts, then those of the file, then lists of token ids; at least one.

  Raises:
    ValueError: as `read_prompts` and `read_ids`, and for no prompt at all.

  Example:
    >>> collect(['One'], None, ['1,2'])
    ['One', [1, 2]]
  """
  prompts = list(texts)
  if path:
    prompts += read_prompts(path, whole_file=whole_file)
  prompts += [read_ids(each) for each in ids]
  if not prompts:
    raise ValueError('no prompt: give --prompt, --prompts or --prompt_ids.')
  return prompts


def read_ids(text: str) -> list[int]:
  """Token ids written 1,2,3.

  Raises:
    ValueError: for what is no id; the message names it.

  Example:
    >>> read_ids('1, 2,3')
    [1, 2, 3]
  """
  ids = []
  for word in text.split(','):
    if not word.strip().isdecimal():
      raise ValueError(
        f'--prompt_ids must be token ids such as 1,2,3, got {word.strip()!r} '
        f'in {text!r}.'
      )
    ids.append(int(word))
  return ids
