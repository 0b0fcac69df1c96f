"""Lossy compression with side information at K decoders.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5. `encode` and `decode`
work on any candidates; `gaussian` is one of the paper's two sources, `binary`
one of ours whose errors are finite sums.
"""

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
  'lattice_labels',
  'lattices',
  'list_quantiser',
  'poisson_functional',
  'random_labels',
]
