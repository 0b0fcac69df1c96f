"""Curves of a training for TensorBoard.

Events are written in the caller's thread, at once: one of their own ends at a
full disk, and the training waits for it for ever.
"""

import contextlib
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from listcoupling import files


class Events(contextlib.AbstractContextManager):
  """A file of events in a folder, closed at the end of its context.

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
    with files.naming(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._file = event_file_writer.EventsWriter(f'{folder}/events')
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(first, session_log=start)

  def scalars(self, values: Mapping[str, float], step: int) -> None:
    """Numbers by name, of the weights after a step."""
    for name, value in values.items():
      self._write(step, summary=summary.scalar(name, value))

  def image(self, name: str, pixels: np.ndarray, step: int) -> None:
    """A picture [H, W] or [H, W, C] in [0, 1]."""
    axes = 'HWC'[: pixels.ndim]
    picture = summary.image(name, pixels, dataformats=axes)
    self._write(step, summary=picture)

  def __exit__(self, *_):
    if self._folder is not None:
      with files.naming(self._folder):
        self._file.close()

  def _write(self, step: int, **what: Any) -> None:
    if self._folder is None:
      return
    event = event_pb2.Event(wall_time=time.time(), step=step, **what)
    with files.naming(self._folder):
      self._file.write_event(event)
      self._file.flush()
