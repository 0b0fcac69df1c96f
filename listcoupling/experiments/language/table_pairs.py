"""Draft trees on pairs of tables at a known distance.

Nothing is trained and nothing costs time: tokens per target call tell how good
the tree is. Beside it stand the same tree drafted greedily (draft temperature
0, which does not look at the noise) and rejection schemes in their best shape;
`traversal` of one chain is block verification.

Here alone the target's law given the drafter's is known, and so is the best
tree that anyone can draft for a text of canonical noise (`decoding.ceiling`).
Where this greedy policy is behind a rejection scheme, that is the price of a
text that no drafter may change. Errors are over pairs: two pairs at one
distance differ.

Legend: K drafts, V vocabulary.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from listcoupling import gumbel, standard_errors, tables
from listcoupling.config_fields import Field
from listcoupling.decoding import ceiling, placement
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment, Run
from listcoupling.gumbel import Domain
from listcoupling.models import table_pair
from listcoupling.tables import Column

_VOCAB = 200  # V
_REJECTION = 'specinfer', 'traversal'
_pair = functools.partial(table_pair.table_pair, vocab_size=_VOCAB)
_COUNTS = 'pairs', 'rows', 'max_new_tokens', 'num_nodes', 'beam', 'depth'
FIELDS = {
  'experiment': Field(str, among=('table_pairs',)),
  'sigmas': Field(float, least=0, many=True),
  'temperatures': Field(float, least=0, many=True),
  'num_drafts': Field(int, least=1, many=True, empty=True),
  'methods': Field(
    str,
    among=_REJECTION,
    many=True,
    empty=True,
    note='block is traversal with one chain, config.num_drafts=(1,)',
  ),  # fmt: skip
  **dict.fromkeys(_COUNTS, Field(int, least=1)),
}
COLUMNS = (
  Column('sigma', 'sigma', '.1f'),
  Column('T', 'temperature', '.1f'),
  Column('tree', 'tree', '.2f'),
  Column('greedy draft', 'greedy', '.2f'),
  Column('tree - greedy', 'tree_minus_greedy', '+.2f'),
  Column('best tree', 'best', '.2f'),
  Column('best - tree', 'best_minus_tree', '+.2f'),
  Column('SpecInfer', 'specinfer', '.2f'),
  Column('its K', 'specinfer_drafts'),
  Column('traversal', 'traversal', '.2f'),
  Column('its K', 'traversal_drafts'),
  Column('best - traversal', 'best_minus_traversal', '+.2f'),
  Column('1 - TV', 'overlap', '.3f'),
)


def tokens_per_call(
  key: jax.Array,
  sigma: float,
  options: Sequence[GenerateOptions],
  *,
  num_rows: int = 32,
  mesh: Mesh | None = None,
) -> list[np.ndarray]:
  """Block efficiency of several options on one pair.

  Args:
    key: typed key; of the pair and the texts.
    sigma: distance of the pair.
    options: one entry of the result each.
    num_rows: texts, from different first tokens.
    mesh: of the devices that share them.

  Returns:
    Per options: tokens per target call of every text, [num_rows].
  """
  target, drafter = _pair(key, sigma)
  key = gumbel.domain_key(key, Domain.TEXTS)
  prompts = _first_tokens(num_rows)
  return [
    generate(
      key, target, [drafter], *prompts, each, mesh=mesh
    ).metrics.block_efficiency
    for each in options
  ]


def _first_tokens(num_rows):
  rows = np.arange(num_rows)
  return rows[:, None] % _VOCAB, np.ones_like(rows)


def best_tokens_per_call(
  key: jax.Array, sigma: float, temperature: float, config
) -> np.ndarray:
  """As `tokens_per_call`, of the best trees of `num_nodes` nodes: [num_rows].

  Args:
    key: typed key; of the pair and the texts.
    sigma: distance of the pair.
    temperature: of the texts.
    config: num_nodes, rows and max_new_tokens are read from it.
  """
  plain = GenerateOptions(
    'autoregressive',
    max_new_tokens=config.max_new_tokens,
    temperature=temperature,
  )
  target, drafter = _pair(key, sigma)
  key = gumbel.domain_key(key, Domain.TEXTS)
  prompts = _first_tokens(config.rows)
  written = generate(key, target, [], *prompts, plain).tokens
  means, deviation = table_pair.posterior(drafter.params, sigma)
  calls = ceiling.calls_of_best_trees(
    gumbel.row_keys(key, np.arange(config.rows)),
    np.hstack([prompts[0], written]),
    means,
    max(deviation, 1e-3),
    np.float32(temperature),
    num_nodes=config.num_nodes,
  )
  return config.max_new_tokens / np.asarray(calls)


def options_of(config, temperature: float) -> dict[str, GenerateOptions]:
  """The tree, its greedy twin, rejection schemes in every shape, by column."""
  tree = GenerateOptions(
    'gumbel_tree',
    config.beam,
    config.depth,
    config.max_new_tokens,
    temperature,
    num_nodes=config.num_nodes,
  )
  found = {
    'tree': tree,
    'greedy': dataclasses.replace(tree, draft_temperatures=(0.0,)),
  }
  for method, width in itertools.product(config.methods, config.num_drafts):
    if config.num_nodes % width == 0:
      found[f'{method}_{width}'] = dataclasses.replace(
        tree,
        method=method,
        num_nodes=None,
        num_drafts=width,
        draft_length=config.num_nodes // width,
      )
  return found


def _measure(config, seed, mesh, job) -> dict[str, float]:
  """Columns of a pair: means over its texts, and its overlap."""
  sigma, temperature, pair = job
  key, options = gumbel.seed_key(seed + pair), options_of(config, temperature)
  found = tokens_per_call(
    key, sigma, [*options.values()], num_rows=config.rows, mesh=mesh
  )
  best = best_tokens_per_call(key, sigma, temperature, config)
  return {
    'best': float(best.mean()),
    **{name: float(x.mean()) for name, x in zip(options, found)},
    'overlap': table_pair.overlap(*_pair(key, sigma), temperature),
  }


def _prepare(config, seed, mesh=None):
  if mesh is not None:
    mesh = placement.mesh_of_all(mesh)
  placement.rows_on(mesh, config.rows, 0, 'texts (config.rows)')
  for temperature in config.temperatures:
    for options in options_of(config, temperature).values():
      options.check(_VOCAB)
  jobs = {
    f'{sigma}/{temperature}/{pair}': (sigma, temperature, pair)
    for sigma, temperature, pair in itertools.product(
      config.sigmas, config.temperatures, range(config.pairs)
    )
  }
  measure = functools.partial(_measure, config, seed, mesh)

  def fill(record: Run) -> list[dict]:
    pairs = record.rows(
      jobs, measure, key='job', table='pairs.csv', shared=mesh is not None
    )
    groups = {}
    for (*place, _), row in zip(jobs.values(), pairs):
      groups.setdefault(tuple(place), []).append(row)
    rows = [_row(*place, own) for place, own in groups.items()]
    record.write(rows)
    return rows

  return {} if mesh is None else {'mesh': dict(mesh.shape)}, fill


def _row(sigma, temperature, pairs: Sequence[dict]) -> dict:
  row = {'sigma': sigma, 'temperature': temperature, 'pairs': len(pairs)}
  columns = {
    name: np.array([pair[name] for pair in pairs])
    for name in pairs[0]
    if name != 'job'
  }
  known = 'tree', 'greedy', 'best', 'overlap'
  kept = {name: columns.pop(name) for name in known}
  kept['tree_minus_greedy'] = kept['tree'] - kept['greedy']
  kept['best_minus_tree'] = kept['best'] - kept['tree']
  for method in _REJECTION:
    shapes = [name for name in columns if name.startswith(method)]
    if shapes:
      best = max(shapes, key=lambda name: columns[name].mean())
      kept[method] = columns[best]
      kept[f'best_minus_{method}'] = kept['best'] - kept[method]
      row[f'{method}_drafts'] = int(best.removeprefix(f'{method}_'))
  return row | standard_errors.means(kept)


# Tokens per call against the distance, a panel per temperature.
plot = functools.partial(
  plots.columns,
  x='sigma',
  curves={
    'tree': plots.Curve('tree', plots.GREEN, marker='o'),
    'greedy': plots.Curve('greedy draft', plots.BLUE, '--', 'o'),
    'best': plots.Curve('best tree', plots.GREEN, ':', 'o'),
    'specinfer': plots.Curve('SpecInfer', plots.ORANGE, marker='o'),
    'traversal': plots.Curve('traversal', plots.ORANGE, '--', 'o'),
  },
  across='temperature',
  title=lambda row: f'T = {row["temperature"]}',
  labels=('sigma', 'tokens per target call'),
)
run = Experiment(
  FIELDS,
  _prepare,
  functools.partial(tables.as_text, columns=COLUMNS),
  {'table_pairs.png': plot},
)
