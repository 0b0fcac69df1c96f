"""Table 9 of arXiv 2506.05632: the text under a changed drafter.

  python scripts/evaluate_decoding.py --config configs/decoding_consistency.py \
    --workdir runs/decoding_consistency

ROUGE-L of two runs with the same seed, the drafter's temperature 1.0 and then
0.5; K = 2, L = 4, four seeds. Pairs as in configs/decoding_iid.py.

9 minutes on two busy cores for 50 prompts and five methods of the pair of
configs/lm_pair_target.py and lm_pair_drafter.py; figures in docs/results.md.
"""

from configs import decoding_iid


def get_config(pair: str = ''):
  """Settings of `listcoupling.experiments.language.consistency`."""
  config = decoding_iid.get_config(pair)
  config.experiment = 'consistency'
  config.num_drafts = (2,)
  config.draft_temperatures = ('1.0', '0.5')
  config.seeds = 4
  config.methods = (
    'single',
    'specinfer',
    'spectr',
    'gls',
    'gls_strong',
    'gumbel_chains',
    'gumbel_tree',
  )
  return config
