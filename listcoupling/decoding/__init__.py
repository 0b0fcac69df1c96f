"""Multi-draft speculative decoding: drafters, texts, and looking back at them.

`listcoupling.generate` is the door; this is what goes in and what comes out.
"""

from listcoupling.decoding import analysis, filters
from listcoupling.decoding.drafters import Drafter, NGramDrafter, Text

__all__ = [
  'Drafter',
  'NGramDrafter',
  'Text',
  'analysis',
  'filters',
]
