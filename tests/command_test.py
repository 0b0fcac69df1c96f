"""Scripts: a mistake is one line, a stop says what is kept."""

import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from importlib import metadata

import jax
import pytest
import tqdm

from listcoupling import command

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def _raises(error):
  def main(argv):
    raise error

  return main


@pytest.mark.parametrize(
  'error',
  [
    ValueError('K is 0'),
    FileNotFoundError('no K'),
    RuntimeError("Unable to initialize backend 'gpux'"),
  ],
)
def test_a_mistake_is_one_line(capsys, monkeypatch, error):
  monkeypatch.delenv('LISTCOUPLING_TRACEBACK', raising=False)
  assert command.guard(_raises(error))(['a/toy.py']) == 1
  assert capsys.readouterr().err == f'toy.py: {error}\n'
  monkeypatch.setenv('LISTCOUPLING_TRACEBACK', '1')
  with pytest.raises(type(error), match=str(error)):
    command.guard(_raises(error))(['toy.py'])


@pytest.mark.parametrize(
  ('error', 'words'),
  [
    (
      FileNotFoundError(2, 'No such file', 'x.txt'),
      'there is no file or folder x.txt.',
    ),
    (
      ModuleNotFoundError('', name='jinja2.ext'),
      "needs jinja2: pip install 'listcoupling[chat]'",
    ),
    (
      RuntimeError('JAX TPU support not installed; cannot generate TPU'),
      "needs libtpu: pip install 'listcoupling[aot]'",
    ),
  ],
)
def test_what_is_missing_is_named_with_its_remedy(capsys, error, words):
  assert command.guard(_raises(error))(['toy.py']) == 1
  assert capsys.readouterr().err == f'toy.py: {words}\n'


def test_a_stop_says_what_is_kept(capsys):
  stop = KeyboardInterrupt()
  assert command.guard(_raises(stop))(['toy.py']) == 130
  assert capsys.readouterr().err.strip() == 'toy.py: Stopped.'
  stop.add_note('Two rows are kept.')
  assert command.guard(_raises(stop))(['toy.py']) == 130
  error = capsys.readouterr().err.strip()
  assert error == 'toy.py: Stopped. Two rows are kept.'


def test_a_mistake_does_not_stand_behind_a_progress_bar(capsys):
  bar = tqdm.tqdm(total=3)
  assert command.guard(_raises(ValueError('K is 0')))(['toy.py']) == 1
  assert capsys.readouterr().err.endswith('\ntoy.py: K is 0\n')
  assert bar.disable


def test_other_errors_and_results_pass():
  for bug in (TypeError, RuntimeError):
    with pytest.raises(bug):
      command.guard(_raises(bug('a bug')))(['toy.py'])
  assert command.guard(lambda argv: None)(['toy.py']) is None


@pytest.mark.parametrize(
  'arguments, choices, message',
  [
    (['x', 'y'], (), 'takes flags alone, got x y'),
    (['x'], ('a', 'b'), 'takes one of a, b, got x'),
    ([], ('a', 'b'), 'got none'),
    (['a', 'b'], ('a', 'b'), 'got a b'),
  ],
)
def test_arguments_are_checked(capsys, arguments, choices, message):
  main = command.guard(_raises(AssertionError('called')), choices)
  assert main(['toy.py', *arguments]) == 1
  assert message in capsys.readouterr().err


def _open(kind, monkeypatch):
  """Standard output that cannot be written."""
  if kind == 'full':
    out = open('/dev/full', 'w')
  else:
    reader, writer = os.pipe()
    os.close(reader)
    out = open(writer, 'w')
  monkeypatch.setattr(sys, 'stdout', out)
  return out


@pytest.mark.parametrize('size', [1, 10**5])  # as it ends, or in the middle
@pytest.mark.parametrize(
  ('kind', 'status', 'words'),
  [
    ('unread', 141, ''),
    (
      'full',
      1,
      'toy.py: what is printed cannot be written: No space left on device.\n',
    ),
  ],
)
def test_output_that_cannot_be_written(
  kind, status, words, size, monkeypatch, capfd
):
  monkeypatch.setattr(sys, 'argv', ['toy.py'])
  with _open(kind, monkeypatch), pytest.raises(SystemExit) as end:
    main = command.guard(lambda argv: print('x' * size))
    command.finish(main(['toy.py']))
  assert end.value.code == status and capfd.readouterr().err == words


