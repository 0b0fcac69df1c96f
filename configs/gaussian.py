"""Tables 10 and 11 and Fig. 2 of the Gaussian source, in full.

    python scripts/gaussian.py --config configs/gaussian.py \
      --workdir runs/gaussian

K = 1..4 decoders, 2..64 messages, the paper's grid of v, selection on 10^4
trials, evaluation on 10^5 others, 10 repeats. Fewer repeats:

    --config.repeats=2

One repeat takes 6 min 17 s on two CPU cores without lattices and groups;
figures in docs/results.md.

One corner of it (K = 1, 2, L = 8, 10^4 trials): configs/gaussian.py:small
"""

from ml_collections import config_dict


def get_config(kind: str = 'full') -> config_dict.ConfigDict:
  """The setting of the paper, or a corner of it: "full" or "small"."""
  if kind not in ('full', 'small'):
    raise ValueError(f'kind must be full or small, got {kind!r}.')
  config = config_dict.create(
    num_decoders=(1, 2, 3, 4),
    num_messages=(2, 4, 8, 16, 32, 64),
    schemes=(
      'no_message',
      'gls',
      'shared_race',
      'interval',
      'interval_mse',
      'interval_groups',
      'interval_groups_mse',
      'lattice',
      'lattice_mse',
      'lattice_blind',
      'seed_aware',
      'modulo',
      'modulo_mse',
      'limit',
    ),
    test_variances=(0.01, 0.008, 0.006, 0.005, 0.003, 0.002, 0.001),
    # Not in the paper, which has no interval labels: wider for the mean
    # squared error, smaller where messages are many.
    interval_variances=(0.1, 0.03, 0.01, 0.005, 0.002, 0.001, 3e-4, 1e-4),
    periods=(1.6, 2.0, 2.4, 2.8, 3.4, 4.0, 5.0),  # L G times the width
    # Longer ones where messages are many: a failure costs the period.
    lattice_periods=tuple(1.0 * 1.08**i for i in range(24)),  # 1 to 5.9
    believed_variances=(1.0, 2.0, 3.0),  # of the source, to decoders
    num_candidates=2**15,
    side_variance=0.5,
    selection_trials=10_000,
    trials=100_000,
    seed_aware_trials=20_000,
    lattice_trials=200_000,
    repeats=10,
    chunk=5000,  # trials between two notes on disk
    cpu_devices=0,  # trials are spread over so many; 0: every core we may use
  )
  if kind == 'small':
    config.update(
      num_decoders=(1, 2),
      num_messages=(8,),
      interval_variances=(0.03, 0.005, 0.001),
      periods=(2.0, 2.8, 4.0),
      lattice_periods=(1.6, 2.9, 3.8),
      believed_variances=(1.0,),
      selection_trials=1000,
      trials=10_000,
      seed_aware_trials=2000,
      lattice_trials=10_000,
      repeats=1,
      chunk=1000,
    )
  return config
