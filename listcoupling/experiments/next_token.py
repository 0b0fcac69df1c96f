"""Couplings of next-token laws along real text: Daliri, Musco, Suresh.

The experiment of arXiv 2408.07978 (section on experiments): the laws of the
next token under a drafter and a target after the same contexts, the rate at
which the Gumbel and the Weighted MinHash couplings match on them, against
total variation. Beside the sampled rates stand their exact values, the bound
(1 - TV) / (1 + TV) that no communication-free protocol can beat in the worst
case, and the optimum 1 - TV of a maximal coupling.

The contexts should be held out of the training of both models. They are where
text and `held_out_fraction` are those of the training: results.json has the
SHA-256 of the text, as have record.json of a training run and the README of the
shipped pair, for which a run compares them and warns.

Legend: M contexts, S tokens of a context, V vocabulary, R repetitions.
"""

import functools
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from listcoupling import (
  bounds,
  coupling,
  files,
  gumbel,
  standard_errors,
  tables,
  weighted_minhash,
)
from listcoupling.config_fields import Field
from listcoupling.data import text
from listcoupling.decoding import analysis
from listcoupling.experiments import plots
from listcoupling.experiments.language.protocol import load_pair
from listcoupling.experiments.plots import Curve
from listcoupling.experiments.run import Experiment
from listcoupling.gumbel import Domain
from listcoupling.tables import Column

# Text and split of the shipped pair, see listcoupling/models/shipped/README.md.
SHIPPED_TEXT = (
  '55939deabcf0c585db86373af4d57e83149021bfe5dfd3c331bfa6d852cc753a',
  0.05,
)
FIELDS = {
  'target': Field(str, empty=True),
  'drafter': Field(str, empty=True),
  'dtype': Field(str),
  'data': Field(str, many=True),
  'held_out_fraction': Field(float, least=0),
  'num_positions': Field(int, least=2),
  'context_length': Field(int, least=2),
  'temperature': Field(float, above=0),
  'repetitions': Field(int, least=2),
}
COUPLINGS = ('gumbel', 'minhash')
COLUMNS = (
  Column('TV', 'bin'),
  Column('n', 'positions'),
  Column('TV', 'total_variation', '.4f'),
  Column('bound', 'lower_bound', '.4f'),
  Column('MinHash', 'minhash_exact', '.4f'),
  Column('sampled', 'minhash', '.4f'),
  Column('Gumbel', 'gumbel_exact', '.4f'),
  Column('sampled', 'gumbel', '.4f'),
  Column('1 - TV', 'optimum', '.4f'),
)
_CURVES = {
  'optimum': Curve('optimum, $1 - TV$', plots.BLACK),
  'lower_bound': Curve('bound, $(1 - TV)/(1 + TV)$', plots.BLACK, '--'),
  'gumbel': Curve('Gumbel', plots.RED, None, 'o', hollow=True),
  'gumbel_exact': Curve('Gumbel, exact', plots.RED, None, '.'),
  'minhash': Curve('Weighted MinHash', plots.BLUE, None, 's', hollow=True),
  'minhash_exact': Curve('Weighted MinHash, exact', plots.BLUE, None, '.'),
}
# Exact values are float32 sums of up to 1e5 terms.
ROUNDING = 2e-6
# Races of this many entries fit the caches of a CPU core.
_CHUNK = 1 << 17
_NAMES = tuple(column.name for column in COLUMNS[2:])
_EDGES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
# Below the table, filled in.
_CHECKS = """
Gumbel >= Weighted MinHash (exact values) at {pareto} of {positions} \
positions; smallest difference {smallest_gain:.1e}, rounding {rounding:.0e}
both within (1 - TV) / (1 + TV) and 1 - TV at {above_bound} of {positions} \
positions
sampled against exact, {repetitions} repetitions: largest |z| {largest_z:.2f}, \
root mean square {root_mean_square_z:.2f}"""


