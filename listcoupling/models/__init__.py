"""Networks: the language models, their checkpoints, and the image codec's.

The only package beside `training` that imports Flax, when a name is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from listcoupling.models import cost, table_pair
  from listcoupling.models.pretrained import (
    from_tensors,
    load_pretrained,
    save_pretrained,
    shipped_pair,
  )

__all__ = [
  'cost',
  'from_tensors',
  'load_pretrained',
  'save_pretrained',
  'shipped_pair',
  'table_pair',
]


def __getattr__(name):
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  if name in ('cost', 'table_pair'):
    return importlib.import_module(f'{__name__}.{name}')
  pretrained = importlib.import_module(f'{__name__}.pretrained')
  return getattr(pretrained, name)


def __dir__():
  return __all__
