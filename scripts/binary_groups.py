"""Groups of decoders of a binary source, see configs/binary_groups.py."""

import listcoupling.early_exits  # noqa: F401

from listcoupling import command
from listcoupling.experiments import codes

if __name__ == '__main__':
  command.run_table(
    lambda config: codes.run_binary_groups,
    config='configs/binary_groups.py',
    workdir='runs/binary_groups',
    seed='Nothing is drawn: has no effect.',
  )
