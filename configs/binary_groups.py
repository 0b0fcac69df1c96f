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
      '2: .05 .05 .05 .05',
      '2: .2 .2 .2 .2',
      '4: .3 .3 .3 .3',
      '2: .2 .2 .4 .4',
      '4: .3 .3 .3 .3 .3 .3 .3 .3',
      '4: .2 .2 .2 .2 .4 .4 .4 .4',
      '4: .1 .1 .4 .4 .4 .4 .4 .4',
    ),
  )
