"""A bounded store of compiled programs.

A program is compiled once for its static part and the shapes of its arguments,
then called as it is: a second generation of equal shapes traces, lowers and
compiles nothing, and a service that sees many shapes keeps the latest alone.
"""

import collections
import functools
import time
from collections.abc import Callable

import jax

SIZE = 32  # programs kept; one takes about 10 MB

_programs = collections.OrderedDict()
_seconds = [0.0]  # of compiling


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
    A callable of the arguments.
  """
  leaves, structure = jax.tree.flatten(args)
  key = (
    function,
    tuple(sorted(static.items())),
    structure,
    tuple(map(_signature, leaves)),
    jax.config.jax_default_matmul_precision,
    jax.config.jax_debug_nans,
  )
  program = _programs.pop(key, None)
  if program is None:
    # A function of its own: JAX forgets what it traced once it is dropped.
    jitted = jax.jit(
      functools.partial(function, **static),
      donate_argnums=donate,
      out_shardings=out_shardings,
    )
    began = time.perf_counter()
    program = jitted.lower(*args).compile()
    _seconds[0] += time.perf_counter() - began
  _programs[key] = program  # the latest stands last
  while len(_programs) > SIZE:
    _programs.popitem(last=False)
  return program


def seconds() -> float:
  """Seconds that this process has spent on compiling here."""
  return _seconds[0]


def clear() -> None:
  """Drops every program."""
  _programs.clear()


def _signature(leaf):
  placed = getattr(leaf, 'sharding', None)
  return leaf.shape, leaf.dtype, getattr(leaf, 'weak_type', False), placed
