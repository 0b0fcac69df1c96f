"""Coupling a list of samples with one sample, without communication."""

import importlib
from typing import TYPE_CHECKING

from listcoupling import coupling, gumbel
from listcoupling.coupling import (
  ListSample,
  Pair,
  gumbel_coupling,
  gumbel_list_sampling,
  shared_race_list_sampling,
)

if TYPE_CHECKING:
  from listcoupling import (
    bounds,
    compression,
    decoding,
    models,
    rejection,
    weighted_minhash,
  )
  from listcoupling.decoding.generate import Generation, generate
  from listcoupling.decoding.language_model import LanguageModel
  from listcoupling.decoding.options import GenerateOptions
  from listcoupling.models.pretrained import (
    load_pretrained,
    save_pretrained,
    shipped_pair,
  )
  from listcoupling.rejection import maximal_coupling
  from listcoupling.weighted_minhash import (
    low_communication_coupling,
    weighted_minhash_coupling,
  )

__version__ = '0.1.0'

__all__ = [
  'GenerateOptions',
  'Generation',
  'LanguageModel',
  'ListSample',
  'Pair',
  'bounds',
  'compression',
  'coupling',
  'decoding',
  'generate',
  'gumbel',
  'gumbel_coupling',
  'gumbel_list_sampling',
  'load_pretrained',
  'low_communication_coupling',
  'maximal_coupling',
  'models',
  'rejection',
  'save_pretrained',
  'shared_race_list_sampling',
  'shipped_pair',
  'weighted_minhash',
  'weighted_minhash_coupling',
]

# Imported on first use: Flax and the checkpoint readers are slow. Names of
# `__all__` that stand neither here nor above are modules.
_LAZY = {
  'GenerateOptions': 'decoding.options',
  'Generation': 'decoding.generate',
  'LanguageModel': 'decoding.language_model',
  'generate': 'decoding.generate',
  'load_pretrained': 'models.pretrained',
  'low_communication_coupling': 'weighted_minhash',
  'maximal_coupling': 'rejection',
  'save_pretrained': 'models.pretrained',
  'shipped_pair': 'models.pretrained',
  'weighted_minhash_coupling': 'weighted_minhash',
}


def __getattr__(name):
  if name in _LAZY:
    module = importlib.import_module(f'{__name__}.{_LAZY[name]}')
    return getattr(module, name)
  if name in __all__:
    return importlib.import_module(f'{__name__}.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return __all__
