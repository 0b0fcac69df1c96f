"""Draft trees on pairs of tables at a known distance.

Target logits are 2.5 N(0, 1) for every pair of tokens, those of the drafter
add sigma N(0, 1). Nothing is trained and nothing costs time: tokens per target
call tell how good the tree is. Beside it stand the same tree drafted greedily
(draft temperature 0, which does not look at the noise) and rejection schemes
in their best shape; `traversal` of one chain is block verification.

Here alone the target's law given the drafter's is known: its logits are
independent normals. So is, then, the best tree that anyone can draft for a
text of canonical noise (`best_tree`): no tree accepts more in a call, learned
or not. Where this greedy policy is behind a rejection scheme, that is the price
of a text that no drafter may change. Errors are over pairs: two
pairs at one distance differ.

Legend: A atoms, B texts, K drafts, M tokens of a text, N nodes of a tree
besides its root, V vocabulary.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from listcoupling import bounds, gumbel, tables
from listcoupling.config_fields import Field
from listcoupling.decoding import placement
from listcoupling.decoding.generate import generate
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment, Run
from listcoupling.tables import Column

_SPREAD = 2.5  # of the target's logits
_VOCAB = 200  # V
_REJECTION = 'specinfer', 'traversal'
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


def overlap(key: jax.Array, sigma: float, temperature: float) -> float:
  """1 - TV of the pair, the mean over its laws."""
  scale = max(temperature, 1e-6)
  laws = [jax.nn.softmax(x.params / scale) for x in table_pair(key, sigma)]
  return 1 - float(jax.vmap(bounds.total_variation)(*laws).mean())


def win_probabilities(means: jax.Array, deviation) -> jax.Array:
  """Probability that each of independent normal scores is the largest: [A].

  One integral over the largest score, on a grid that serves every atom.

  Args:
    means: [A] of the scores.
    deviation: [] of all of them, above 0.

  Returns:
    [A], of sum 1.

  Example:
    >>> win_probabilities(jnp.array([0.0, 0.0]), 1.0).tolist()
    [0.5, 0.5]
  """
  grid = jnp.max(means) + deviation * jnp.linspace(-5.0, 5.5, 64)
  places = (grid[:, None] - means[None]) / deviation  # [grid, A]
  below = jnp.log(jax.scipy.stats.norm.cdf(places))  # from -5 on
  others = jnp.sum(below, axis=1, keepdims=True) - below
  mass = jnp.exp(others + jax.scipy.stats.norm.logpdf(places))
  chances = jnp.sum(mass, axis=0)
  return chances / jnp.sum(chances)


class _Search(NamedTuple):
  """A tree that grows by its best node; node 0 is the root."""

  pool: jax.Array  # [1 + N, V] log-worths of children that are not nodes
  tokens: jax.Array  # [1 + N]
  depths: jax.Array  # [1 + N]
  log_worths: jax.Array  # [1 + N]
  written: jax.Array  # [1 + N] bool, the text passes the node


def best_tree(
  chances: Callable, text: jax.Array, num_nodes: int
) -> tuple[jax.Array, jax.Array]:
  """The nodes that the text most likely passes, of all there are.

  No beam and no depth is set, and every node is looked behind: the tree is the
  best of N nodes if `chances` are the probabilities given all that is known.

  Args:
    chances: (token, depth) -> [V] probabilities of the token that follows a
      node at this depth, 0 the root.
    text: [1 + N] tokens from the root on.
    num_nodes: N.

  Returns:
    How many tokens of the text are in the tree [], and how many its worths
    lead one to expect [].

  Example:
    >>> law = jnp.array([0.5, 0.3, 0.2])  # of every token
    >>> found, expected = best_tree(lambda *_: law, jnp.array([0, 1, 0, 2]), 3)
    >>> int(found), round(float(expected), 2)  # nodes 0, 1 and 00
    (1, 1.05)
  """
  size = 1 + num_nodes

  def add(search, node):
    behind = jnp.log(chances(search.tokens[node], search.depths[node]))
    pool = search.pool.at[node].set(search.log_worths[node] + behind)
    parent, token = jnp.divmod(gumbel.argmax(pool.ravel()), behind.size)
    depth = search.depths[parent]
    child = _Search(
      pool.at[parent, token].set(-jnp.inf),
      search.tokens.at[node + 1].set(token),
      search.depths.at[node + 1].set(depth + 1),
      search.log_worths.at[node + 1].set(pool[parent, token]),
      search.written.at[node + 1].set(
        search.written[parent] & (text[depth + 1] == token)
      ),
    )
    return child, None

  nothing = jnp.zeros(size, jnp.int32)
  start = _Search(
    jnp.full((size, chances(text[0], 0).size), -jnp.inf),
    nothing.at[0].set(text[0]),
    nothing,
    jnp.zeros(size),
    jnp.arange(size) == 0,
  )
  search, _ = jax.lax.scan(add, start, jnp.arange(num_nodes))
  return (
    jnp.sum(search.written) - 1,
    jnp.sum(jnp.exp(search.log_worths)) - 1,
  )


def posterior(draft_logits: jax.Array, sigma: float) -> tuple[jax.Array, float]:
  """Laws of the target's logits, given the drafter's d: independent normals.

  Their mean is b d and their variance b sigma^2, b = S^2 / (S^2 + sigma^2) with
  S the spread of the target's own.

  Args:
    draft_logits: of any shape.
    sigma: see `table_pair`.

  Returns:
    The means, in the shape of the logits, and the deviation of all.

  Example:
    >>> mean, deviation = posterior(jnp.array(1.0), 2.5)
    >>> float(mean), round(deviation, 3)
    (0.5, 1.768)
  """
  share = _SPREAD**2 / (_SPREAD**2 + sigma**2)
  return share * draft_logits, sigma * share**0.5


def best_tokens_per_call(
  key: jax.Array, sigma: float, temperature: float, config
) -> np.ndarray:
  """As `tokens_per_call`, of the best trees of `num_nodes` nodes: [num_rows].

  What earlier calls have shown of the target is not used, see `posterior`.

  Args:
    key: typed key; of the pair and the texts.
    sigma: see `table_pair`.
    temperature: of the texts.
    config: num_nodes, rows and max_new_tokens are read from it.
  """
  plain = GenerateOptions(
    'autoregressive',
    max_new_tokens=config.max_new_tokens,
    temperature=temperature,
  )
  target, drafter = table_pair(key, sigma)
  key = gumbel.domain_key(key, gumbel.Domain.TEXTS)
  rows = np.arange(config.rows)
  first = rows[:, None] % _VOCAB
  written = generate(key, target, [], first, np.ones_like(rows), plain).tokens
  ahead = np.full((config.rows, config.num_nodes), -1)  # no token is there
  text = np.concatenate([first, written, ahead], axis=1)
  keys = gumbel.row_keys(key, rows)
  means, deviation = posterior(drafter.params, sigma)
  calls = _best_calls(
    keys,
    means,
    max(deviation, 1e-3),
    np.float32(temperature),
    text,
    config.num_nodes,
  )
  return config.max_new_tokens / np.asarray(calls)


@functools.partial(jax.jit, static_argnames='num_nodes')
def _best_calls(keys, means, deviation, temperature, text, num_nodes):
  """Calls of the target that texts [B, 1 + M + N] take: [B]."""
  last = text.shape[1] - 1 - num_nodes
  warm = temperature > 0  # else the race has no noise, at any scale
  scale = jnp.where(warm, temperature, 1.0)

  def call(key, text, root):
    places = root + 1 + jnp.arange(num_nodes)
    keys = jax.vmap(gumbel.position_key, (None, 0))(key, places)
    noise = jax.vmap(lambda key: gumbel.gumbel(key, len(means)))(keys)
    noise = jnp.where(warm, noise, 0.0)

    def chances(token, depth):
      return win_probabilities(
        means[token] / scale + noise[depth], deviation / scale
      )

    ahead = jax.lax.dynamic_slice(text, (root,), (1 + num_nodes,))
    return best_tree(chances, ahead, num_nodes)[0]

  def row(key, text):
    return jax.lax.while_loop(
      lambda carry: carry[0] < last,
      lambda carry: (carry[0] + 1 + call(key, text, carry[0]), carry[1] + 1),
      (jnp.int32(0), jnp.int32(0)),
    )[1]

  return jax.vmap(row)(keys, text)


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


def _prepare(config, seed, mesh=None):
  if mesh is not None:
    mesh = placement.mesh_of_all(mesh)
  placement.rows_on(mesh, config.rows, 0, 'texts (config.rows)')
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
    best = best_tokens_per_call(key, sigma, temperature, config)
    return {
      'best': float(best.mean()),
      **{name: float(x.mean()) for name, x in zip(own, found)},
      'overlap': overlap(key, sigma, temperature),
    }

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
  return row | tables.means(kept)


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