@pytest.mark.parametrize('kind', ['unread', 'full'])
def test_an_error_is_told_though_output_is_lost(kind, monkeypatch, capfd):
  def main(_):
    print('x')
    raise ValueError('M must be at least 1, got 0.')

  with _open(kind, monkeypatch):
    assert command.guard(main)(['toy.py']) == 1
  assert capfd.readouterr().err == 'toy.py: M must be at least 1, got 0.\n'


def test_help_that_nobody_reads_is_quiet():
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
    [sys.executable, 'scripts/toy.py', '--help'],
    stdout=writer,
    stderr=subprocess.PIPE,
    text=True,
    cwd=_ROOT,
    check=False,
  )
  os.close(writer)
  assert (done.returncode, done.stderr) == (141, '')


def test_a_script_without_its_extra_says_so_while_it_starts(tmp_path):
  lacks = 'raise ModuleNotFoundError("", name="matplotlib.figure")'
  (tmp_path / 'matplotlib.py').write_text(lacks)
  run = functools.partial(
    subprocess.run,
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': f'{tmp_path}:{_ROOT}'},
    check=False,
  )
  words = "needs matplotlib: pip install 'listcoupling[experiments]'\n"
  done = run([sys.executable, _ROOT / 'scripts/toy.py', '--workdir=x'])
  assert (done.returncode, done.stdout) == (1, '')
  assert done.stderr == f'toy.py: {words}'
  done = run([sys.executable, '-m', 'listcoupling', 'gaussian', '--help'])
  assert done.returncode == 1 and 'Tables of the Gaussian' in done.stdout
  assert done.stderr == f'listcoupling gaussian: {words}'
  lacks = lacks.replace('matplotlib.figure', 'unheard_of')  # a bug: all of it
  (tmp_path / 'matplotlib.py').write_text(lacks)
  done = run([sys.executable, '-m', 'listcoupling', 'toy'])
  assert done.returncode == 1 and done.stderr.startswith('Traceback')
  assert 'listcoupling[' not in done.stderr


def test_odd_scripts_lack_their_packages_without_a_second_error(tmp_path):
  """One without words on itself, and one that lacks what all need."""
  missing = 'raise ModuleNotFoundError("", name="matplotlib")'
  (tmp_path / 'bare.py').write_text(
    f'from listcoupling import early_exits\n{missing}\n'
  )
  (tmp_path / 'base.py').write_text(
    'import sys\nfrom listcoupling import early_exits\n'
    'sys.modules["absl"] = None\nimport absl\n'
  )
  bare, base = (
    subprocess.run(
      [sys.executable, f'{name}.py', '--help'],
      capture_output=True,
      text=True,
      cwd=tmp_path,
      env=os.environ | {'PYTHONPATH': str(_ROOT)},
      check=False,
    )
    for name in ('bare', 'base')
  )
  assert (bare.returncode, bare.stdout) == (1, '\n')
  assert bare.stderr.startswith('bare.py: needs matplotlib: pip install')
  assert base.returncode == 1 and base.stderr.startswith('Traceback')
  assert base.stderr.splitlines()[-1].startswith('ModuleNotFoundError: import')
  assert 'excepthook' not in base.stderr


def test_the_packages_of_an_extra_are_those_of_setup():
  text = (_ROOT / 'setup.py').read_text()
  told = re.search(r'_EXPERIMENTS = \[(.*?)\n\]', text, re.S)[1]
  asked = {name.lower() for name in re.findall(r"'([\w-]+)>=", told)}
  asked = {name.replace('_', '-') for name in asked}
  asked.discard('pillow')  # of another extra as well
  bring = metadata.packages_distributions()
  brought = [
    {name.lower().replace('_', '-') for name in bring[module]}
    for module in command._EXPERIMENTS
  ]
  assert all(names & asked for names in brought)
  assert asked <= set.union(*brought)
  assert len(asked) == len(brought)


