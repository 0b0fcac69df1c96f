"""Couplings of next-token laws along real text, see configs/next_token.py."""

import listcoupling.early_exits  # noqa: F401

from listcoupling import command
from listcoupling.experiments import next_token

if __name__ == '__main__':
  command.run_table(
    lambda config: next_token.run,
    config='configs/next_token.py',
    workdir='runs/next_token',
    seed='Of the positions and of all noise.',
  )
