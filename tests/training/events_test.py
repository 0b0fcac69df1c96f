"""The file of events is whole and shut when the training ends."""

import errno

import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter

from listcoupling.training import events


def _read(path):
  """Events of a file: length, its checksum, event, its checksum."""
  data, found = path.read_bytes(), []
  while data:
    size = int.from_bytes(data[:8], 'little')
    found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
    data = data[16 + size :]
  return found


def test_numbers_and_pictures_are_kept_and_the_file_is_closed(
  tmp_path, monkeypatch
):
  closed = []
  close = RecordWriter.close
  monkeypatch.setattr(
    RecordWriter, 'close', lambda writer: closed.append(1) or close(writer)
  )
  with events.Events(tmp_path / 'events', 3) as board:
    board.scalars({'loss': 0.5}, 4)
    board.image('picture', np.zeros((2, 3)), 5)
    assert not closed
  assert closed == [1]
  (path,) = (tmp_path / 'events').iterdir()
  *_, scalar, picture = _read(path)
  assert (scalar.step, scalar.summary.value[0].simple_value) == (4, 0.5)
  assert picture.step == 5 and picture.summary.value[0].image.height == 2


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with events.Events(None, 0) as board:
    board.scalars({'loss': 0.5}, 1)
  assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_folder(tmp_path, monkeypatch):
  board = events.Events(tmp_path, 0)

  def fail(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(RecordWriter, 'write', fail)
  with pytest.raises(OSError, match='No space left') as error:
    board.scalars({'loss': 0.5}, 1)
  assert error.value.filename == str(tmp_path)
