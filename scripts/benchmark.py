"""Speed, as ratios within one run.

  python scripts/benchmark.py sampler     races against random bits and a copy
  python scripts/benchmark.py vocabulary  filters and schemes at V = 151,936
  python scripts/benchmark.py decoding    every method, K = 1..8, batch 1..32
  python scripts/benchmark.py overhead    a block against its model calls
  python scripts/benchmark.py capacity    short texts in rows of 8192 tokens
  python scripts/benchmark.py tune        tune's choice against a wider grid
  python scripts/benchmark.py serving     a queue against fixed batches
  python scripts/benchmark.py scaling     programs for 1 to 8 host devices
  python scripts/benchmark.py costs       large pairs on large machines, paper
  python scripts/benchmark.py baselines   against transformers, see --sizes

Each table has a folder of WORKDIR, written row by row. What is measured there
is not measured again; another workdir is for another time.
"""

import listcoupling.early_exits  # noqa: F401

import pathlib

import jax
from absl import flags

from listcoupling import command, gumbel, tables
from listcoupling.experiments.benchmarks import baselines, cost, speed

_OF_PAIRS = {
  'decoding': speed.decoding,
  'overhead': speed.overhead,
  'capacity': speed.capacity,
  'serving': speed.serving,
  'tune': speed.tune,
}
_ALONE = {
  'sampler': speed.sampler,
  'vocabulary': speed.vocabulary,
  'scaling': cost.scaling,
  'costs': lambda key: cost.paper(),
}
_WORKDIR = flags.DEFINE_string('workdir', 'runs/benchmark', 'For the tables.')
_SEED = command.define_seed(0, 'Of all draws but those of baselines.')
_SIZE = flags.DEFINE_enum(
  'size', 'shipped', ['shipped', '25M'], 'Or a random pair of 25M + 4M.'
)
_SIZES = flags.DEFINE_list('sizes', list(speed.SIZES), 'Pairs of baselines.')


def _table(name):
  key = gumbel.seed_key(_SEED.value)
  if name in _ALONE:
    return _ALONE[name](key)
  return _OF_PAIRS[name](speed.load_workload(key, _SIZE.value))


def main(argv):
  """One table by name."""
  table, workdir = argv[1], pathlib.Path(_WORKDIR.value) / argv[1]
  if table == 'scaling':
    jax.config.update('jax_num_cpu_devices', max(cost.COUNTS))
  if table == 'baselines':
    made, settings = baselines.table(_SIZES.value), baselines.versions()
    rows = speed.run(lambda: made, workdir, settings)
  else:
    settings = {'table': table, 'size': _SIZE.value, 'seed': _SEED.value}
    rows = speed.run(lambda: _table(table), workdir, settings)
  # The case, by which a run goes on, is the setting in words.
  shown = [{x: y for x, y in row.items() if x != 'case'} for row in rows]
  print(tables.as_text(shown))
  print(f'results.csv and results.json are in {workdir}')


if __name__ == '__main__':
  command.run(main, choices=(*_ALONE, *_OF_PAIRS, 'baselines'))
