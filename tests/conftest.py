"""Settings and fixtures of all tests."""

import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
from importlib import metadata

# Workers compile each program once for all: they share a folder, which the
# first process makes for this run, and they read these settings with jax. The
# small programs of single operations, most of all there are, are kept, too.
_CACHE = 'JAX_COMPILATION_CACHE_DIR'
_made = None
if _CACHE not in os.environ:
  os.environ[_CACHE] = _made = tempfile.mkdtemp(prefix='listcoupling-tests-')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

# They compile three times as fast without LLVM's optimizations and in the
# older code of fusions, and run slower, which little arrays do not feel. The
# modules named below are optimized.
if metadata.version('jaxlib').startswith('0.10.'):  # later ones know no flag
  os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')

# Neither a rank nor a type changes by promotion alone, here and in processes.
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
os.environ['JAX_NUMPY_DTYPE_PROMOTION'] = 'strict'

import jax  # noqa: E402
import pytest  # noqa: E402

# Files that take longest, most of it compiling or in other processes. They are
# given to workers first, so that all workers end at about the same time.
_LONGEST = (
  'mesh_test',
  'processes_test',
  'gaussian_test',
  'notebooks_test',
  'device_report_test',
  'transport_test',
  'scheme_test',
  'docs_test',
  'wheel_test',
  'forward_nodes_test',
  'scripts_test',
)

# Running takes longer than compiling: many trials, or whole vocabularies; or
# the test is about what the compiler makes: its order of sums, its memory.
_OPTIMIZED = (
  'binary_test',
  'bounds_test',
  'codec_test',
  'coupling_test',
  'filters_selection_test',
  'forward_nodes_test',
  'gumbel_test',
  'lattices_test',
  'quantised_test',
  'rejection_test',
  'verify_test',
  'weighted_minhash_test',
)


def pytest_collection_modifyitems(items):
  """The longest files first; `--no-loadscope-reorder` keeps this order."""
  ranks = {name: rank for rank, name in enumerate(_LONGEST)}
  items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_collection_finish():
  """The collector leaves what is imported alone, and comes less often.

  Tracing makes many objects and few cycles; to look at all of them again and
  again takes a twentieth of the time.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 20, 20)


def pytest_unconfigure():
  """The folder of compiled programs goes with the process that made it."""
  if _made is not None:
    shutil.rmtree(_made, ignore_errors=True)


@pytest.fixture(scope='module', autouse=True)
def _compiler(request):
  """Optimizations where they pay."""
  name, wanted = 'jax_disable_most_optimizations', request.path.stem
  before = jax.config.read(name)
  jax.config.update(name, before and wanted not in _OPTIMIZED)
  yield
  jax.config.update(name, before)


_signals = {
  number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
}
_excepthook = sys.excepthook


@pytest.fixture(scope='module', autouse=True)
def _handlers():
  """Those that were there before a script was imported, which replaces them.

  With a script's own a test that stops a training ends its worker.
  """
  for number, handler in _signals.items():
    signal.signal(number, handler)
  sys.excepthook = _excepthook


@pytest.fixture(scope='module', autouse=True)
def _release_compiled_programs():
  """A worker that keeps the programs of every module grows to 5 GB."""
  yield
  if _resident() > 2e9:
    jax.clear_caches()
    gc.collect()


def _resident():
  """Bytes of this process, at its peak where only that is known."""
  try:
    with open('/proc/self/statm') as file:
      return int(file.read().split()[1]) * resource.getpagesize()
  except OSError:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
