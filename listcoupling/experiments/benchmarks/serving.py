"""Many requests through a few rows: a queue against batch after batch.

Legend: R requests, B rows, P prompt.
"""

import functools
import time
from collections.abc import Sequence

import jax
import numpy as np

from listcoupling import gumbel
from listcoupling.decoding.generate import Generation, generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.serving import generate_many
from listcoupling.experiments.benchmarks.timing import Case
from listcoupling.gumbel import Domain

_OPTIONS = GenerateOptions(max_new_tokens=256)


def _in_turn(ways: dict, rounds: int) -> dict:
  """What each way returns, and the median of its seconds."""
  outs, seconds = {}, {name: [] for name in ways}
  for turn in range(rounds + 1):
    for name, way in ways.items():
      began = time.perf_counter()
      outs[name] = way()
      if turn:  # the first one compiles
        seconds[name].append(time.perf_counter() - began)
  return {name: (outs[name], np.median(seconds[name])) for name in ways}


def serving_cases(
  key,
  target,
  drafter,
  prompts,
  lengths,
  *,
  requests: int = 256,
  batch_size: int = 32,
  options: GenerateOptions = _OPTIONS,
  rounds: int = 3,
) -> list[Case]:
  """Row-blocks that wait, and rates, of both ways to serve the same texts.

  Args:
    key: typed key; each request has its own.
    target: LanguageModel whose texts end at different lengths.
    drafter: LanguageModel.
    prompts: [., P], repeated to R requests.
    lengths: [.].
    requests: R.
    batch_size: B.
    options: of all requests.
    rounds: in which both take turns; medians count.
  """
  keys = jax.random.split(gumbel.domain_key(key, Domain.TEXTS), requests)
  prompts = np.resize(prompts, (requests, np.shape(prompts)[1]))
  call = target, drafter, prompts, np.resize(lengths, requests), options
  ways = {
    'fixed batches': functools.partial(_batches, keys, *call, batch_size),
    'queue': functools.partial(
      generate_many, keys, *call, batch_size=batch_size
    ),
  }

  @functools.cache  # both are timed in turn
  def measured():
    return _in_turn(ways, rounds)

  def measure(name):
    (out, seconds), (_, fixed) = measured()[name], measured()['fixed batches']
    return dict(
      requests=requests,
      batch_size=batch_size,
      tokens=int(out.lengths.sum()),
      longest=int(out.lengths.max()),
      waiting=1 - out.metrics.occupancy,
      tokens_per_second=float(out.lengths.sum() / seconds),
      ratio_to_batches=float(fixed / seconds),
    )

  return [Case(name, functools.partial(measure, name)) for name in ways]


def _batches(keys, target, drafter, prompts, lengths, options, size):
  """The requests batch after batch; `occupancy` is that of all batches."""
  outs = []
  for first in range(0, len(prompts), size):
    own = slice(first, first + size)
    outs.append(
      generate(keys[own], target, drafter, prompts[own], lengths[own], options)
    )
  return _joined(outs)


def _joined(outs: Sequence[Generation]) -> Generation:
  calls = [out.metrics.target_calls for out in outs]
  turned = sum(each.size * each.max() for each in calls)
  used = sum(each.sum() for each in calls)
  return Generation(
    np.concatenate([out.tokens for out in outs]),
    np.concatenate([out.lengths for out in outs]),
    outs[0].metrics._replace(occupancy=float(used / turned)),
  )
