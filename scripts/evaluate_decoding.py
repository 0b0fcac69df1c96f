"""The language tables of arXiv 2506.05632, one command each.

  python scripts/evaluate_decoding.py --config configs/decoding_iid.py \
    --workdir runs/decoding_iid

Tables 1, 3, 5, 6: configs/decoding_iid.py; 2 and 4: decoding_diverse.py; 7 and
8, with the acceptance that theory expects: decoding_matching.py; 9:
decoding_consistency.py. A pair is named after a colon (decoding_iid.py:llama3)
or given by directory (--config.target DIR --config.drafter DIR). A run that
was stopped resumes when the command is repeated.
"""

import importlib
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

# Configs import each other as a package from the repository root.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from listcoupling.experiments import command  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file(
  'config', 'configs/decoding_iid.py', 'Which table, and its settings.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where the results are written.', required=True
)
_SEED = flags.DEFINE_integer('seed', 0, 'The first of config.seeds.')
_PROMPTS = flags.DEFINE_string(
  'prompts',
  '',
  'Folder of the data sets (instead of LISTCOUPLING_DATA), or the file of one.',
)
_EXPERIMENTS = ('language_tables', 'matching', 'consistency')


def main(argv):
  """Runs the table, prints it and says where it is."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}.')
  config = _CONFIG.value
  if _PROMPTS.value:
    config.prompts = _PROMPTS.value
  if config.experiment not in _EXPERIMENTS:
    raise app.UsageError(
      f'config.experiment must be one of {", ".join(_EXPERIMENTS)}, got '
      f'{config.experiment!r}.'
    )
  experiment = importlib.import_module(
    f'listcoupling.experiments.{config.experiment}'
  )
  rows = experiment.run(config, _WORKDIR.value, _SEED.value)
  print(experiment.as_text(rows))
  print(f'results.csv, results.json and plots are in {_WORKDIR.value}')


if __name__ == '__main__':
  command.run(main)
