"""The fastest way to draft on this machine, found by trying.

What a draft step costs, what a forward of n nodes costs and what is accepted
depend on models, machine and prompts, and all of them meet in one figure:
tokens per second. A grid of settings is tried on the caller's own prompts, the
slow ones are dropped, the rest tried again. No setting changes the law.

Legend: W beam width, L depths, N nodes.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from listcoupling.decoding import placement
from listcoupling.decoding.drafters import as_list
from listcoupling.decoding.generate import generate, with_stops
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions

# (W, L, N), from one short chain to a wide and deep tree.
GRID = (
  (1, 2, 2),
  (1, 4, 4),
  (1, 8, 8),
  (2, 4, 8),
  (4, 4, 16),
  (4, 8, 32),
  (8, 12, 64),
)
COSTS = (0.03, 0.1, 0.3)  # of a draft step, tried on the fastest tree
_TRIES = 9
_SHARE = 0.8  # of the fastest median; slower settings are dropped


def tune(
  key: jax.Array,
  target: LanguageModel,
  drafters: Sequence,
  prompts,
  lengths,
  options: GenerateOptions,
  *,
  on_turn: Callable[[str], None] | None = None,
) -> GenerateOptions:
  """Measures plain sampling and a grid of trees, and returns the fastest.

  Under canonical noise the text is the same for all of them.

  Args:
    key: typed key; of the texts that are tried.
    target: as for `generate`.
    drafters: at least one.
    prompts: [B, P], of the kind and number that will be run.
    lengths: [B].
    options: the law and the length of the texts. Few new tokens tell what
      short texts cost, many what the drafter has to say once it is known.
    on_turn: gets a line after each turn of the settings: the fastest so far.

  Returns:
    `options` with method, num_drafts, draft_length and num_nodes of the
    fastest of `GRID` and plain sampling, and the best draft_cost of `COSTS`.

  Raises:
    ValueError: without a drafter, or as `generate`.

  Example:
    >>> import listcoupling as lc
    >>> target, drafter = lc.shipped_pair()
    >>> options = lc.GenerateOptions(max_new_tokens=16)
    >>> best = tune(jax.random.key(0), target, drafter, [[1]], [1], options)
    ... # doctest: +SKIP
  """
  with_stops(target, options)  # refuses what is neither
  drafters = as_list(drafters)
  if not drafters:
    raise ValueError(
      'tune needs at least one drafter to compare with plain sampling, got '
      'none; NGramDrafter (--drafter=ngram) needs no second model.'
    )
  arguments = key, target, drafters, prompts, lengths
  grid = settings(options, len(drafters))
  best = _fastest(measure(*arguments, grid, on_turn))
  if METHODS[best.method].best_first and best.draft_length > 1:
    costs = [dataclasses.replace(best, draft_cost=cost) for cost in COSTS]
    best = _fastest(measure(*arguments, [best, *costs], on_turn))
  return best


def _fastest(rates: dict[GenerateOptions, list[float]]) -> GenerateOptions:
  turns = max(map(len, rates.values()))
  tried = [each for each in rates if len(rates[each]) == turns]
  return max(tried, key=lambda each: np.median(rates[each]))


def settings(
  options: GenerateOptions, num_drafters: int = 1
) -> list[GenerateOptions]:
  """Plain sampling and the trees of `GRID`, at the law of `options`.

  A beam has a slot for each drafter; trees past `forward_nodes` are left out.
  """
  plain = dataclasses.replace(
    options,
    method='autoregressive',
    num_nodes=None,
    draft_cost=0.0,
    replacement=True,
  )
  trees = [
    dataclasses.replace(
      plain,
      method='gumbel_tree',
      num_drafts=width * num_drafters,
      draft_length=length,
      num_nodes=nodes,
    )
    for width, length, nodes in GRID
    if options.forward_nodes is None or nodes < options.forward_nodes
  ]
  return [plain, *trees]


def measure(
  key, target, drafters, prompts, lengths, candidates, on_turn=None
) -> dict[GenerateOptions, list[float]]:
  """Tokens per second of each candidate, tried in turn.

  Several processes count by the clock of the first: they must try the same
  settings, or they would wait for each other for ever.

  Returns:
    A list of rates per candidate; shorter where it was dropped for being
    slow. The first try of each, which compiles, is not in it. It ends when one
    is left: no other try could change the choice.
  """
  rates = {each: [] for each in candidates}
  running = list(candidates)
  for turn in range(_TRIES + 1):
    for each in running:
      out = generate(key, target, drafters, prompts, lengths, each)
      if turn:
        rate = out.metrics.tokens_per_second
        rates[each].append(placement.of_first_process(rate, target))
    if turn:
      fastest = max(np.median(rates[each]) for each in running)
      running = [
        each for each in running if np.median(rates[each]) >= _SHARE * fastest
      ]
    if on_turn:
      on_turn(_line(turn, rates, running))
    if turn and len(running) == 1:
      break
  return rates


def _line(turn, rates, running) -> str:
  """How far `measure` is."""
  line = f'turn {turn} of {_TRIES}: '
  if not turn:
    return line + f'{len(running)} settings are compiled'
  medians = {each: np.median(rates[each]) for each in running}
  best = max(medians, key=medians.get)
  shape = ''
  if METHODS[best.method].best_first:
    shape = f' of {best.num_nodes} nodes, {best.draft_length} deep'
  leads = f'leads {len(running)} settings'
  if len(running) == 1:
    leads = 'is the only setting left'
  return (
    line + f'{best.method}{shape} {leads} with {medians[best]:.0f} tokens/s'
  )
