"""The faces of the packages: what they name is there, and nothing twice."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys
import types

import pytest

import listcoupling

PACKAGES = ['', '.compression', '.decoding', '.image_codec', '.models']


def _imported_for_types(path):
  """Names that a type checker sees bound in a module."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom):
      names |= {alias.asname or alias.name for alias in node.names}
  return names


@pytest.mark.parametrize('package', PACKAGES)
def test_a_face_names_each_thing_once_and_has_it(package):
  module = importlib.import_module(f'listcoupling{package}')
  names = module.__all__
  assert len(names) == len(set(names)) and dir(module) == sorted(names)
  for name in names:
    thing = getattr(module, name)
    assert getattr(thing, '__name__', name).endswith(name)
  typed = _imported_for_types(pathlib.Path(module.__file__))
  assert set(names) - typed == set()
  with pytest.raises(AttributeError, match='no_such_name'):
    module.no_such_name  # noqa: B018


_ROOT = pathlib.Path(listcoupling.__file__).parents[1]
_MODULES = sorted(
  name
  for page in (_ROOT / 'docs/api').glob('*.rst')
  for name in re.findall(r'automodule:: (\S+)\n   :members:', page.read_text())
)


@pytest.mark.parametrize('name', _MODULES)
def test_a_documented_module_completes_to_what_it_defines(name):
  module = importlib.import_module(name)
  tree = ast.parse(pathlib.Path(module.__file__).read_text())
  defined = {
    node.name
    for node in tree.body
    if isinstance(node, (ast.FunctionDef, ast.ClassDef))
  } | {
    target.id
    for node in tree.body
    if isinstance(node, ast.Assign)
    for targets in node.targets
    for target in ast.walk(targets)
    if isinstance(target, ast.Name)
  }
  public = {name for name in defined if name[0] != '_'}
  assert public and dir(module) == module.__all__ == sorted(public)


def test_every_module_of_the_face_is_tried():
  modules = {
    name
    for name in listcoupling.__all__
    if isinstance(getattr(listcoupling, name), types.ModuleType)
  }
  packages = {name.strip('.') for name in PACKAGES}
  faces = {f'listcoupling.{name}' for name in modules - packages}
  assert len(faces) == 5 and faces < set(_MODULES)


def _imports(tree):
  """(module, name, name here) of every import from the library."""
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module:
      if node.module.split('.')[0] == 'listcoupling':
        for name in node.names:
          yield node.module, name.name, name.asname or name.name


def _second_addresses(sources: dict[str, str]) -> list[str]:
  """Names that some module takes from one that only imports them itself.

  Args:
    sources: text of every module by its full name, without those of packages.
  """
  trees = {name: ast.parse(text) for name, text in sources.items()}
  borrowed = {
    name: {here for *_, here in _imports(tree)} for name, tree in trees.items()
  }
  found = []
  for reader, tree in trees.items():
    modules = {}
    for module, name, here in _imports(tree):
      modules[here] = f'{module}.{name}'
      if name in borrowed.get(module, ()):
        found.append(f'{reader}: {module}.{name}')
    for node in ast.walk(tree):
      if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = modules.get(node.value.id)
        if node.attr in borrowed.get(module, ()):
          found.append(f'{reader}: {module}.{node.attr}')
  return found


def _sources():
  """Text of every module by its full name, without those of packages."""
  return {
    '.'.join(path.relative_to(_ROOT).with_suffix('').parts): path.read_text()
    for folder in ('listcoupling', 'scripts')
    for path in (_ROOT / folder).rglob('*.py')
    if path.name != '__init__.py'
  }


def _reached(sources: dict[str, str], package: str) -> set[str]:
  """The library's modules that those of a package import, however deep."""
  found, todo = set(), {name for name in sources if name.startswith(package)}
  while todo:
    name = todo.pop()
    found.add(name)
    for module, inner, _ in _imports(ast.parse(sources[name])):
      todo |= {module, f'{module}.{inner}'} & set(sources) - found
  return found


