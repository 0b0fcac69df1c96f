"""Lossy compression with side information at K decoders.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5. `encode` and `decode`
work on any candidates; `gaussian` and `images` are the paper's two sources.
"""

from listcoupling.compression.codec import Encoding, decode, encode
from listcoupling.compression.labels import interval_labels, random_labels

__all__ = [
  'Encoding',
  'decode',
  'encode',
  'interval_labels',
  'random_labels',
]