def contexts(seed: int, config, tokenizer) -> tuple[np.ndarray, dict]:
  """Windows of the held-out side of a text, at random places.

  Args:
    seed: of the places.
    config: with data, held_out_fraction (0: all documents), num_positions M
      and context_length S.
    tokenizer: of the models.

  Returns:
    [M, S] int32, and the record of the text.

  Raises:
    ValueError: the text is too short for M different windows.
  """
  fraction = config.held_out_fraction
  corpus = text.load_corpus(config.data, held_out_fraction=fraction or 0.5)
  documents = corpus.held_out if fraction else corpus.train + corpus.held_out
  tokens = text.encode_documents(tokenizer, documents)
  places = len(tokens) - config.context_length + 1
  if places < config.num_positions:
    raise ValueError(
      f'the held-out text has {len(tokens)} tokens, too few for '
      f'{config.num_positions} contexts of {config.context_length}.'
    )
  # numpy's generator shares no bits with threefry of the same seed; which
  # places a table reads would change with another.
  rng = np.random.default_rng(seed)
  starts = np.sort(rng.choice(places, config.num_positions, replace=False))
  record = {'sha256': corpus.record['sha256'], 'tokens': len(tokens)}
  return tokens[starts[:, None] + np.arange(config.context_length)], record


def pair_logits(config, windows, target, drafter):
  """Drafter's and target's logits [M, V]; -inf beyond a vocabulary."""
  rows = [
    np.stack([analysis.logits_along(model, x[None])[0, -1] for x in windows])
    for model in (drafter, target)
  ]
  width = max(row.shape[1] for row in rows)
  beyond = [((0, 0), (0, width - row.shape[1])) for row in rows]
  return tuple(
    np.pad(row / config.temperature, each, constant_values=-np.inf)
    for row, each in zip(rows, beyond)
  )


