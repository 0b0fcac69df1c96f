"""Groups of decoders of a binary source, exactly; see docs/results.md.

python scripts/binary_groups.py --workdir runs/binary

Seconds. A case is messages, then how often each decoder's channel flips a bit.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Alike and unlike side information, K = 4 and 8."""
  return config_dict.create(
    num_bits=8,
    cases=(
      (2, (0.05, 0.05, 0.05, 0.05)),
      (2, (0.2, 0.2, 0.2, 0.2)),
      (4, (0.3, 0.3, 0.3, 0.3)),
      (2, (0.2, 0.2, 0.4, 0.4)),
      (4, (0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3)),
      (4, (0.2, 0.2, 0.2, 0.2, 0.4, 0.4, 0.4, 0.4)),
      (4, (0.1, 0.1, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4)),
    ),
  )
