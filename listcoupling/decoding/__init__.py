"""Multi-draft speculative decoding: drafters, texts, and looking back at them.

`listcoupling.generate` is the door; this is what goes in and what comes out.
"""

from listcoupling.decoding import analysis, ceiling, filters, invariance
from listcoupling.decoding.chat import ChatTemplate, read_chat_template
from listcoupling.decoding.comparison import (
  compare_methods,
  format_comparison,
)
from listcoupling.decoding.drafters import Drafter, NGramDrafter, Text
from listcoupling.decoding.serving import generate_many
from listcoupling.decoding.text import TextStream, pad_prompts, printer
from listcoupling.decoding.tuning import tune

__all__ = [
  'ChatTemplate',
  'Drafter',
  'NGramDrafter',
  'Text',
  'TextStream',
  'analysis',
  'ceiling',
  'compare_methods',
  'filters',
  'format_comparison',
  'generate_many',
  'invariance',
  'pad_prompts',
  'printer',
  'read_chat_template',
  'tune',
]


def __dir__():
  return __all__
