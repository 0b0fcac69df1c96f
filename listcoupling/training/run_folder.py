"""The folder of a training run: settings, tokenizer, history, checkpoints.

    train_config.json  settings; a run is resumed with the same ones only
    origin.json        digests of text and teacher, compared likewise
    tokenizer.json     what the text was encoded with
    checkpoints/STEP   Orbax: parameters and optimizer state, the last two
    history.json       one row per evaluation
    record.json        what is known of the finished run
    events/            TensorBoard

Of these the image codec (`vae`) keeps settings, history and one checkpoint, and
its TensorBoard folder is tensorboard/.
"""

import contextlib
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orbax.checkpoint as ocp

from listcoupling import files

_STOPS = b'\nStops after this step and keeps it; once more stops at once.\n'
# Of a language model: the schedule follows the new number of steps; logs do
# not change the run.
_MAY_CHANGE = ('num_steps', 'checkpoint_every', 'log_every')


def _changed(path: pathlib.Path, wanted: Any) -> list[str]:
  """Dotted names that differ from those in a JSON file, if there is one."""
  if not path.exists():
    return []
  return files.differences(files.read_json(path), files.plain(wanted))


def check_settings(config, folder: pathlib.Path, may_change=()) -> None:
  """Raises ValueError if the folder holds a run with other settings.

  Args:
    config: of the run.
    folder: of the run.
    may_change: names that need not be the same.
  """
  changed = _changed(folder / 'train_config.json', config)
  changed = [name for name in changed if name not in may_change]
  if changed:
    raise ValueError(
      f'{folder} holds a run with other settings of {changed}; resume with '
      'the same settings or choose another --workdir.'
    )


def keep_settings(config, folder: pathlib.Path) -> None:
  """Makes the folder and keeps the settings there; the same are left alone."""
  path = folder / 'train_config.json'
  if not path.exists() or _changed(path, config):
    files.write_json(path, config)


def _check_num_steps(folder: pathlib.Path, num_steps: int) -> None:
  """A run cannot go back: its learning rate was that of more steps."""
  there = folder / 'checkpoints'
  done = ocp.utils.checkpoint_steps(there) if there.is_dir() else []
  if done and max(done) > num_steps:
    raise ValueError(
      f'{folder} holds a run of {max(done)} steps, more than num_steps = '
      f'{num_steps}; set num_steps to {max(done)} or above, or choose another '
      '--workdir.'
    )


def open_folder(config, folder: pathlib.Path, tokenizer, origin: dict) -> None:
  """Makes the folder and keeps settings, tokenizer and origin there.

  Args:
    config: of the run.
    folder: of the run.
    tokenizer: of the run.
    origin: of `inputs.origin`.

  Raises:
    ValueError: the folder holds a run with other settings, apart from the
      number of steps and how often to log and to save, one of more steps, or
      one that learnt from another text or teacher; or its files are damaged.
  """
  check_settings(config, folder, _MAY_CHANGE)
  _check_num_steps(folder, config.num_steps)
  changed = _changed(folder / 'origin.json', origin)
  if changed:
    raise ValueError(
      f'{folder} holds a run whose {" and ".join(changed)} differ from '
      f'{origin}: text or teacher have changed under their names; put them '
      'back or choose another --workdir.'
    )
  # Settings come last: a folder that has them has the rest.
  with files.replacing(folder / 'tokenizer.json') as new:
    new.write_text(tokenizer.to_str(pretty=True), encoding='utf-8')
  files.write_json(folder / 'origin.json', origin)
  keep_settings(config, folder)


def read_history(
  folder: pathlib.Path, last_step: int, names: tuple[str, ...] = ()
) -> list[dict]:
  """Rows of history.json up to a step; those after it will come again.

  Args:
    folder: of the run.
    last_step: of the rows that are wanted.
    names: of numbers that every row holds besides `step`.

  Raises:
    ValueError: the file is damaged.
  """
  path = folder / 'history.json'
  rows = files.read_json(path, list) if path.exists() else []
  for row in rows:
    for name in ('step', *names):
      if not isinstance(row, dict) or type(row.get(name)) not in (int, float):
        raise ValueError(
          f'{path} is damaged: a row has no number {name!r}; restore it, or '
          'choose another --workdir.'
        )
  return [row for row in rows if row['step'] <= last_step]


def checkpoints(
  folder: pathlib.Path, max_to_keep: int = 2
) -> ocp.CheckpointManager:
  """The manager of the run's checkpoints, of which the last ones are kept."""
  return ocp.CheckpointManager(
    (folder / 'checkpoints').absolute(),
    options=ocp.CheckpointManagerOptions(max_to_keep=max_to_keep),
  )


def restore(manager: ocp.CheckpointManager, state: Any) -> tuple[int, Any]:
  """(step, state) of the last checkpoint, or (0, `state`) without one.

  Raises:
    ValueError: the checkpoint is damaged.
  """
  step = manager.latest_step()
  if step is None:
    return 0, state
  try:
    return step, manager.restore(step, args=ocp.args.StandardRestore(state))
  except Exception as error:  # of many kinds: JSON, TensorStore, OCDBT
    about = f'{type(error).__name__}: {error}'.splitlines()[0][:200]
    raise ValueError(
      f'{manager.directory / str(step)} is a damaged checkpoint ({about}); '
      'remove this folder to go on from the checkpoint before it, or choose '
      'another --workdir.'
    ) from error


def save(manager: ocp.CheckpointManager, step: int, state: Any) -> None:
  """Saves the state after `step` steps, in the background; once."""
  if step != manager.latest_step():
    with files.naming_full_disk(manager.directory):
      manager.save(step, args=ocp.args.StandardSave(state))


@contextlib.contextmanager
def stopping(
  manager: ocp.CheckpointManager, first: tuple[int, Any]
) -> Iterator[Callable[[int, Any], None]]:
  """A loop of steps that Ctrl-C or SIGTERM ends with a checkpoint.

  The first signal says so and waits for the end of a step, since one in the
  middle of a compiled call can crash the process; a second one does what it
  always did.
  In a thread other than the main one no signal arrives. All checkpoints are
  on disk when the loop is left.

  Args:
    manager: of the run's checkpoints.
    first: (step, state) before the loop.

  Yields:
    keep(step, state), to be called after each step, when all that belongs to
    it is written.

  Raises:
    KeyboardInterrupt: the run was stopped; its note says at which step.
  """
  last, asked, before = [first], [], {}

  def handler(*_):
    asked.append(True)
    os.write(2, _STOPS)  # print may be in the middle of a line
    for number, old in before.items():
      signal.signal(number, old)

  def keep(step, state):
    last[0] = step, state
    if asked:
      raise KeyboardInterrupt

  if threading.current_thread() is threading.main_thread():
    for number in (signal.SIGINT, signal.SIGTERM):
      before[number] = signal.signal(number, handler) or signal.SIG_DFL
  try:
    yield keep
  except KeyboardInterrupt as stop:
    step, state = last[0]
    save(manager, step, state)
    stop.add_note(
      f'Step {step} is kept in {manager.directory}; the same command goes on '
      'from there.'
    )
    raise
  finally:
    for number, old in before.items():
      signal.signal(number, old)
    with files.naming_full_disk(manager.directory):
      manager.wait_until_finished()
