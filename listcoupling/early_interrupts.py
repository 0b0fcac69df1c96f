"""Ctrl-C ends this process quietly from now on: for scripts, imported first.

JAX takes seconds to import and may abort if an exception comes up meanwhile.
Nothing in the library imports this module; `command.run` takes over.
"""

import signal

from listcoupling import interrupts

signal.signal(signal.SIGINT, interrupts.leave)
