"""Settings of a training run on disk: kept once, compared by name."""

import errno
import os
import resource
import shutil
import signal

import ml_collections
import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter

from listcoupling import files
from listcoupling.training import run_folder


def _config(**changes):
  return ml_collections.ConfigDict({'steps': 3, 'teacher': None, **changes})


def test_the_same_settings_are_left_alone(tmp_path):
  path = tmp_path / 'run' / 'train_config.json'
  run_folder.keep_settings(_config(), path.parent)
  before = path.stat().st_ino
  run_folder.keep_settings(_config(), path.parent)
  assert path.stat().st_ino == before
  run_folder.check_settings(_config(), path.parent)
  run_folder.keep_settings(_config(steps=4), path.parent)
  assert path.stat().st_ino != before
  assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_none_is_a_value(tmp_path):
  run_folder.keep_settings(_config(), tmp_path)
  for config in (_config(seed=None), ml_collections.ConfigDict({'steps': 3})):
    with pytest.raises(ValueError, match=r'of (seed|teacher) \(.*; resume'):
      run_folder.check_settings(config, tmp_path)
  run_folder.check_settings(_config(seed=None), tmp_path, ('seed',))


def test_damaged_settings_are_named(tmp_path):
  run_folder.keep_settings(_config(), tmp_path)
  path = tmp_path / 'train_config.json'
  for content in ('', path.read_text()[:-5], '[1]'):
    path.write_text(content)
    with pytest.raises(ValueError, match='train_config.json is damaged'):
      run_folder.check_settings(_config(), tmp_path)


@pytest.mark.parametrize(
  'content', ['', '[{"step": 1}', '{}', '[3]', '[{"step": 1}]']
)
def test_damaged_history_is_named(content, tmp_path):
  (tmp_path / 'history.json').write_text(content)
  with pytest.raises(ValueError, match='history.json is damaged'):
    run_folder.read_history(tmp_path, 9, ('seconds',))


def test_rows_after_the_checkpoint_come_again(tmp_path):
  rows = [{'step': step} for step in (1, 2, 3)]
  files.write_json(tmp_path / 'history.json', rows)
  assert run_folder.read_history(tmp_path, 2) == rows[:2]
  assert run_folder.read_history(tmp_path / 'none', 2) == []


def test_a_stop_saves_the_last_step_that_is_whole(tmp_path, capfd):
  state, before = {'w': np.zeros(3)}, signal.getsignal(signal.SIGINT)
  with run_folder.checkpoints(tmp_path) as manager:
    with pytest.raises(KeyboardInterrupt) as stopped:
      with run_folder.stopping(manager) as keep:
        for step in range(1, 9):
          state = {'w': state['w'] + 1}
          if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)  # waits for the step's end
          keep(step, state)
    (note,) = stopped.value.__notes__
    assert note.startswith(f'Step 3 is kept in {tmp_path}/checkpoints; ')
    assert step == 3 and 'Stops after this step' in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) == before
    with pytest.raises(KeyboardInterrupt):  # not by signal: at once
      with run_folder.stopping(manager) as keep:
        keep(4, {'w': state['w'] + 1})
        raise KeyboardInterrupt
  with run_folder.checkpoints(tmp_path) as manager:
    step, restored = run_folder.restore(manager, state)
  assert step == 3 and (restored['w'] == 3).all()


def test_a_damaged_checkpoint_is_named(tmp_path):
  with run_folder.checkpoints(tmp_path) as manager:
    run_folder.save(manager, 5, {'w': np.zeros(3)})
  whole = tmp_path / 'whole'
  shutil.copytree(tmp_path / 'checkpoints', whole)
  kinds = set()
  for path in sorted(p for p in whole.rglob('*') if p.is_file()):
    if path.stat().st_size == 0:
      continue
    shutil.rmtree(tmp_path / 'checkpoints')
    shutil.copytree(whole, tmp_path / 'checkpoints')
    cut = tmp_path / 'checkpoints' / path.relative_to(whole)
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with run_folder.checkpoints(tmp_path) as manager:
      try:
        _, state = run_folder.restore(manager, {'w': np.ones(3)})
        assert (state['w'] == 0).all()  # a file that is not needed
        kinds.add('unused')
      except ValueError as error:
        assert 'checkpoints/5 is a damaged checkpoint' in str(error)
        kinds.add('named')
  assert 'named' in kinds


def test_a_full_disk_is_found_before_a_save(tmp_path, monkeypatch):
  state = {'w': np.zeros(1000, np.float32)}
  with pytest.raises(OSError, match='takes 4000 bytes, 9 are free.*checkpoin'):
    with run_folder.checkpoints(tmp_path) as manager:
      run_folder.save(manager, 1, state)
      disk = run_folder.shutil.disk_usage(tmp_path)._replace(free=9)
      monkeypatch.setattr(run_folder.shutil, 'disk_usage', lambda _: disk)
      run_folder.save(manager, 2, state)
  assert [path.name for path in (tmp_path / 'checkpoints').iterdir()] == ['1']


def test_a_save_that_fails_is_named_and_leaves_nothing(tmp_path, caplog):
  noise = np.random.default_rng(0).normal(size=10**5)  # does not shrink
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))
  try:
    with pytest.raises(OSError, match='File too large: raise.*/checkpoints'):
      with run_folder.checkpoints(tmp_path) as manager:
        with run_folder.stopping(manager) as keep:
          run_folder.save(manager, 1, {'w': noise})
          keep(1, None)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert list((tmp_path / 'checkpoints').iterdir()) == []
  assert [x.message for x in caplog.records if x.levelname == 'ERROR'] == []


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
  with run_folder.Events(tmp_path / 'events', 3) as board:
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
  with run_folder.Events(None, 0) as board:
    board.scalars({'loss': 0.5}, 1)
  assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_folder(tmp_path, monkeypatch):
  board = run_folder.Events(tmp_path, 0)

  def fail(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(RecordWriter, 'write', fail)
  with pytest.raises(OSError, match='No space left') as error:
    board.scalars({'loss': 0.5}, 1)
  assert error.value.filename == str(tmp_path)
