"""Fills in a chat template; run by `chat` in a process of its own.

A template is a program in the Jinja language, of whoever made the checkpoint:
the sandbox keeps it from everything but its own time and memory, and these are
the process's. Reads a JSON object from standard input; writes a line of JSON
per conversation, a string, and an object where one has no text. Imports nothing
of this library.
"""

import contextlib
import datetime
import json
import resource
import sys

import jinja2.exceptions
import jinja2.ext
import jinja2.sandbox


class _Generation(jinja2.ext.Extension):
  """{% generation %} marks the assistant's words; the text stays as it is."""

  tags = {'generation'}

  def parse(self, parser):
    next(parser.stream)
    return parser.parse_statements(['name:endgeneration'], drop_needle=True)


def _refuse(message):
  raise jinja2.exceptions.TemplateError(message)


def _as_json(value, **options):
  return json.dumps(value, ensure_ascii=False, **options)


def _environment():
  """A sandbox with what the transformers library offers to templates."""
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, jinja2.ext.loopcontrols],
  )
  environment.filters['tojson'] = _as_json
  environment.globals['raise_exception'] = _refuse
  environment.globals['strftime_now'] = lambda pattern: (
    datetime.datetime.now().strftime(pattern)
  )
  return environment


def _fill_in(request) -> None:
  template = _environment().from_string(request['source'])
  for messages in request['conversations']:
    text = template.render(request['variables'], messages=messages)
    if len(text) > request['most_characters']:
      raise ValueError(f'its text has {len(text)} characters')
    print(json.dumps(text), flush=True)  # whole, should the next one be endless


def _limit(kind: int, most: int) -> None:
  with contextlib.suppress(OSError, ValueError):  # not all systems have all
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, hard))


def main() -> None:
  """Answers one request."""
  request = json.load(sys.stdin)
  _limit(resource.RLIMIT_AS, request['most_bytes'])
  _limit(resource.RLIMIT_CPU, request['most_seconds'])
  try:
    _fill_in(request)
  except MemoryError:
    print(json.dumps({'error': f'it takes over {request["most_bytes"]} bytes'}))
  except Exception as error:  # a template is a program: of any kind
    words = str(error)[:500] or type(error).__name__
    print(json.dumps({'error': words}))


if __name__ == '__main__':
  main()
