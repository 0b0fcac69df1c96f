"""Coupling a list of samples with one sample, without communication."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from listcoupling import (
    bounds,
    compression,
    coupling,
    decoding,
    gumbel,
    image_codec,
    models,
    rejection,
    weighted_minhash,
  )
  from listcoupling.coupling import (
    ListSample,
    Pair,
    gumbel_coupling,
    gumbel_list_sampling,
    shared_race_list_sampling,
  )
  from listcoupling.decoding.generate import Generation, generate
  from listcoupling.decoding.language_model import LanguageModel
  from listcoupling.decoding.options import GenerateOptions
  from listcoupling.decoding.text import (
    Completion,
    encode_prompts,
    generate_text,
  )
  from listcoupling.models.pretrained import (
    load_pretrained,
    save_pretrained,
    shipped_pair,
  )
  from listcoupling.models.quantised import quantised_drafter
  from listcoupling.rejection import maximal_coupling
  from listcoupling.weighted_minhash import (
    low_communication_coupling,
    weighted_minhash_coupling,
  )

__version__ = '0.1.0'

__all__ = [
  'Completion',
  'GenerateOptions',
  'Generation',
  'LanguageModel',
  'ListSample',
  'Pair',
  'bounds',
  'compression',
  'coupling',
  'decoding',
  'encode_prompts',
  'generate',
  'generate_text',
  'gumbel',
  'gumbel_coupling',
  'gumbel_list_sampling',
  'image_codec',
  'load_pretrained',
  'low_communication_coupling',
  'maximal_coupling',
  'models',
  'quantised_drafter',
  'rejection',
  'save_pretrained',
  'shared_race_list_sampling',
  'shipped_pair',
  'weighted_minhash',
  'weighted_minhash_coupling',
]

# Imported on first use: JAX, Flax and the checkpoint readers are slow. Names of
# `__all__` that do not stand here are modules.
_LAZY = {
  'Completion': 'decoding.text',
  'GenerateOptions': 'decoding.options',
  'Generation': 'decoding.generate',
  'LanguageModel': 'decoding.language_model',
  'ListSample': 'coupling',
  'Pair': 'coupling',
  'encode_prompts': 'decoding.text',
  'generate': 'decoding.generate',
  'generate_text': 'decoding.text',
  'gumbel_coupling': 'coupling',
  'gumbel_list_sampling': 'coupling',
  'load_pretrained': 'models.pretrained',
  'low_communication_coupling': 'weighted_minhash',
  'maximal_coupling': 'rejection',
  'quantised_drafter': 'models.quantised',
  'save_pretrained': 'models.pretrained',
  'shared_race_list_sampling': 'coupling',
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
