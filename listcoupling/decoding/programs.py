"""A bounded store of compiled programs.

A program is compiled once for its static part and the shapes of its arguments,
then called as it is: a second generation of equal shapes traces, lowers and
compiles nothing, and a service that sees many shapes keeps the latest alone.
"""

import collections
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import jax

# Programs kept on the same devices. One of the shipped pair takes 14 to 35 MB
# of the host's memory, 27 on average.
SIZE = 32

# By the devices that their arguments lie on: futures, the latest last.
_programs = collections.defaultdict(collections.OrderedDict)
_lock = threading.Lock()
_seconds = [0.0]  # of compiling
_rooms = []  # sizes that callers of `room` need


def get(
  function: Callable, *args, donate=(), out_shardings=None, **static
) -> Callable:
  """The compiled `function(*args, **static)`.

  Args:
    function: pure.
    *args: pytrees of arrays; only shapes, types and places matter.
    donate: indices of the arguments whose buffers the program may reuse.
    out_shardings: of the results, given by the arguments; None leaves them to
      the compiler.
    **static: hashable.

  Returns:
    A callable of the arguments. Threads that ask for one at the same time
    wait for the first of them; if that one is interrupted, the next compiles.
  """
  leaves, structure = jax.tree.flatten(args)
  signatures = tuple(map(_signature, leaves))
  kept = _programs[_devices(signatures)]
  key = (
    function,
    tuple(sorted(static.items())),
    structure,
    signatures,
    jax.config.jax_default_matmul_precision,
    jax.config.jax_debug_nans,
  )
  while True:
    with _lock:
      known = kept.pop(key, None)
      program = kept[key] = known or futures.Future()
      while len(kept) > max([SIZE, *_rooms]):
        kept.popitem(last=False)
    if known is None:
      # A function of its own: JAX forgets what it traced once it is dropped.
      jitted = jax.jit(
        functools.partial(function, **static),
        donate_argnums=donate,
        out_shardings=out_shardings,
      )
      _compile(kept, key, program, jitted, args)
    try:
      return program.result()
    except futures.CancelledError:
      pass  # the thread that compiled it was interrupted


def _compile(kept, key, program, jitted, args):
  """Sets the result of `program`; one that fails is forgotten."""
  began = time.perf_counter()
  try:
    program.set_result(jitted.lower(*args).compile())
  except BaseException as error:
    with _lock:
      if kept.get(key) is program:
        del kept[key]
    if isinstance(error, Exception):
      program.set_exception(error)
    else:
      program.cancel()
    raise
  with _lock:
    _seconds[0] += time.perf_counter() - began


@contextlib.contextmanager
def room(count: int) -> Iterator[None]:
  """Keeps at least so many programs on the same devices for a while.

  Who goes round more programs than are kept compiles each anew in every round.
  """
  _rooms.append(count)
  try:
    yield
  finally:
    _rooms.remove(count)


def seconds() -> float:
  """Seconds that this process has spent on compiling here."""
  return _seconds[0]


def clear() -> None:
  """Drops every program."""
  with _lock:
    _programs.clear()


def _signature(leaf):
  placed = getattr(leaf, 'sharding', None)
  return leaf.shape, leaf.dtype, getattr(leaf, 'weak_type', False), placed


def _devices(signatures):
  """All devices of arrays; numpy's lie on none."""
  places = {placed for *_, placed in signatures} - {None}
  return frozenset().union(*(place.device_set for place in places))
