"""Every decoding method in one table: how it proposes, how it verifies.

A method is two functions and what follows from them; a new one is a row here
and, where it differs, a function in `draft` or `verify`.
"""

from collections.abc import Callable
from typing import NamedTuple

from listcoupling.decoding import best_first, draft, traversal, verify


class Method(NamedTuple):
  """One way to decode.

  Attributes:
    propose: fills a draft tree, as `draft.propose_chains`; None for the root
      alone.
    verify: walks the tree, as `verify.verify_canonical`.
    canonical: the text is that of plain sampling, token for token.
    rejection: judges proposals by the laws they were drawn from, with noise
      independent of theirs.
    single_draft: it has one draft, whatever `num_drafts` says.
    one_law: its drafts come from one law: one drafter, one temperature.
    distinct: its drafts after the root may be drawn without replacement.
    best_first: its tree is of any shape and counts nodes (`num_nodes`).
  """

  propose: Callable | None
  verify: Callable
  canonical: bool = False
  rejection: bool = False
  single_draft: bool = False
  one_law: bool = False
  distinct: bool = False
  best_first: bool = False

  @property
  def drafts(self) -> bool:
    """Whether it proposes anything; it asks for drafters only then."""
    return self.propose is not None


METHODS = {
  'autoregressive': Method(None, verify.verify_canonical, canonical=True),
  'gumbel_tree': Method(
    best_first.propose_tree,
    verify.verify_canonical,
    canonical=True,
    best_first=True,
  ),
  'gumbel_chains': Method(
    draft.propose_grouped_chains, verify.verify_canonical, canonical=True
  ),
  'gls': Method(draft.propose_chains, verify.verify_gls),
  'gls_strong': Method(draft.propose_chains, verify.verify_gls_strong),
  'specinfer': Method(
    draft.propose_chains,
    verify.verify_specinfer,
    rejection=True,
    distinct=True,
  ),
  'spectr': Method(
    draft.propose_chains, verify.verify_spectr, rejection=True, one_law=True
  ),
  'single': Method(
    draft.propose_chains,
    verify.verify_specinfer,
    rejection=True,
    single_draft=True,
  ),
  'block': Method(
    draft.propose_chains,
    verify.verify_block,
    rejection=True,
    single_draft=True,
  ),
  'traversal': Method(
    draft.propose_chains,
    traversal.verify_traversal,
    rejection=True,
    distinct=True,
  ),
}
