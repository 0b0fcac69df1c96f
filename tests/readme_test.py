"""Promises of README: its examples run, its names and scripts exist.

The examples in the docstrings run too, each module's in one test.
"""

import contextlib
import doctest
import importlib
import importlib.util
import io
import json
import pathlib
import pkgutil
import re

import pytest

import listcoupling
from tests import statistics

_ROOT = pathlib.Path(__file__).parent.parent
_README = (_ROOT / 'README.md').read_text()
_PAPERS = (_ROOT / 'docs' / 'papers.md').read_text()
_EXAMPLES = re.findall(r'```python\n(.*?)```', _README, flags=re.DOTALL)


def _modules_with_examples():
  names = (
    module.name
    for module in pkgutil.walk_packages(listcoupling.__path__, 'listcoupling.')
  )
  return [
    name
    for name in sorted(names)
    if not name.startswith('listcoupling.training.')  # these train for minutes
    and '>>>' in pathlib.Path(importlib.util.find_spec(name).origin).read_text()
  ]


def _run(source):
  """Executes an example; what it prints, by lines."""
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    exec(compile(source, 'README.md', 'exec'), {'__name__': 'readme'})
  return printed.getvalue().splitlines()


def _section(title):
  return _README.split(f'## {title}\n')[1].split('\n## ')[0]


def _resolve(name):
  """The object at a dotted name below `listcoupling`."""
  parts = name.split('.')
  for split in range(len(parts), 0, -1):
    try:
      value = importlib.import_module(
        '.'.join(['listcoupling', *parts[:split]])
      )
    except ModuleNotFoundError:
      continue
    for part in parts[split:]:
      value = getattr(value, part)
    return value
  raise AttributeError(name)


def test_first_example_is_ten_lines_and_agrees_with_theory():
  assert len(_EXAMPLES[0].replace('\n\n', '\n').splitlines()) == 10
  sampled, exact = map(float, _run(_EXAMPLES[0]))
  count = sampled * 10_000
  statistics.assert_proportion(count, 10_000, exact)
  z = statistics.proportion_z(count, 10_000, exact / 2)
  assert z > statistics.SIGMAS  # the check can fail


@pytest.mark.parametrize('index', range(1, len(_EXAMPLES)))
def test_other_examples(index):
  assert _run(_EXAMPLES[index])


def test_every_script_and_config_is_in_its_table_and_exists():
  page = (_ROOT / 'docs' / 'howto' / 'scripts.md').read_text()
  tables = page.split('The configs of `configs/`')
  for table, folder in zip(tables, ('scripts', 'configs'), strict=True):
    first = re.findall(r'^\| (`[^|]*) \|', table, re.M)
    named = set(re.findall(r'`(\w+\.py)`', ' '.join(first)))
    assert named == {path.name for path in (_ROOT / folder).glob('*.py')}


def test_every_file_named_exists():
  folders = '(?:scripts|configs|colab|docs|listcoupling)'
  names = set(re.findall(rf'(?<![\w/]){folders}/[\w/.]+\w', _README))
  names.discard('docs/_build/html/index.html')  # made by the line before it
  assert {'docs/results.md', 'docs/images/race.png'} <= names
  assert [name for name in names if not (_ROOT / name).exists()] == []


# Where docs/results.md tells the figures of a row.
_SECTIONS = {
  'toy laws': ['Toy laws'],
  'next-token laws': ['Next-token laws along text'],
  'GSM8K, tokens': ['iid drafts: [GLS] Tables 1, 3, 5, 6'],
  'GSM8K, a trained pair': ['Same seed, another drafter: [GLS] Table 9'],
  'Gaussian source': [
    'Gaussian source: [GLS] Tables 10, 11',
    'Groups of decoders and lattices',
  ],
  'MNIST halves': ['MNIST'],
}


def _numbers(text):
  return set(re.findall(r'-?\d*\.\d+', text))


def test_figures_are_those_of_the_results():
  results = (_ROOT / 'docs' / 'results.md').read_text()
  parts = re.split(r'^##+ (.*)\n', results, flags=re.M)
  told = dict(zip(parts[1::2], map(_numbers, parts[2::2])))
  rows = _README.split('| | this scheme |')[1].split('\n\n')[0].splitlines()[2:]
  for row, (name, sections) in zip(rows, _SECTIONS.items(), strict=True):
    assert row.startswith(f'| {name}')
    figures = _numbers(row)
    assert len(figures) > 2
    assert figures - set.union(*(told[title] for title in sections)) == set()
    # The check can fail: no other section tells these.
    others = (told[title] for title in told if title not in sections)
    assert not any(figures <= other for other in others)


def test_every_name_in_the_paper_table_exists():
  names = re.findall(r'`(\w+(?:\.\w+)+)`', _PAPERS)
  assert len(names) > 20
  for name in names:
    assert callable(_resolve(name)), name
  with pytest.raises(AttributeError):
    _resolve('coupling.no_such_name')


def _notebook_text():
  for path in sorted((_ROOT / 'colab').glob('*.ipynb')):
    for cell in json.loads(path.read_text())['cells']:
      yield ''.join(cell['source'])


def test_every_name_is_reachable_as_written():
  pages = (path.read_text() for path in (_ROOT / 'docs').glob('**/*.md'))
  text = '\n'.join([_README, *pages, *_notebook_text()])
  names = set(re.findall(r'\blc((?:\.[A-Za-z_]\w*)+)', text))
  assert {'.generate', '.bounds.list_matching_probability'} <= names
  for name in sorted(names):
    value = listcoupling
    for part in name[1:].split('.'):
      value = getattr(value, part)


def test_every_method_is_in_the_decoding_table():
  from listcoupling.decoding.methods import METHODS

  rows = re.findall(r'^\| `(\w+)`', _section('Decoding'), re.M)
  assert rows == ['method', *METHODS]


def test_changelog_names_the_version():
  changelog = (_ROOT / 'CHANGELOG.md').read_text()
  assert f'## [{listcoupling.__version__}]' in changelog


def _examples(name):
  finder = doctest.DocTestFinder(exclude_empty=True)
  module = importlib.import_module(name)
  return [test for test in finder.find(module) if test.examples]


@pytest.mark.parametrize('name', _modules_with_examples())
def test_docstring_examples(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # files that examples write stay there
  runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
  report = io.StringIO()
  examples = _examples(name)
  assert examples
  for example in examples:
    runner.run(example, out=report.write)
    for line in example.examples:
      assert "'/" not in line.source  # nor are they written elsewhere
  assert runner.summarize(verbose=False).failed == 0, report.getvalue()


def test_public_modules_have_examples():
  for name in (
    'gumbel',
    'coupling',
    'bounds',
    'rejection',
    'compression.codec',
  ):
    assert len(_examples(f'listcoupling.{name}')) >= 2, name
