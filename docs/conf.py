"""The documentation site; `make docs` builds it."""

import inspect
import pathlib
import re
import shutil

from docutils import nodes
from docutils.utils.math import latex2mathml

import listcoupling

_HERE = pathlib.Path(__file__).parent

project = 'listcoupling'
author = 'listcoupling authors'
copyright = 'listcoupling authors, Apache License 2.0'
release = version = listcoupling.__version__
html_title = f'listcoupling {release}'

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build']

# Notebooks are shown with the outputs they are stored with; their tests run
# them. Sphinx reads its own folder alone, so it gets copies.
nb_execution_mode = 'off'
(_HERE / 'stories').mkdir(exist_ok=True)
for _notebook in (_HERE.parent / 'colab').glob('*.ipynb'):
  shutil.copy(_notebook, _HERE / 'stories' / _notebook.name)

myst_enable_extensions = ['deflist', 'dollarmath']
myst_heading_anchors = 3

highlight_language = 'text'  # of fences that name none
default_role = 'code'  # docstrings quote names in single backticks
autodoc_member_order = 'bysource'
# `__all__` stands in the order of letters.
autodoc_default_options = {'ignore-module-all': True}
autodoc_typehints = 'none'  # docstrings say shapes, which types cannot
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_math_renderer = 'mathml'
html_theme = 'furo'
html_static_path = ['static']
html_css_files = ['site.css']
html_show_sourcelink = False


def _fields(cls):
  """Name and comment of every commented field of a class."""
  above = []
  for line in inspect.getsource(cls).splitlines()[1:]:
    line = line.strip()
    if line.startswith('#'):
      above.append(line.strip('# '))
      continue
    field = re.match(r'(\w+): [^#]*(?:# (.*))?$', line)
    comment = ' '.join([*above, *((field[2],) if field and field[2] else ())])
    if field and comment:
      yield field[1], comment
    above = []


def _add_fields(app, what, name, cls, options, lines):
  """Shows what comments say of a carrier's fields, where docstrings do not."""
  is_carrier = what == 'class' and hasattr(cls, '_fields')
  if is_carrier and 'Attributes:' not in lines:
    fields = [f'  {name}: {comment}' for name, comment in _fields(cls)]
    lines += ['', 'Attributes:', *fields] if fields else []


def _mend_lines(app, what, name, cls, options, lines):
  """Arrays by their public name; an entry "K." begins no list K, L, M."""
  lines[:] = [
    re.sub(
      r'^(:[^:]+: |\s*)([A-Z])\.(?=\s|$)',
      r'\1\2\\.',
      line.replace('jax.jaxlib._jax.Array', 'jax.Array'),
    )
    for line in lines
  ]


def _skip_fields(app, what, name, member, skip, options):
  """Fields of a carrier stand in its own list; Python says no more of them."""
  words = str(getattr(member, '__doc__', None))
  return True if words.startswith('Alias for field number') else skip


def _keep_errors(app, page, source):
  """No line ends between ± and the error."""
  if page == 'results':
    source[0] = source[0].replace('± ', '±\u00a0')


def _as_mathml(translator, node):
  """Formulas that a browser draws by itself, without a network or a script."""
  block = isinstance(node, nodes.math_block)
  formula = latex2mathml.tex2mathml(node.astext(), as_block=block)
  translator.body.append(
    f'<div class="math">{formula}</div>' if block else formula
  )
  raise nodes.SkipNode


def setup(app):
  """Fields are told before napoleon, which reads the sections; names after."""
  how = (_as_mathml, None)
  app.add_html_math_renderer('mathml', how, how)
  app.connect('autodoc-process-docstring', _add_fields, priority=100)
  app.connect('source-read', _keep_errors)
  app.connect('autodoc-skip-member', _skip_fields)
  app.connect('autodoc-process-docstring', _mend_lines, priority=900)
