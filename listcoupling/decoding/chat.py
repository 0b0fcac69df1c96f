"""Chat templates: a conversation as the text that a model was trained on.

Checkpoints carry them as chat_template.jinja, or in tokenizer_config.json. They
are programs in the Jinja language: each call runs its templates in a process
of its own (`chat_process`), without access to anything, whose time and memory
are bounded.
"""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from listcoupling import files, hub, validation

_PROCESS = pathlib.Path(__file__).with_name('chat_process.py')
_MOST_SOURCE = 1 << 20  # bytes; a hub's largest template has some 30 kB


class ChatTemplate(NamedTuple):
  """A template and the special tokens that it may write.

  Attributes:
    source: in the Jinja language.
    special_tokens: by name, such as bos_token and eos_token.
    path: the file it is from, for messages.
  """

  source: str
  special_tokens: Mapping[str, str]
  path: str = 'the chat template'

  def render(
    self,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
  ) -> str:
    """The text of a conversation.

    It holds its special tokens: encode it with add_special_tokens=False. Takes
    a tenth of a second, most of it to start; `render_rows` takes several.

    Args:
      messages: each with 'role' (system, user, assistant) and 'content'.
      add_generation_prompt: end where the assistant begins to speak.
      **variables: what else the template knows, such as tools; what JSON holds.

    Raises:
      ImportError: jinja2 is missing.
      ValueError: the template refuses the conversation, is damaged, or takes
        more than 2 seconds or 1 GiB.

    Example:
      >>> source = '{% for m in messages %}[{{ m.content }}]{% endfor %}'
      >>> ChatTemplate(source, {}).render([{'content': 'Hi'}])
      '[Hi]'
    """
    variables['add_generation_prompt'] = add_generation_prompt
    texts, refusal = _fill_in(self, [messages], variables)
    if refusal:
      raise ValueError(refusal)
    return texts[0]

  def render_rows(
    self, rows: Mapping[int, Sequence[Mapping[str, str]]]
  ) -> dict[int, str]:
    """The texts of several conversations, by their number.

    Raises:
      ImportError: as of `render`.
      ValueError: as of `render`; the message names the row.
    """
    variables = {'add_generation_prompt': True}
    texts, refusal = _fill_in(self, list(rows.values()), variables)
    if refusal:
      index = list(rows)[len(texts)]
      raise validation.ItemError('prompts', index, f'is refused: {refusal}')
    return dict(zip(rows, texts, strict=True))


def _fill_in(template, conversations, variables) -> tuple[list[str], str]:
  """Texts of conversations; why there are no more of them, else ''."""
  if not conversations:
    return [], ''
  if importlib.util.find_spec('jinja2') is None:
    raise ImportError(
      "chat templates need jinja2: pip install 'listcoupling[chat]'"
    )
  seconds = 2 + len(conversations) // 100  # of CPU; one takes milliseconds
  request = {
    'source': template.source,
    'variables': {**template.special_tokens, **variables},
    'conversations': conversations,
    'most_seconds': seconds,
    'most_bytes': 1 << 30,
    'most_characters': 1 << 24,
  }
  try:
    asked = json.dumps(request, default=_plain)
  except (TypeError, ValueError, RecursionError) as error:
    raise ValueError(
      f'messages and variables of a chat must be what JSON holds: {error}.'
    ) from error
  texts, reason = _answer(asked, seconds)
  if len(texts) == len(conversations):  # it may have died of what came after
    return texts, ''
  if reason:
    reason = (
      f'{template.path} cannot be filled in: {reason}; look at the roles and '
      'their order, or give the prompt as text.'
    )
  return texts, reason


def _plain(value) -> Any:
  """Values that `json` does not know by itself."""
  if isinstance(value, Mapping):
    return dict(value)
  if isinstance(value, Sequence):
    return list(value)
  raise TypeError(f'got {type(value).__name__}')


def _answer(asked: str, seconds: int) -> tuple[list[str], str]:
  """(texts, reason) of the process, which is given some seconds of CPU."""
  places = os.pathsep.join(filter(None, sys.path))
  try:
    done = subprocess.run(
      [sys.executable, str(_PROCESS)],
      input=asked.encode(),
      env=os.environ | {'PYTHONPATH': places, 'PYTHONSAFEPATH': '1'},
      capture_output=True,
      timeout=60 + 20 * seconds,  # other processes may be at work
      check=False,
    )
    output, status, errors = done.stdout, done.returncode, done.stderr
  except subprocess.TimeoutExpired as late:
    output, status, errors = late.stdout or b'', -signal.SIGXCPU, b''
  found = [json.loads(line) for line in output.split(b'\n')[:-1]]
  if status == -signal.SIGXCPU:
    return found, f'it takes more than {seconds} seconds'
  if status:  # its interpreter gave up: memory or stack
    last = errors.decode(errors='replace').strip().rpartition('\n')[2]
    return found, f'its process ended with {status} {last[:200]}'
  if isinstance(found[-1], dict):
    return found[:-1], found[-1]['error']
  return found, ''


def read_chat_template(
  directory_or_hub_name: str | os.PathLike, name: str = 'default'
) -> ChatTemplate:
  """The chat template of a checkpoint.

  Args:
    directory_or_hub_name: as for `load_pretrained`; holds chat_template.jinja
      or tokenizer_config.json.
    name: of the template, where the checkpoint has several.

  Raises:
    FileNotFoundError: directory is missing, hub not reachable.
    ValueError: there is no template, or a file is damaged; the message names
      it.

  Example:
    >>> read_chat_template('Qwen/Qwen2.5-0.5B-Instruct')  # doctest: +SKIP
  """
  directory = hub.find_directory(directory_or_hub_name)
  config_path = directory / 'tokenizer_config.json'
  config = files.read_json(config_path) if config_path.exists() else {}
  templates = config.get('chat_template')
  if isinstance(templates, list):
    templates = {
      each.get('name'): each.get('template')
      for each in templates
      if isinstance(each, Mapping)
    }
  if not isinstance(templates, Mapping):
    templates = {'default': templates}
  source, path = templates.get(name), directory / 'chat_template.jinja'
  origin = config_path
  if name == 'default' and path.exists():
    source, origin = _read_source(path), path
  if not isinstance(source, str):
    raise ValueError(
      f'{directory} has no chat template {name!r}, neither in {path.name} nor '
      f'in {config_path.name} (there: {[n for n in templates if n]}); give the '
      'prompt as text.'
    )
  return ChatTemplate(source, _special_tokens(config), str(origin))


def _read_source(path: pathlib.Path) -> str:
  files.check_regular(path)
  size = path.stat().st_size
  if size > _MOST_SOURCE:
    raise ValueError(
      f'{path} has {size} bytes, more than the {_MOST_SOURCE} that a chat '
      'template may have; download it again, or give the prompt as text.'
    )
  try:
    return path.read_text(encoding='utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is damaged: {error}.') from error


def _special_tokens(config) -> dict[str, str]:
  """Names that end in _token, with their text."""
  tokens = {}
  for name, value in config.items():
    if isinstance(value, Mapping):  # how some versions write a token
      value = value.get('content')
    if name.endswith('_token') and isinstance(value, str):
      tokens[name] = value
  return tokens
