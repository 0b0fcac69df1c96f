"""How much side information matters: the image table for several kinds of it.

Every entry of `config.sides` is a kind of `data.side_information`, its size and
its noise; each has a table of its own, in a folder of its own, on the same
images, codewords and keys.
"""

import pathlib

import ml_collections

from listcoupling import files, tables
from listcoupling.experiments import run as runs
from listcoupling.experiments.images import figures, rows, table

COLUMNS = (tables.Column('side', 'side'), *rows.COLUMNS)


def _name(kind: str, shape, noise: float) -> str:
  """Of a row and of a folder.

  Example:
    >>> _name('noisy', (28, 14), 0.3), _name('none', (1, 1), 0)
    ('noisy_28x14_0.3', 'none')
  """
  if kind == 'none':
    return kind
  return f'{kind}_{shape[0]}x{shape[1]}' + (f'_{noise:g}' if noise else '')


def _point(config, kind: str, shape, noise: float):
  """The config of one table."""
  point = ml_collections.ConfigDict(config.to_dict())
  del point.sides
  colours = tuple(config.train.model.source_shape)[2:]
  point.train.update(side_kind=kind, side_noise=float(noise))
  point.train.model.side_shape = (*shape, *colours)
  return point


def _points(config) -> dict:
  """Name -> config of its table, all checked.

  Raises:
    ValueError: for entries of `config.sides` that make no sense.
  """
  found = {}
  for entry in config.sides:
    try:
      kind, (height, width), noise = entry
    except (TypeError, ValueError):
      raise ValueError(
        f'config.sides must hold (kind, (height, width), noise), got {entry!r}.'
      ) from None
    point = _point(config, kind, (height, width), noise)
    table.check_config(point)
    found[_name(kind, (height, width), noise)] = point
  if not found:
    raise ValueError('config.sides must not be empty.')
  return found


def sweep(config, workdir, seed: int = 0) -> list[dict]:
  """Evaluates the codec for each kind of side information.

  Args:
    config: see configs/vae_mnist_sweep.py.
    workdir: folder of the tables, of results.csv, results.json and a sweep.png
      for each number of decoders. What is finished is not repeated.
    seed: as for `table.evaluate`.

  Returns:
    The rows of all tables, "side" their first column.

  Raises:
    ValueError: as `table.evaluate`, or for bad `config.sides`.
    FileNotFoundError: if the images are missing.
  """
  found, workdir = [], pathlib.Path(workdir)
  for name, point in _points(config).items():
    made = table.evaluate(point, workdir / name, seed)
    found += [{'side': name, **row} for row in made]
    tables.write_csv(workdir / 'results.csv', found)  # so far
  files.write_json(
    workdir / 'results.json',
    files.plain(
      {
        'settings': {'seed': seed, 'config': config.to_dict()},
        'environment': runs.environment(),
        'table': found,
      }
    ),
  )
  for count in config.num_decoders:
    mine = [r for r in found if r['num_decoders'] == count]
    figures.sweep(mine, workdir / f'sweep_{count}.png')
  return found
