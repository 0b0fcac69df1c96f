"""Reads the text of compiled programs: exchanges, serial loops, sorts.

Every operation stands there once, however often the loop around it turns.
"""

import collections
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 'f64': 8, 's64': 8}
_LINE = re.compile(
  r'^\s*(?:ROOT )?%?[\w.-]+ = (?P<result>.*?) (?P<code>[a-z][\w-]*)\('
)
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_NAME = re.compile(r'op_name="([^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')


class Operation(NamedTuple):
  """One line of the program."""

  code: str  # 'all-reduce', 'while', ...; the target of a custom call
  arrays: tuple[tuple[str, tuple[int, ...]], ...]  # of the result
  source: str  # where it came from, '' if unknown

  @property
  def size(self) -> int:
    """Bytes of the result."""
    return sum(
      _BYTES.get(kind, 4) * math.prod(shape) for kind, shape in self.arrays
    )


def operations(text: str) -> Iterator[Operation]:
  """The operations of a program, fused ones included.

  Args:
    text: as `compiled.as_text()` gives it.

  Example:
    >>> line = '  %x = f32[2,3]{1,0} all-reduce(%y), to_apply=%add'
    >>> next(operations(line)).size
    24
  """
  for line in text.splitlines():
    found = _LINE.match(line)
    if found is None:
      continue
    arrays = tuple(
      (kind, tuple(int(n) for n in sizes.split(',') if n))
      for kind, sizes in _ARRAY.findall(found['result'])
    )
    name, target = _NAME.search(line), _TARGET.search(line)
    code = target[1] if target else found['code']
    yield Operation(code, arrays, name[1] if name else '')


def collectives(text: str) -> list[Operation]:
  """Exchanges between devices; of a started one only what it delivers."""
  found = []
  for op in operations(text):
    code = op.code.removesuffix('-start')
    if code not in COLLECTIVES:
      continue
    arrays = op.arrays
    if op.code != code and code == 'collective-permute':
      arrays = arrays[1:2]
    elif op.code != code and code == 'all-gather':
      arrays = arrays[len(arrays) // 2 :]
    found.append(op._replace(code=code, arrays=arrays))
  return found


def collective_bytes(text: str) -> dict[str, int]:
  """Bytes of the results by kind of collective, kinds that occur alone."""
  total = collections.Counter()
  for op in collectives(text):
    total[op.code] += op.size
  return dict(total)


def serial_loops(text: str) -> list[Operation]:
  """Loops that the compiler made of a gather or scatter, one turn per row."""
  return [
    op
    for op in operations(text)
    if op.code == 'while' and not op.source.endswith(('while', 'scan', 'cond'))
  ]


def sorts(text: str, length: int) -> list[Operation]:
  """Sorts of at least `length` numbers along one axis."""
  return [
    op
    for op in operations(text)
    if 'sort' in op.code.lower()
    and max((n for _, shape in op.arrays for n in shape), default=0) >= length
  ]
