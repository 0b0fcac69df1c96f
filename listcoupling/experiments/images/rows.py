"""Rows of the image table, and the figures of the paper beside them.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, Tables 13 to 16: MNIST and
CIFAR-10, squared error per pixel of the best of K decoders.
"""

import math

import numpy as np

from listcoupling import tables
from listcoupling.compression import list_quantiser
from listcoupling.tables import Column

MEASURES = ('best', 'mean', 'worst', 'missed', 'bound at N candidates')
_JOB = 'scheme', 'num_decoders', 'num_messages', 'num_groups'
COLUMNS = (
  Column('scheme', 'scheme'),
  Column('K', 'num_decoders'),
  Column('L', 'num_messages'),
  Column('G', 'num_groups'),
  Column('M', 'bin_size'),
  Column('chosen', 'is_chosen'),
  Column('bits/pixel', 'bits_per_pixel', '.4f'),
  Column('PSNR', 'psnr', '.2f', error=False),
  Column('best', 'mse', '.4f'),
  Column('mean', 'mse_mean', '.4f'),
  Column('worst', 'mse_worst', '.4f'),
  Column('ahead', 'ahead', '+.4f'),
  Column('paper', 'paper_mse', '.4f'),
  Column('P[error]', 'error_rate', '.3f'),
  Column('bound', 'error_bound', '.3f'),
)

# L -> K -> MSE of the best decoder.
_PAPER_MNIST = {
  'gls': {
    4: {1: 0.1027, 2: 0.0860, 4: 0.0751},
    8: {1: 0.0942, 2: 0.0792, 4: 0.0710},
    16: {1: 0.0852, 2: 0.0734, 4: 0.0671},
    32: {1: 0.0766, 2: 0.0687, 4: 0.0635},
    64: {1: 0.0693, 2: 0.0636, 4: 0.0564},
  },
  'shared_race': {
    4: {2: 0.0941, 4: 0.0886},
    8: {2: 0.0865, 4: 0.0815},
    16: {2: 0.0783, 4: 0.0747},
    32: {2: 0.0718, 4: 0.0694},
    64: {2: 0.0669, 4: 0.0639},
  },
}
_PAPER_CIFAR = {
  'gls': {
    4: {1: 0.1119, 2: 0.0925},
    8: {1: 0.1054, 2: 0.0860},
    16: {1: 0.0963, 2: 0.0787},
    32: {1: 0.0846, 2: 0.0698},
    64: {1: 0.0710, 2: 0.0616},
  }
}


def _with_rate(row: dict, pixels: int) -> dict:
  """A row with its rate and the PSNR of its mean squared error, in dB.

  Args:
    row: has num_messages and mse.
    pixels: of a source; three colours are one pixel.
  """
  return row | {
    'bits_per_pixel': math.log2(row['num_messages']) / pixels,
    'psnr': -10 * math.log10(max(row['mse'], 1e-20)),
  }


def measure(error, found, error_bound) -> np.ndarray:
  """One repeat of one job, as kept on disk.

  Args:
    error: [R, K] squared error per pixel.
    found: [R, K] whether a decoder holds the encoder's choice, or NaN.
    error_bound: [R] on the chance that nobody does, or NaN.

  Returns:
    [5, R], see `MEASURES`.

  Example:
    >>> measure([[.4, .1]], [[0., 1.]], [.2])[:, 0].tolist()
    [0.1, 0.25, 0.4, 0.0, 0.2]
  """
  error, found = np.asarray(error), np.asarray(found, float)
  spread = error.min(1), error.mean(1), error.max(1)
  return np.stack([*spread, 1 - found.max(1), np.asarray(error_bound)])


def plain_rows(config, train, halves) -> list[dict]:
  """Rows without side information: the mean image and k-means.

  Args:
    config: of the experiment.
    train: [R, H, W] sources of the training images.
    halves: the test images.
  """
  flat = np.asarray(halves.right).reshape(len(halves.right), -1)
  train = np.asarray(train).reshape(len(train), -1)

  def row(scheme, num_messages, answers):
    found = {
      'scheme': scheme,
      'num_decoders': None,
      'num_messages': num_messages,
      'images': len(flat),
      'repeats': 1,
      **tables.means({'mse': ((flat - answers) ** 2).mean(1)}),
    }
    return _with_rate(found, math.prod(halves.right.shape[1:3]))

  rows = [row('mean_image', 1, train.mean(0))]
  for num_messages in config.num_messages:
    words = list_quantiser.fit_codewords(
      train[: config.refine.num_kmeans], num_messages
    )
    nearest = np.asarray(list_quantiser.nearest(flat, words))
    rows.append(row('kmeans', num_messages, words[nearest]))
  return rows


