"""How scripts run: a user's mistake is one line, a stop is no traceback."""

import os
import pathlib
import sys

from absl import app, flags, logging

_TRACEBACK = 'LISTCOUPLING_TRACEBACK'


def run(main, *, resumes: bool = False) -> None:
  """Runs `guard(main)` under absl and exits."""
  app.run(guard(main, resumes=resumes))


def guard(main, *, resumes: bool = False):
  """`main`, but answering with the exit status.

  ValueError and OSError, which say what was wrong with the input, are printed
  in one line with exit status 1; with LISTCOUPLING_TRACEBACK in the environment
  they are raised. Ctrl-C ends with status 130. Warnings are logged, other notes
  only with --verbosity.

  Args:
    main: takes the arguments that are no flags, the name of the script first.
    resumes: the same command goes on after a stop, which is then said.

  Returns:
    A function of the arguments: None, or 1 or 130.

  Example:
    >>> guard(lambda argv: print('done'))(['script.py'])
    done
  """

  def guarded(argv):
    if 'verbosity' in flags.FLAGS and not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)
    name = pathlib.Path(argv[0]).name
    try:
      return main(argv)
    except KeyboardInterrupt:
      rest = '; the same command goes on from here' if resumes else ''
      print(f'\n{name}: stopped{rest}.', file=sys.stderr)
      return 130
    except (ValueError, OSError) as error:
      if os.environ.get(_TRACEBACK):
        raise
      print(f'{name}: {error}\n({_TRACEBACK}=1 shows where.)', file=sys.stderr)
      return 1

  return guarded
