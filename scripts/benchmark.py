"""Speed and memory, as ratios within one run.

  python scripts/benchmark.py sampler     a GLS draw against its random bits
  python scripts/benchmark.py decoding    every method, K = 1..8, batch 1..32
  python scripts/benchmark.py overhead    a block against its model calls
  python scripts/benchmark.py memory      compiled memory at 2048 tokens
  python scripts/benchmark.py peers       against transformers, see --peer_sizes

Tables go to WORKDIR/<what>.csv as well.
"""

import pathlib

import jax
from absl import app, flags

from listcoupling.experiments import benchmark, decoding, peers, results
from listcoupling.models import pretrained, transformer

_WORKDIR = flags.DEFINE_string('workdir', 'runs/benchmark', 'For the tables.')
_SIZE = flags.DEFINE_enum(
  'size', 'shipped', ['shipped', '25M'], 'Shipped pair, or random parameters.'
)
_PEER_SIZES = flags.DEFINE_list(
  'peer_sizes', list(peers.SIZES), 'Checkpoints of peers; or shipped.'
)

_PROMPTS = (
  'def main(args):\n    ',
  'The with statement is used to',
  'class Parser(object):\n',
  'import os\nimport sys\n',
)


def _pair():
  """The shipped pair, or a random target of 25 million parameters."""
  target, drafter = pretrained.shipped_pair()
  if _SIZE.value == 'shipped':
    return target, drafter
  config = peers.SIZES['25M']
  params = transformer.init_params(jax.random.key(0), config)
  model = transformer.make_language_model(config, params, target.tokenizer)
  return model, drafter


def main(argv):
  """One table by name."""
  if len(argv) != 2:
    raise app.UsageError(f'Name one table, got {argv[1:]}.')
  if argv[1] == 'sampler':
    rows = benchmark.sampler_table()
  elif argv[1] == 'peers':
    rows = peers.tables(_PEER_SIZES.value, _WORKDIR.value)
  else:
    target, drafter = _pair()
    prompts, lengths = decoding.encode_prompts(target.tokenizer, _PROMPTS)
    tables = dict(
      decoding=lambda: benchmark.decoding_table(
        target, drafter, prompts, lengths
      ),
      overhead=lambda: benchmark.overhead_table(
        target, drafter, prompts[:1], lengths[:1]
      ),
      memory=lambda: benchmark.memory_table(target, drafter),
    )
    if argv[1] not in tables:
      raise app.UsageError(f'{argv[1]!r}: sampler, peers, {", ".join(tables)}.')
    rows = tables[argv[1]]()
  folder = pathlib.Path(_WORKDIR.value)
  results.write_csv(folder / f'{argv[1]}.csv', rows)
  results.write_json(folder / 'environment.json', results.environment())
  print(benchmark.format_rows(rows))


if __name__ == '__main__':
  app.run(main)
