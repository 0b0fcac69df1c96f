"""Rows of the image table, and the figures of the paper beside them.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, Tables 13 to 16: MNIST and
CIFAR-10, squared error per pixel of the best of K decoders.
"""

import numpy as np

from listcoupling.compression import list_quantiser
from listcoupling.experiments import results

# arXiv 2506.05632: L -> K -> MSE of the best decoder.
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


def _mean(values, name) -> dict:
  """Mean over images and its standard error, as columns."""
  values = np.asarray(values, np.float64)
  error = values.std(ddof=1) / np.sqrt(values.size)
  return {name: float(values.mean()), f'{name}_se': float(error)}


def plain_rows(config, train, halves) -> list[dict]:
  """Rows without side information: the mean image and k-means.

  Args:
    config: of the experiment.
    train: [R, H, W] sources of the training images.
    halves: the test images.
  """
  flat = np.asarray(halves.right).reshape(len(halves.right), -1)
  train = np.asarray(train).reshape(len(train), -1)

  def row(scheme, num_messages, error):
    return {
      'scheme': scheme,
      'num_decoders': None,
      'num_messages': num_messages,
      'images': len(flat),
      'repeats': 1,
      **_mean(error, 'mse'),
    }

  rows = [row('mean_image', 1, ((flat - train.mean(0)) ** 2).mean(1))]
  for num_messages in config.num_messages:
    words = list_quantiser.fit_codewords(
      train[: config.refine.num_kmeans], num_messages
    )
    nearest = words[np.asarray(list_quantiser.nearest(flat, words))]
    rows.append(row('kmeans', num_messages, ((flat - nearest) ** 2).mean(1)))
  return rows


def _paper(config, scheme, num_decoders, num_messages):
  """The paper's figure, or None. `cells` and the list stand beside GLS."""
  table = _PAPER_CIFAR if config.train.dataset.startswith('cifar') else None
  if config.train.dataset.startswith('mnist'):
    table = _PAPER_MNIST
  if table is None or scheme == 'side_only':
    return None
  rows = table.get('shared_race' if scheme == 'shared_race' else 'gls', {})
  return rows.get(num_messages, {}).get(num_decoders)


def codec_rows(config, errors, chosen) -> list[dict]:
  """Rows of what was repeated; standard errors are over images."""
  rows = []
  for name, values in errors.items():
    scheme, num_decoders, num_messages = name.split('.')
    job = scheme, int(num_decoders), int(num_messages)
    best, every, missed, bound = values.mean(0)  # over repeats: [R] each
    beta, num_candidates = chosen.get(job, (None, None))
    row = dict(zip(('scheme', 'num_decoders', 'num_messages'), job))
    row |= {'images': len(best), 'repeats': len(values), **_mean(best, 'mse')}
    row |= {
      'paper_mse': _paper(config, *job),
      'mse_every_decoder': float(every.mean()),
      'error_rate': None if np.isnan(missed).any() else float(missed.mean()),
      'error_bound': None if np.isnan(bound).any() else float(bound.mean()),
      'beta': None if scheme == 'list_quantiser' else beta,
      'num_candidates': None if scheme == 'list_quantiser' else num_candidates,
    }
    rows.append(results.plain(row))
  return sorted(rows, key=lambda r: (r['num_decoders'], r['num_messages']))


def as_text(rows) -> str:
  """The table for a terminal."""
  lines = [
    f'{"scheme":14} {"K":>2} {"L":>3} {"MSE":>7} {"+-":>6} {"paper":>6} '
    f'{"P[error]":>8} {"bound":>7}'
  ]
  for row in rows:

    def show(name, width, digits=None, row=row):
      value = row.get(name)
      if value is not None and digits is not None:
        value = f'{value:.{digits}f}'
      return f'{"" if value is None else value:>{width}}'

    lines.append(
      f'{row["scheme"]:14} {show("num_decoders", 2)} {show("num_messages", 3)} '
      f'{show("mse", 7, 4)} {show("mse_se", 6, 4)} {show("paper_mse", 6, 4)} '
      f'{show("error_rate", 8, 3)} {show("error_bound", 7, 3)}'
    )
  return '\n'.join(lines)
