"""The law of the text as compiled programs take it: numbers are traced.

Whether a filter is on is static, its value is not, so that a new temperature
or other stop tokens compile nothing.

Legend: K drafts, E entries.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

NO_TOKEN = np.iinfo(np.int32).max  # outside every vocabulary: scatters drop it
_BUCKET = 8  # lists of tokens are padded to multiples


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=(
    'temperature',
    'draft_temperatures',
    'top_p',
    'min_p',
    'repetition_penalty',
    'bias_tokens',
    'bias_values',
    'stop_tokens',
    'min_new_tokens',
    'max_new_tokens',
    'draft_cost',
  ),
  meta_fields=('top_k',),
)
@dataclasses.dataclass(frozen=True)
class SamplingParams:
  """Numbers of a `GenerateOptions`; None where a filter is off."""

  temperature: Any  # [] float32
  draft_temperatures: Any  # [1] if all drafts share one, else the cycle [K']
  top_k: int  # static: it sizes the laws; 0 keeps all
  top_p: Any  # [] float32 or None
  min_p: Any  # [] float32 or None
  repetition_penalty: Any  # [] float32 or None
  bias_tokens: Any  # [E] int32, padded with NO_TOKEN
  bias_values: Any  # [E] float32
  stop_tokens: Any  # [E] int32, padded with NO_TOKEN
  min_new_tokens: Any  # [] int32 or None
  max_new_tokens: Any  # [] int32
  draft_cost: Any  # [] float32, in forwards of the target


def sampling_params(options) -> SamplingParams:
  """Traced form of a `GenerateOptions`, which may already be that.

  Example:
    >>> from listcoupling.decoding.options import GenerateOptions
    >>> sampling_params(GenerateOptions(top_p=0.9)).min_p is None
    True
  """
  if isinstance(options, SamplingParams):
    return options
  cycle = options.draft_temperatures or (options.temperature,)
  tokens, biases = zip(*options.logit_bias) if options.logit_bias else ((), ())
  return SamplingParams(
    temperature=np.float32(options.temperature),
    draft_temperatures=np.float32(cycle[:1] if len(set(cycle)) == 1 else cycle),
    top_k=options.top_k,
    top_p=_unless(1, options.top_p),
    min_p=_unless(0, options.min_p),
    repetition_penalty=_unless(1, options.repetition_penalty),
    bias_tokens=_padded(tokens, NO_TOKEN, np.int32),
    bias_values=_padded(biases, 0, np.float32),
    stop_tokens=_padded(options.stop_tokens or (), NO_TOKEN, np.int32),
    min_new_tokens=(
      np.int32(options.min_new_tokens) if options.min_new_tokens else None
    ),
    max_new_tokens=np.int32(options.max_new_tokens),
    draft_cost=np.float32(options.draft_cost),
  )


def _unless(neutral, value):
  return None if value == neutral else np.float32(value)


def _padded(values, fill, dtype):
  """As an array whose length is a positive multiple of the bucket."""
  size = max(1, -(-len(values) // _BUCKET)) * _BUCKET
  padded = np.full(size, fill, dtype)
  padded[: len(values)] = values
  return padded
