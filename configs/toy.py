"""Fig. 6 of arXiv 2506.05632: 100 pairs of Dirichlet(1) laws on 10 atoms.

    python scripts/toy.py --config configs/toy.py --workdir runs/toy

About 35 s on two cores; figures in docs/results.md.
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
