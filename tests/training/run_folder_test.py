"""Settings of a training run on disk: kept once, compared by name."""

import pathlib

import ml_collections
import pytest

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
    with pytest.raises(ValueError, match="of .'(seed|teacher)'.; resume"):
      run_folder.check_settings(config, tmp_path)
  run_folder.check_settings(_config(seed=None), tmp_path, ('seed',))


def test_two_may_write_the_same_file(tmp_path, monkeypatch):
  path, replace, seen = tmp_path / 'x.json', run_folder.os.replace, []

  def slow(new, place):  # meanwhile another run writes it too
    seen.append(pathlib.Path(new))
    if len(seen) == 1:
      run_folder.write_json(path, 'other')
    replace(new, place)

  monkeypatch.setattr(run_folder.os, 'replace', slow)
  run_folder.write_json(path, 'own')
  assert path.read_text() == '"own"\n' and len(set(seen)) == 2
  assert list(tmp_path.iterdir()) == [path]
  assert path.stat().st_mode & 0o777 == 0o644
