"""The notebooks run from the first cell to the last, without a network.

Each holds its own assertions on what it computes; here it is executed in a
fresh kernel, and the committed file is checked for what a reader meets:
pictures in place, one install cell, a size that GitHub shows.
"""

import os
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

_FOLDER = pathlib.Path(__file__).parent.parent / 'colab'
_NOTEBOOKS = sorted(_FOLDER.glob('*.ipynb'))
# Cells have many trials, and many programs: these are optimized a little.
_SETTINGS = {
  'JAX_DISABLE_MOST_OPTIMIZATIONS': '0',
  'XLA_FLAGS': os.environ.get('XLA_FLAGS', '')
  + ' --xla_backend_optimization_level=1'
  + ' --xla_llvm_disable_expensive_passes=true',
}
_TIMEOUT = 600  # seconds per cell, on a busy machine


def _read(path):
  return nbformat.read(path, as_version=4)


def _code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def _execute(notebook, tmp_path):
  """Runs the cells in order, in the notebooks' folder."""
  client = NotebookClient(
    notebook,
    timeout=_TIMEOUT,
    kernel_name='python3',
    resources={'metadata': {'path': str(_FOLDER)}},
  )
  own = {'TMPDIR': str(tmp_path)}  # some cells make a folder and leave it
  return client.execute(env=os.environ | _SETTINGS | own)


def _outputs(notebook, kind):
  """Outputs of one kind, in order; pictures by their MIME type."""
  outputs = [output for cell in _code(notebook) for output in cell.outputs]
  if kind in ('error', 'stream'):
    return [output for output in outputs if output.output_type == kind]
  return [output for output in outputs if kind in output.get('data', {})]


def test_there_are_notebooks():
  names = {path.name for path in _NOTEBOOKS}
  assert {'coupling.ipynb', 'decoding.ipynb'} <= names


@pytest.mark.parametrize('path', _NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
  notebook = _execute(_read(path), tmp_path)
  pictures = _outputs(notebook, 'image/png')
  assert len(pictures) == len(_outputs(_read(path), 'image/png'))
  printed = ''.join(output.text for output in _outputs(notebook, 'stream'))
  assert 'Warning' not in printed  # tells of bit rot
  assert 'pip' not in printed  # the package is there: nothing to install


@pytest.mark.parametrize('path', _NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_file(path):
  notebook = _read(path)
  nbformat.validate(notebook)
  assert path.stat().st_size < 600_000
  installs = [cell for cell in _code(notebook) if '%pip' in cell.source]
  assert len(installs) == 1
  assert 'except ImportError' in installs[0].source
  assert not installs[0].outputs
  assert sum(cell.source.count('assert ') for cell in _code(notebook)) >= 3
  assert len(_outputs(notebook, 'image/png')) >= 1
  assert not _outputs(notebook, 'error')
  assert not any('execution' in cell.metadata for cell in _code(notebook)), (
    'times of a run are of no use to a reader: remove metadata.execution'
  )
  counts = [cell.execution_count for cell in _code(notebook)]
  assert counts == list(range(1, len(counts) + 1)), 'run all cells, then save'


def test_a_failing_cell_is_an_error(tmp_path):
  cells = [nbformat.v4.new_code_cell('assert 1 + 1 == 3')]
  with pytest.raises(CellExecutionError, match='AssertionError'):
    _execute(nbformat.v4.new_notebook(cells=cells), tmp_path)
