"""Speed and memory, as ratios within one run.

  python scripts/benchmark.py sampler     races against random bits and a copy
  python scripts/benchmark.py vocabulary  filters and schemes at V = 151,936
  python scripts/benchmark.py decoding    every method, K = 1..8, batch 1..32
  python scripts/benchmark.py overhead    a block against its model calls
  python scripts/benchmark.py capacity    short texts in rows of 8192 tokens
  python scripts/benchmark.py tune        tune's choice against a wider grid
  python scripts/benchmark.py memory      compiled memory at 2048 tokens
  python scripts/benchmark.py serving     a queue against fixed batches
  python scripts/benchmark.py scaling     programs for 1 to 8 host devices
  python scripts/benchmark.py costs       large pairs on large machines, paper
  python scripts/benchmark.py baselines   against transformers, see --sizes

Each table has a folder of WORKDIR, written row by row. What is measured there
is not measured again; another workdir is for another time.
"""

import listcoupling.early_interrupts  # noqa: F401

import pathlib

from absl import flags

from listcoupling import command, tables
from listcoupling.experiments.benchmarks import baselines, speed

_WORKDIR = flags.DEFINE_string('workdir', 'runs/benchmark', 'For the tables.')
_SEED = command.define_seed(0, 'Of all draws but those of baselines.')
_SIZE = flags.DEFINE_enum(
  'size', 'shipped', speed.SIZES, 'Shipped pair, or a random one of 25M + 4M.'
)
_SIZES = flags.DEFINE_list(
  'sizes', list(baselines.SIZES), 'Checkpoints of baselines; or shipped.'
)


def main(argv):
  """One table by name."""
  table, workdir = argv[1], pathlib.Path(_WORKDIR.value)
  if table == 'baselines':
    rows = baselines.run(_SIZES.value, workdir / table)
  else:
    rows = speed.run(table, workdir, size=_SIZE.value, seed=_SEED.value)
  print(tables.as_text(rows))
  print(f'results.csv and results.json are in {workdir / table}')


if __name__ == '__main__':
  command.run(main, choices=(*speed.TABLES, 'baselines'))
