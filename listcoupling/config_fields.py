"""Fields of a config: each is named, with the values that it may have."""

import difflib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Field(NamedTuple):
  """The values that an entry of a config may have.

  Attributes:
    kind: int, float (an int will do), str or bool.
    least: smallest number.
    above: numbers are greater than this.
    most: largest number.
    among: all values there are.
    many: a sequence of such values.
    empty: an empty sequence or string will do; strings in a sequence may be
      empty anyway.
    note: ends the message on a value that it can't have.
  """

  kind: type
  least: float = -math.inf
  above: float = -math.inf
  most: float = math.inf
  among: tuple = ()
  many: bool = False
  empty: bool = False
  note: str = ''

  def allows(self, value: Any) -> bool:
    """Whether a value is of this kind and within these limits."""
    if self.many:
      one = self._replace(many=False, empty=True)
      if not isinstance(value, (tuple, list)):
        return False
      return (self.empty or len(value) > 0) and all(map(one.allows, value))
    if self.among:
      return value in self.among
    if self.kind in (int, float):
      kinds = (int, np.integer)
      kinds += (float, np.floating) if self.kind is float else ()
      return (
        isinstance(value, kinds)
        and not isinstance(value, bool)
        and self.least <= value <= self.most
        and self.above < value < math.inf
      )
    return isinstance(value, self.kind) and (
      self.empty or self.kind is not str or bool(value)
    )

  def __str__(self) -> str:
    if self.among:
      words = f'one of {", ".join(map(str, self.among))}'
    else:
      words = f'{self.kind.__name__}'
      if self.least > -math.inf:
        words += f' of at least {self.least:g}'
      if self.above > -math.inf:
        words += f' greater than {self.above:g}'
      if self.most < math.inf:
        words += f' and at most {self.most:g}'
    if self.many and self.among:
      words = f'names among {", ".join(map(str, self.among))}'
    elif self.many:
      words = f'a {"" if self.empty else "non-empty "}list of {words}'
    return words


def check_config(config: Any, fields: Mapping[str, Any], name='config') -> None:
  """Refuses a config that has other fields or values than it may have.

  Args:
    config: a ConfigDict or another mapping.
    fields: `Field` by name; for a config within a mapping of fields, or a
      function that raises.
    name: of the config in messages.

  Raises:
    ValueError: a field is missing, unknown or has a value that it can't have;
      the message has its dotted name.

  Example:
    >>> check_config({'trials': 0}, {'trials': Field(int, least=1)})
    Traceback (most recent call last):
    ...
    ValueError: config.trials must be int of at least 1, got 0.
  """
  if not hasattr(config, 'keys'):
    raise ValueError(f'{name} must be a config of fields, got {config!r:.60}.')
  unknown = sorted(set(config.keys()) - set(fields))
  missing = sorted(set(fields) - set(config.keys()))
  if unknown or missing:
    raise ValueError(_misfit(name, unknown, missing))
  for field, allowed in fields.items():
    value = config[field]
    if isinstance(allowed, Mapping):
      check_config(value, allowed, f'{name}.{field}')
    elif callable(allowed):
      allowed(value)
    elif not allowed.allows(value):
      words = _meant(value, allowed) or allowed.note and f'; {allowed.note}.'
      raise ValueError(
        f'{name}.{field} must be {allowed}, got {value!r:.200}{words or "."}'
      )


def _meant(value, allowed) -> str:
  """A question after the first text that is nearly one there is."""
  words = value if isinstance(value, (tuple, list)) else (value,)
  known = [x for x in allowed.among if isinstance(x, str)]
  for word in words:
    if isinstance(word, str) and word not in known:
      if near := difflib.get_close_matches(word, known, 1):
        return f'; did you mean {near[0]!r}?'
  return ''


def _misfit(name, unknown, missing) -> str:
  near = [difflib.get_close_matches(x, missing, 1) for x in unknown]
  if unknown and all(near):
    pairs = [f'{x} for {y[0]}' for x, y in zip(unknown, near)]
    return f'{name} is misspelt: {", ".join(pairs)}.'
  parts = []
  if unknown:
    parts.append(f'has the unknown {", ".join(unknown)}')
  if missing:
    parts.append(f'lacks {", ".join(missing)}')
  return f'{name} {" and ".join(parts)}; is it for another script?'
