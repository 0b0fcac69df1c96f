"""Peaked laws as in language models: q ~ exp(3 z), p ~ exp(3 z + e).

    python scripts/toy.py --config configs/toy_peaked.py --workdir /tmp/peaked

About 20 s on two cores. Expected at K = 1, 2, 4, 8 (standard error over pairs
.02): .594 .705 .802 .879 for GLS, .596 .761 .885 .968 for the shared-race list,
.663 .812 .936 .987 for the optimum of iid drafts.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """12 pairs on 1000 atoms."""
  return config_dict.create(
    pairs='peaked',
    num_pairs=12,
    num_atoms=1000,
    num_drafts=(1, 2, 4, 8),
    trials=1000,
  )
