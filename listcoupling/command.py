"""How scripts run: a user's mistake is one line, a stop is no traceback.

Output that nobody reads any more, as behind `| head`, ends a script quietly.
"""

import contextlib
import difflib
import errno
import os
import pathlib
import re
import runpy
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import app, flags, logging

from listcoupling import files, gumbel, interrupts

flags.disclaim_key_flags()  # they belong to the script that asks for them

_TRACEBACK = 'LISTCOUPLING_TRACEBACK'
_PACKAGE = pathlib.Path(__file__).resolve().parent
_EXPERIMENTS = (
  'importlib_resources', 'matplotlib', 'ml_collections', 'optax', 'orbax',
  'pyarrow', 'rouge_score', 'sklearn', 'tensorboardX', 'tensorflow_datasets',
)  # fmt: skip
_EXTRAS = {
  **dict.fromkeys(_EXPERIMENTS, 'experiments'),
  'PIL': 'images',
  'jinja2': 'chat',
  'torch': 'baselines',
  'transformers': 'baselines',
}
_FIELD = r'--?(?:no)?config\.([\w.]+)'
_SCRIPT = r'(?:python )?scripts/(\w+)\.py'
_NO_TPU = 'JAX TPU support not installed'  # so begins JAX's error
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHORTEST = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
_STOPPED = interrupts.status(signal.SIGINT)
_UNREAD = 141  # as a shell reports the signal of a pipe without a reader
_called: str | None = None  # by the console command; runpy sets argv[0]


def root() -> pathlib.Path:
  """The folder of `scripts` and `configs`, in a wheel or a checkout."""
  inside = _PACKAGE / 'checkout'
  return inside if inside.is_dir() else _PACKAGE.parent


def run_script(path: pathlib.Path, called: str) -> None:
  """Runs a script as `__main__`; its messages begin with `called`.

  Args:
    path: the file.
    called: such as 'listcoupling generate', how the user has started it.
  """
  global _called
  _called = called
  runpy.run_path(str(path), run_name='__main__')


def tell_missing(error: BaseException, trace: types.TracebackType) -> bool:
  """Says which extra a script lacks; --help tells what it does all the same.

  Args:
    error: that ended the script while it was imported.
    trace: of the error.

  Returns:
    Whether it was such an error and was told.
  """
  if os.environ.get(_TRACEBACK) or _extra(error) is None:
    return False
  frames = [frame.f_globals for frame, _ in traceback.walk_tb(trace)]
  words = [x['__doc__'] for x in frames if x['__name__'] == '__main__']
  if {'--help', '-h', '--helpfull'} & {*sys.argv}:
    print(_spoken(words[-1] or ''))
  _fail(sys.argv, error)
  return True


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
    sys.argv[:] = _with_shipped(sys.argv)
    return config_flags.DEFINE_config_file(
      'config', str(root() / default), 'File of the settings.'
    )
  except (AttributeError, KeyError, ValueError, flags.Error) as error:
    sys.exit(_fail(sys.argv, _misspelt(sys.argv, root() / default) or error))


def _with_shipped(argv: list[str]) -> list[str]:
  """The command line; --config names what ships where this folder has none.

  Raises:
    ValueError: there is no such file here either.
  """
  out = []
  for before, each in zip(['', *argv], argv):
    found = re.fullmatch(r'(--?config=)?([^:]*)(:.*)?', each)
    if found and (found[1] or before in ('-config', '--config')):
      flag, path, variant = found.groups('')
      if not os.path.exists(path) and path.startswith('configs/'):
        path = str(root() / path)
      if not os.path.exists(path) or os.path.isdir(path):
        raise ValueError(_no_config(found[2]))
      each = f'{flag}{path}{variant}'
    out.append(each)
  return out


