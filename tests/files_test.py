"""Files are whole or absent, and say their name when they are neither."""

import errno
import os

import numpy as np
import pytest

from listcoupling import files


def test_a_failed_write_leaves_what_stood_there(tmp_path):
  path = tmp_path / 'deep' / 'x.json'
  files.write_json(path, {'a': (1, float('nan'))})
  with pytest.raises(ValueError, match='stop'):
    with files.replacing(path) as new:
      new.write_text('half')
      raise ValueError('stop')
  assert files.read_json(path) == {'a': [1, 'nan']}
  assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('other', ['', 'a/other'])
def test_a_failed_write_leaves_no_empty_folders(tmp_path, other):
  with pytest.raises(KeyboardInterrupt):
    with files.replacing(tmp_path / 'a' / 'b' / 'x.json'):
      if other:  # of another process
        (tmp_path / other).write_text('stays')
      raise KeyboardInterrupt
  found = {str(x.relative_to(tmp_path)) for x in tmp_path.rglob('*')}
  assert found == ({'a', other} if other else set())


def test_a_folder_is_whole_or_absent(tmp_path):
  place = tmp_path / 'deep' / 'folder'
  with pytest.raises(RuntimeError), files.folder_beside(place) as new:
    (new / 'half').write_text('half')
    raise RuntimeError
  assert not [*tmp_path.iterdir()]
  with files.folder_beside(place) as new:
    (new / 'all').write_text('all')
    new.rename(place)
  assert [x.name for x in place.parent.iterdir()] == ['folder']
  assert [x.name for x in place.iterdir()] == ['all']
  assert place.stat().st_mode & 0o777 == 0o755  # others may read it


def test_two_may_write_the_same_file(tmp_path):
  path = tmp_path / 'x.json'
  with files.replacing(path) as new:  # meanwhile another run writes it too
    files.write_json(path, ['other'])
    new.write_text('["own"]')
  assert files.read_json(path, list) == ['own']
  assert list(tmp_path.iterdir()) == [path]
  assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
  ('number', 'words'),
  [
    (errno.ENOSPC, 'No space left.*: free space'),
    (errno.EDQUOT, 'quota.*: free space'),
    (errno.EROFS, 'Read-only file system: make its folder writable'),
    (errno.EACCES, 'Permission denied: make its folder writable'),
    (errno.EFBIG, 'File too large: raise the limit'),
  ],
)
def test_what_cannot_be_written_is_named(tmp_path, number, words):
  path = tmp_path / 'x.json'
  path.write_text('before')
  with pytest.raises(OSError, match=f"{words}.*: '{path}'$"):
    with files.naming(tmp_path), files.replacing(path) as new:
      new.write_text('half')
      raise OSError(number, os.strerror(number), 'a file of its own')
  with pytest.raises(OSError, match=f"{words}.*: 'folder'$"):
    with files.naming('folder'):
      raise ValueError(f'RESOURCE_EXHAUSTED: {os.strerror(number)} (x.cc:3)')
  assert path.read_text() == 'before' and list(tmp_path.iterdir()) == [path]


def test_other_errors_stay_as_they_are(tmp_path):
  with pytest.raises(OSError, match='^.Errno 5. I/O$'):
    with files.replacing(tmp_path / 'x.json'):
      raise OSError(errno.EIO, 'I/O')
  assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
  (tmp_path / 'file').touch()
  for path in ('file/x.json', 'file/deep/x.json'):
    with pytest.raises(ValueError, match='file.*x.json.*Not a dir.*another'):
      files.write_json(tmp_path / path, {})


def test_links_are_followed_and_folders_refused(tmp_path):
  target, link = tmp_path / 'there.json', tmp_path / 'link.json'
  files.write_json(target, {})
  link.symlink_to(target)
  files.write_json(link, {'a': 1})
  assert link.is_symlink() and files.read_json(target) == {'a': 1}
  for path in (tmp_path, '/dev/null'):
    with pytest.raises(ValueError, match='no regular file'):
      files.write_json(path, {})


@pytest.mark.parametrize('text', ['', '{"a": 1', '[' * 100_000, '[]', '\xff'])
def test_damaged_json_is_named(text, tmp_path):
  path = tmp_path / 'x.json'
  path.write_text(text, encoding='latin-1')
  with pytest.raises(ValueError, match='x.json is damaged'):
    files.read_json(path)
  with pytest.raises(ValueError, match='at most 3'):
    path.write_text('[1234]')
    files.read_json(path, list, max_bytes=3)


def test_differences_are_dotted_names():
  old = {'a': {'b': 1, 'c': {}}, 'd': None, 'e': [1]}
  assert files.differences(old, old) == files.differences({}, {}) == []
  assert files.differences({'a': {}}, {}) == ['a']
  new = {'a': {'b': 2, 'c': {'x': 1}}, 'e': [1, 2]}
  assert files.differences(old, new) == ['a.b', 'a.c', 'a.c.x', 'd', 'e']


def test_digest_sees_every_part():
  one = {'w': np.zeros((2, 3), np.float32)}
  others = [
    {'v': one['w']},
    {'w': one['w'].reshape(3, 2)},
    {'w': one['w'].astype(np.int32)},
    {'w': one['w'] + np.float32(1e-30)},
  ]
  digests = [files.digest(x) for x in (one, *others)]
  digests.append(files.digest(one, about={'layers': 2}))
  assert len(set(digests)) == len(digests)
  assert files.digest(one) == digests[0]


def test_arrays_keep_their_shapes(tmp_path):
  """A number comes back as a number, not as an array of one."""
  arrays = {'a': {'b': np.float32(2)}, 'c': np.ones((2, 1), np.float32).T}
  files.write_arrays(tmp_path / 'file', arrays, None)
  found, _ = files.read_arrays(tmp_path / 'file')
  assert found['a']['b'].shape == () and found['a']['b'] == 2
  assert found['c'].shape == (1, 2)
