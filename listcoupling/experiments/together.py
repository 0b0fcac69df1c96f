"""What several processes of a table do together; one process alone just works.

An error or a stop of one is an error or a stop of all: none waits for ever.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

_FAILED, _STOPPED = -1, -2

T = TypeVar('T')


def leads() -> bool:
  """Whether this process writes what all of them know."""
  return jax.process_index() == 0


def together(work: Callable[[], T]) -> T:
  """`work()`, once it is done in all processes.

  Raises:
    ValueError: it failed in another one, whose own message says why.
    KeyboardInterrupt: another one was stopped.
  """
  if jax.process_count() == 1:
    return work()
  result, error = None, None
  try:
    result = work()
  except BaseException as own:
    error = own
  state = 0
  if error is not None:
    state = _STOPPED if isinstance(error, KeyboardInterrupt) else _FAILED
  states = _gather(np.int32(state))
  if error is not None:
    raise error
  if (states == _STOPPED).any():
    raise KeyboardInterrupt
  if states.any():
    process = np.flatnonzero(states)[0]
    raise ValueError(f'process {process} failed; its own message says why.')
  return result


def everyone(work: Callable[[], Any]) -> list[Any]:
  """`work()` of every process, in all of them.

  Args:
    work: gives what JSON can hold.

  Raises:
    ValueError: see `together`.
    KeyboardInterrupt: likewise.

  Example:
    >>> everyone(lambda: {'x': '1.5'})
    [{'x': '1.5'}]
  """
  if jax.process_count() == 1:
    return [work()]
  own = np.frombuffer(together(lambda: json.dumps(work()).encode()), np.uint8)
  sizes = _gather(np.int32(own.size))
  texts = _gather(np.pad(own, (0, sizes.max() - own.size)))
  return [json.loads(text[:size].tobytes()) for text, size in zip(texts, sizes)]


def _gather(x: np.ndarray) -> np.ndarray:
  """[processes, ...]."""
  return np.asarray(multihost_utils.process_allgather(x))
