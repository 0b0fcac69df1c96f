"""What a generation reports, with the meanings vLLM gives the words."""

from typing import NamedTuple

import numpy as np


class Metrics(NamedTuple):
  """Figures of one call of `generate`; all per row but the last."""

  block_efficiency: np.ndarray  # [B] tokens returned per target call
  target_calls: np.ndarray  # [B] forwards of the target after the prompt
  drafted_tokens: np.ndarray  # [B] proposals judged by the target
  accepted_tokens: np.ndarray  # [B] drafted tokens that are in the text
  accepted_per_position: np.ndarray  # [B, L] blocks that accepted depth j
  invalid_drafts: np.ndarray  # [B] slots left empty: no possible token
  # Whole batch, wall clock from the end of the prompt's forward to the last
  # token, compilation excluded.
  tokens_per_second: float

  def row(self, b: int) -> 'Metrics':
    """The figures of one row, without the axis B; the rate is the batch's."""
    figures = {
      name: value[b]
      for name, value in self._asdict().items()
      if name != 'tokens_per_second'
    }
    return self._replace(**figures)

  @property
  def acceptance_rate(self) -> np.ndarray:
    """[B, L] share of the target calls that accepted depth j."""
    calls = np.maximum(self.target_calls, 1)
    return self.accepted_per_position / calls[:, None]


def summarize(lengths, counters, seconds: float) -> Metrics:
  """`Metrics` from the lengths [B], the loop's counters and the time."""
  lengths = np.asarray(lengths)
  calls = np.asarray(counters.target_calls)
  accepted = np.asarray(counters.accepted_per_position)
  return Metrics(
    block_efficiency=lengths / np.maximum(calls, 1),
    target_calls=calls,
    drafted_tokens=np.asarray(counters.drafted),
    accepted_tokens=accepted.sum(axis=1),
    accepted_per_position=accepted,
    invalid_drafts=np.asarray(counters.invalid),
    tokens_per_second=float(lengths.sum()) / max(seconds, 1e-9),
  )
