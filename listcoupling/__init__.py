"""Coupling a list of samples with one sample, without communication."""

import importlib

from listcoupling import coupling, gumbel
from listcoupling.coupling import (
  ListSample,
  Pair,
  gumbel_coupling,
  gumbel_list_sampling,
  shared_race_list_sampling,
)

__version__ = '0.1.0'

# Loaded on first use: Flax and the checkpoint readers are slow to import.
_LAZY = {
  'low_communication_coupling': 'listcoupling.baselines',
  'maximal_coupling': 'listcoupling.baselines',
  'weighted_minhash_coupling': 'listcoupling.baselines',
  'GenerateOptions': 'listcoupling.decoding.options',
  'Generation': 'listcoupling.decoding.generate',
  'LanguageModel': 'listcoupling.decoding.language_model',
  'generate': 'listcoupling.decoding.generate',
  'load_pretrained': 'listcoupling.models.pretrained',
  'quantised_drafter': 'listcoupling.models.quantised',
  'save_pretrained': 'listcoupling.models.pretrained',
  'shipped_pair': 'listcoupling.models.pretrained',
}
_LAZY_MODULES = ('baselines', 'bounds', 'compression', 'decoding', 'models')

__all__ = [
  'ListSample',
  'Pair',
  'baselines',
  'bounds',
  'coupling',
  'gumbel',
  'gumbel_coupling',
  'gumbel_list_sampling',
  'low_communication_coupling',
  'maximal_coupling',
  'shared_race_list_sampling',
  'weighted_minhash_coupling',
  *_LAZY,
  *_LAZY_MODULES,
]


def __getattr__(name):
  if name in _LAZY:
    return getattr(importlib.import_module(_LAZY[name]), name)
  if name in _LAZY_MODULES:
    return importlib.import_module(f'listcoupling.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return sorted(__all__)
