"""What `decoding.tune` chooses, against every fixed setting of a wider grid.

Legend: W beam width, L depths, N nodes.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from listcoupling import gumbel, tables
from listcoupling.decoding import tuning
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks.timing import Case
from listcoupling.gumbel import Domain

# (W, L, N) beside those that `tune` tries and plain sampling.
WIDER = (
  (1, 1, 1),
  (1, 3, 3),
  (1, 6, 6),
  (2, 2, 4),
  (2, 8, 16),
  (4, 4, 8),
  (4, 12, 32),
  (8, 4, 32),
)
_OPTIONS = GenerateOptions(max_new_tokens=64)


def candidates(options: GenerateOptions) -> list[GenerateOptions]:
  """Plain sampling, the grid of `tune` and `WIDER`."""
  plain, *trees = tuning.settings(options)
  return [plain, *trees] + [
    dataclasses.replace(
      trees[0], num_drafts=width, draft_length=length, num_nodes=nodes
    )
    for width, length, nodes in WIDER
  ]


def rates(
  key, target, drafter, prompts, lengths, settings, rounds: int
) -> dict[GenerateOptions, np.ndarray]:
  """Tokens per second of every setting, [rounds], taken in turn."""
  found = {setting: [] for setting in settings}
  for turn in range(rounds + 1):
    for setting, own in found.items():
      out = generate(key, target, [drafter], prompts, lengths, setting)
      if turn:  # the first one of a process is slow
        own.append(out.metrics.tokens_per_second)
  return {setting: np.array(own) for setting, own in found.items()}


def choice_cases(
  key,
  target,
  drafter,
  prompts,
  lengths,
  *,
  options: GenerateOptions = _OPTIONS,
  settings: Sequence[GenerateOptions] | None = None,
  rounds: int = 7,
) -> list[Case]:
  """A row for each setting and one for what `tune` chooses.

  Args:
    key: typed key.
    target: LanguageModel.
    drafter: LanguageModel.
    prompts: [B, P].
    lengths: [B].
    options: the law and the length of the texts.
    settings: others than `candidates`.
    rounds: in which each is run once.

  Returns:
    Cases whose rows have tokens_per_second with its standard error, of_best,
    the rate as a share of the fastest setting's, and `chosen`, of the last.
  """
  key = gumbel.domain_key(key, Domain.TEXTS)
  prompts, lengths = prompts[:1], lengths[:1]
  settings = candidates(options) if settings is None else settings

  @functools.cache
  def measured():
    chosen = tuning.tune(key, target, [drafter], prompts, lengths, options)
    every = dict.fromkeys([*settings, chosen])
    found = rates(key, target, drafter, prompts, lengths, every, rounds)
    return chosen, found

  def measure(setting):
    chosen, found = measured()
    is_choice = setting is None
    setting = chosen if is_choice else setting
    best = max(rate.mean() for rate in found.values())
    return dict(
      method=setting.method,
      beam=setting.num_drafts,
      depths=setting.draft_length,
      num_nodes=setting.num_nodes or 0,
      draft_cost=setting.draft_cost,
      **tables.means({'tokens_per_second': found[setting]}),
      of_best=float(found[setting].mean() / best),
      chosen=is_choice,
    )

  return [
    Case(
      f'{each.method}, W = {each.num_drafts}, L = {each.draft_length}, '
      f'N = {each.num_nodes or 0}',
      functools.partial(measure, each),
    )
    for each in settings
  ] + [Case('the choice of tune', functools.partial(measure, None))]
