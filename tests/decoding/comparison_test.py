"""Methods side by side: a single row has no standard error."""

import dataclasses

import jax
import numpy as np

from listcoupling.decoding import comparison
from listcoupling.decoding.generate import generate
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
    shown, legend = comparison.format_comparison([row]).split('\n\n')
    assert ('±' in shown) != unknown
    assert 'share of the drafted' in legend and 'same seed' in legend


def test_each_method_takes_what_it_can_of_the_options():
  """Two drafters and a budget of nodes stand beside methods without them."""
  target, drafters = fakes.random_pair(8, 1.0)
  options = GenerateOptions(
    num_drafts=2, draft_length=2, max_new_tokens=4, num_nodes=3
  )
  rows = comparison.compare_methods(
    *(jax.random.key(0), target, drafters * 2),
    *(np.ones((1, 2), np.int32), np.full(1, 2, np.int32), options),
    methods=('gumbel_tree', 'spectr', 'autoregressive'),
    repeats=1,
  )
  assert [(row['method'], row['num_drafts']) for row in rows] == [
    ('gumbel_tree', 2), ('spectr', 2), ('autoregressive', 0),
  ]  # fmt: skip
  assert rows[0]['same_text'] == 1.0


def test_figures_of_one_row_have_its_shapes():
  target, drafters = fakes.random_pair(8, 1.0)
  options = GenerateOptions(num_drafts=2, draft_length=2, max_new_tokens=6)
  figures = generate(
    *(jax.random.key(0), target, drafters),
    *(np.ones((3, 2), np.int32), np.full(3, 2, np.int32), options),
  ).metrics
  row = figures.row(1)
  np.testing.assert_array_equal(row.acceptance_rate, figures.acceptance_rate[1])
  assert row.acceptance_rate.shape == (2,)
