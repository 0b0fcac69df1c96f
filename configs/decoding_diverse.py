"""Tables 2 and 4 of arXiv 2506.05632: two drafters of different temperature.

  python scripts/evaluate_decoding.py --config configs/decoding_diverse.py \
    --workdir runs/decoding_diverse

Target at temperature 2.0; K = 2 drafts of L = 5 tokens at temperatures
0.5/1.0, 1.0/0.5 and 1.0/1.0. SpecTr needs drafts of one law and stands in the
last row alone. Single draft is at draft temperature 1.0. Pairs as in
configs/decoding_iid.py.

Figures of the pair of configs/lm_pair_target.py and lm_pair_drafter.py are in
docs/results.md.
"""

from configs import decoding_iid


def get_config(pair: str = ''):
  """Settings of `listcoupling.experiments.language.block_efficiency`."""
  config = decoding_iid.get_config(pair)
  config.temperature = 2.0
  config.draft_length = 5
  config.num_drafts = (2,)
  config.draft_temperatures = ('0.5/1.0', '1.0/0.5', '1.0/1.0')
  config.single_temperature = '1.0'
  return config