# One process for all: importing takes longer than what is tested.
_SCRIPT = """
import io, sys
from contextlib import redirect_stderr
from absl import flags
from listcoupling import command

for arguments in {cases!r}:
  sys.argv = ['toy.py', *arguments]
  with redirect_stderr(io.StringIO()) as error:
    try:
      config = command.define_config('configs/toy.py')
      flags.DEFINE_string('workdir', None, '', required=True)
      command.define_seed(0, '')
      command._parse(sys.argv)
      command.guard(lambda _: config.value.trials)(['toy.py'])
    except SystemExit:
      pass
  print(repr(error.getvalue()))
  for name in list(flags.FLAGS):
    if name.startswith(('config', 'workdir', 'seed')):
      delattr(flags.FLAGS, name)
  flags.FLAGS.unparse_flags()
"""
_CASES = {
  ('--config.trails=3',): 'no field trails; did you mean --config.trials',
  ('--config.zzz=3',): 'no field zzz; there are ',
  (
    '--workdir=x',
    '--config=configs/vae_digits.py',
    '--config.stepz=3',
  ): 'did you mean --config.refine.steps or --config.train.steps?',
  ('--workdir=x', '--config.trials=1.5'): 'config.trials=1.5',
  ('--workdir=x', '--config=configs/gaussian.py:foo'): "small, got 'foo'",
  ('--workdir=x', '--config=configs/toi.py'): (
    "toy.py: --config needs a file of settings, 'configs/toi.py' is none; did "
    'you mean configs/toy.py?'
  ),
  ('--workdir=x', '--config', '/tmp'): "'/tmp' is none",
  ('--workdir=x', '--config='): "'' is none",
  ('--workdir=x', '--config=syntax.py'): 'syntax.py, line 1: SyntaxError: ',
  ('--workdir=x', '--config=zero.py'): 'zero.py, line 2: ZeroDivisionError: ',
  ('--workdir=x', '-config=zero.py'): 'zero.py, line 2: ZeroDivisionError: ',
  ('--wordkir=x',): "'wordkir'. Did you mean: workdir",
  ('--workdir=x', '--seed=-1'): 'seed=-1: -1 is not an integer in the range',
  ('--workdir=x', f'--seed={2**32}'): '[0, 4294967295]',
  (): 'flag --workdir=None',
}


def test_mistakes_in_flags_are_one_line(tmp_path):
  (tmp_path / 'syntax.py').write_text('def get_config(: pass')
  (tmp_path / 'zero.py').write_text('def get_config():\n  return 1 / 0')
  done = subprocess.run(
    [sys.executable, '-c', _SCRIPT.format(cases=list(_CASES))],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(_ROOT)},
    check=False,
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  for line, (arguments, message) in zip(lines, _CASES.items(), strict=True):
    assert message in line.replace("\\'", "'"), (arguments, line)
    assert line.count('\\n') == 1 and 'Traceback' not in line, line


def test_configs_that_ship_are_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  given = [
    'x',
    '--config=configs/toy.py',
    '--config',
    'configs/gaussian.py:small',
  ]
  given += ['--config=configs/own.py', '--file=configs/toy.py']
  (tmp_path / 'configs').mkdir()
  for name in ('toy.py', 'own.py'):  # the user's own goes first
    (tmp_path / 'configs' / name).touch()
  assert command._with_shipped(given) == [
    *given[:3],
    f'{_ROOT}/configs/gaussian.py:small',
    *given[4:],
  ]
  os.mkfifo(tmp_path / 'pipe')  # as of a shell's <(...)
  assert command._with_shipped(['x', '--config=pipe'])[1] == '--config=pipe'
  (tmp_path / 'configs' / 'toy.py').unlink()
  assert command._with_shipped(given)[1] == f'--config={_ROOT}/configs/toy.py'


def test_the_console_command_speaks_of_itself():
  done = [
    subprocess.run(
      [sys.executable, '-m', 'listcoupling', 'train-vae', flag],
      capture_output=True,
      text=True,
      cwd=_ROOT,
      check=False,
    )
    for flag in ('--help', '--config.stepz=3')
  ]
  assert [each.returncode for each in done] == [0, 1]
  assert 'listcoupling train-vae' in done[0].stdout
  # Neither its words nor the heading of its flags tell where the file is.
  assert 'scripts/train_vae.py' not in done[0].stdout
  assert '\nlistcoupling train-vae:\n' in done[0].stdout
  assert done[1].stderr.startswith('listcoupling train-vae: --config has no ')


def test_the_console_command_tells_its_words():
  run = functools.partial(
    subprocess.run, capture_output=True, text=True, cwd=_ROOT, check=False
  )
  asked = run([sys.executable, '-m', 'listcoupling', '--help'])
  words = [path.stem.replace('_', '-') for path in _ROOT.glob('scripts/*.py')]
  listed = {line.split()[0]: line for line in asked.stdout.splitlines()[2:]}
  assert asked.returncode == 0 and {*listed} == {*words, 'evaluate'}
  assert 'Hugging Face directory' in listed['train-lm']
  wrong = run([sys.executable, '-m', 'listcoupling', 'trainlm'])
  assert wrong.returncode == 2 and 'did you mean train-lm?' in wrong.stderr


