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

Several processes share the folder, on a file system that all of them see: each
writes its shards of a checkpoint, process 0 everything else. A checkpoint is
read onto any mesh, whichever it was written from.
"""

import contextlib
import errno
import logging
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from listcoupling import files, together, workdirs
from listcoupling.decoding import placement

_STOPS = b'\nStops after this step and keeps it; once more stops at once.\n'
# Of a language model: the schedule follows the new number of steps; logs do
# not change the run.
_MAY_CHANGE = ('num_steps', 'checkpoint_every', 'log_every')


def check_mesh(mesh: Mesh | None) -> Mesh | None:
  """The standard form of a mesh to train on.

  Raises:
    ValueError: for something else, or one that leaves out a process.
  """
  count = jax.process_count()
  if mesh is None:
    if count > 1:
      raise ValueError(
        f'{count} processes train on a mesh over the devices of all of them, '
        'got none; give --mesh. Tables read what is trained already.'
      )
    return None
  return placement.mesh_of_all(mesh)


def check_batch(batch_size: int, mesh: Mesh | None) -> None:
  """Raises ValueError for a batch that 'data' and 'fsdp' do not divide."""
  data, fsdp = (mesh.shape[x] for x in ('data', 'fsdp')) if mesh else (1, 1)
  if batch_size % (data * fsdp):
    raise ValueError(
      f"batch_size={batch_size} cannot be shared by the mesh's data={data} and "
      f'fsdp={fsdp}; take a multiple of {data * fsdp}.'
    )


def _kept(path: pathlib.Path, wanted: Any) -> Any:
  """Contents of a JSON file; what is wanted there, if there is none."""
  return files.read_json(path) if path.exists() else files.plain(wanted)


def check_settings(config, folder: pathlib.Path, may_change=()) -> None:
  """Raises ValueError if the folder holds a run with other settings.

  Args:
    config: of the run.
    folder: of the run.
    may_change: names that need not be the same.
  """
  kept = _kept(folder / 'train_config.json', config)
  workdirs.check_settings(folder, kept, files.plain(config), may_change)


def keep_settings(config, folder: pathlib.Path) -> None:
  """Makes the folder and keeps the settings there; the same are left alone."""
  path = folder / 'train_config.json'
  if not path.exists() or _kept(path, config) != files.plain(config):
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


def check_folder(config, folder: pathlib.Path, origin: dict) -> None:
  """Raises ValueError if the folder holds another run or damaged files.

  Another run has other settings (apart from the number of steps and how often
  to log and to save), more steps, or learnt from another text or teacher.

  Args:
    config: of the run.
    folder: of the run.
    origin: of `inputs.origin`.
  """
  check_settings(config, folder, _MAY_CHANGE)
  _check_num_steps(folder, config.num_steps)
  kept = _kept(folder / 'origin.json', origin)
  changed = files.differences(kept, files.plain(origin))
  if changed:
    raise ValueError(
      f'{folder} holds a run whose {" and ".join(changed)} differ from '
      f'{origin}: text or teacher have changed under their names; put them '
      'back or choose another --workdir.'
    )


def open_folder(
  config, folder: pathlib.Path, tokenizer: str, origin: dict
) -> None:
  """Makes a folder that was checked; keeps settings, tokenizer, origin there.

  Args:
    config: of the run.
    folder: of the run.
    tokenizer: of the run, as JSON.
    origin: of `inputs.origin`.
  """
  # Settings come last: a folder that has them has the rest.
  with files.replacing(folder / 'tokenizer.json') as new:
    new.write_text(tokenizer, encoding='utf-8')
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


class Events(contextlib.AbstractContextManager):
  """Curves for TensorBoard: a file in a folder, closed with its context.

  Events are written in the caller's thread, at once: one of their own ends at a
  full disk, and the training waits for it for ever.

  Args:
    folder: made if absent; None: nothing is written.
    first: the step that comes first; what an earlier start wrote of it and of
      those after it is not shown any more.

  Raises:
    OSError: here and in each call, naming the folder, where it is full or
      cannot be written.
  """

  def __init__(self, folder: pathlib.Path | None, first: int):
    self._folder = folder
    if folder is None:
      return
    # Where nothing is trained for long, as in a device report, it is not there.
    from tensorboardX import event_file_writer, summary
    from tensorboardX.proto import event_pb2

    self._summary, self._event = summary, event_pb2.Event
    with files.naming(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._file = event_file_writer.EventsWriter(f'{folder}/events')
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(first, session_log=start)

  def scalars(self, values: Mapping[str, float], step: int) -> None:
    """Numbers by name, of the weights after a step."""
    if self._folder is None:
      return
    for name, value in values.items():
      self._write(step, summary=self._summary.scalar(name, value))

  def image(self, name: str, pixels: np.ndarray, step: int) -> None:
    """A picture [H, W] or [H, W, C] in [0, 1]."""
    if self._folder is None:
      return
    axes = 'HWC'[: pixels.ndim]
    picture = self._summary.image(name, pixels, dataformats=axes)
    self._write(step, summary=picture)

  def __exit__(self, *_):
    if self._folder is not None:
      with files.naming(self._folder):
        self._file.close()

  def _write(self, step: int, **what: Any) -> None:
    event = self._event(wall_time=time.time(), step=step, **what)
    with files.naming(self._folder):
      self._file.write_event(event)
      self._file.flush()


def _is_no_report(record: logging.LogRecord) -> bool:
  """Whether a line of the log is none of Orbax on an error that it raises."""
  of_orbax = 'orbax' in record.pathname or 'orbax' in record.getMessage()
  return record.levelno < logging.ERROR or not of_orbax


@contextlib.contextmanager
def _quiet_writers() -> Iterator[None]:
  """Threads that write say nothing: what is wrong the manager raises."""
  for name in ('absl', 'asyncio'):  # for good: some speak at the very end
    logging.getLogger(name).addFilter(_is_no_report)
  hook = sys.unraisablehook

  def heed(dropped):
    if 'Event loop is closed' not in str(dropped.exc_value):
      hook(dropped)

  sys.unraisablehook = heed
  try:
    yield
  finally:
    sys.unraisablehook = hook


@contextlib.contextmanager
def checkpoints(
  folder: pathlib.Path, max_to_keep: int = 2
) -> Iterator[ocp.CheckpointManager]:
  """The manager of the run's checkpoints, of which the last ones are kept.

  Yields:
    The manager. All checkpoints are on disk when it is left; after an error
    there is no half one.

  Raises:
    OSError: a checkpoint could not be written; the one before it stands.
  """
  there = (folder / 'checkpoints').absolute()
  options = ocp.CheckpointManagerOptions(max_to_keep=max_to_keep)
  try:
    with (
      files.naming(there),
      _quiet_writers(),
      ocp.CheckpointManager(there, options=options) as manager,
    ):
      yield manager
  except Exception:
    if together.leads():
      for half in there.glob('*.orbax-checkpoint-tmp*'):
        shutil.rmtree(half, ignore_errors=True)
    raise


def restore(manager: ocp.CheckpointManager, like: Any) -> tuple[int, Any]:
  """(step, state) of the last checkpoint, or (0, `like`) without one.

  Args:
    manager: of the run's checkpoints.
    like: arrays, or `jax.ShapeDtypeStruct` with a sharding, which says where
      the state shall lie.

  Raises:
    ValueError: the checkpoint is damaged.
  """
  step = manager.latest_step()
  if step is None:
    return 0, like
  try:
    return step, manager.restore(step, args=ocp.args.StandardRestore(like))
  except Exception as error:  # of many kinds: JSON, TensorStore, OCDBT
    about = f'{type(error).__name__}: {error}'.splitlines()[0][:200]
    raise ValueError(
      f'{manager.directory / str(step)} is a damaged checkpoint ({about}); '
      'remove this folder to go on from the checkpoint before it, or choose '
      'another --workdir.'
    ) from error


def begin(
  manager: ocp.CheckpointManager, init: Callable[[], Any], places: Any = None
) -> tuple[int, Any]:
  """(step, state) of the last checkpoint, or (0, init()) without one.

  No device ever holds more than its shards.

  Args:
    manager: of the run's checkpoints.
    init: gives the state of a new run.
    places: tree of shardings of the state; None: the first device.

  Raises:
    ValueError: the checkpoint is damaged.
  """
  if manager.latest_step() is None:
    return 0, jax.jit(init, out_shardings=places)()
  like = jax.eval_shape(init)
  if places is None:
    there = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    places = jax.tree.map(lambda _: there, like)
  return restore(
    manager,
    jax.tree.map(
      lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      like,
      places,
    ),
  )


def _check_room(folder: os.PathLike, state: Any) -> None:
  """A full disk is found before a checkpoint is half there."""
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  disk = shutil.disk_usage(folder)
  if disk.total and disk.free < size:  # some network file systems say 0
    raise OSError(
      errno.ENOSPC,
      f'a checkpoint takes {size} bytes, {disk.free} are free; free space, '
      'then give the same command again',
      str(folder),
    )


def save(manager: ocp.CheckpointManager, step: int, state: Any) -> None:
  """Saves the state after `step` steps, in the background; once.

  Raises:
    OSError: there is no room for it.
  """
  if step != manager.latest_step():
    together.together(lambda: _check_room(manager.directory, state))
    manager.save(step, args=ocp.args.StandardSave(state))


def _any_process(mesh: Mesh) -> Callable[[bool], bool]:
  """flag -> whether any process gave one the last time, the same in all.

  One call behind, nobody waits for the step that is under way.
  """
  shared = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
  whole = NamedSharding(mesh, PartitionSpec())
  largest = jax.jit(lambda flags: flags.max(), out_shardings=whole)
  mine = mesh.local_mesh.size
  before = []

  def ask(flag: bool) -> bool:
    flags = jax.make_array_from_process_local_data(
      shared, np.full(mine, flag, np.int32), (mesh.size,)
    )
    before.append(largest(flags))
    return len(before) > 1 and bool(before.pop(0))

  return ask


@contextlib.contextmanager
def stopping(
  manager: ocp.CheckpointManager, mesh: Mesh | None = None
) -> Iterator[Callable[[int, Any], None]]:
  """A loop of steps that Ctrl-C or SIGTERM ends with a checkpoint.

  The first signal says so and waits for the end of a step, since one in the
  middle of a compiled call can crash the process; a second one does what it
  always did, and the last checkpoint stands. Once the step is kept the handler
  that was there before is called, so that a program hears which signal it was.
  Of several processes one signal ends all, after the same step.
  In a thread other than the main one no signal arrives. All checkpoints are
  on disk when the loop is left.

  Args:
    manager: of the run's checkpoints.
    mesh: of the run.

  Yields:
    keep(step, state), to be called after each step, when all that belongs to
    it is written.

  Raises:
    KeyboardInterrupt: the run was stopped; its note says at which step.
  """
  asked, before = [], {}
  anyone = _any_process(mesh) if mesh and mesh.is_multi_process else bool

  def handler(number, _):
    asked.append(number)
    os.write(2, _STOPS)  # print may be in the middle of a line
    for number, old in before.items():
      signal.signal(number, old)

  def keep(step, state):
    if anyone(bool(asked)):
      save(manager, step, state)
      manager.wait_until_finished()
      for number in asked:
        if callable(before[number]):
          before[number](number, None)
      raise KeyboardInterrupt

  if threading.current_thread() is threading.main_thread():
    for number in (signal.SIGINT, signal.SIGTERM):
      before[number] = signal.signal(number, handler) or signal.SIG_DFL
  try:
    yield keep
  except KeyboardInterrupt as stop:
    step = manager.latest_step()
    stop.add_note(
      'No step of this training is kept yet.'
      if step is None
      else f'Step {step} is kept in {manager.directory}; the same command goes '
      'on from there.'
    )
    raise
  finally:
    for number, old in before.items():
      signal.signal(number, old)
    manager.wait_until_finished()
