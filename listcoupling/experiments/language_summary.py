"""From cells to the layout of Tables 1 to 6 of arXiv 2506.05632.

Legend: L draft length, S seeds, B prompts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from listcoupling.experiments import cells as work
from listcoupling.experiments import language_setup as base

REFERENCE = 'single'  # token rates are told above this method's


class _Figures(NamedTuple):
  """What was measured of one setting on one data set."""

  tokens: np.ndarray  # [S, B]
  calls: np.ndarray  # [S, B]
  rates: np.ndarray  # [S, batches] tokens per second
  drafted: float
  accepted: np.ndarray  # [L]

  @property
  def efficiency(self) -> np.ndarray:
    """[S] tokens per target call."""
    return self.tokens.sum(axis=1) / self.calls.sum(axis=1)

  @property
  def influence(self) -> np.ndarray:
    """[B] share of every prompt in the error of the pooled ratio."""
    ratio = self.tokens.sum() / self.calls.sum()
    return (self.tokens - ratio * self.calls).sum(axis=0) / self.calls.sum()


def _gather(pairs) -> _Figures:
  """Figures out of the (cell, row) pairs of one setting and data set."""
  seeds = sorted({cell.seed for cell, _ in pairs})
  size = sum(cell.batch.size for cell, _ in pairs) // len(seeds)
  tokens, calls = np.zeros((2, len(seeds), size))
  rates = [[] for _ in seeds]
  accepted = 0
  for cell, row in pairs:
    place = seeds.index(cell.seed), cell.batch.rows[: cell.batch.size]
    tokens[place] = work.split(row['tokens'])
    calls[place] = work.split(row['calls'])
    rates[place[0]].append(row['tokens_per_second'])
    accepted = accepted + work.split(row['accepted'])
  drafted = sum(row['drafted'] for _, row in pairs)
  return _Figures(tokens, calls, np.array(rates), drafted, accepted)


def summarize(cells: Sequence, found: Sequence[dict], config) -> list[dict]:
  """Rows of results.csv out of the cells.

  Args:
    cells: `language_cells.Cell`s.
    found: their rows, in the same order.
    config: see configs/decoding_iid.py.

  Returns:
    Per data set and setting: block_efficiency and token_rate_percent with
    their standard errors over seeds (`_se`); block_efficiency_prompt_se, over
    prompts; minus_specinfer, the difference of block efficiency to SpecInfer
    with the same drafts, with its standard error over the prompts that both
    had; acceptance_rate, accepted over drafted tokens.
  """
  groups = {}
  for cell, row in zip(cells, found, strict=True):
    groups.setdefault((cell.dataset, cell.setting), []).append((cell, row))
  figures = {key: _gather(pairs) for key, pairs in groups.items()}
  rows = []
  for (dataset, setting), own in figures.items():
    reference = next(
      value
      for (name, other), value in figures.items()
      if name == dataset and other.method == REFERENCE
    )
    rival = figures.get((dataset, setting._replace(method='specinfer')))
    rows.append(_row(dataset, setting, own, reference, rival, config))
  return rows


def _row(dataset, setting, own, reference, rival, config) -> dict:
  efficiency, error = work.mean_and_error(own.efficiency)
  ratios = np.median(own.rates / reference.rates, axis=1)
  percent, percent_error = work.mean_and_error(100 * (ratios - 1))
  row = {
    'dataset': dataset,
    **setting._asdict(),
    'draft_length': config.draft_length,
    'temperature': config.temperature,
    'block_efficiency': efficiency,
    'block_efficiency_se': error,
    'block_efficiency_prompt_se': work.cluster_error(own.influence),
    'token_rate_percent': percent,
    'token_rate_percent_se': percent_error,
    'tokens_per_second': float(np.median(own.rates)),
    'acceptance_rate': float(own.accepted.sum() / max(own.drafted, 1)),
    'minus_specinfer': None,
    'minus_specinfer_se': None,
    'seeds': own.tokens.shape[0],
    'prompts': own.tokens.shape[1],
  }
  if rival is not None and rival is not own:
    pooled = [f.tokens.sum() / f.calls.sum() for f in (own, rival)]
    row['minus_specinfer'] = float(pooled[0] - pooled[1])
    row['minus_specinfer_se'] = work.cluster_error(
      own.influence - rival.influence
    )
  return row


def as_text(rows: Sequence[dict]) -> str:
  """The columns of the paper's tables and their errors, by data set."""
  lines = []
  for dataset, prompts in base.prompt_lines(rows).items():
    lines += [
      prompts,
      f'{"method":<15}{"K":>3} {"draft T":<8}{"BE":>16}{"prompts":>10}'
      f'{"- SpecInfer":>18}{"TR%":>16}',
    ]
    lines += [_line(row) for row in rows if row['dataset'] == dataset] + ['']
  lines.append(
    'BE and TR% ± over seeds; prompts: ± of BE over prompts; - SpecInfer: BE '
    'above\nSpecInfer with the same drafts, ± over the prompts that both had.'
  )
  return '\n'.join(lines)


def _line(row) -> str:
  error = row['block_efficiency_prompt_se']
  prompts = '' if error is None else f'± {error:.3f}'
  name = f'{row["method"]:<15}{row["num_drafts"] or "":>3} '
  return (
    f'{name}{row["draft_temperatures"] or "":<8}'
    f'{_pair(row, "block_efficiency", ".3f"):>16}{prompts:>10}'
    f'{_pair(row, "minus_specinfer", "+.3f"):>18}'
    f'{_pair(row, "token_rate_percent", ".1f"):>16}'
  )


def _pair(row, name, form) -> str:
  if row[name] is None:
    return ''
  text, error = format(row[name], form), row[f'{name}_se']
  return text if error is None else f'{text} ± {error:{form.lstrip("+")}}'