_STOPPED = """
import os, pathlib, signal, sys
import jax, numpy as np
from listcoupling import command
from listcoupling.experiments import run

def train(folder):
  from listcoupling.training import run_folder
  with run_folder.checkpoints(folder) as manager:
    with run_folder.stopping(manager) as keep:
      for step in range(1, 5):
        if step == 2:
          os.kill(os.getpid(), signal.SIGTERM)
        keep(step, {'w': np.zeros(3)})

def main(argv):
  def compute(number):
    if number == 1 and int(sent) == signal.SIGTERM:
      train(pathlib.Path(argv[1]))
    elif number == 1:
      os.kill(os.getpid(), int(sent))
    return {'value': number}

  print(jax.config.jax_compilation_cache_dir)
  print(jax.config.jax_persistent_cache_min_compile_time_secs)
  with run.open_run(argv[1], {}) as record:
    record.rows({n: n for n in range(3)}, compute, key='n')

sent = sys.argv.pop()
command.run(main, choices=(sys.argv[1],))
"""


@pytest.mark.parametrize(
  'shortest, number', [(None, signal.SIGINT), ('0.5', signal.SIGTERM)]
)
def test_a_stop_ends_as_of_its_signal_with_flushed_output(
  tmp_path, shortest, number
):
  changes = {'XDG_CACHE_HOME': str(tmp_path / 'cache')}
  if shortest:
    changes['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = shortest
  done = subprocess.run(
    [sys.executable, '-c', _STOPPED, tmp_path / 'work', str(int(number))],
    env={k: v for k, v in os.environ.items() if 'CACHE' not in k} | changes,
    capture_output=True,
    text=True,
    cwd=_ROOT,
    check=False,
  )
  assert done.returncode == 128 + number, done.stderr
  folder = tmp_path / 'cache' / 'listcoupling' / 'compiled'
  assert done.stdout == f'{folder}\n{shortest or 0.0}\n'
  last = done.stderr.splitlines()[-1]
  kept = f'Step 2 is kept in {tmp_path}.* ' * (number == signal.SIGTERM)
  assert re.search(f'Stopped. {kept}What is done is kept in.* goes on', last)
  assert 'Traceback' not in done.stderr
  rows = (tmp_path / 'work' / 'results.csv').read_text()
  assert rows == 'n,value\n0,0\n'
  assert not (tmp_path / 'work' / '.lock').exists()


# Ctrl-C comes as JAX begins to be imported.
_EARLY = """
import runpy, signal, sys

class Finder:
  def find_spec(self, name, *_):
    if name == 'jax':
      signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)
{run}
"""
_ENTRIES = [
  f'runpy.run_path({str(path)!r}, run_name="__main__")'
  for path in sorted(_ROOT.glob('scripts/*.py'))
] + ['sys.argv = ["", "toy"]; runpy.run_module("listcoupling", alter_sys=True)']


@pytest.mark.parametrize('run', _ENTRIES)
def test_a_stop_is_quiet_while_jax_is_imported(run):
  done = subprocess.run(
    [sys.executable, '-c', _EARLY.format(run=run)],
    capture_output=True,
    text=True,
    cwd=_ROOT,
    check=False,
  )
  assert (done.stdout, done.stderr, done.returncode) == ('', '', 130)


def test_an_interrupt_that_a_finalizer_would_drop_comes_again():
  class Dropped:
    def __del__(self):
      signal.raise_signal(signal.SIGINT)

  numbers = signal.SIGINT, signal.SIGTERM
  before = [*map(signal.getsignal, numbers), sys.unraisablehook]
  with pytest.raises(KeyboardInterrupt):
    with command.stops():
      Dropped()
      time.sleep(20)
  with pytest.raises(KeyboardInterrupt):
    with command.stops() as terminated:
      signal.raise_signal(signal.SIGTERM)
  assert terminated == [signal.SIGTERM]
  assert [*map(signal.getsignal, numbers), sys.unraisablehook] == before


def test_a_user_without_a_home_has_no_folder_of_programs(monkeypatch):
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  before = jax.config.jax_compilation_cache_dir
  try:
    jax.config.update('jax_compilation_cache_dir', None)
    monkeypatch.setenv(command._SHORTEST, '1')  # leaves the tests' as it is
    command._keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None
  finally:
    jax.config.update('jax_compilation_cache_dir', before)
