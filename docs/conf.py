"""The documentation site; `make docs` builds it."""

import pathlib
import shutil

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
for _notebook in (_HERE.parent / 'colab').glob('*.ipynb'):
  shutil.copy(_notebook, _HERE / 'stories' / _notebook.name)

myst_enable_extensions = ['deflist', 'dollarmath']
myst_heading_anchors = 3

default_role = 'code'  # docstrings quote names in single backticks
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # docstrings say shapes, which types cannot
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = 'furo'
html_static_path = ['static']
html_css_files = ['site.css']
html_show_sourcelink = False
