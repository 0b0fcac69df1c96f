"""Couplings of next-token laws along real text: Daliri, Musco, Suresh.

The experiment of arXiv 2408.07978 (section on experiments): the laws of the
next token under a drafter and a target after the same contexts, the rate at
which the Gumbel and the Weighted MinHash couplings match on them, against
total variation. Beside the sampled rates stand their exact values, the bound
(1 - TV) / (1 + TV) that no communication-free protocol can beat in the worst
case, and the optimum 1 - TV of a maximal coupling.

The contexts are known to be held out of training only where the text (for
'python': the Python version) and held_out_fraction are those of training;
`training_split` in results.json says so of each model, null where there is no
record of its training.

Legend: M contexts, S tokens of a context, V vocabulary, R repetitions.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import bounds, coupling, weighted_minhash
from listcoupling.data import text
from listcoupling.experiments import (
  cells,
  next_token_record,
  next_token_report,
  results,
)
from listcoupling.models import pretrained, transformer

# Races of this many entries fit the caches of a CPU core.
_CHUNK = 1 << 17


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  for name in ('num_positions', 'context_length', 'repetitions'):
    if not isinstance(config[name], int) or config[name] < 2:
      raise ValueError(f'{name} must be an int >= 2, got {config[name]!r}.')
  if not config.temperature > 0:
    raise ValueError(f'temperature must be positive, got {config.temperature}.')
  if bool(config.target) != bool(config.drafter):
    raise ValueError(
      'give both target and drafter or neither (the shipped pair), got '
      f'{config.target!r} and {config.drafter!r}.'
    )


def directories(config) -> tuple:
  """Directories or hub names of target and drafter."""
  return (
    config.target or pretrained.SHIPPED / 'target',
    config.drafter or pretrained.SHIPPED / 'drafter',
  )


def load_pair(config):
  """(target, drafter); the shipped pair where the config names none.

  Raises:
    ValueError: no tokenizer, or two different ones.
    FileNotFoundError: a directory is missing.
  """
  names = directories(config)
  pair = [pretrained.load_pretrained(n, dtype=config.dtype) for n in names]
  for name, model in zip(names, pair, strict=True):
    if model.tokenizer is None:
      raise ValueError(f'{name} has no tokenizer.json, which text needs.')
  if pair[0].tokenizer.get_vocab() != pair[1].tokenizer.get_vocab():
    raise ValueError(
      f'{names[0]} and {names[1]} have different tokenizers; their next-token '
      'laws are on different tokens.'
    )
  return tuple(pair)


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
  rng = np.random.default_rng(seed)
  starts = np.sort(rng.choice(places, config.num_positions, replace=False))
  record = {'sha256': corpus.record['sha256'], 'tokens': len(tokens)}
  return tokens[starts[:, None] + np.arange(config.context_length)], record


def next_token_logits(model, windows: np.ndarray) -> np.ndarray:
  """Logits [M, V] float32 of the token after each window [M, S]."""

  @jax.jit
  def last(params, window):
    return transformer.causal_logits(model.config, params, window[None])[0, -1]

  return np.stack([last(model.params, window) for window in windows])


def pair_logits(config, windows, target, drafter):
  """Drafter's and target's logits [M, V]; -inf beyond a vocabulary."""
  rows = [next_token_logits(model, windows) for model in (drafter, target)]
  width = max(row.shape[1] for row in rows)
  return tuple(
    np.pad(
      row / config.temperature,
      ((0, 0), (0, width - row.shape[1])),
      constant_values=-np.inf,
    )
    for row in rows
  )


@functools.partial(jax.jit, static_argnames='repetitions')
def match_rates(key, draft_logits, target_logits, *, repetitions):
  """Sampled match rates [2] of Gumbel and Weighted MinHash couplings.

  Args:
    key: typed key; consumed.
    draft_logits: [V].
    target_logits: [V].
    repetitions: R.
  """

  def rate(coupling_fn, key, batch_size):
    keys = jax.random.split(key, repetitions)
    matches = jax.lax.map(
      lambda k: coupling_fn(k, draft_logits, target_logits).is_match,
      keys,
      batch_size=batch_size,
    )
    return jnp.mean(matches, dtype=jnp.float32)

  gumbel_key, dart_key = jax.random.split(key)
  chunk = max(1, _CHUNK // draft_logits.size)
  return jnp.stack(
    [
      rate(coupling.gumbel_coupling, gumbel_key, chunk),
      # Darts are thrown until one hits: a batch would wait for its slowest.
      rate(weighted_minhash.weighted_minhash_coupling, dart_key, None),
    ]
  )


def row(seed: int, config, position: int, draft_logits, target_logits) -> dict:
  """One row of the table: a position, its bounds, rates and exact values."""
  p, q = jax.nn.softmax(draft_logits), jax.nn.softmax(target_logits)
  key = jax.random.fold_in(jax.random.key(seed), position)
  rates = match_rates(
    key, draft_logits, target_logits, repetitions=config.repetitions
  )
  distance = float(bounds.total_variation(p, q))
  table = {
    'position': position,
    'total_variation': distance,
    'lower_bound': (1 - distance) / (1 + distance),
    'optimum': 1 - distance,
    'gumbel_exact': float(bounds.gumbel_coupling_probability(p, q)),
    'minhash_exact': float(bounds.weighted_minhash_probability(p, q)),
  }
  for name, rate in zip(next_token_report.COUPLINGS, np.asarray(rates)):
    rate = float(rate)
    table[name] = rate
    table[f'{name}_se'] = np.sqrt(rate * (1 - rate) / config.repetitions)
  return table


def run(config, workdir, seed: int) -> list[dict]:
  """Fills the table position by position and plots it.

  Writes results.csv, results.json and next_token.png into `workdir`. Rows
  that a run with the same settings, models, text and seed left there are kept.

  Args:
    config: see configs/next_token.py.
    workdir: directory, made if absent.
    seed: of the places in the text and of all noise.

  Returns:
    The rows, by position; see `next_token_report.summary` for their checks.

  Raises:
    ValueError: for settings that make no sense, too little text, a pair
      without a common tokenizer, a workdir with a table of other settings,
      models or text.
    FileNotFoundError: text or models are missing.
  """
  check_config(config)
  workdir = pathlib.Path(workdir)
  target, drafter = load_pair(config)
  windows, record = contexts(seed, config, target.tokenizer)
  models = {'target': target, 'drafter': drafter}
  settings = next_token_record.settings(config, seed, record, models, windows)
  splits = next_token_record.training_splits(
    dict(zip(models, directories(config))),
    record['sha256'],
    config.held_out_fraction,
  )

  @functools.cache  # a finished table needs none
  def laws():
    return pair_logits(config, windows, target, drafter)

  def compute(position):
    p_logits, q_logits = (law[position] for law in laws())
    return row(seed, config, position, p_logits, q_logits)

  rows = cells.fill(
    workdir,
    settings,
    [(position, position) for position in range(config.num_positions)],
    compute,
    table='results.csv',
    key='position',
  )
  record = results.read_json(workdir / 'results.json') | {
    'training_split': splits,
    'summary': next_token_report.summary(rows, config.repetitions),
  }
  results.write_json(workdir / 'results.json', record)
  next_token_report.plot(rows, workdir / 'next_token.png')
  return rows
