"""The wheel, as somebody else installs it: alone, in another folder.

Only what `pip install listcoupling` brings may be imported there: each example
of README runs in an environment that sees nothing but the wheel and the
packages that it requires.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = re.findall(
  r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), flags=re.DOTALL
)


def _required(names):
  """Distributions that these need, themselves included."""
  needed, queue = set(), list(names)
  while queue:
    name = re.match(r'[\w.-]+', queue.pop())[0].lower().replace('_', '-')
    if name in needed:
      continue
    needed.add(name)
    try:
      wanted = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
      needed.discard(name)  # for another system or Python
      continue
    queue += [line for line in wanted if 'extra ==' not in line]
  return needed


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A folder of links to the wheel's files and to what it requires."""
  folder = tmp_path_factory.mktemp('wheel')
  # A copy: what an earlier build left in the checkout stays out.
  source = shutil.copytree(
    ROOT,
    folder / 'source',
    ignore=shutil.ignore_patterns('.*', 'runs', 'build', '*.egg-info', 'tests'),
  )
  build = 'pip wheel -q --no-deps --no-build-isolation -w'.split()
  done = subprocess.run(
    [sys.executable, '-m', *build, folder, source],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  [wheel] = folder.glob('*.whl')
  site = folder / 'site'
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(site)
    [about] = [x for x in archive.namelist() if x.endswith('/METADATA')]
    lines = archive.read(about).decode().splitlines()
  direct = [
    line.split(': ', 1)[1]
    for line in lines
    if line.startswith('Requires-Dist') and 'extra ==' not in line
  ]
  for name in _required(direct):
    for file in metadata.files(name) or ():
      top = file.parts[0]
      if top != '..' and not (site / top).exists():
        (site / top).symlink_to(metadata.distribution(name).locate_file(top))
  return site, direct


def _run(site, *arguments, cwd):
  environment = {
    name: value
    for name, value in os.environ.items()
    if name not in ('PYTHONPATH', 'VIRTUAL_ENV')
  }
  environment['PYTHONPATH'] = str(site)
  # -S: the packages of this environment are not seen.
  return subprocess.run(
    [sys.executable, '-S', *arguments],
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
  )


def test_few_requirements(installed):
  assert len(installed[1]) <= 9


def test_readme_examples_need_nothing_else(installed, tmp_path):
  site, _ = installed
  code = '\n'.join(EXAMPLES) + (
    f'\nimport sys\nassert {str(site)!r} in lc.__file__'
    '\nassert not {"matplotlib", "ml_collections", "tqdm"} & {*sys.modules}'
  )
  script = tmp_path / 'examples.py'
  script.write_text(code)
  done = _run(site, str(script), cwd=tmp_path)
  assert done.returncode == 0, done.stderr


def test_console_command(installed, tmp_path):
  site, _ = installed
  done = _run(site, '-m', 'listcoupling', cwd=tmp_path)
  assert done.returncode == 0 and 'generate' in done.stdout, done.stderr
  done = _run(site, '-m', 'listcoupling', 'toy', cwd=tmp_path)
  assert done.returncode == 1
  assert "pip install 'listcoupling[experiments]'" in done.stderr
  assert 'Traceback' not in done.stderr
  done = _run(site, '-m', 'listcoupling', 'nonsense', cwd=tmp_path)
  assert done.returncode == 2 and 'nonsense' in done.stderr
