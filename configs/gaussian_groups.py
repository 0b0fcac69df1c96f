"""Groups of decoders between one for all and one for each, see docs/results.md.

python scripts/gaussian_groups.py --workdir runs/groups

A case is messages, then the variance of each decoder's side information.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Equal and unequal side information, K = 4 and 8."""
  return config_dict.create(
    cases=(
      (4, (0.5, 0.5, 0.5, 0.5)),
      (4, (0.05, 0.05, 5, 5)),
      (2, (0.1, 0.1, 0.1, 0.1, 5, 5, 5, 5)),
    ),
    believed_variances=(1.0, 2.0),
    periods=(0.4, 0.6, 0.9, 1.3, 1.8, 2.5, 3.3, 4.2),
    selection_trials=10_000,
    trials=40_000,
  )
