"""Everything that needs a real accelerator, in one command of 8 minutes.

  python scripts/device_report.py --workdir runs/device
  python scripts/device_report.py --only sampler,rates

Prints a table per section and keeps it in a folder of WORKDIR, row by row: a
run that is cut short has what it had measured, and goes on from there.
"""

import listcoupling.early_exits  # noqa: F401

from absl import flags

from listcoupling import command, tables
from listcoupling.experiments.benchmarks import device_report

_WORKDIR = flags.DEFINE_string('workdir', 'runs/device', 'For the tables.')
_SECONDS = flags.DEFINE_float('seconds', 450, 'No row is begun after them.')
_ONLY = flags.DEFINE_list('only', list(device_report.SECTIONS), 'Sections.')


def main(argv):
  """Measures and prints; the exit status says whether all is there."""
  del argv
  unknown = set(_ONLY.value) - set(device_report.SECTIONS)
  if unknown:
    raise ValueError(
      f'--only names {", ".join(sorted(unknown))}; sections are '
      f'{", ".join(device_report.SECTIONS)}.'
    )
  missing = False
  for name, rows, ended in device_report.run(
    _WORKDIR.value, seconds=_SECONDS.value, only=_ONLY.value
  ):
    missing |= bool(ended)
    print(f'{name} {ended}\n{tables.as_text(rows)}\n', flush=True)
  return missing


if __name__ == '__main__':
  command.run(main)
