"""Lattices A2, D4 and E8 on blocks of a Gaussian source, see docs/results.md.

python scripts/gaussian_lattices.py --workdir runs/lattices
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Rates that each lattice has a sublattice for, one decoder and four."""
  return config_dict.create(
    lattices=('A2', 'D4', 'E8'),
    bits=(0.5, 1.0, 1.5, 2.0, 2.5, 3.0),
    num_decoders=(1, 4),
    side_variance=0.5,
    periods=tuple(round(1.2 * 1.1**i, 3) for i in range(17)),  # 1.2 to 5.5
    believed_variance=2.0,  # of several decoders
    cell_points=512,
    selection_trials=10_000,
    trials=40_000,
  )