def paper_mse(dataset: str, scheme: str, num_decoders: int, num_messages: int):
  """The paper's figure, or None; all but its baseline stand beside GLS."""
  table = {'mnist': _PAPER_MNIST, 'cifar': _PAPER_CIFAR}.get(dataset[:5], {})
  if scheme == 'side_only':
    return None
  rows = table.get('shared_race' if scheme == 'shared_race' else 'gls', {})
  return rows.get(num_messages, {}).get(num_decoders)


def codec_rows(config, measured, chosen) -> list[dict]:
  """Rows of what was repeated; standard errors are over images.

  "ahead" is how much less the best decoder errs than that of the list quantiser
  of the same K and L with bins of one codeword, image by image.

  Args:
    config: of the experiment.
    measured: 'scheme.K.L.G.M' -> [repeats, 5, R] of `measure`.
    chosen: (scheme, K, L, G) -> (beta, N, M).
  """
  rows = []
  for name, values in measured.items():
    scheme, *numbers = name.split('.')
    *job, bin_size = scheme, *map(int, numbers)
    setting = chosen.get(tuple(job), (None, None, None))
    row = dict(zip(_JOB, job))
    row |= {'images': values.shape[2], 'repeats': len(values)}
    row |= _measures(values)
    plain = measured.get(f'list_quantiser.{job[1]}.{job[2]}.1.1')
    if plain is not None and plain is not values:
      ahead = plain[:, 0].mean(0) - values[:, 0].mean(0)
      row |= tables.means({'ahead': ahead})
    if job[3] == 1 and _is_papers(config.train):
      row['paper_mse'] = paper_mse(config.train.dataset, *job[:3])
    row |= dict(zip(('beta', 'num_candidates'), setting))
    if scheme in ('list_quantiser', 'lattice'):
      row['num_candidates'] = None
    if scheme == 'list_quantiser':
      row['bin_size'] = bin_size
      row['is_chosen'] = bin_size == setting[2]
    height, width = config.train.model.source_shape[:2]
    rows.append(_with_rate(row, height * width))
  order = ('num_decoders', 'num_messages', 'num_groups')
  return sorted(rows, key=lambda r: [r[name] for name in order])


def as_text(rows, columns=COLUMNS) -> str:
  """The table for a terminal, and where a scheme loses to the list quantiser.

  Args:
    rows: of `codec_rows` and `plain_rows`, of any number of tables.
    columns: what is shown.
  """
  return '\n'.join([tables.as_text(rows, columns), *_behind(rows)])


def _against_plain(row) -> str | None:
  """Ahead of the list quantiser without bins, behind or level; None: no cell.

  By two standard errors of the best decoder. A list quantiser counts with the
  size of a bin that was chosen on other images; M = 1 is level with itself.
  """
  gap, error = row.get('ahead'), row.get('ahead_se') or 0.0
  if row.get('is_chosen') and gap is None:
    return 'level'
  if gap is None or row.get('is_chosen') is False:
    return None
  return (
    'ahead' if gap > 2 * error else 'behind' if gap < -2 * error else 'level'
  )


def _behind(rows) -> list[str]:
  """For each scheme in how many cells it is ahead, and where behind."""
  found = {}
  for row in rows:
    if kind := _against_plain(row):
      found.setdefault(row['scheme'], []).append((kind, row))
  lines = []
  for scheme, cells in found.items():
    said = ', '.join(
      f'{name} in {sum(kind == name for kind, _ in cells)}'
      for name in ('ahead', 'level', 'behind')
    )
    lost = ', '.join(
      ' '.join(f'{row[name]}' for name in ('side', *_JOB[1:]) if name in row)
      + f' ({row["ahead"]:+.4f})'
      for kind, row in cells
      if kind == 'behind'
    )
    lines.append(
      f'{scheme} against the list quantiser without bins, {len(cells)} cells: '
      f'{said}' + (f'; behind at (K L G) {lost}' if lost else '')
    )
  return lines


def _is_papers(train) -> bool:
  """Whether a decoder knows what it knows in the paper."""
  return train.side_kind == 'crop' and tuple(train.model.side_shape) in (
    (7, 7), (16, 16, 3),
  )  # fmt: skip


def _measures(values) -> dict:
  """Columns of [repeats, 5, R], the repeats of one image averaged first."""
  best, mean, worst, missed, bound = values.mean(0)  # [R] each
  return {
    **tables.means({'mse': best, 'mse_mean': mean, 'mse_worst': worst}),
    'error_rate': None if np.isnan(missed).any() else float(missed.mean()),
    'error_bound': None if np.isnan(bound).any() else float(bound.mean()),
  }
