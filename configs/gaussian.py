"""Gaussian source with side information at K decoders, one setting.

    python scripts/gaussian.py --config configs/gaussian.py --workdir /tmp/g

About a minute on two cores. Expected at K = 2, L = 8, in mean dB (standard
error 0.2): gls -21.4 (paper -21.70), shared_race -19.5 (-19.48), no_message
-15.1 (-15.19), and interval labels, which are not in the paper, -27.7.

The paper's whole grid:

    --config.num_decoders="(1, 2, 3, 4)" \
    --config.num_messages="(2, 4, 8, 16, 32, 64)" \
    --config.selection_trials=10000 --config.trials=100000
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The default setting."""
  return config_dict.create(
    num_decoders=(2,),
    num_messages=(8,),
    schemes=('gls', 'shared_race', 'interval', 'no_message'),
    test_variances=(0.01, 0.008, 0.006, 0.005, 0.003, 0.002, 0.001),
    # About 1.4, 0.5, 0.3, 0.15 suit 2, 4, 8, 16 messages.
    interval_widths=(0.2, 0.3),
    num_candidates=2**15,
    side_variance=0.5,
    # v (and the width) with the least of this on selection_trials is used.
    select_by='mean_db',
    selection_trials=500,
    trials=4000,
  )
