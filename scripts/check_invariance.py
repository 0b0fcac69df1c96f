"""Same seed, same text: counts identical tokens on the shipped pair.

python scripts/check_invariance.py --batch 40 --max_new_tokens 256
"""

import listcoupling.early_interrupts  # noqa: F401

import pathlib

import numpy as np
from absl import flags

import listcoupling as lc
from listcoupling import command, gumbel, tables
from listcoupling.experiments.language import consistency
from listcoupling.models import pretrained

_WORKDIR = flags.DEFINE_string('workdir', 'runs/invariance', 'For the table.')
_BATCH = flags.DEFINE_integer('batch', 40, 'Rows.', lower_bound=2)
_MAX_NEW = flags.DEFINE_integer(
  'max_new_tokens', 256, 'Tokens per row.', lower_bound=1
)
_SEED = command.define_seed(0, 'Seed of the text.')
_METHODS = flags.DEFINE_list(
  'methods',
  ['gumbel_tree', 'gumbel_chains', 'gls_strong', 'gls', 'specinfer'],
  'Compared methods.',
)
_PROMPTS = ('def main(args):\n', 'class A:\n', 'import os\n', 'The with')


def main(_):
  """One table."""
  target, drafter = pretrained.shipped_pair()
  prompts, lengths = lc.encode_prompts(target.tokenizer, _PROMPTS)
  rows = consistency.count_changes(
    gumbel.seed_key(_SEED.value),
    target,
    drafter,
    np.resize(prompts, (_BATCH.value, prompts.shape[1])),
    np.resize(lengths, _BATCH.value),
    lc.GenerateOptions(max_new_tokens=_MAX_NEW.value),
    methods=_METHODS.value,
  )
  tables.write_csv(pathlib.Path(_WORKDIR.value) / 'results.csv', rows)
  print(tables.as_text(rows))
  limit = consistency.EPSILON
  diverged = [row for row in rows if row['largest_margin'] > limit]
  print(f'Divergences beyond rounding ({limit}): {len(diverged)}')
  if diverged:
    raise SystemExit(1)


if __name__ == '__main__':
  command.run(main)
