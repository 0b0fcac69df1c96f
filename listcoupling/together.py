"""Calls that several processes make together; one alone just works.

An error or a stop of one is an error or a stop of all: the others hear of it at
their next exchange, none waits for ever. Ctrl-C that comes in the middle of an
exchange counts at the next one, since an exchange that one process leaves has
told the others nothing.
"""

import contextlib
import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

_WELL, _FAILED, _STOPPED = range(3)
_TOLD = '_told_to_all'  # attribute of an error that all processes know of
_stops: list[bool] = []  # Ctrl-C that came in an exchange

T = TypeVar('T')


def leads() -> bool:
  """Whether this process writes what all of them know."""
  return jax.process_index() == 0


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
  """Ends once it ends in all processes.

  Raises:
    ValueError: it failed in another one, whose own message says why.
    KeyboardInterrupt: another one was stopped.
  """
  if jax.process_count() == 1:
    yield
    return
  try:
    _heed_stop()
    yield
    _heed_stop()
  except BaseException as error:
    _tell(error)
    raise
  states = _gather(np.int32(_WELL))
  if (states == _STOPPED).any():
    raise _told(KeyboardInterrupt())
  if states.any():
    process = np.flatnonzero(states)[0]
    raise _told(
      ValueError(f'process {process} failed; its own message says why.')
    )


def together(function: Callable[[], T]) -> T:
  """`function()`, once it is done in all processes; errors of `all_or_none`."""
  with all_or_none():
    return function()


def everyone(function: Callable[[], Any]) -> list[Any]:
  """`function()` of every process, in all of them; errors of `all_or_none`.

  Args:
    function: gives what JSON can hold.

  Example:
    >>> everyone(lambda: {'x': '1.5'})
    [{'x': '1.5'}]
  """
  if jax.process_count() == 1:
    return [function()]
  own = np.frombuffer(
    together(lambda: json.dumps(function()).encode()), np.uint8
  )
  with later_stop():
    sizes = _gather(np.int32(own.size))
    texts = _gather(np.pad(own, (0, sizes.max() - own.size)))
  return [json.loads(text[:size].tobytes()) for text, size in zip(texts, sizes)]


def of_leader(function: Callable[[], Any]) -> Any:
  """`function()` of process 0, in all of them; see `everyone`.

  What the number of exchanges depends on comes from here: two processes may see
  a shared folder differently.

  Example:
    >>> of_leader(lambda: 'seen')
    'seen'
  """
  return everyone(lambda: function() if leads() else None)[0]


@contextlib.contextmanager
def agreed(shared: bool = True) -> Iterator[Callable[..., None]]:
  """Agreement of several processes before they go on together.

  None goes on alone: an error in one process, or an argument that differs, is
  an error in all.

  Args:
    shared: whether the other processes, if any, come here at once, too.

  Yields:
    A function of the arguments, by name, to be called once after the checks.
  """
  said, shared = {}, shared and jax.process_count() > 1
  try:
    yield said.update
  except BaseException as error:  # a stop, too
    if shared:
      _tell(error)
    raise
  if shared:
    _compare(everyone(lambda: {x: _digest(said[x]) for x in sorted(said)}))


def _digest(value) -> str:
  array = isinstance(value, (np.ndarray, jax.Array))
  value = np.asarray(value).tobytes() if array else repr(value).encode()
  return hashlib.sha256(value).hexdigest()[:16]


def _compare(digests: list[dict[str, str]]) -> None:
  first = digests[0]
  for process, own in enumerate(digests):
    for name in first | own:
      if own.get(name) != first.get(name):
        raise ValueError(
          f'processes 0 and {process} were given different {name}; every '
          'process must make the same call.'
        )


def _tell(error: BaseException) -> None:
  """Gives the error of this process to all at their exchange, once."""
  if not hasattr(error, _TOLD):
    _told(error)
    stopped = isinstance(error, KeyboardInterrupt)
    _gather(np.int32(_STOPPED if stopped else _FAILED))


def _told(error: BaseException) -> BaseException:
  setattr(error, _TOLD, True)
  return error


def _heed_stop() -> None:
  if _stops:
    _stops.clear()
    raise KeyboardInterrupt


@contextlib.contextmanager
def later_stop() -> Iterator[None]:
  """Keeps Ctrl-C within for the next exchange; one process has none."""
  thread = threading.current_thread()  # signals arrive in the main one
  if jax.process_count() == 1 or thread is not threading.main_thread():
    yield
    return
  before = signal.signal(signal.SIGINT, lambda *_: _stops.append(True))
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def _gather(x: np.ndarray) -> np.ndarray:
  """[processes, ...]."""
  try:
    with later_stop():
      return np.asarray(multihost_utils.process_allgather(x))
  except jax.errors.JaxRuntimeError as error:
    raise _told(
      ValueError(
        'the other processes do not answer; every process must make the same '
        f'calls, with the same mesh ({error}).'
      )
    ) from error
