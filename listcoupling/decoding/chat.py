"""Chat templates: a conversation as the text that a model was trained on.

Checkpoints carry them as chat_template.jinja, or in tokenizer_config.json. They
are programs in the Jinja language, run here without access to anything.
"""

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from listcoupling import files, hub


class ChatTemplate(NamedTuple):
  """A template and the special tokens that it may write.

  Attributes:
    source: in the Jinja language.
    special_tokens: by name, such as bos_token and eos_token.
  """

  source: str
  special_tokens: Mapping[str, str]

  def render(
    self,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
  ) -> str:
    """The text of a conversation.

    It holds its special tokens: encode it with add_special_tokens=False.

    Args:
      messages: each with 'role' (system, user, assistant) and 'content'.
      add_generation_prompt: end where the assistant begins to speak.
      **variables: what else the template knows, such as tools.

    Raises:
      ImportError: jinja2 is missing.
      ValueError: the template refuses the conversation or is damaged.

    Example:
      >>> source = '{% for m in messages %}[{{ m.content }}]{% endfor %}'
      >>> ChatTemplate(source, {}).render([{'content': 'Hi'}])
      '[Hi]'
    """
    jinja2 = _jinja2()
    try:
      return (
        _environment(jinja2)
        .from_string(self.source)
        .render(
          messages=messages,
          add_generation_prompt=add_generation_prompt,
          **self.special_tokens,
          **variables,
        )
      )
    except Exception as error:  # a template is a program: of any kind
      raise ValueError(
        f'the chat template cannot be filled in: {error}; look at the '
        'roles and their order.'
      ) from error


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
  if name == 'default' and path.exists():
    files.check_regular(path)
    try:
      source = path.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
      raise ValueError(f'{path} is damaged: {error}.') from error
  if not isinstance(source, str):
    raise ValueError(
      f'{directory} has no chat template {name!r}, neither in {path.name} nor '
      f'in {config_path.name} (there: {[n for n in templates if n]}); give the '
      'prompt as text.'
    )
  return ChatTemplate(source, _special_tokens(config))


def _special_tokens(config) -> dict[str, str]:
  """Names that end in _token, with their text."""
  tokens = {}
  for name, value in config.items():
    if isinstance(value, Mapping):  # how some versions write a token
      value = value.get('content')
    if name.endswith('_token') and isinstance(value, str):
      tokens[name] = value
  return tokens


def _jinja2():
  try:
    import jinja2.ext
    import jinja2.sandbox
  except ImportError as error:
    raise ImportError(
      "chat templates need jinja2: pip install 'listcoupling[chat]'"
    ) from error
  return jinja2


def _environment(jinja2):
  """A sandbox with what the transformers library offers to templates."""

  class Generation(jinja2.ext.Extension):
    """{% generation %} marks the assistant's words; the text stays as it is."""

    tags = {'generation'}

    def parse(self, parser):
      next(parser.stream)
      return parser.parse_statements(['name:endgeneration'], drop_needle=True)

  def refuse(message):
    raise jinja2.exceptions.TemplateError(message)

  def as_json(value, **options):
    return json.dumps(value, ensure_ascii=False, **options)

  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, jinja2.ext.loopcontrols],
  )
  environment.filters['tojson'] = as_json
  environment.globals['raise_exception'] = refuse
  environment.globals['strftime_now'] = lambda pattern: (
    datetime.datetime.now().strftime(pattern)
  )
  return environment
