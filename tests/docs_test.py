"""The documentation: complete, true to the code, and its examples run."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import listcoupling

_ROOT = pathlib.Path(__file__).parent.parent
_DOCS = _ROOT / 'docs'
_FACES = ('', '.compression', '.decoding', '.image_codec', '.models')
_PAGES = sorted(_DOCS.glob('howto/*.md'))  # and start.md, see below
_DIRECTIVE = re.compile(
  r'^\.\. (currentmodule|auto\w+|py:data):: ([\w.]+)', re.M
)


def _documented():
  """Full names that the API pages document, and the modules among them."""
  names, modules = set(), set()
  for page in _DOCS.glob('api/*.rst'):
    module = ''
    for kind, name in _DIRECTIVE.findall(page.read_text()):
      if kind == 'currentmodule':
        module = name
      elif kind == 'automodule':
        modules.add(name)
      else:
        names.add(
          name if name.startswith('listcoupling') else f'{module}.{name}'
        )
  return names, modules


@pytest.mark.parametrize('face', _FACES)
def test_every_public_name_is_in_the_reference(face):
  names, modules = _documented()
  face = f'listcoupling{face}'
  missing = [
    name
    for name in importlib.import_module(face).__all__
    if f'{face}.{name}' not in names | modules
  ]
  assert missing == []


def test_faces_are_all_that_there_are():
  """A package with a face that is new must be added above."""
  packages = {
    path.parent.relative_to(_ROOT / 'listcoupling').as_posix()
    for path in (_ROOT / 'listcoupling').glob('**/__init__.py')
    if '__all__' in path.read_text()
  }
  assert packages == {face.lstrip('.') or '.' for face in _FACES}


def test_the_reference_names_nothing_that_is_not_there():
  names, modules = _documented()
  for name in modules:
    importlib.import_module(name)
  for name in names:
    module, _, attribute = name.rpartition('.')
    assert hasattr(importlib.import_module(module), attribute), name


def _code(page):
  return '\n'.join(
    re.findall(r'^```python\n(.*?)^```', page.read_text(), re.M | re.S)
  )


_CODED = [page for page in _PAGES if _code(page)]


@pytest.mark.parametrize('page', _CODED, ids=lambda page: page.stem)
def test_examples_run(page, capsys):
  """Fences of `python` run, one after the other; `{code-block}` is shown.

  What a page says of its results it asserts, or it prints them.
  """
  tree = ast.parse(_code(page))
  exec(compile(tree, page.name, 'exec'), {'__name__': page.stem})
  kinds = [type(node) for node in ast.walk(tree)]
  names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
  printed = capsys.readouterr().out.splitlines()
  assert ast.Assert in kinds or len(printed) >= names.count('print') > 0


def _words(text):
  """Words, and numbers to four digits: the last ones are a machine's own."""
  return re.sub(
    r'\d+\.\d+', lambda number: f'{float(number[0]):.4g}', text
  ).split()


def test_start_tells_what_its_examples_print(capsys):
  page = _DOCS / 'start.md'
  told = re.findall(r'^```text\n(.*?)^```', page.read_text(), re.M | re.S)
  assert len(told) == page.read_text().count('```python\n')
  exec(compile(_code(page), page.name, 'exec'), {'__name__': page.stem})
  assert _words(capsys.readouterr().out) == _words('\n'.join(told))


def test_most_pages_have_examples():
  assert len(_CODED) >= 5


def _strings():
  """Every string of the code, parts of f-strings among them."""
  for folder in ('listcoupling', 'scripts'):
    for path in (_ROOT / folder).glob('**/*.py'):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
          yield node.value


def test_troubleshooting_quotes_messages_that_exist():
  page = (_DOCS / 'howto' / 'troubleshooting.md').read_text()
  quoted = re.findall(r'^`(.+)`\n: ', page, re.M)
  assert len(quoted) > 10
  text = '\n'.join(_strings())
  assert [piece for piece in quoted if piece not in text] == []
  assert 'no such message' not in text


def test_files_named_exist():
  pages = [*_DOCS.glob('**/*.md'), _ROOT / 'CONTRIBUTING.md']
  text = '\n'.join(page.read_text() for page in pages)
  names = set(
    re.findall(r'`((?:scripts|configs|tests|docs|colab)/[\w/.]+\w)', text)
  )
  names |= set(re.findall(r'`(listcoupling/[\w/.]+\w)', text))
  assert len(names) > 20
  assert [name for name in sorted(names) if not (_ROOT / name).exists()] == []


def test_the_table_of_meshes_names_every_script_once():
  page = (_DOCS / 'howto' / 'devices.md').read_text()
  table = page.split('| scripts | `--mesh` |')[1].split('\n\n')[0]
  first = ' '.join(re.findall(r'^\|([^|]*)\|', table, re.M))
  names = re.findall(r'`(\w+)`', first)
  scripts = (_ROOT / 'scripts').glob('[!_]*.py')
  assert sorted(names) == sorted(path.stem for path in scripts)


def test_site_builds_without_warnings(tmp_path):
  pytest.importorskip('myst_nb', reason='needs listcoupling[docs]')
  build = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going']
  done = subprocess.run(
    [*build, '-d', tmp_path / 'trees', _DOCS, tmp_path / 'html'],
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  theory = (tmp_path / 'html' / 'theory.html').read_text()
  assert theory.count('<math') > 50 and '\\(' not in theory  # no script draws
  reference = (tmp_path / 'html' / 'api' / 'listcoupling.html').read_text()
  names, _ = _documented()
  for name in listcoupling.__all__:
    name = f'listcoupling.{name}'
    assert name not in names or f'id="{name}"' in reference, name
