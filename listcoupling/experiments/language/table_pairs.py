"""Draft trees on pairs of tables at a known distance.

Target logits are 2.5 N(0, 1) for every pair of tokens, those of the drafter
add sigma N(0, 1). Nothing is trained and nothing costs time: tokens per target
call tell how good the tree is. Beside it stand the same tree drafted greedily
(draft temperature 0, which does not look at the noise) and SpecInfer in its
best shape. Errors are over pairs: two pairs at one distance differ.

Legend: V vocabulary, K drafts.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from listcoupling import gumbel, tables
from listcoupling.decoding import placement
from listcoupling.decoding.generate import generate
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment, Run
from listcoupling.tables import Column
from listcoupling.validation import Field

_SPREAD = 2.5  # of the target's logits
_VOCAB = 200  # V
_COUNTS = 'pairs', 'rows', 'max_new_tokens', 'num_nodes', 'beam', 'depth'
FIELDS = {
  'experiment': Field(str, among=('table_pairs',)),
  'sigmas': Field(float, least=0, many=True),
  'temperatures': Field(float, least=0, many=True),
  'num_drafts': Field(int, least=1, many=True, empty=True),
  **dict.fromkeys(_COUNTS, Field(int, least=1)),
}
COLUMNS = (
  Column('sigma', 'sigma', '.1f'),
  Column('T', 'temperature', '.1f'),
  Column('tree', 'tree', '.2f'),
  Column('greedy draft', 'greedy', '.2f'),
  Column('tree - greedy', 'tree_minus_greedy', '+.2f'),
  Column('SpecInfer', 'specinfer', '.2f'),
  Column('its K', 'specinfer_drafts'),
)


class TableConfig(NamedTuple):
  """Config of a table."""

  vocab_size: int


def _apply(params, tokens, positions, mask, cache, start):
  del positions, mask, start
  return params[tokens], cache


def table_pair(
  key: jax.Array, sigma: float
) -> tuple[LanguageModel, LanguageModel]:
  """Target and drafter whose next token depends on the last one alone.

  Args:
    key: typed key.
    sigma: distance of the drafter's logits.

  Example:
    >>> target, drafter = table_pair(gumbel.seed_key(0), 0.5)
    >>> target.params.shape
    (200, 200)
  """
  key = gumbel.domain_key(key, gumbel.Domain.LAWS)
  own, other = jax.random.normal(key, (2, _VOCAB, _VOCAB), jnp.float32)
  laws = _SPREAD * own, _SPREAD * own + sigma * other
  return tuple(LanguageModel(_apply, x, TableConfig(_VOCAB)) for x in laws)


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
    sigma: see `table_pair`.
    options: one entry of the result each.
    num_rows: texts, from different first tokens.
    mesh: of the devices that share them.

  Returns:
    Per options: tokens per target call of every text, [num_rows].
  """
  target, drafter = table_pair(key, sigma)
  text_key = gumbel.domain_key(key, gumbel.Domain.TEXTS)
  prompts = np.arange(num_rows)[:, None] % _VOCAB, np.ones(num_rows, np.int32)
  return [
    generate(
      text_key, target, [drafter], *prompts, each, mesh=mesh
    ).metrics.block_efficiency
    for each in options
  ]


def options_of(config, temperature: float) -> dict[str, GenerateOptions]:
  """The tree, its greedy twin, and SpecInfer in every shape, by column."""
  tree = GenerateOptions(
    'gumbel_tree',
    config.beam,
    config.depth,
    config.max_new_tokens,
    temperature,
    num_nodes=config.num_nodes,
  )
  chains = dataclasses.replace(tree, method='specinfer', num_nodes=None)
  found = {
    'tree': tree,
    'greedy': dataclasses.replace(tree, draft_temperatures=(0.0,)),
  }
  for width in config.num_drafts:
    if config.num_nodes % width == 0:
      found[f'specinfer_{width}'] = dataclasses.replace(
        chains, num_drafts=width, draft_length=config.num_nodes // width
      )
  return found


def _prepare(config, seed, mesh=None):
  if mesh is not None:
    mesh = placement.mesh_of_all(mesh)
  placement.rows_on(mesh, config.rows, 0, 'config.rows')
  options = {each: options_of(config, each) for each in config.temperatures}
  for own in options.values():
    for each in own.values():
      each.check(_VOCAB)
  jobs = {
    f'{sigma}/{temperature}/{pair}': (sigma, temperature, pair)
    for sigma, temperature, pair in itertools.product(
      config.sigmas, config.temperatures, range(config.pairs)
    )
  }

  def measure(job):
    sigma, temperature, pair = job
    key, own = gumbel.seed_key(seed + pair), options[temperature]
    found = tokens_per_call(
      key, sigma, [*own.values()], num_rows=config.rows, mesh=mesh
    )
    return {name: float(x.mean()) for name, x in zip(own, found)}

  def fill(record: Run) -> list[dict]:
    groups = {}
    pairs = record.rows(
      jobs, measure, key='job', table='pairs.csv', shared=mesh is not None
    )
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
  kept = {name: columns.pop(name) for name in ('tree', 'greedy')}
  kept['tree_minus_greedy'] = kept['tree'] - kept['greedy']
  if not columns:
    return row | tables.means(kept)
  best = max(columns, key=lambda name: columns[name].mean())
  kept['specinfer'] = columns[best]
  drafts = int(best.removeprefix('specinfer_'))
  return row | tables.means(kept) | {'specinfer_drafts': drafts}


# Tokens per call against the distance, a panel per temperature.
plot = functools.partial(
  plots.columns,
  x='sigma',
  curves={
    'tree': plots.Curve('tree', plots.GREEN, marker='o'),
    'greedy': plots.Curve('greedy draft', plots.BLUE, '--', 'o'),
    'specinfer': plots.Curve('SpecInfer', plots.ORANGE, marker='o'),
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
