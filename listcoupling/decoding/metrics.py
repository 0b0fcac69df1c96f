"""Figures of a generation, with the meanings that vLLM gives the words."""

from typing import NamedTuple

import numpy as np


class Metrics(NamedTuple):
  """Figures of one call of `generate`; all per row but the last two."""

  block_efficiency: np.ndarray  # [B] tokens returned per target call
  target_calls: np.ndarray  # [B] forwards of the target after the prompt
  drafted_tokens: np.ndarray  # [B] proposals judged by the target
  accepted_tokens: np.ndarray  # [B] drafted tokens that are in the text
  accepted_per_position: np.ndarray  # [B, L] blocks that accepted depth j
  # [B, L] the same as the best-first tree expected; NaN for other methods.
  predicted_per_position: np.ndarray
  # [B] slots left empty: no possible token. By right where a law has few; above
  # 0 for a model without filters, its logits are NaN somewhere.
  invalid_drafts: np.ndarray
  # Whole batch, wall clock from the end of the prompt's forward to the last
  # token, compilation excluded.
  tokens_per_second: float
  # Share of the rows' blocks that wrote; in the others a row waited, done, for
  # its neighbours.
  occupancy: float

  def row(self, b: int) -> 'Metrics':
    """The figures of one row, without axis B; the last two are the batch's."""
    figures = {
      name: value[b]
      for name, value in self._asdict().items()
      if name not in ('tokens_per_second', 'occupancy')
    }
    return self._replace(**figures)

  @property
  def acceptance_rate(self) -> np.ndarray:
    """[B, L] share of the target calls that accepted depth j."""
    calls = np.maximum(self.target_calls, 1)
    return self.accepted_per_position / np.expand_dims(calls, -1)

  @property
  def mean_acceptance_length(self) -> np.ndarray:
    """[B] 1 + accepted tokens per target call."""
    return 1 + self.accepted_tokens / np.maximum(self.target_calls, 1)

  @property
  def draft_acceptance_rate(self) -> np.ndarray:
    """[B] accepted tokens per drafted token; 0 without drafts."""
    return self.accepted_tokens / np.maximum(self.drafted_tokens, 1)


def row_blocks(target_calls, count: int, shards: int) -> int:
  """Rows times blocks, where each shard stops once its last row is done.

  Args:
    target_calls: [B] of all rows; shards hold equal parts of them in order.
    count: of rows that were asked for; the others write nothing.
    shards: that never wait for each other.

  Example:
    >>> row_blocks(np.array([9, 3, 2, 0]), 3, shards=2)
    20
  """
  calls = np.reshape(target_calls, (shards, -1))
  asked = np.arange(calls.size).reshape(calls.shape) < count
  return int((asked.sum(axis=1) * calls.max(axis=1)).sum())


def summarize(lengths, info, seconds: float, row_blocks: int) -> Metrics:
  """`Metrics` of a batch.

  Args:
    lengths: [B] tokens written.
    info: of the loop.
    seconds: it took.
    row_blocks: rows times the blocks that ran while they were there.
  """
  info = type(info)(*(np.asarray(leaf)[: len(lengths)] for leaf in info))
  return Metrics(
    block_efficiency=lengths / np.maximum(info.target_calls, 1),
    target_calls=info.target_calls,
    drafted_tokens=info.drafted,
    accepted_tokens=info.accepted_per_position.sum(axis=1),
    accepted_per_position=info.accepted_per_position,
    predicted_per_position=info.predicted_per_position,
    invalid_drafts=info.invalid,
    tokens_per_second=float(lengths.sum()) / max(seconds, 1e-9),
    occupancy=float(info.target_calls.sum()) / max(row_blocks, 1),
  )
