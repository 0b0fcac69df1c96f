"""Acceptance against the number of drafts on toy laws, see configs/toy.py."""

import listcoupling.early_exits  # noqa: F401

from listcoupling import command
from listcoupling.experiments import toy

if __name__ == '__main__':
  command.run_table(
    lambda config: toy.run,
    config='configs/toy.py',
    workdir='runs/toy',
    seed='Of the laws and of all noise.',
  )
