"""Tables of speed: what they consist of, how times are taken, what is kept.

What is compared is called in turn, so that a machine that slows down slows all
of it; the first calls, which compile, do not count.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import tqdm

from listcoupling.experiments.run import environment, open_run

K, T = TypeVar('K'), TypeVar('T')


class Case(NamedTuple):
  """One row of a table, yet to be measured."""

  name: str
  measure: Callable[[], dict]


def in_turn(
  functions: Mapping[K, Callable[[], T]], rounds: int, *, show: bool = False
) -> dict[K, list[T]]:
  """Results of each function in every round but a first one.

  Args:
    functions: by name, without arguments.
    rounds: in which each is called once.
    show: progress.
  """
  found = {name: [] for name in functions}
  for turn in tqdm.trange(rounds + 1, desc='round', disable=not show):
    for name, function in functions.items():
      result = function()
      if turn:
        found[name].append(result)
  return found


def timed(function: Callable[[], T]) -> tuple[T, float]:
  """The result of a function and its seconds."""
  began = time.perf_counter()
  result = jax.block_until_ready(function())
  return result, time.perf_counter() - began


def milliseconds(
  functions: Mapping[K, Callable], *, rounds: int = 20, show: bool = False
) -> dict[K, float]:
  """Median time of each function, called `in_turn`."""
  clocks = {
    name: functools.partial(lambda own: timed(own)[1], function)
    for name, function in functions.items()
  }
  times = in_turn(clocks, rounds, show=show)
  return {name: 1e3 * float(np.median(own)) for name, own in times.items()}


def run(
  cases: Callable[[], Sequence[Case]], workdir, settings: Mapping[str, Any]
) -> list[dict]:
  """Measures a table row by row; a run that was stopped goes on.

  Args:
    cases: gives the rows, once the folder is known to be theirs.
    workdir: folder of results.csv and results.json.
    settings: that the cases depend on.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: the folder is another table's, machine's or version's.
  """
  settings = {**settings, 'environment': environment()}
  with open_run(pathlib.Path(workdir), settings) as record:
    jobs = dict(cases())
    return record.rows(jobs, lambda job: job(), key='case', timed=True)
