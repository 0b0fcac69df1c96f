"""Fig. 6 of arXiv 2506.05632: 100 pairs of Dirichlet(1) laws on 10 atoms.

    python scripts/toy.py --config configs/toy.py --workdir /tmp/toy

About 35 s on two cores. Expected at K = 1, 2, 4, 8 (standard error over pairs
.01): .450 .567 .684 .787 for GLS, .449 .629 .805 .953 for the shared-race list,
.517 .634 .739 .823 for SpecTr, .514 .666 .798 .890 for the optimum of iid
drafts.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The default setting."""
  return config_dict.create(
    pairs='dirichlet',  # or 'peaked', see configs/toy_peaked.py
    num_pairs=100,
    num_atoms=10,
    num_drafts=tuple(range(1, 21)),
    trials=1000,  # per pair and method
  )
