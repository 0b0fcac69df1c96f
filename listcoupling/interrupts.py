"""Ctrl-C while a script starts or ends: quiet; between, see `command.run`."""

import contextlib
import os
import signal
import sys


def status(number: int) -> int:
  """Exit status of a process that a signal ended, as a shell reports it."""
  return 128 + number


def leave(number: int = signal.SIGINT, *_) -> None:
  """Ends the process here, with what it has printed; handles a signal."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):  # closed, or in the middle of a line
      stream.flush()
  os._exit(status(number))  # threads of the backend may crash while it winds up
