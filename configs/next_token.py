"""The experiment of Daliri, Musco, Suresh (arXiv 2408.07978) on a pair.

    python scripts/next_token.py --config configs/next_token.py \
      --workdir runs/next_token

The shipped pair on the held-out part of this Python's text: 1 to 2 s a position
on a CPU core. The pair was not trained on it if the Python is 3.11.7, whose
text it learnt, and held_out_fraction .05. Figures are in docs/results.md.
Another pair, on all of another text:

    DATA='$LISTCOUPLING_DATA/gsm8k/test.jsonl?fields=question+answer'
    python scripts/next_token.py --workdir runs/next_token_pair \
      --config.target=runs/pair/target --config.drafter=runs/pair/drafter \
      --config.data="('$DATA',)" --config.held_out_fraction=0.0
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The default setting."""
  return config_dict.create(
    target='',  # directory or hub name; both empty: the shipped pair
    drafter='',
    dtype='float32',
    data=('python',),  # see listcoupling/data/sources.py
    held_out_fraction=0.05,  # as in training; 0: all documents
    num_positions=100,
    context_length=256,  # tokens before each position
    temperature=1.0,
    repetitions=20000,  # per position and coupling
  )
