"""A folder of results belongs to one run, whose settings stand in it.

Rows of two settings, two models or two texts must never stand in one table,
and what is finished is never deleted: a folder of other settings is refused,
as is one of unknown settings. Whoever resumes calls `claim` before any work.
"""

import pathlib
from collections.abc import Iterable
from typing import Any

from listcoupling.experiments import results


def _flat(value: Any, name: str = '') -> dict[str, Any]:
  """Nested dicts as one, names joined by dots; an empty one within stays."""
  if not isinstance(value, dict) or (name and not value):
    return {name: value}
  parts = (_flat(v, f'{name}.{k}' if name else k) for k, v in value.items())
  return {key: leaf for part in parts for key, leaf in part.items()}


def differences(old: dict, new: dict) -> list[str]:
  """Dotted names of the entries that differ, sorted.

  Example:
    >>> differences({'a': {'b': 1, 'c': 2}}, {'a': {'b': 1, 'c': 3}, 'd': None})
    ['a.c', 'd']
  """
  old, new = _flat(old), _flat(new)
  return [
    name
    for name in sorted(old.keys() | new.keys())
    if name not in old or name not in new or old[name] != new[name]
  ]


def _kept(record: pathlib.Path) -> dict:
  """Settings in a record; in older folders they are the record itself."""
  try:
    kept = results.read_json(record)
    kept = kept.get('settings', kept)
    if not isinstance(kept, dict):
      raise ValueError(f'settings are {kept!r}')
    return kept
  except (ValueError, AttributeError) as error:  # no JSON, UTF-8 or dict
    raise ValueError(
      f'{record} is damaged ({error}), so the settings of the run are unknown; '
      'choose another workdir.'
    ) from error


def claim(record, settings: dict, *, work: Iterable = ()) -> None:
  """Keeps the settings of a fresh run, or compares those of an earlier one.

  Args:
    record: JSON file in the folder of the run; its entry `settings`.
    settings: all that the results depend on, with digests of data and models
      that stand under a name alone.
    work: files that hold results of the run.

  Raises:
    ValueError: the folder belongs to a run with other settings, or holds
      results without a record; nothing is written then.

  Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   claim(f'{folder}/results.json', {'seed': 0})
  """
  record, settings = pathlib.Path(record), results.plain(settings)
  if record.exists():
    changed = differences(_kept(record), settings)
    if changed:
      raise ValueError(
        f'{record.parent} holds a run with other settings of '
        f'{", ".join(changed)}; resume with the same settings or choose '
        'another workdir.'
      )
    return
  for path in work:
    if path.exists():
      raise ValueError(
        f'{path} has no {record.name} beside it, so its settings are unknown; '
        'remove it or choose another workdir.'
      )
  results.write_json(record, {'settings': settings})