@functools.partial(jax.jit, static_argnames='repetitions')
def match_rates(key, draft_logits, target_logits, *, repetitions):
  """Sampled match rates [2] of Gumbel and Weighted MinHash, R draws each.

  Args:
    key: typed key; consumed.
    draft_logits: [V].
    target_logits: [V].
    repetitions: R.
  """

  def rate(function, key, batch_size):
    matches = jax.lax.map(
      lambda k: function(k, draft_logits, target_logits).is_match,
      jax.random.split(key, repetitions),
      batch_size=batch_size,
    )
    return jnp.mean(matches, dtype=jnp.float32)

  gumbel_key, dart_key = jax.random.split(key)
  chunk = max(1, _CHUNK // draft_logits.size)
  darts = weighted_minhash.weighted_minhash_coupling
  # Darts are thrown until one hits: a batch would wait for its slowest.
  return jnp.stack(
    [
      rate(coupling.gumbel_coupling, gumbel_key, chunk),
      rate(darts, dart_key, None),
    ]
  )


def row(seed: int, config, position: int, draft_logits, target_logits) -> dict:
  """One row of the table: a position, its bounds, rates and exact values."""
  p, q = jax.nn.softmax(draft_logits), jax.nn.softmax(target_logits)
  key = gumbel.domain_key(gumbel.seed_key(seed), Domain.TRIALS, position)
  rates = match_rates(
    key, draft_logits, target_logits, repetitions=config.repetitions
  )
  distance = float(bounds.total_variation(p, q))
  table = {
    'repetitions': config.repetitions,
    'total_variation': distance,
    'lower_bound': (1 - distance) / (1 + distance),
    'optimum': 1 - distance,
    'gumbel_exact': float(bounds.gumbel_coupling_probability(p, q)),
    'minhash_exact': float(bounds.weighted_minhash_probability(p, q)),
  }
  for name, rate in zip(COUPLINGS, map(float, rates)):
    table[name] = rate
    table[f'{name}_se'] = standard_errors.binomial_error(
      rate, config.repetitions
    )
  return table


def _prepare(config, seed):
  """Models and contexts; the table is filled position by position."""
  models = dict(zip(('target', 'drafter'), load_pair(config)))
  windows, record = contexts(seed, config, models['target'].tokenizer)
  warn_of_trained_text(config, record['sha256'])
  origin = {
    'text': record,
    'models': {
      name: files.digest(model.params, str(model.config))
      for name, model in models.items()
    },
    'contexts': files.digest(windows),
  }

  @functools.cache  # a finished table needs none
  def laws():
    return pair_logits(config, windows, **models)

  def compute(position):
    return row(seed, config, position, *(law[position] for law in laws()))

  def fill(record):
    jobs = {i: i for i in range(config.num_positions)}
    return record.rows(jobs, compute, key='position')

  return origin, fill


def warn_of_trained_text(config, sha256: str) -> None:
  """Warns where the shipped pair may have been trained on the contexts.

  Args:
    config: with target and drafter, empty for the shipped pair, and
      held_out_fraction.
    sha256: of the text.
  """
  split = sha256, config.held_out_fraction
  if not config.target and split != SHIPPED_TEXT:
    logging.warning(
      'the shipped pair may have been trained on these contexts: they are held '
      'out only of its own text (SHA-256 %s) with '
      'config.held_out_fraction=%s, see listcoupling/models/shipped/README.md.',
      *SHIPPED_TEXT,
    )


def _column(rows, name) -> np.ndarray:
  return np.array([row[name] for row in rows], np.float64)


def _z_scores(rows, name: str) -> np.ndarray:
  """Sampled minus exact, in standard errors of the exact value; 0 / 0 = 0."""
  exact = np.clip(_column(rows, f'{name}_exact'), 0, 1)
  repetitions = _column(rows, 'repetitions')
  # Half a repetition: where the exact value is 1, one miss must show.
  variance = np.maximum(exact * (1 - exact), 0.25 / repetitions)
  difference = _column(rows, name) - exact
  return difference / np.sqrt(variance / repetitions)


def checks(rows: Sequence[dict]) -> dict:
  """Promises of theory, counted over the positions.

  Args:
    rows: of `run`.

  Returns:
    dict of `pareto`, the positions where Gumbel matches at least as often as
    Weighted MinHash (exact values, up to rounding), and `smallest_gain`;
    `above_bound`, the positions where both exact values respect
    (1 - TV) / (1 + TV) and 1 - TV; `largest_z` and `root_mean_square_z`,
    sampled against exact in standard errors.
  """
  exact = np.stack([_column(rows, f'{name}_exact') for name in COUPLINGS])
  least, most = _column(rows, 'lower_bound'), _column(rows, 'optimum')
  inside = (exact >= least - ROUNDING) & (exact <= most + ROUNDING)
  gain = exact[0] - exact[1]
  scores = np.stack([_z_scores(rows, name) for name in COUPLINGS])
  return {
    'pareto': int(np.sum(gain >= -ROUNDING)),
    'smallest_gain': gain.min(),
    'above_bound': int(np.sum(inside.all(axis=0))),
    'largest_z': np.abs(scores).max(),
    'root_mean_square_z': np.sqrt(np.mean(scores**2)),
  }


def _means(rows) -> dict[str, float | None]:
  """Mean over positions of every column that is shown, and its error."""
  return standard_errors.means({name: _column(rows, name) for name in _NAMES})


def as_text(rows: Sequence[dict]) -> str:
  """Means by total variation, and the checks, as aligned text."""
  shown = []
  for low, high in zip(_EDGES, _EDGES[1:]):
    above = high if high < 1 else 2.0  # disjoint laws belong to the last
    part = [row for row in rows if low <= row['total_variation'] < above]
    if part:
      means = {name: _means(part)[name] for name in _NAMES}  # without errors
      count = {'bin': f'{low:.1f} to {high:.1f}', 'positions': len(part)}
      shown.append(count | means)
  shown.append({'bin': 'all', 'positions': len(rows), **_means(rows)})
  return tables.as_text(shown, COLUMNS) + _CHECKS.format(
    positions=len(rows),
    rounding=ROUNDING,
    repetitions=rows[0]['repetitions'],
    **checks(rows),
  )


def plot(rows: Sequence[dict], path: str | os.PathLike) -> None:
  """Match rate against total variation, one point per position."""
  plots.columns(
    sorted(rows, key=lambda row: row['total_variation']),
    path,
    x='total_variation',
    curves=_CURVES,
    labels=(
      'total variation $TV$ of drafter and target',
      'probability that the tokens match',
    ),
    size=(4.4, 3.8),
  )


run = Experiment(FIELDS, _prepare, as_text, {'next_token.png': plot})
