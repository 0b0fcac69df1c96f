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
from absl import flags

from listcoupling import command, files, tables
from listcoupling.decoding import placement
from listcoupling.decoding.methods import METHODS
from listcoupling.experiments.language import invariance

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
  'dtype', 'float32', list(invariance.EPSILON), 'Of the shipped pair.'
)
_MESHES = flags.DEFINE_multi_string('mesh', [], 'Such as data=2,tp=4.')


def main(_):
  """One table; fails where rounding does not explain what differs."""
  if _MESHES.value:
    if _METHODS.value:
      raise ValueError(
        f'--methods={",".join(_METHODS.value)} is for drafters, got with '
        '--mesh, which compares autoregressive and gumbel_tree; leave one out.'
      )
    jax.config.update('jax_num_cpu_devices', 8)
  nodes = _FORWARD_NODES.value
  arguments = invariance.shipped_arguments(
    _SEED.value,
    _BATCH.value,
    _DTYPE.value,
    max_new_tokens=_MAX_NEW.value,
    forward_nodes=nodes,
  )
  meshes = {text: placement.parse_mesh(text) for text in _MESHES.value}
  rows = invariance.count_changes(
    *arguments, methods=_METHODS.value, meshes=meshes
  )
  tables.write_csv(files.as_folder(_WORKDIR.value) / 'results.csv', rows)
  print(tables.as_text(rows))
  exact = nodes is not None and not meshes
  wrong = invariance.unexplained(rows, None if exact else _DTYPE.value)
  judged = sum(METHODS[row['method']].canonical for row in rows)
  print(f'Changes that rounding does not explain: {wrong} of {judged}')
  return int(wrong > 0)


if __name__ == '__main__':
  command.run(main)
