"""Ctrl-C while a script starts or ends: quiet; between, see `command.run`."""

import contextlib
import os
import sys

STOPPED = 130  # as a shell reports the interrupt signal


def leave(*_) -> None:
  """Ends the process here, with what it has printed."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):  # closed, or in the middle of a line
      stream.flush()
  os._exit(STOPPED)  # threads of the backend may crash while it winds up
