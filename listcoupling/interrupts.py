"""Ctrl-C in a script: quiet while it starts and ends, an exception between."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

STOPPED = 130  # as a shell reports the interrupt signal


def leave(*_) -> None:
  """Ends the process here, with what it has printed."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):  # closed, or in the middle of a line
      stream.flush()
  os._exit(STOPPED)  # threads of the backend may crash while it winds up


@contextlib.contextmanager
def raised() -> Iterator[None]:
  """Ctrl-C raises KeyboardInterrupt within, in spite of finalizers.

  Python drops the exceptions of finalizers and of hooks of the collector, and
  a Ctrl-C that meets one with them; such a one is sent once more.
  """
  before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook

  def again(dropped):
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
      return hook(dropped)
    import threading

    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

  sys.unraisablehook = again
  signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    sys.unraisablehook = hook
