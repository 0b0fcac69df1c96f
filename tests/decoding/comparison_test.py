"""Methods side by side: a single row has no standard error."""

import dataclasses

import jax
import numpy as np

from listcoupling.decoding import comparison
from listcoupling.decoding.options import GenerateOptions
from tests import fakes


def test_a_single_row_has_no_standard_error():
  target, drafters = fakes.random_pair(8, 1.0)
  options = GenerateOptions(
    method='gumbel_tree', num_drafts=2, draft_length=2, max_new_tokens=6
  )
  for count, unknown in ((1, True), (3, False)):
    prompts = np.ones((count, 2), np.int32)
    texts = prompts, np.full(count, 2, np.int32)
    key = jax.random.key(0)
    plain = comparison.plain_text(key, target, *texts, options)
    row = comparison.measure_method(
      key, target, drafters, *texts, dataclasses.replace(options),
      reference=plain, repeats=1,
    )  # fmt: skip
    assert (row['block_efficiency_se'] is None) == unknown
    assert row['same_text'] == 1.0
    assert ('+-   ?' in comparison.format_comparison([row])) == unknown
