"""A hub on this machine: a name is downloaded once and then needs no hub."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

_SHA = 'c' * 40
_FILES = {
  'config.json': b'{"model_type": "llama"}',
  'model.safetensors': b'weights',
  'tokenizer.json': b'{}',
  'pytorch_model.bin': b'a pickle',
}
_PROGRAM = """
import sys
from listcoupling import hub

for name in sys.argv[1:]:
  try:
    folder = hub.find_directory(name)
    print(sorted(x.name for x in folder.iterdir()))
  except FileNotFoundError as error:
    print(error)
"""


class _Hub(http.server.BaseHTTPRequestHandler):
  """As much of the hub as a snapshot of org/tiny takes."""

  protocol_version = 'HTTP/1.1'

  def do_GET(self):
    path = self.path.split('?')[0]
    name = path.rpartition('/')[2]
    if path.startswith('/api/models/org/tiny/tree/'):
      self._answer(200, _as_json([_entry(*item) for item in _FILES.items()]))
    elif path.startswith('/api/models/org/tiny'):
      files = [{'rfilename': name} for name in _FILES]
      self._answer(200, _as_json(dict(id='org/tiny', sha=_SHA, siblings=files)))
    elif path.startswith('/org/tiny/resolve/') and name in _FILES:
      body = _FILES[name]
      tag = f'"{_digest(body)}"'
      self._answer(200, body, **{'X-Repo-Commit': _SHA, 'ETag': tag})
    else:
      self._answer(404, b'', **{'X-Error-Code': 'RepoNotFound'})

  do_HEAD = do_GET

  def _answer(self, status, body, **headers):
    self.send_response(status)
    for name, value in (headers | {'Content-Length': str(len(body))}).items():
      self.send_header(name, value)
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(body)

  def log_message(self, *_):
    """Keeps the server's log of requests out of the tests' output."""


def _digest(body):
  return hashlib.sha1(body).hexdigest()


def _entry(name, body):
  return dict(type='file', path=name, size=len(body), oid=_digest(body))


def _as_json(value):
  return json.dumps(value).encode()


@pytest.fixture
def find(tmp_path):
  """Finds names from a folder of its own; with the hub gone if so asked."""
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Hub)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  paths = {'HF_HOME': str(tmp_path / 'hub'), 'HF_HUB_DISABLE_XET': '1'}
  address = f'http://127.0.0.1:{server.server_port}'
  local = {'HF_ENDPOINT': address, 'NO_PROXY': '*', 'no_proxy': '*'}

  def run(*names, is_gone=False):
    if is_gone:
      server.shutdown()
      server.server_close()
    done = subprocess.run(
      [sys.executable, '-c', _PROGRAM, *names],
      cwd=tmp_path,
      env=os.environ | paths | local,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()

  yield run
  server.shutdown()
  server.server_close()


def test_a_name_is_downloaded_without_pickles_and_kept(find):
  safe = str(sorted(name for name in _FILES if not name.endswith('.bin')))
  kept, unknown = find('org/tiny', 'org/other')
  assert kept == safe
  assert "'org/other' is neither a directory here nor reachable" in unknown
  again, unknown = find('org/tiny', 'org/other', is_gone=True)
  assert again == safe
  assert "'org/other' is neither a directory here nor reachable" in unknown
