"""Settings of the Gaussian codec, many of them side by side.

Legend: J settings, K decoders, n = 1..K decoders in use.
"""

from typing import NamedTuple

import numpy as np


class Settings(NamedTuple):
  """J settings; numpy arrays.

  Attributes:
    test_variance: [J, K] v where n decoders are in use.
    num_messages: [J] L.
    period: [J, K] L times the width of interval labels; 1 if they are iid.
    is_interval: [J] bool.
    is_shared: [J] bool, one race for all decoders.
  """

  test_variance: np.ndarray
  num_messages: np.ndarray
  period: np.ndarray
  is_interval: np.ndarray
  is_shared: np.ndarray


def make_settings(
  test_variance, num_messages, *, period=None, is_shared=False, num_decoders
) -> Settings:
  """Settings of one kind, one per entry of the arguments.

  Args:
    test_variance: [J] or [J, K].
    num_messages: [J].
    period: [J] or [J, K] for interval labels, None for iid ones.
    is_shared: bool, one race for all.
    num_decoders: K.

  Returns:
    `Settings`.

  Raises:
    ValueError: for a variance or period that is not positive, or L < 1.

  Example:
    >>> make_settings([.01, .005], [2, 4], num_decoders=3).period.shape
    (2, 3)
  """
  num_messages = np.asarray(num_messages, np.float32)
  shape = (len(num_messages), num_decoders)

  def spread(x):
    x = np.asarray(x, np.float32)
    return np.broadcast_to(x[:, None] if x.ndim == 1 else x, shape)

  found = Settings(
    spread(test_variance),
    num_messages,
    spread(np.ones(shape) if period is None else period),
    np.full(shape[0], period is not None),
    np.full(shape[0], is_shared),
  )
  for name in ('test_variance', 'period'):
    if not np.all(getattr(found, name) > 0):
      raise ValueError(f'{name} must be positive, got {getattr(found, name)}.')
  if not np.all(num_messages >= 1):
    raise ValueError(f'num_messages must be at least 1, got {num_messages}.')
  return found


def join(*parts: Settings) -> Settings:
  """Settings one after the other."""
  return Settings(*(np.concatenate(x) for x in zip(*parts, strict=True)))
