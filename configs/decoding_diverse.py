"""Tables 2 and 4 of arXiv 2506.05632: two drafters of different temperature.

  python scripts/evaluate_decoding.py --config configs/decoding_diverse.py \
    --workdir runs/decoding_diverse

Target at temperature 2.0; K = 2 drafts of L = 5 tokens at temperatures
0.5/1.0, 1.0/0.5 and 1.0/1.0. SpecTr needs drafts of one law and stands in the
last row alone. Single draft is at draft temperature 1.0. Pairs as in
configs/decoding_iid.py.

On the pair of configs/lm_pair_target.py and lm_pair_drafter.py, 100 prompts,
tokens per call at 0.5/1.0, 1.0/0.5, 1.0/1.0 (standard errors over seeds below
.023):

                GSM8K              HumanEval          MBPP
  single              1.91               1.80               1.75
  specinfer     1.78  1.97  2.07   1.69  1.85  1.91   1.68  1.79  1.87
  spectr                    2.08               1.92               1.90
  gls           1.63  1.64  1.81   1.55  1.54  1.67   1.52  1.51  1.64
  gumbel_tree   1.58  1.88  1.90   1.50  1.76  1.78   1.48  1.72  1.74

The paper has gls ahead of specinfer here, on a pair far better aligned. What it
does show: gls hardly minds the order of the temperatures, specinfer does. The
beam of gumbel_tree leaves the root at the first of them.
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
