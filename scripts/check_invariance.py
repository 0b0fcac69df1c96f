"""Same seed, same text: counts the tokens that drafts change.

  python scripts/check_invariance.py --batch 40 --max_new_tokens 256
  python scripts/check_invariance.py --forward_nodes 17 --dtype bfloat16
  python scripts/check_invariance.py --mesh data=8 --mesh tp=4

Changes drafters, shapes, batches and caches; with --mesh, which may be
repeated, the devices that share the work instead. A CPU then counts as eight.
With --forward_nodes the number of rows stays, and no token may differ. The pair
is the one that ships, or --target and --drafter.
"""

import listcoupling.early_exits  # noqa: F401

import jax
import numpy as np
from absl import flags

import listcoupling as lc
from listcoupling import command, command_flags, tables, workdirs
from listcoupling.decoding import invariance, placement

_PROMPTS = ('def main(args):\n', 'class A:\n', 'import os\n', 'The with')
_WORKDIR = flags.DEFINE_string('workdir', 'runs/invariance', 'For the table.')
_BATCH = flags.DEFINE_integer('batch', 40, 'Rows.', lower_bound=2)
_MAX_NEW = flags.DEFINE_integer(
  'max_new_tokens', 256, 'Tokens per row.', lower_bound=1
)
_SEED = command.define_seed(0, 'Seed of the text.')
_METHODS = flags.DEFINE_list(
  'methods', None, 'Compared methods, if not the usual ones.'
)
_FORWARD_NODES = flags.DEFINE_integer(
  'forward_nodes',
  None,
  'Nodes of every forward of the target, at least 17.',
  lower_bound=17,
)
_MESHES = flags.DEFINE_multi_string('mesh', [], 'Such as data=2,tp=4.')
_models = command_flags.define_models()


def _count(target, drafters, meshes):
  """Rows of every method and change, on prompts that are repeated."""
  if len(drafters) != 1:
    raise ValueError(f'--drafter must name one drafter, got {len(drafters)}.')
  prompts, lengths = lc.encode_prompts(target.tokenizer, _PROMPTS)
  return invariance.count_changes(
    lc.gumbel.seed_key(_SEED.value),
    target,
    *drafters,
    np.resize(prompts, (_BATCH.value, prompts.shape[1])),
    np.resize(lengths, _BATCH.value),
    lc.GenerateOptions(
      max_new_tokens=_MAX_NEW.value,
      forward_nodes=_FORWARD_NODES.value,
      stop_tokens=(),
    ),
    methods=_METHODS.value,
    meshes=meshes,
    progress=True,
  )


def main(_):
  """One table; fails where rounding does not explain what differs."""
  if _MESHES.value:
    jax.config.update('jax_num_cpu_devices', 8)
  meshes = {text: placement.parse_mesh(text) for text in _MESHES.value}
  rows = _count(*_models(), meshes)
  tables.write_csv(workdirs.as_folder(_WORKDIR.value) / 'results.csv', rows)
  print(tables.as_text(rows))
  judged = [row['explained'] for row in rows if 'explained' in row]
  wrong = judged.count(False)
  print(f'Changes that rounding does not explain: {wrong} of {len(judged)}')
  return int(wrong > 0)


if __name__ == '__main__':
  command.run(main)
