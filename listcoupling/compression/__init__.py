"""Lossy compression with side information at K decoders.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5. `encode` and `decode`
work on any candidates; `gaussian` is one of the paper's two sources, `binary`
one of ours whose errors are finite sums.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from listcoupling.compression import (
    binary,
    distortion,
    gaussian,
    gaussian_baselines,
    lattices,
    list_quantiser,
    poisson_functional,
  )
  from listcoupling.compression.codec import (
    Encoding,
    balanced_labels,
    decode,
    encode,
    interval_labels,
    kmeans_labels,
    lattice_dither,
    lattice_labels,
    random_labels,
  )

__all__ = [
  'Encoding',
  'balanced_labels',
  'binary',
  'decode',
  'distortion',
  'encode',
  'gaussian',
  'gaussian_baselines',
  'interval_labels',
  'kmeans_labels',
  'lattice_dither',
  'lattice_labels',
  'lattices',
  'list_quantiser',
  'poisson_functional',
  'random_labels',
]

# Imported on first use: a decoder of files needs neither the simulations of the
# sources nor scipy. Names of `__all__` that do not stand here are modules.
_OF_CODEC = (
  'Encoding',
  'balanced_labels',
  'decode',
  'encode',
  'interval_labels',
  'kmeans_labels',
  'lattice_dither',
  'lattice_labels',
  'random_labels',
)


def __getattr__(name):
  if name in _OF_CODEC:
    return getattr(importlib.import_module(f'{__name__}.codec'), name)
  if name in (*__all__, 'codec'):
    return importlib.import_module(f'{__name__}.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return __all__
