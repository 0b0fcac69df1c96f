"""Tables 1 to 6 of arXiv 2506.05632: block efficiency and token rate.

Rows are methods, columns data sets. BE is the number of tokens returned per
target call, over all prompts of a seed; TR% is the token rate above that of
single draft speculative decoding with the same L, the median over batches of
the ratio within a batch. The clock excludes compilation and the forward of the
prompt. A text ends at the token limit, so the last block of a row counts fewer
tokens than it drafted. BE is a little low, and lower for methods with longer
blocks, which lose more: differences between methods are told a little too
small, the more so the shorter the texts.

Legend: K drafts, L draft length, R rows of a batch, S seeds, B prompts.
"""

from collections.abc import Sequence

import numpy as np

from listcoupling import standard_errors
from listcoupling.decoding.methods import METHODS
from listcoupling.experiments.language import protocol
from listcoupling.tables import Column

REFERENCE = 'single'  # token rates are told above this method's
COLUMNS = (
  Column('method', 'method'),
  Column('K', 'num_drafts'),
  Column('draft T', 'draft_temperatures'),
  Column('BE', 'block_efficiency', '.3f'),
  Column('± prompts', 'block_efficiency_prompt_se', '.3f'),
  Column('- SpecInfer', 'minus_specinfer', '+.3f'),
  Column('TR%', 'token_rate_percent', '.1f'),
)
LEGEND = (
  'BE and TR% ± over seeds; ± prompts: of BE over prompts; - SpecInfer: BE '
  'above\nSpecInfer with the same drafts, ± over the prompts that both had.'
)


def settings_of(config) -> dict[str, protocol.Setting]:
  """The rows of the table by name; `single` is always among them.

  Methods of one draft stand once, at config.single_temperature; those whose
  drafts are of one law are left out where the temperatures differ.
  """
  methods = [*config.methods]
  if REFERENCE not in methods:
    methods.insert(0, REFERENCE)
  rows, several = [], []
  for method in methods:
    if not METHODS[method].drafts:
      rows.append(protocol.Setting(method, 0, ''))
    elif METHODS[method].single_draft:
      rows.append(protocol.Setting(method, 1, config.single_temperature))
    else:
      several.append(method)
  for text in config.draft_temperatures:
    varied = len(set(protocol.temperatures(text) or ())) > 1
    rows += [
      protocol.Setting(method, num_drafts, text)
      for num_drafts in config.num_drafts
      for method in several
      if not (varied and METHODS[method].one_law)
    ]
  return {row.name: row for row in rows}


def measure(setup: protocol.Setup, job: protocol.Job, once) -> dict:
  """Columns of a job: tokens and target calls of every row, and the rate."""
  del once
  out = protocol.timed_prompts(
    setup, job, protocol.options_of(setup, job.setting)
  )
  real, metrics = slice(job.batch.size), out.metrics
  return {
    'tokens': out.lengths,
    'calls': metrics.target_calls,
    'drafted': int(metrics.drafted_tokens[real].sum()),
    'accepted': int(metrics.accepted_tokens[real].sum()),
    'tokens_per_second': metrics.tokens_per_second,
  }


def summarize(groups: dict, place: tuple, setup: protocol.Setup) -> dict:
  """Columns of a row of the table.

  Returns:
    block_efficiency and token_rate_percent with their standard errors over
    seeds (`_se`); block_efficiency_prompt_se, over prompts; minus_specinfer,
    the difference of block efficiency to SpecInfer with the same drafts, with
    its standard error over the prompts that both had; acceptance_rate,
    accepted over drafted tokens.
  """
  dataset, setting = place
  pairs, config = groups[place], setup.config
  single = protocol.Setting(REFERENCE, 1, config.single_temperature)
  other = setting._replace(method='specinfer')
  rates = _rates(pairs)
  ratios = np.median(rates / _rates(groups[dataset, single]), axis=1)
  tokens, calls = protocol.per_prompt(pairs, ('tokens', 'calls'))
  drafted, accepted = (
    sum(row[name] for _, row in pairs) for name in ('drafted', 'accepted')
  )
  _, terms = protocol.tokens_per_call(pairs)
  return {
    **standard_errors.means({'block_efficiency': tokens.sum(1) / calls.sum(1)}),
    'block_efficiency_prompt_se': standard_errors.cluster_error(terms),
    **standard_errors.means({'token_rate_percent': 100 * (ratios - 1)}),
    'tokens_per_second': float(np.median(rates)),
    'acceptance_rate': accepted / max(drafted, 1),
    **protocol.lead('minus_specinfer', groups, place, (dataset, other)),
    'draft_length': config.draft_length,
    'temperature': config.temperature,
  }


def _rates(pairs) -> np.ndarray:
  """Tokens per second [S, batches]."""
  rates = {}
  for job, row in pairs:
    rates.setdefault(job.seed, []).append(row['tokens_per_second'])
  return np.array([rates[seed] for seed in sorted(rates)])


def plot(rows: Sequence[dict], path) -> None:
  """Bars of tokens per target call, by data set."""
  protocol.bars(
    [row for row in rows if METHODS[row['method']].drafts],
    path,
    column='block_efficiency',
    title='tokens per target call',
    label='{method}  K={num_drafts}  {draft_temperatures}'.format_map,
  )


run = protocol.Table(
  COLUMNS,
  settings_of,
  measure,
  summarize,
  protocol.options_of,
  legend=LEGEND,
  timed=True,
).experiment(block_efficiency=plot)
