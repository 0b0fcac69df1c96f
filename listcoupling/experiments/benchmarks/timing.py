"""What a table of speed consists of, and how a time is taken."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
import tqdm


class Case(NamedTuple):
  """One row of a table, yet to be measured."""

  name: str
  measure: Callable[[], dict]


def milliseconds(
  functions: Mapping[str, Callable], *, rounds: int = 20, show: bool = False
) -> dict[str, float]:
  """Median time of each function, interleaved, compilation apart.

  A machine that slows down slows all of them.

  Args:
    functions: by name, without arguments.
    rounds: in which each is called once.
    show: progress.
  """
  times = {name: [] for name in functions}
  for turn in tqdm.trange(rounds + 1, desc='round', disable=not show):
    for name, function in functions.items():
      began = time.perf_counter()
      jax.block_until_ready(function())
      if turn:  # the first one compiles
        times[name].append(time.perf_counter() - began)
  return {name: 1e3 * float(np.median(t)) for name, t in times.items()}