def test_compression_works_on_arrays_alone():
  sources, maths = _sources(), 'listcoupling.compression.'
  below = {'bounds', 'coupling', 'gumbel', 'kernels', 'race_kernel'}
  below = {
    f'listcoupling.{name}' for name in below | {'standard_errors', 'validation'}
  }
  reached = _reached(sources, maths)
  assert f'{maths}distortion' in reached and 'listcoupling.gumbel' in reached
  assert {x for x in reached if not x.startswith(maths)} - below == set()
  sources[f'{maths}distortion'] = 'from listcoupling import tables'
  assert 'listcoupling.files' in _reached(sources, maths)


def _upwards(sources: dict[str, str]) -> list[str]:
  """Imports from what stands further down the list of CONTRIBUTING.md."""
  listed = re.findall(
    r'^\| (`listcoupling/.*?) \|', (_ROOT / 'CONTRIBUTING.md').read_text(), re.M
  )
  places = {
    f'listcoupling.{name}': place
    for place, row in enumerate(listed)
    for name in re.findall(r'`listcoupling/(\w+)', row)
  }
  found = []
  for reader, text in sources.items():
    own = places.get('.'.join(reader.split('.')[:2]), len(listed))
    for module, name, _ in _imports(ast.parse(text)):
      part = '.'.join(f'{module}.{name}'.split('.')[:2])
      if places.get(part, -1) > own:
        found.append(f'{reader}: {part}')
  return found


def test_imports_point_down_the_list_of_folders():
  sources = _sources()
  assert _upwards(sources) == []
  sources = {
    'listcoupling.compression.codec': 'from listcoupling import tables'
  }
  assert _upwards(sources) == [
    'listcoupling.compression.codec: listcoupling.tables'
  ]


def test_a_name_has_one_address():
  sources = _sources()
  assert len(sources) > 100 and _second_addresses(sources) == []
  sources['reader'] = (
    'from listcoupling import rejection\n'
    'from listcoupling.coupling import bounds\n'
    'rejection.coupling, rejection.maximal_coupling\n'
  )
  sources['listcoupling.coupling'] = 'from listcoupling import bounds'
  sources['listcoupling.rejection'] = 'from listcoupling import coupling'
  assert _second_addresses(sources) == [
    'reader: listcoupling.coupling.bounds',
    'reader: listcoupling.rejection.coupling',
  ]


def _vague(text: str) -> list[str]:
  """Summaries of functions and classes, private ones too, that name nothing."""
  kinds = ast.Module, ast.ClassDef, ast.FunctionDef
  nodes = [x for x in ast.walk(ast.parse(text)) if isinstance(x, kinds)]
  summaries = [ast.get_docstring(node) or '' for node in nodes]
  return [x.split('\n')[0] for x in summaries if x.split(' ')[0] == 'What']


def test_summaries_name_the_thing():
  assert [x for text in _sources().values() for x in _vague(text)] == []
  assert _vague('def _f():\n  "What is left."') == ['What is left.']


def test_types_are_announced():
  assert pathlib.Path(listcoupling.__file__).with_name('py.typed').exists()


_HEAVY = ('flax', 'optax', 'orbax', 'matplotlib', 'tensorflow_datasets', 'tqdm')


@pytest.mark.parametrize(
  ('names', 'heavy'),
  [
    ('', ('jax', 'numpy', *_HEAVY)),
    ('.bounds, .rejection, .compression, .decoding, .generate', _HEAVY),
  ],
)
def test_import_brings_nothing_heavy(names, heavy):
  """The face alone not even JAX, the rest none of what only training needs."""
  uses = '; '.join(f'lc{name.strip()}' for name in names.split(',') if name)
  code = f'import sys, listcoupling as lc; {uses}'
  code += (
    f'\nsys.exit(str([n for n in {heavy} if n in sys.modules]).strip("[]"))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, timeout=300
  )
  assert done.stderr.strip() == '', done.stderr


def test_compression_finds_its_codec_whatever_was_used_before():
  face = importlib.import_module('listcoupling.compression')
  assert face.__getattr__('codec').encode is face.encode
  with pytest.raises(AttributeError, match='no attribute .labels.'):
    face.__getattr__('labels')
