"""Rows of peers.csv: their ratios, and which may stand beside each other.

Speeds of two machines or of two versions say nothing side by side, so every
row is stamped with what it ran on.
"""

import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from listcoupling.experiments import peer_library, results


def check_backend() -> None:
  """Raises ValueError unless JAX runs on the CPU, as torch does here."""
  backend = jax.default_backend()
  if backend != 'cpu':
    raise ValueError(
      f'transformers runs on the CPU here, JAX on {backend!r}: no figure would '
      'be fair; set JAX_PLATFORMS=cpu.'
    )


def stamp() -> str:
  """Versions, number of CPUs and device of this run, as one cell."""
  versions = {'jax': jax.__version__} | peer_library.versions()
  parts = [f'{name} {version}' for name, version in versions.items()]
  device = jax.devices()[0].device_kind
  parts.append(f'{os.cpu_count()} x {platform.machine()} {device}')
  return '; '.join(parts)


def kept(path: pathlib.Path, size: str, own: str) -> list[dict]:
  """Rows of other sizes in a table, if they ran on the same.

  Args:
    path: of peers.csv, which need not exist.
    size: whose rows are about to be replaced.
    own: stamp of this run; rows with another, or none, are dropped, and a
      log line says how many.

  Returns:
    The rows.
  """
  old = results.read_csv(path) if path.exists() else []
  others = [row for row in old if row['size'] != size]
  same = [row for row in others if row.get('stamp') == own]
  if len(same) < len(others):
    logging.warning(
      'dropped %d rows of %s that ran on another machine or other versions '
      'than this (%s)',
      len(others) - len(same),
      path,
      own,
    )
  return same


def summary(figures: Mapping[NamedTuple, Sequence], about: dict) -> list[dict]:
  """Medians, and ratios to the fastest setting of transformers."""
  rates = {s: [run.rate for run in runs] for s, runs in figures.items()}
  median = {setting: float(np.median(rate)) for setting, rate in rates.items()}

  def best(batch, start):
    peers = [
      rate
      for s, rate in median.items()
      if s.library == 'transformers'
      and s.batch == batch
      and s.method.startswith(start)
    ]
    return max(peers, default=None)

  rows = []
  for setting, runs in figures.items():
    row = about | setting._asdict()
    row['tokens_per_second'] = median[setting]
    row['slowest'], row['fastest'] = min(rates[setting]), max(rates[setting])
    row['decode_tokens_per_second'] = float(
      np.median([run.decode_rate for run in runs])
    )
    row['block_efficiency'] = float(
      np.mean([run.block_efficiency for run in runs])
    )
    row['to_sampling'] = median[setting] / best(setting.batch, 'sampling')
    assisted = best(setting.batch, 'assisted')
    row['to_assisted'] = assisted and median[setting] / assisted
    rows.append(row)
  return rows
