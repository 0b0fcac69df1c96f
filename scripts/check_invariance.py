"""Same seed, same text: counts identical tokens on the shipped pair.

  python scripts/check_invariance.py --batch 40 --max_new_tokens 256
  python scripts/check_invariance.py --mesh data=8 --mesh tp=4

Changes drafters, shapes, batches and caches; with --mesh, which may be
repeated, the devices that share the work instead. A CPU then counts as eight.
"""

import listcoupling.early_interrupts  # noqa: F401

import jax
import numpy as np
from absl import flags

import listcoupling as lc
from listcoupling import command, files, gumbel, tables
from listcoupling.decoding import placement
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
_MESHES = flags.DEFINE_multi_string('mesh', [], 'Such as data=2,tp=4.')
_PROMPTS = ('def main(args):\n', 'class A:\n', 'import os\n', 'The with')


def main(_):
  """One table."""
  if _MESHES.value:
    if flags.FLAGS['methods'].present:
      raise ValueError(
        f'--methods={",".join(_METHODS.value)} is for drafters, got with '
        '--mesh, which compares autoregressive and gumbel_tree; leave one out.'
      )
    jax.config.update('jax_num_cpu_devices', 8)
  workdir = files.as_folder(_WORKDIR.value)
  target, drafter = pretrained.shipped_pair()
  prompts, lengths = lc.encode_prompts(target.tokenizer, _PROMPTS)
  arguments = (
    gumbel.seed_key(_SEED.value),
    target,
    drafter,
    np.resize(prompts, (_BATCH.value, prompts.shape[1])),
    np.resize(lengths, _BATCH.value),
    lc.GenerateOptions(max_new_tokens=_MAX_NEW.value, stop_tokens=()),
  )
  if _MESHES.value:
    meshes = {text: placement.parse_mesh(text) for text in _MESHES.value}
    rows = consistency.count_meshes(*arguments, meshes)
  else:
    rows = consistency.count_changes(*arguments, methods=_METHODS.value)
  tables.write_csv(workdir / 'results.csv', rows)
  print(tables.as_text(rows))
  limit = consistency.EPSILON
  diverged = [row for row in rows if row['largest_margin'] > limit]
  print(f'Divergences beyond rounding ({limit}): {len(diverged)}')
  if diverged:
    raise SystemExit(1)


if __name__ == '__main__':
  command.run(main)
