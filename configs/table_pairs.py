"""Draft trees on pairs of tables, the best trees there are, and other schemes.

  python scripts/evaluate_decoding.py --config configs/table_pairs.py \
    --workdir runs/table_pairs

Figures and times in docs/results.md.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Settings of `listcoupling.experiments.language.table_pairs`."""
  config = ml_collections.ConfigDict()
  config.experiment = 'table_pairs'
  config.sigmas = (0.2, 0.5, 1.0, 2.0, 4.0)
  config.temperatures = (0.0, 0.2, 0.6, 1.0, 1.5)
  config.pairs = 5  # of tables at each distance
  config.rows = 32  # texts of a pair
  config.max_new_tokens = 512
  config.num_nodes = 32
  config.beam = 8
  config.depth = 16
  config.methods = ('specinfer', 'traversal')  # beside the tree
  config.num_drafts = (1, 2, 4, 8, 16)  # of them, as far as they divide nodes
  return config
