"""Trees on pairs of tables: who is ahead at a budget, and what fills it."""

from listcoupling import gumbel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.language import budget


def test_budgets_are_filled_in_every_shape():
  tree, *chains = budget.budget_options(12)
  assert (tree.method, tree.num_nodes) == ('gumbel_tree', 12)
  shapes = [(each.num_drafts, each.draft_length) for each in chains]
  assert shapes == [(1, 12), (2, 6), (3, 4), (4, 3), (6, 2), (12, 1)]
  for each in (tree, *chains):
    each.check(200)
    assert each.tree_nodes() == 12


def test_the_tree_is_ahead_of_chains_of_the_same_nodes():
  """Far more than the errors of both, at a distance where races do well."""
  base = GenerateOptions(max_new_tokens=96)
  tree, *chains = budget.budget_options(12, base)
  options = [tree, chains[2]]  # 3 chains of 4 tokens
  best, other = budget.tokens_per_call(
    gumbel.seed_key(0), 1.0, options, num_rows=64
  )
  gap = best['tokens_per_call'] - other['tokens_per_call']
  error = best['tokens_per_call_se'] + other['tokens_per_call_se']
  assert gap > 3 * error
