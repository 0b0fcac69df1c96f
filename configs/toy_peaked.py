"""Peaked laws as in language models: q ~ exp(3 z), p ~ exp(3 z + e).

    python scripts/toy.py --config configs/toy_peaked.py \
      --workdir runs/toy_peaked

About 20 s on two cores; figures in docs/results.md.
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