def _no_config(path: str) -> str:
  """Words on a --config that is no file, with the likeliest that ships."""
  names = [x.name for x in (root() / 'configs').glob('[a-z]*.py')]
  near = difflib.get_close_matches(os.path.basename(path), names, 1)
  guess = (near or ['toy.py'])[0]
  return (
    f'--config needs a file of settings, {path!r} is none; did you mean '
    f'configs/{guess}?'
  )


def define_seed(default: int | None, words: str) -> flags.FlagHolder:
  """Defines --seed, an integer that `gumbel.seed_key` takes."""
  return flags.DEFINE_integer('seed', default, words, 0, gumbel.MAX_SEED)


def define_processes() -> Callable[[], None]:
  """Defines --distributed, --coordinator, --processes and --process.

  Returns:
    A function that joins the other processes if asked to, to be called before
    anything is on a device.
  """
  distributed = flags.DEFINE_bool(
    'distributed', False, 'One of several processes, see --coordinator.'
  )
  coordinator = flags.DEFINE_string(
    'coordinator', None, 'host:port of process 0; found on Slurm and TPU pods.'
  )
  processes = flags.DEFINE_integer('processes', None, 'Number, likewise.')
  process = flags.DEFINE_integer('process', None, 'Of this one, from 0.')

  def join():
    if distributed.value:
      jax.distributed.initialize(
        coordinator.value, processes.value, process.value
      )
      # JAX has taken the signal; a table and a training hear it themselves.
      signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

  return join


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
    terminated = ()
    try:
      with stops() as terminated:
        status = guard(main, choices)(argv)
    except KeyboardInterrupt:  # once more, while the first one was reported
      status = _STOPPED
    if status == _STOPPED:
      interrupts.leave(*terminated)
    return status

  try:
    app.run(quiet, flags_parser=_parse)
  except SystemExit as end:
    finish(end.code)


@contextlib.contextmanager
def stops() -> Iterator[list[int]]:
  """Ctrl-C raises KeyboardInterrupt within, in spite of finalizers.

  Python drops the exceptions of finalizers and of hooks of the collector, and
  a Ctrl-C that meets one with them; such a one is sent once more. SIGTERM,
  which schedulers send, does what Ctrl-C would at that moment.

  Yields:
    SIGTERM once it came, a list of none or one.
  """
  numbers, terminated = (signal.SIGINT, signal.SIGTERM), []
  before, hook = list(map(signal.getsignal, numbers)), sys.unraisablehook

  def terminate(number, _):
    terminated[:] = [number]
    signal.raise_signal(signal.SIGINT)

  def again(dropped):
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
      return hook(dropped)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

  sys.unraisablehook = again
  for number, new in zip(numbers, (signal.default_int_handler, terminate)):
    signal.signal(number, new)
  try:
    yield terminated
  finally:
    for number, old in zip(numbers, before):
      signal.signal(number, old or signal.SIG_DFL)
    sys.unraisablehook = hook


def finish(status: int | str | None, words: str = '') -> None:
  """Prints, and exits with a status or that of output which cannot be had."""
  lost = _lost_output(words)
  sys.exit(_fail(sys.argv, lost) if lost else status)


def _lost_output(words: str = '') -> OSError | None:
  """Why what was printed cannot be written, told once; the rest is dropped."""
  try:
    print(words, end='', flush=True)
  except OSError as error:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return error
  return None


def run_table(
  choose,
  *,
  config: str,
  workdir: str | None,
  seed: str,
  mesh: Callable[[], Any] | None = None,
) -> None:
  """Runs a script that fills a table, prints it and says where it is.

  Args:
    choose: the config's `experiments.run.Experiment`, a function of it.
    config: path of the default, see `define_config`.
    workdir: the default; None where it has to be given.
    seed: words on --seed.
    mesh: of `command_flags.define_mesh`, where the table can be filled on one.
  """
  given, number = define_config(config), define_seed(0, seed)
  folder = flags.DEFINE_string(
    'workdir', workdir, 'For the results; resumed.', required=workdir is None
  )
  join = None if mesh else define_processes()

  def main(_):
    table = choose(given.value)
    if join:
      join()
    elif (devices := mesh()) is not None:
      table = table.on(devices)
    text = table.as_text(table(given.value, folder.value, number.value))
    if jax.process_index() > 0:
      return
    print(text)
    figures = [f'{name} (.pdf)' for name in table.figures]
    names = ', '.join(('results.csv', 'results.json', *figures))
    print(f'\n{names} are in {folder.value}')

  run(main)


