"""Compiles a 7B + .5B pair for TPU v5p and H100 without a chip.

  python scripts/aot.py                          all cases, 2 minutes of CPU
  python scripts/aot.py --only prefill           cases whose name has a word
  python scripts/aot.py --methods all            blocks on 4 TPUs, every method
  python scripts/aot.py --methods traversal,gls --program span   two in a queue
  python scripts/aot.py --target_layers 28 --drafter_layers 24   full depth

Prints temporaries, all memory, bytes by kind of collective, serial loops and
sorts of vocabulary length, and fails if one is above its ceiling. Needs
`pip install listcoupling[aot]`.
"""

import listcoupling.early_exits  # noqa: F401

import pathlib

from absl import flags

from listcoupling import command, files
from listcoupling.experiments.benchmarks import aot

_WORKDIR = flags.DEFINE_string('workdir', None, 'For figures and programs.')
_ONLY = flags.DEFINE_string('only', '', 'A word in the names of the cases.')
_METHODS = flags.DEFINE_list(
  'methods', [], 'Instead of the cases, their blocks on 4 TPUs; or all.'
)
_PROGRAM = flags.DEFINE_enum(
  'program', 'run', ['run', 'span'], 'Of methods: all blocks, or a few at once.'
)
_TARGET = flags.DEFINE_integer('target_layers', 2, 'Layers of the target.')
_DRAFTER = flags.DEFINE_integer('drafter_layers', 2, 'Layers of the drafter.')


def main(argv):
  """Compiles the cases; the exit status says whether all hold."""
  del argv
  cases = aot.choose(_ONLY.value, _METHODS.value, _PROGRAM.value)
  aot.prepare()
  broken, rows = [], []
  for case in cases:
    figures, text = aot.measure(case, (_TARGET.value, _DRAFTER.value))
    print(aot.as_text(case, figures), flush=True)
    broken += aot.over(case, figures)
    rows.append({'case': case.name} | figures)
    if _WORKDIR.value:
      folder = pathlib.Path(_WORKDIR.value)
      files.write_json(folder / 'figures.json', rows)
      name = case.name.replace(' ', '_') + '.hlo'
      with files.replacing(folder / name) as new:
        new.write_text(text, encoding='utf-8')
  print('\n'.join(f'ABOVE {line}' for line in broken) or 'All ceilings hold.')
  return bool(broken)


if __name__ == '__main__':
  command.run(main)
