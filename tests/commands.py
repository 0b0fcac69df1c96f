"""Scripts run as from a shell, in processes that begin with JAX imported.

A server imports what takes seconds, once a worker, and forks for each command;
its own start is never timed nor tested here: `command_test` does that.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
_STREAMS = {'stdout': 1, 'stderr': 2}  # numbers of the files

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(
  ['flax.linen', 'jax.numpy', 'ml_collections', 'optax', 'tokenizers']
)


def _main(arguments, folder, environment):
  """In the child: output to files, then the script."""
  os.environ.clear()  # the server has that of its first use
  os.environ.update(environment)
  for name, number in _STREAMS.items():
    file = os.open(f'{folder}/{name}', os.O_WRONLY | os.O_CREAT)
    os.dup2(file, number)
  os.chdir(ROOT)
  sys.argv = list(arguments)
  runpy.run_path(arguments[0], run_name='__main__')


def run(*arguments, timeout=300):
  """The `subprocess.CompletedProcess` of a script and its flags, from ROOT."""
  with tempfile.TemporaryDirectory() as folder:
    child = _context.Process(
      target=_main, args=(arguments, folder, {**os.environ})
    )
    child.start()
    child.join(timeout)
    told = [pathlib.Path(folder, name).read_text() for name in _STREAMS]
    if child.exitcode is None:
      child.kill()
      raise subprocess.TimeoutExpired(arguments, timeout, *told)
  return subprocess.CompletedProcess(arguments, child.exitcode, *told)
