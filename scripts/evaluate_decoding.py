"""The language tables of arXiv 2506.05632, one command each.

  python scripts/evaluate_decoding.py --config configs/decoding_iid.py \\
    --workdir runs/decoding_iid

Tables 1, 3, 5, 6: configs/decoding_iid.py; 2 and 4: decoding_diverse.py; 7 and
8, with the acceptance that theory expects: decoding_matching.py; 9:
decoding_consistency.py. Not of the paper: all methods at equal numbers of
target nodes, decoding_budget.py; pairs of tables at a known distance,
table_pairs.py.
A pair of models is named after a colon (decoding_iid.py:llama3) or given by
directory (--config.target DIR --config.drafter DIR). With --mesh data=2,tp=4
devices share the models and every batch. A run that was stopped resumes when
the command is repeated.
"""

import listcoupling.early_exits  # noqa: F401

from absl import flags

from listcoupling import command, command_flags
from listcoupling.experiments.language import (
  block_efficiency,
  budget,
  consistency,
  matching,
  table_pairs,
)

_PROMPTS = flags.DEFINE_string(
  'prompts',
  '',
  'Folder of the data sets (instead of LISTCOUPLING_DATA), or the file of one.',
)
_MESH = command_flags.define_mesh()
_TABLES = {
  'block_efficiency': block_efficiency.run,
  'budget': budget.run,
  'matching': matching.run,
  'consistency': consistency.run,
  'table_pairs': table_pairs.run,
}


def _choose(config):
  name = config.get('experiment')
  if name not in _TABLES:
    raise ValueError(
      f'config.experiment must be one of {", ".join(_TABLES)}, got {name!r}; '
      'is the config for another script?'
    )
  if _PROMPTS.value:
    config.prompts = _PROMPTS.value
  return _TABLES[name]


if __name__ == '__main__':
  command.run_table(
    _choose,
    config='configs/decoding_iid.py',
    workdir=None,
    seed='The first of config.seeds.',
    mesh=_MESH,
  )
