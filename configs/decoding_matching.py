"""Tables 7 and 8 of arXiv 2506.05632: matching probability of one step.

  python scripts/evaluate_decoding.py --config configs/decoding_matching.py \
    --workdir runs/decoding_matching

Along texts of the target: the list matching bound, the exact value and a
sample of GLS, SpecInfer, SpecTr, and the optimum with and without replacement.
The same command tells the acceptance to expect of any pair. Pairs as in
configs/decoding_iid.py.

11 minutes on two busy cores with the pair of configs/lm_pair_target.py and
lm_pair_drafter.py; figures in docs/results.md.
"""

from configs import decoding_iid


def get_config(pair: str = ''):
  """Settings of `listcoupling.experiments.language.matching`."""
  config = decoding_iid.get_config(pair)
  config.experiment = 'matching'
  config.num_drafts = (1, 2, 4, 6, 8)
  config.repetitions = 20  # samples of a list per token
  config.seeds = 1  # errors are over prompts
  return config
