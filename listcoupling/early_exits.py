"""Scripts that end while they start: imported first, before what takes long.

Ctrl-C ends the process quietly, since JAX may abort if an exception comes up in
its imports; a package that is missing is one line that names the extra.
Nothing in the library imports this module; `command.run` takes over.
"""

import signal
import sys

from listcoupling import interrupts


def _tell(kind, error, trace):
  """Prints an exception that nobody caught."""
  try:
    from listcoupling import command

    told = command.tell_missing(error, trace)
  except ImportError:  # what it needs itself is missing
    told = False
  if not told:
    sys.__excepthook__(kind, error, trace)


signal.signal(signal.SIGINT, interrupts.leave)
sys.excepthook = _tell
