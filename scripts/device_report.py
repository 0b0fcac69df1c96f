"""Everything that needs a real accelerator, in one command of 8 minutes.

  python scripts/device_report.py --workdir runs/device
  python scripts/device_report.py --toy          the same in small, on any CPU
  python scripts/device_report.py --only sampler,blocks

Prints a line per figure and keeps all in WORKDIR/device_report.json, row by
row: a run that is cut short still tells what it had measured.
"""

import listcoupling.early_exits  # noqa: F401

import pathlib

from absl import flags

from listcoupling import command
from listcoupling.experiments.benchmarks import device_report

_WORKDIR = flags.DEFINE_string('workdir', 'runs/device', 'For the report.')
_TOY = flags.DEFINE_bool('toy', False, 'Small sizes.')
_SECONDS = flags.DEFINE_float('seconds', 450, 'No figure is begun after them.')
_ONLY = flags.DEFINE_list('only', list(device_report.SECTIONS), 'Sections.')


def main(argv):
  """Measures and prints; the exit status says whether a section failed."""
  del argv
  unknown = set(_ONLY.value) - set(device_report.SECTIONS)
  if unknown:
    raise ValueError(
      f'--only names {", ".join(sorted(unknown))}; sections are '
      f'{", ".join(device_report.SECTIONS)}.'
    )
  sizes = device_report.TOY if _TOY.value else device_report.FULL
  path = pathlib.Path(_WORKDIR.value) / 'device_report.json'
  failed = False
  for name, row in device_report.run(
    sizes, path, seconds=_SECONDS.value, only=_ONLY.value
  ):
    failed |= 'error' in row
    print(device_report.as_text(name, row), flush=True)
  return failed


if __name__ == '__main__':
  command.run(main)
