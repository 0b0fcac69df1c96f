"""The language tables of arXiv 2506.05632, one command each.

  python scripts/evaluate_decoding.py --config configs/decoding_iid.py \
    --workdir runs/decoding_iid

Tables 1, 3, 5, 6: configs/decoding_iid.py; 2 and 4: decoding_diverse.py; 7 and
8, with the acceptance that theory expects: decoding_matching.py; 9:
decoding_consistency.py. A pair is named after a colon (decoding_iid.py:llama3)
or given by directory (--config.target DIR --config.drafter DIR). A run that
was stopped resumes when the command is repeated.
"""

import listcoupling.early_interrupts  # noqa: F401

from absl import flags

from listcoupling.experiments import command
from listcoupling.experiments.language import (
  block_efficiency,
  consistency,
  matching,
)

_CONFIG = command.define_config('configs/decoding_iid.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where the results are written.', required=True
)
_SEED = command.define_seed(0, 'The first of config.seeds.')
_PROMPTS = flags.DEFINE_string(
  'prompts',
  '',
  'Folder of the data sets (instead of LISTCOUPLING_DATA), or the file of one.',
)
_EXPERIMENTS = {
  'block_efficiency': block_efficiency,
  'matching': matching,
  'consistency': consistency,
}


def main(_):
  """Runs the table, prints it and says where it is."""
  config = _CONFIG.value
  name = config.get('experiment')
  if name not in _EXPERIMENTS:
    raise ValueError(
      f'config.experiment must be one of {", ".join(_EXPERIMENTS)}, got '
      f'{name!r}; is the config for another script?'
    )
  if _PROMPTS.value:
    config.prompts = _PROMPTS.value
  rows = _EXPERIMENTS[name].run(config, _WORKDIR.value, _SEED.value)
  print(_EXPERIMENTS[name].as_text(rows))
  print(f'\nresults.csv, results.json and plots are in {_WORKDIR.value}')


if __name__ == '__main__':
  command.run(main)
