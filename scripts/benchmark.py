"""Speed and memory, as ratios within one run.

  python scripts/benchmark.py sampler     a GLS draw against its random bits
  python scripts/benchmark.py decoding    every method, K = 1..8, batch 1..32
  python scripts/benchmark.py overhead    a block against its model calls
  python scripts/benchmark.py memory      compiled memory at 2048 tokens
  python scripts/benchmark.py peers       against transformers, see --peer_sizes

Tables go to WORKDIR/<what>.csv as well, row by row.
"""

import pathlib

from absl import flags

import listcoupling as lc
from listcoupling.experiments import (
  benchmark,
  benchmark_loop,
  command,
  peers,
  results,
)

_WORKDIR = flags.DEFINE_string('workdir', 'runs/benchmark', 'For the tables.')
_SIZE = flags.DEFINE_enum(
  'size', 'shipped', ['shipped', '25M'], 'Shipped pair, or random parameters.'
)
_PEER_SIZES = flags.DEFINE_list(
  'peer_sizes', list(peers.SIZES), 'Checkpoints of peers; or shipped.'
)

_TABLES = ('sampler', 'decoding', 'overhead', 'memory', 'peers')
_PROMPTS = (
  'def main(args):\n    ',
  'The with statement is used to',
  'class Parser(object):\n',
  'import os\nimport sys\n',
)


def _cases(what):
  """The rows of a table that needs models."""
  target, drafter = benchmark.load_pair(_SIZE.value)
  if what == 'memory':
    return benchmark_loop.memory_cases(target, drafter)
  prompts, lengths = lc.encode_prompts(target.tokenizer, _PROMPTS)
  if what == 'overhead':
    return benchmark_loop.overhead_cases(
      target, drafter, prompts[:1], lengths[:1]
    )
  return benchmark.decoding_cases(target, drafter, prompts, lengths)


def main(argv):
  """One table by name."""
  what, folder = argv[1], pathlib.Path(_WORKDIR.value)
  path = folder / f'{what}.csv'
  if what == 'sampler':
    rows = benchmark.sampler_table()
    results.write_csv(path, rows)
  elif what == 'peers':
    rows = peers.tables(_PEER_SIZES.value, folder)
  else:
    rows = benchmark.run(_cases(what), path)
  results.write_json(folder / 'environment.json', results.environment())
  print(benchmark.format_rows(rows))


if __name__ == '__main__':
  command.run(main, choices=_TABLES)