def guard(main, choices: tuple[str, ...] = ()):
  """`main`, but answering with the exit status.

  ValueError, OSError and ImportError, which say what is wrong with the input or
  what is missing, and a backend that JAX has not or whose memory is full, are
  printed in one line with exit status 1; with LISTCOUPLING_TRACEBACK in the
  environment they are raised. Ctrl-C ends with status 130 and the notes of the
  exception, which say what is kept (`run` answers 143 after SIGTERM); a pipe
  that nobody reads with 141 and no word. Warnings are logged, other notes only
  with --verbosity.

  Args:
    main: takes the arguments that are no flags, the name of the script first.
    choices: what the one argument may be; there is none if left out.

  Returns:
    A function of the arguments: None, or 1, 130 or 141.

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
      _end_bars()
      notes = ' '.join(['Stopped.', *getattr(stop, '__notes__', ())])
      print(f'\n{_name(argv)}: {notes}', file=sys.stderr)
      return _STOPPED
    except (ValueError, OSError, ImportError, RuntimeError) as error:
      if os.environ.get(_TRACEBACK) or not _is_told(error):
        raise
      lost = _lost_output()
      printing = getattr(error, 'filename', '') is None  # no file's error
      return _fail(argv, lost if lost and printing else error)

  return guarded


def _is_told(error) -> bool:
  """Whether an error says what the user can mend; bugs are raised."""
  if not isinstance(error, RuntimeError):
    return True
  told = 'Unable to initialize backend', 'RESOURCE_EXHAUSTED', _NO_TPU
  return str(error).startswith(told)


def _name(argv) -> str:
  return _called or pathlib.Path(argv[0]).name


def _check_arguments(arguments, choices) -> None:
  if not choices and arguments:
    raise ValueError(f'takes flags alone, got {" ".join(arguments)}.')
  if choices and (len(arguments) != 1 or arguments[0] not in choices):
    raise ValueError(
      f'takes one of {", ".join(choices)}, got {" ".join(arguments) or "none"}.'
    )


def _misspelt(argv, default) -> str | None:
  """Words on the first --config.FIELD that is not there; None: all are.

  Args:
    argv: the command line.
    default: path of the config, where --config names no other.
  """
  from ml_collections import config_flags

  rest = [each for each in argv if not re.match(_FIELD, each)]
  own = flags.FlagValues()
  try:
    config = config_flags.DEFINE_config_file(
      'config', str(default), '', flag_values=own, sys_argv=rest
    )
    own(rest, known_only=True)
    fields = files.differences(config.value.to_dict(), {})
  except Exception:  # the file is wrong, which its own error says
    return None
  parents = {x[: dot.start()] for x in fields for dot in re.finditer(r'\.', x)}
  fields = [*fields, *sorted(parents)]
  asked = [found[1] for each in argv if (found := re.match(_FIELD, each))]
  for name in asked:
    if name not in fields:
      return f'--config has no field {name}; {_likely(name, fields)}'
  return None


def _likely(name, fields) -> str:
  """Fields that a user may have meant, by the last part of their names."""
  last = {field: field.rpartition('.')[2] for field in fields}
  close = difflib.get_close_matches(
    name.rpartition('.')[2], sorted({*last.values()})
  )
  likely = [field for x in close for field in fields if last[field] == x]
  if likely:
    return f'did you mean --config.{" or --config.".join(likely)}?'
  return f'there are {", ".join(x for x in fields if "." not in x)} and below.'


def _words(error) -> str:
  """The message of an error, and the remedy for what is missing."""
  while isinstance(error, (AttributeError, KeyError)) and error.args:
    error = error.args[0]  # the message is within, as a repr or an error
  if str(error).startswith(_NO_TPU):
    return "needs libtpu: pip install 'listcoupling[aot]'"
  if extra := _extra(error):
    name = error.name.split('.')[0]
    return f"needs {name}: pip install 'listcoupling[{extra}]'"
  if isinstance(error, FileNotFoundError) and error.filename is not None:
    return f'there is no file or folder {error.filename}.'
  if getattr(error, 'errno', None) in _FULL and error.filename is None:
    return f'what is printed cannot be written: {error.strerror}.'
  return str(error)


def _extra(error) -> str | None:
  """The extra that brings what could not be imported."""
  is_missing = isinstance(error, ModuleNotFoundError) and error.name
  return _EXTRAS.get(error.name.split('.')[0]) if is_missing else None


def _fail(argv, error) -> int:
  """Prints one line on what was wrong; the exit status."""
  if isinstance(error, BrokenPipeError):
    return _UNREAD
  lines = [x.strip() for x in _words(error).splitlines() if x.strip()]
  if any(line.startswith('Traceback') for line in lines):
    lines = [lines[0], lines[-1]]
  _end_bars()
  print(f'{_name(argv)}: {" ".join(lines)}', file=sys.stderr)
  return 1


def _end_bars() -> None:
  """Progress bars that an error left open: the next line is its own."""
  if 'tqdm' in sys.modules:
    for bar in list(sys.modules['tqdm'].tqdm._instances):
      bar.close()


def _parse(argv):
  """Flags of the command line; a mistake ends with one line."""
  if _called:
    main = sys.modules['__main__']
    main.__doc__ = _spoken(main.__doc__ or '')
    # absl heads --help with the path that runpy has put there.
    own = flags.FLAGS
    for flags_of in (
      own.flags_by_module_dict(),
      own.key_flags_by_module_dict(),
    ):
      flags_of[_called] = flags_of.pop(sys.argv[0], [])
    sys.argv[0] = _called
  try:
    return flags.FLAGS(argv)
  except SystemExit:  # --help, which absl ends with 1
    sys.exit(0)
  except (flags.Error, AttributeError, KeyError, ValueError, OSError) as error:
    if 'config' in flags.FLAGS:
      error = _misspelt(argv, flags.FLAGS['config'].default) or error
    sys.exit(_fail(argv, error))
  except Exception as error:
    if os.environ.get(_TRACEBACK) or not (place := _place(argv, error)):
      raise
    sys.exit(_fail(argv, f'{place}: {type(error).__name__}: {error}'))


def _place(argv, error) -> str | None:
  """File and line of an error in a config that the command line names."""
  frames = traceback.extract_tb(error.__traceback__)
  places = [(frame.filename, frame.lineno) for frame in frames]
  if isinstance(error, SyntaxError):
    places.append((error.filename, error.lineno))
  paths = (re.sub('^--?config=', '', each) for each in argv)
  given = {path.partition(':')[0] for path in paths}
  named = [f'{path}, line {line}' for path, line in places if path in given]
  return named[-1] if named else None


def _spoken(document: str) -> str:
  """The docstring of a script, for users of the console command."""
  if not _called:
    return document
  words = re.split(_SCRIPT, document)  # every other one names a script
  words[1::2] = [f'listcoupling {x.replace("_", "-")}' for x in words[1::2]]
  return ''.join(words)


def _keep_compiled() -> None:
  if _SHORTEST not in os.environ:  # to compile: small ones add up
    jax.config.update(_SHORTEST.lower(), 0.0)
  if not jax.config.jax_compilation_cache_dir:
    root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = pathlib.Path(root) / 'listcoupling' / 'compiled'
    if folder.is_absolute():  # this user may have no home
      jax.config.update('jax_compilation_cache_dir', str(folder))
