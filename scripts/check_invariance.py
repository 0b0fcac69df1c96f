"""Same seed, same text: counts identical tokens on the shipped pair.

  python scripts/check_invariance.py --batch 40 --max_new_tokens 256
  python scripts/check_invariance.py --forward_nodes 17 --dtype bfloat16
  python scripts/check_invariance.py --mesh data=8 --mesh tp=4

Changes drafters, shapes, batches and caches; with --mesh, which may be
repeated, the devices that share the work instead. A CPU then counts as eight.
With --forward_nodes the number of rows stays, and no token may differ.
"""

import listcoupling.early_exits  # noqa: F401

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
  None,
  'Compared methods; by default the canonical ones and, without '
  '--forward_nodes, three others.',
)
_FORWARD_NODES = flags.DEFINE_integer(
  'forward_nodes',
  None,
  'Nodes of every forward of the target, at least 17.',
  lower_bound=1,
)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', list(consistency.EPSILON), 'Of the shipped pair.'
)
_MESHES = flags.DEFINE_multi_string('mesh', [], 'Such as data=2,tp=4.')
_PROMPTS = ('def main(args):\n', 'class A:\n', 'import os\n', 'The with')


def main(_):
  """One table."""
  if _MESHES.value:
    if _METHODS.value:
      raise ValueError(
        f'--methods={",".join(_METHODS.value)} is for drafters, got with '
        '--mesh, which compares autoregressive and gumbel_tree; leave one out.'
      )
    jax.config.update('jax_num_cpu_devices', 8)
  workdir = files.as_folder(_WORKDIR.value)
  rows = _count()
  tables.write_csv(workdir / 'results.csv', rows)
  print(tables.as_text(rows))
  if _FORWARD_NODES.value is not None and not _MESHES.value:
    canonical = [row for row in rows if row['method'] in consistency.CANONICAL]
    wrong = sum(row['diverging_rows'] > 0 for row in canonical)
    print(f'Changes after which a token differs: {wrong} of {len(canonical)}')
  else:
    limit = consistency.EPSILON[_DTYPE.value]
    wrong = sum(row['largest_margin'] >= limit for row in rows)
    print(f'Divergences beyond rounding ({limit}): {wrong}')
  if wrong:
    raise SystemExit(1)


def _count():
  """The rows of the table."""
  target, drafter = (
    pretrained.load_pretrained(pretrained.SHIPPED / name, dtype=_DTYPE.value)
    for name in ('target', 'drafter')
  )
  prompts, lengths = lc.encode_prompts(target.tokenizer, _PROMPTS)
  arguments = (
    gumbel.seed_key(_SEED.value),
    target,
    drafter,
    np.resize(prompts, (_BATCH.value, prompts.shape[1])),
    np.resize(lengths, _BATCH.value),
    lc.GenerateOptions(
      max_new_tokens=_MAX_NEW.value,
      stop_tokens=(),
      forward_nodes=_FORWARD_NODES.value,
    ),
  )
  if _MESHES.value:
    meshes = {text: placement.parse_mesh(text) for text in _MESHES.value}
    return consistency.count_meshes(*arguments, meshes)
  exact = _FORWARD_NODES.value is not None
  methods = _METHODS.value or consistency.COMPARED[: 2 if exact else None]
  return consistency.count_changes(*arguments, methods=methods)


if __name__ == '__main__':
  command.run(main)
