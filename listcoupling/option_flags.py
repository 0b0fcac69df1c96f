"""Flags made of a dataclass: one per field, with the field's documentation.

A field that is added to the class is a flag of every script that asks for it.
"""

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable
from typing import Any

from absl import flags


def define(cls: type) -> Callable[[], Any]:
  """Defines a flag for each field of a dataclass.

  The help is the field's entry under "Attributes:" in the docstring of the
  class. Tuples are written 1,2,3 and pairs 5:-1.5,7:2; an empty value is ().
  Flags that are not given leave the field's default.

  Args:
    cls: fields of type str, int, float, bool, tuples of numbers, tuples of
      pairs of numbers, or one of these and None.

  Returns:
    A function without arguments: the instance that the flags describe. It
    raises ValueError where a value cannot be read, naming the flag.

  Example:
    >>> @dataclasses.dataclass
    ... class Cake:
    ...   '''Attributes:
    ...     layers: how many.
    ...   '''
    ...   layers: int = 2
    >>> describe = define(Cake)
    >>> flags.FLAGS(['bake.py', '--layers=3'])
    ['bake.py']
    >>> describe()
    Cake(layers=3)
  """
  hints, documents = typing.get_type_hints(cls), _documents(cls)
  readers = {}
  for field in dataclasses.fields(cls):
    kind = _without_none(hints[field.name])
    text = documents[field.name]
    if kind in _FLAGS:
      make, readers[field.name] = _FLAGS[kind], _as_it_is
    else:
      make, readers[field.name] = flags.DEFINE_string, _reader_of_tuples(kind)
      text += f' Written {_example(kind)}.'
    make(field.name, None, f'{text} [{_written(field.default)}]')

  def instance():
    given = {
      name: read(name, flags.FLAGS[name].value)
      for name, read in readers.items()
      if flags.FLAGS[name].present
    }
    return cls(**given)

  return instance


def _documents(cls) -> dict[str, str]:
  """The docstring's words on each attribute, on one line."""
  section = inspect.getdoc(cls).split('Attributes:\n')[1].split('\n\n')[0]
  entries = re.split(r'^(\w+): ', textwrap.dedent(section), flags=re.M)
  return {
    name: ' '.join(text.split())
    for name, text in zip(entries[1::2], entries[2::2])
  }


def _without_none(kind):
  if isinstance(kind, types.UnionType):
    kind = next(each for each in kind.__args__ if each is not type(None))
  return kind


def _written(default) -> str:
  """A default as the flag would be written."""
  if not isinstance(default, tuple):
    return str(default)
  return ','.join(
    ':'.join(map(str, each)) if isinstance(each, tuple) else str(each)
    for each in default
  ) or "''"  # fmt: skip


def _as_it_is(name, value):
  del name
  return value


_FLAGS = {
  str: flags.DEFINE_string,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  bool: flags.DEFINE_bool,
}


def _parts(kind):
  """Types of the numbers in one item of tuple[item, ...]."""
  item = typing.get_args(kind)[0]
  return typing.get_args(item) or (item,)


def _example(kind) -> str:
  """Two items of tuple[int, ...] or tuple[tuple[int, float], ...]."""
  return ','.join(
    ':'.join(each[part] for part in _parts(kind))
    for each in ({int: '5', float: '1.5'}, {int: '7', float: '-2'})
  )


def _reader_of_tuples(kind):
  """Reads what `_example` writes."""
  parts = _parts(kind)

  def read(name, text):
    values = []
    for word in text.split(',') if text.strip() else []:
      numbers = word.split(':')
      try:
        value = tuple(
          part(number) for part, number in zip(parts, numbers, strict=True)
        )
      except ValueError:
        raise ValueError(
          f'--{name} must be written like {_example(kind)}, got '
          f'{word.strip()!r} in {text!r}.'
        ) from None
      values.append(value if len(parts) > 1 else value[0])
    return tuple(values)

  return read
