"""Looking back at a text: laws, acceptance and margins at every token.

One forward of the finished rows gives the laws that every step was drawn
from. From them follow the acceptance that theory expects, and how close each
race was: where the winner's margin is larger than what rounding can change,
the same seed must give the same token on any machine and with any drafter.

Legend: A atoms, B batch, T tokens of a row, V vocabulary, K drafts.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import bounds, gumbel, standard_errors
from listcoupling.decoding import filters, placement, tree
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.options import GenerateOptions

__all__ = [
  'Acceptance',
  'Calibration',
  'LawsAlong',
  'calibration',
  'canonical_margins',
  'common_atoms',
  'differences',
  'expected_acceptance',
  'generated',
  'laws_along',
  'log_probabilities',
  'logits_along',
  'rows_of',
  'step_laws',
]


def __dir__():
  return __all__


_BUCKET = 64


class Acceptance(NamedTuple):
  """Expected acceptance of one drafted token, averaged over a text."""

  bound: float  # list matching lemma
  gls: float  # exact probability of GLS and of grouped streams
  optimum: float  # of any scheme with K iid drafts
  optimum_without_replacement: float
  standard_errors: tuple[float, float, float, float]
  num_tokens: int


class Calibration(NamedTuple):
  """Acceptance that a best-first tree expected of its depths, and what came."""

  predicted: np.ndarray  # [L] share of the target calls that accept depth j
  accepted: np.ndarray  # [L]
  standard_errors: np.ndarray  # [L] of `accepted` - `predicted`, over the rows


def logits_along(model: LanguageModel, tokens) -> jax.Array:
  """Logits [B, T, V] after every token of rows [B, T]."""
  tokens = jnp.asarray(tokens, jnp.int32)
  known = jnp.clip(tokens, 0, model.config.vocab_size - 1)
  return _logits_along(model.params, known, model.static).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames='model')
def _logits_along(params, tokens, model):
  return _forward(model, params, tokens)


def log_probabilities(model: LanguageModel, tokens) -> np.ndarray:
  """Natural log-probability of every token of rows [B, T] but the first.

  At temperature 1 and without filters. One row is looked at at a time: the
  memory is that of [T, V] logits.

  Args:
    model: a language model.
    tokens: [B, T] ids.

  Returns:
    [B, T - 1] float32.
  """
  tokens = np.asarray(tokens, np.int32)
  size = tokens.shape[1]
  # Few lengths are ever compiled; nothing looks at what comes after it.
  tokens = np.pad(tokens, ((0, 0), (0, -size % _BUCKET)))
  with jax.enable_x64(False):  # tokens and positions are 32-bit words
    scores = _log_probabilities(model.params, tokens, model.static)
  return placement.fetch(scores)[:, : size - 1]


@functools.partial(jax.jit, static_argnames='model')
def _log_probabilities(params, tokens, model):
  def row(tokens):
    logits = _forward(model, params, tokens[None, :-1])[0]
    logits = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jnp.take_along_axis(logits, tokens[1:, None], axis=1)[:, 0]

  return jax.lax.map(row, tokens)


def _forward(model, params, tokens):
  batch, size = tokens.shape
  start = jnp.zeros(batch, jnp.int32)
  cache = model.init_cache(batch, size)
  mask = tree.cache_mask(tree.causal(size, batch), start, model.capacity(cache))
  positions = jnp.broadcast_to(jnp.arange(size), (batch, size))
  return model.apply(params, tokens, positions, mask, cache, start)[0]


def rows_of(prompts, prompt_lengths, generation) -> np.ndarray:
  """Prompts and generated tokens joined: [B, P + M], 0 past the end."""
  prompts, lengths = np.asarray(prompts), np.asarray(prompt_lengths)
  width = prompts.shape[1] + generation.tokens.shape[1]
  rows = np.zeros((len(prompts), width), np.int32)
  for b, (length, count) in enumerate(zip(lengths, generation.lengths)):
    rows[b, :length] = prompts[b, :length]
    rows[b, length : length + count] = generation.tokens[b, :count]
  return rows


def generated(prompt_lengths, generation, width: int) -> np.ndarray:
  """[B, T] True at tokens whose successor was generated."""
  before = np.asarray(prompt_lengths)[:, None] - 1
  places = np.arange(width)
  count = np.asarray(generation.lengths)[:, None]
  return (places >= before) & (places < before + count)


def step_laws(
  target: LanguageModel,
  drafter: LanguageModel,
  rows,
  at: tuple[np.ndarray, np.ndarray],
  options: GenerateOptions,
) -> tuple[jax.Array, jax.Array]:
  """Laws of the next token under both models, see `common_atoms`.

  Args:
    target: the target model.
    drafter: whose vocabulary may be shorter.
    rows: [B, T] tokens.
    at: row and place [n] of the tokens after which the laws are told.
    options: temperatures and filters of the laws.

  Returns:
    Draft and target laws, [n, A] each; whole on every device of a mesh that
    the models lie on.
  """
  size, logits = target.config.vocab_size, []
  for model in (drafter, target):
    own = placement.on_every_device(logits_along(model, rows)[at])
    absent = ((0, 0), (0, size - own.shape[-1]))
    logits.append(jnp.pad(own, absent, constant_values=-jnp.inf))
  return _step_laws(tuple(logits), filters.sampling_params(options), size)


@functools.partial(jax.jit, static_argnames='size')
def _step_laws(logits, sampling, size):
  chex.assert_equal_shape(logits)
  temperatures = sampling.draft_temperatures[0], sampling.temperature

  def one(pair):
    laws = (filters.warp(x, t, sampling) for x, t in zip(pair, temperatures))
    return common_atoms(*laws, size)

  return jax.lax.map(one, logits)


class LawsAlong(NamedTuple):
  """Laws of the M tokens of B texts; texts that end early leave padding."""

  rows: np.ndarray  # [B M] of each token, in order; then -1, padding
  draft: jax.Array  # [B M, A]
  target: jax.Array  # [B M, A]


def laws_along(
  target: LanguageModel,
  drafter: LanguageModel,
  prompts,
  prompt_lengths,
  generation,
  options: GenerateOptions,
) -> LawsAlong:
  """Laws that every generated token was drawn from, under both models.

  Args:
    target: the model that wrote the text.
    drafter: whose vocabulary may be shorter.
    prompts: [B, P].
    prompt_lengths: [B].
    generation: what `generate` returned.
    options: temperatures and filters of the laws.

  Returns:
    `LawsAlong`.

  Example:
    >>> import listcoupling as lc
    >>> target, drafter = lc.shipped_pair()
    >>> options = lc.GenerateOptions(max_new_tokens=4)
    >>> out = lc.generate(
    ...     jax.random.key(0), target, [drafter], [[1, 2]], [2], options)
    >>> laws = laws_along(target, drafter, [[1, 2]], [2], out, options)
    >>> laws.rows.tolist(), laws.draft.shape == laws.target.shape
    ([0, 0, 0, 0], True)
  """
  rows = rows_of(prompts, prompt_lengths, generation)
  # Few shapes are ever compiled: texts of one batch size and M share theirs.
  rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _BUCKET)))
  owner, places = np.nonzero(
    generated(prompt_lengths, generation, rows.shape[1])
  )
  missing = 0, generation.tokens.size - owner.size
  at = np.pad(owner, missing), np.pad(places, missing)
  laws = step_laws(target, drafter, rows, at, options)
  return LawsAlong(np.pad(owner, missing, constant_values=-1), *laws)


def expected_acceptance(
  target: LanguageModel,
  drafter: LanguageModel,
  prompts,
  prompt_lengths,
  generation,
  options: GenerateOptions,
) -> Acceptance:
  """Acceptance per step that theory expects on a generated text.

  At every generated token the list matching bound (Theorem 1 of arXiv
  2506.05632), the exact probability of GLS, and the optimum of K drafts with
  and without replacement are computed from the two laws, then averaged.
  Repetition penalty, logit bias and minimum length are not applied.

  Args:
    target: the model that wrote the text.
    drafter: the model whose K drafts are judged.
    prompts: [B, P].
    prompt_lengths: [B].
    generation: what `generate` returned.
    options: temperature, top-k, top-p, min-p and K are read from it.

  Returns:
    `Acceptance`.

  Example:
    >>> import listcoupling as lc
    >>> target, drafter = lc.shipped_pair()
    >>> options = lc.GenerateOptions(max_new_tokens=4)
    >>> out = lc.generate(
    ...     jax.random.key(0), target, [drafter], [[1, 2]], [2], options)
    >>> found = expected_acceptance(
    ...     target, drafter, [[1, 2]], [2], out, options)
    >>> found.bound <= found.gls <= found.optimum
    True
  """
  rows, *laws = laws_along(
    target, drafter, prompts, prompt_lengths, generation, options
  )
  found = np.asarray(_acceptance(laws, options.num_drafts))[rows >= 0]
  means, errors = zip(*map(standard_errors.mean_error, found.T))
  errors = np.array(errors, float).tolist()  # NaN of one token
  return Acceptance(*means, tuple(errors), len(found))


@functools.partial(jax.jit, static_argnames='num_drafts')
def _acceptance(laws, num_drafts):
  """Bound, GLS and both optima [n, 4] of laws [n, A]."""

  def step(pair):
    p, q = pair
    optimum = bounds.optimal_list_acceptance
    return jnp.stack(
      [
        bounds.list_matching_bound(p, q, num_drafts),
        bounds.list_matching_probability(p, q, num_drafts),
        optimum(p, q, num_drafts),
        optimum(p, q, num_drafts, replace=False),
      ]
    )

  return jax.lax.map(step, laws)


def calibration(generation) -> Calibration:
  """Predicted against accepted drafts, depth by depth.

  Args:
    generation: of gumbel_tree, at least two rows.

  Returns:
    `Calibration`, averaged over all target calls of all rows.

  Raises:
    ValueError: for other methods, which predict nothing.

  Example:
    >>> import listcoupling as lc
    >>> target, drafter = lc.shipped_pair()
    >>> options = lc.GenerateOptions(max_new_tokens=8)
    >>> out = lc.generate(jax.random.key(0), target, drafter,
    ...                   [[1, 2], [3, 4]], [2, 2], options)
    >>> calibration(out).predicted.shape
    (4,)
  """
  figures = generation.metrics
  predicted, accepted = (
    np.asarray(counts, np.float64)
    for counts in (
      figures.predicted_per_position,
      figures.accepted_per_position,
    )
  )
  if not predicted.size or np.isnan(predicted).any():
    raise ValueError(
      'only gumbel_tree predicts what is accepted; got a generation of '
      'another method.'
    )
  calls = figures.target_calls  # rows are independent
  terms = [
    standard_errors.ratio_terms(miss, calls)
    for miss in (accepted - predicted).T
  ]
  errors = np.array([*map(standard_errors.cluster_error, terms)], float)
  calls = calls.sum()
  return Calibration(predicted.sum(0) / calls, accepted.sum(0) / calls, errors)


def canonical_margins(
  key, target: LanguageModel, prompts, prompt_lengths, generation, options
):
  """How far ahead the written token was in the canonical race.

  Args:
    key: as given to `generate`.
    target: the model that wrote the text.
    prompts: [B, P].
    prompt_lengths: [B].
    generation: of a canonical method (autoregressive, gumbel_tree,
      gumbel_chains).
    options: as given to `generate`; no repetition penalty, logit bias or
      minimum length.

  Returns:
    [B, M] float, the perturbed logit of the written token minus the best other
    one. Negative where this forward would have chosen another token; NaN past
    the end of a row.
  """
  rows = rows_of(prompts, prompt_lengths, generation)
  logits = logits_along(target, rows)
  batch, width = generation.tokens.shape
  keys = key if key.ndim else gumbel.row_keys(key, jnp.arange(batch))

  def one(key, position, logits, token):
    law = filters.warp(logits, options.temperature, options)
    noise = filters.noise(gumbel.position_key(key, position), law)
    score = law.logits - jnp.log(noise)
    atom = token if law.tokens is None else jnp.argmax(law.tokens == token)
    others = score.at[atom].set(-jnp.inf)
    return score[atom] - jnp.max(others)

  positions = jnp.asarray(prompt_lengths)[:, None] + jnp.arange(width)[None]
  before = jnp.minimum(positions - 1, logits.shape[1] - 1)
  logits = jnp.take_along_axis(logits, before[:, :, None], axis=1)
  over_tokens = jax.vmap(one, in_axes=(None, 0, 0, 0))
  margins = jax.jit(jax.vmap(over_tokens))(
    keys, positions, logits, jnp.asarray(generation.tokens)
  )
  valid = np.arange(width) < np.asarray(generation.lengths)[:, None]
  return np.where(valid, np.asarray(margins), np.nan)


def differences(
  tokens: np.ndarray, expected: np.ndarray, margins: np.ndarray | None = None
) -> dict[str, float]:
  """How far two runs of a batch wrote the same.

  Args:
    tokens: [B, M].
    expected: [B, M].
    margins: [B, M] of `canonical_margins`, if they are known.

  Returns:
    The numbers of tokens, of identical ones and of diverging_rows, and the
    largest_margin, in size, at a row's first divergence; NaN without one.

  Example:
    >>> differences(np.array([[1, 2]]), np.array([[1, 3]]), np.array([[4, -5]]))
    {'tokens': 2, 'identical': 1, 'diverging_rows': 1, 'largest_margin': 5.0}
  """
  same = np.asarray(tokens == expected)
  rows = np.flatnonzero(~same.all(axis=1))
  largest = np.nan
  if margins is not None and rows.size:
    largest = np.abs(margins[rows, same[rows].argmin(axis=1)]).max()
  return {
    'tokens': same.size,
    'identical': int(same.sum()),
    'diverging_rows': rows.size,
    'largest_margin': float(largest),
  }


def common_atoms(
  draft: filters.Law, target: filters.Law, vocab_size: int
) -> tuple[jax.Array, jax.Array]:
  """Both laws as probabilities on the tokens that either can have.

  Args:
    draft: law over tokens.
    target: law over tokens.
    vocab_size: V.

  Returns:
    p [A] and q [A]; under top-k A is the number of tokens kept by both
    together, far below V.
  """
  chex.assert_rank([draft.logits, target.logits], 1)
  p, q = jax.nn.softmax(draft.logits), jax.nn.softmax(target.logits)
  if draft.tokens is None or target.tokens is None:
    return tuple(
      filters.probabilities(law, vocab_size) for law in (draft, target)
    )
  same = draft.tokens[:, None] == target.tokens[None]  # [draft, target]
  shared = jnp.sum(jnp.where(same, p[:, None], 0), axis=0)
  alone = jnp.where(jnp.any(same, axis=1), 0, p)
  return (
    jnp.concatenate([shared, alone]),
    jnp.concatenate([q, jnp.zeros_like(alone)]),
  )
