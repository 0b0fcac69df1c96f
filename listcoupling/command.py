"""How scripts run: a user's mistake is one line, a stop is no traceback."""

import os
import pathlib
import sys

import jax
from absl import app, flags, logging

from listcoupling import gumbel, interrupts

flags.disclaim_key_flags()  # they belong to the script that asks for them

_TRACEBACK = 'LISTCOUPLING_TRACEBACK'
_PACKAGE = pathlib.Path(__file__).resolve().parent


def root() -> pathlib.Path:
  """The folder of `scripts` and `configs`, in a wheel or a checkout."""
  inside = _PACKAGE / 'checkout'
  return inside if inside.is_dir() else _PACKAGE.parent


def define_config(default: str) -> flags.FlagHolder:
  """Defines --config, a file whose get_config() gives the settings.

  Args:
    default: path from the folder that holds `configs`; configs import each
      other from there.

  Returns:
    The flag; its value is a ConfigDict. A misspelt field on the command line
    ends the script with one line.
  """
  from ml_collections import config_flags  # scripts without one run bare

  sys.path.insert(0, str(root()))
  try:
    return config_flags.DEFINE_config_file(
      'config', str(root() / default), 'File of the settings.'
    )
  except (AttributeError, KeyError, ValueError, flags.Error) as error:
    sys.exit(_fail(sys.argv, error))


def define_seed(default: int | None, words: str) -> flags.FlagHolder:
  """Defines --seed, an integer that `gumbel.seed_key` takes."""
  return flags.DEFINE_integer('seed', default, words, 0, gumbel.MAX_SEED)


def run(main, *, choices: tuple[str, ...] = ()) -> None:
  """Runs `guard(main)` under absl and exits.

  Compiled programs are kept between runs, in JAX_COMPILATION_CACHE_DIR or the
  user's folder of caches.

  Args:
    main: takes the arguments that are no flags, the name of the script first.
    choices: what the one argument may be; there is none if left out.
  """
  _keep_compiled()

  def quiet(argv):
    try:
      with interrupts.raised():
        status = guard(main, choices)(argv)
    except KeyboardInterrupt:  # once more, while the first one was reported
      status = interrupts.STOPPED
    if status == interrupts.STOPPED:
      interrupts.leave()
    return status

  app.run(quiet, flags_parser=_parse)


def run_table(choose, *, config: str, workdir: str | None, seed: str) -> None:
  """Runs a script that fills a table, prints it and says where it is.

  Args:
    choose: the config's `experiments.run.Experiment`, a function of it.
    config: path of the default, see `define_config`.
    workdir: the default; None where it has to be given.
    seed: words on --seed.
  """
  from listcoupling import command_flags  # other scripts are alone

  given, number = define_config(config), define_seed(0, seed)
  folder = flags.DEFINE_string(
    'workdir', workdir, 'For the results; resumed.', required=workdir is None
  )
  join = command_flags.define_processes()

  def main(_):
    table = choose(given.value)
    join()
    text = table.as_text(table.run(given.value, folder.value, number.value))
    if jax.process_index() > 0:
      return
    print(text)
    names = ', '.join(('results.csv', 'results.json', *table.figures))
    print(f'\n{names} are in {folder.value}')

  run(main)


def guard(main, choices: tuple[str, ...] = ()):
  """`main`, but answering with the exit status.

  ValueError, OSError and ImportError, which say what is wrong with the input or
  what is missing, and a backend that JAX has not or whose memory is full, are
  printed in one line with exit status 1; with
  LISTCOUPLING_TRACEBACK in the environment they are raised. Ctrl-C ends with
  status 130 and the notes of the exception, which say what is kept. Warnings
  are logged, other notes only with --verbosity.

  Args:
    main: takes the arguments that are no flags, the name of the script first.
    choices: what the one argument may be; there is none if left out.

  Returns:
    A function of the arguments: None, or 1 or 130.

  Example:
    >>> guard(lambda argv: print('done'))(['script.py'])
    done
  """

  def guarded(argv):
    if 'verbosity' in flags.FLAGS and not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)
    try:
      _check_arguments(argv[1:], choices)
      return main(argv)
    except KeyboardInterrupt as stop:
      notes = ' '.join(['Stopped.', *getattr(stop, '__notes__', ())])
      print(f'\n{_name(argv)}: {notes}', file=sys.stderr)
      return interrupts.STOPPED
    except (ValueError, OSError, ImportError, RuntimeError) as error:
      if os.environ.get(_TRACEBACK) or not _is_told(error):
        raise
      return _fail(argv, error)

  return guarded


def _is_told(error) -> bool:
  """Whether an error says what the user can mend; bugs are raised."""
  if not isinstance(error, RuntimeError):
    return True
  told = 'Unable to initialize backend', 'RESOURCE_EXHAUSTED'
  return str(error).startswith(told)


def _name(argv) -> str:
  return pathlib.Path(argv[0]).name


def _check_arguments(arguments, choices) -> None:
  if not choices and arguments:
    raise ValueError(f'takes flags alone, got {" ".join(arguments)}.')
  if choices and (len(arguments) != 1 or arguments[0] not in choices):
    raise ValueError(
      f'takes one of {", ".join(choices)}, got {" ".join(arguments) or "none"}.'
    )


def _fail(argv, error) -> int:
  """Prints one line on what was wrong; the exit status."""
  while isinstance(error, (AttributeError, KeyError)) and error.args:
    error = error.args[0]  # the message is within, as a repr or an error
  lines = [x.strip() for x in str(error).splitlines() if x.strip()]
  if any(line.startswith('Traceback') for line in lines):
    lines = [lines[0], lines[-1]]
  print(f'{_name(argv)}: {" ".join(lines)}', file=sys.stderr)
  return 1


def _parse(argv):
  """Flags of the command line; a mistake ends with one line."""
  try:
    return flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, ValueError, OSError) as error:
    sys.exit(_fail(argv, error))


def _keep_compiled() -> None:
  if not jax.config.jax_compilation_cache_dir:
    root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = pathlib.Path(root) / 'listcoupling' / 'compiled'
    if folder.is_absolute():  # this user may have no home
      jax.config.update('jax_compilation_cache_dir', str(folder))
