"""The public door of decoding: checks, bucketing, timing, results."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation
from listcoupling.decoding import loop, metrics
from listcoupling.decoding.drafters import as_drafter, check_drafter
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.options import GenerateOptions

_BUCKET = 32  # prompts are padded to multiples, to compile once for many


class Generation(NamedTuple):
  """Generated text of a batch."""

  tokens: np.ndarray  # [B, M] int32, stop token included, then pad_token
  lengths: np.ndarray  # [B] int32
  metrics: metrics.Metrics


def generate(
  key: jax.Array,
  target: LanguageModel,
  drafters: Sequence,
  prompts,
  prompt_lengths,
  options: GenerateOptions,
  *,
  on_block: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> Generation:
  """Continues a batch of prompts, drafting with any number of drafters.

  With the methods `autoregressive`, `gumbel_tree` and `gumbel_chains` the
  text is a function of (key, target, prompt, options of the target law)
  alone: the same with any drafter or none.

  Args:
    key: one typed key, folded by row, or [B] keys, one per row; then a row
      does not depend on its neighbours.
    target: the language model whose law the text follows.
    drafters: language models or other drafters; draft k uses drafter k mod D.
      Empty for `autoregressive`.
    prompts: [B, P] token ids, right-padded.
    prompt_lengths: [B], at least 1.
    options: see `GenerateOptions`.
    on_block: called after every block with tokens [B, M] and lengths [B] so
      far; costs one host round trip per block.

  Returns:
    `Generation`.

  Raises:
    ValueError: for prompts, options or models that do not fit each other, for
      a target without a possible token somewhere, or for a drafter without
      one under a rejection method.

  Example:
    >>> from listcoupling.models.pretrained import shipped_pair
    >>> target, drafter = shipped_pair()
    >>> out = generate(jax.random.key(0), target, [drafter], [[1, 2, 3]], [3],
    ...                GenerateOptions(max_new_tokens=8))
    >>> out.tokens.shape
    (1, 8)
  """
  # Tokens, positions and noise are 32-bit words.
  with jax.enable_x64(False):
    return _generate(
      key, target, drafters, prompts, prompt_lengths, options, on_block
    )


def _generate(key, target, drafters, prompts, lengths, options, on_block):
  vocab_size = _check_models(target, drafters, options)
  prompts, lengths = _check_prompts(prompts, lengths, target.config.vocab_size)
  keys = _row_keys(key, prompts.shape[0])
  engine, params = _engine(target, drafters, options, vocab_size, prompts)
  prompts = _bucket(prompts, engine.capacity)
  call = dict(engine=engine)
  state = loop.prefill(params, prompts, lengths, **call)
  step = loop.block if on_block else loop.run
  _compile(step, keys, params, state, **call)
  jax.block_until_ready(state)
  began = time.perf_counter()
  if on_block is None:
    state = step(keys, params, state, **call)
  else:
    while not bool(jnp.all(state.done)):
      state = step(keys, params, state, **call)
      on_block(*_text(state, lengths, options))
  jax.block_until_ready(state)
  seconds = time.perf_counter() - began
  tokens, counts = _text(state, lengths, options)
  figures = metrics.summarize(counts, state.counters, seconds)
  _check_outcome(tokens, counts, figures, options)
  return Generation(tokens, counts, figures)


def _compile(function, *args, **static):
  """Compiles now, so that the clock sees only the run."""
  function.lower(*args, **static).compile()


def _text(state, prompt_lengths, options):
  """Generated tokens [B, M], padded, and their number [B]."""
  columns = jnp.arange(options.max_new_tokens)
  places = jnp.minimum(
    prompt_lengths[:, None] + columns, state.tokens.shape[1] - 1
  )
  tokens = jnp.take_along_axis(state.tokens, places, axis=1)
  tokens = jnp.where(
    columns < state.num_new[:, None], tokens, options.pad_token
  )
  return np.asarray(tokens), np.asarray(state.num_new)


def _row_keys(key, batch):
  """[B] keys from one key or [B] keys."""
  shape = (batch,) if getattr(key, 'ndim', 0) == 1 else ()
  validation.check_key(key, shape)
  if shape:
    return key
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch))


def _check_models(target, drafters, options):
  """Checks that the models fit; returns the common vocabulary size."""
  if not isinstance(target, LanguageModel):
    raise ValueError(
      f'target must be a LanguageModel, got {type(target).__name__}; see '
      'listcoupling.load_pretrained.'
    )
  options.check(target.config.vocab_size)
  if options.method == 'autoregressive':
    return target.config.vocab_size
  if not drafters:
    raise ValueError(
      f'method {options.method!r} needs at least one drafter, got none; use '
      "method='autoregressive' for plain sampling."
    )
  if len(drafters) > options.num_drafts:
    raise ValueError(
      f'{len(drafters)} drafters cannot share num_drafts='
      f'{options.num_drafts} drafts; raise num_drafts or pass fewer.'
    )
  if not options.replacement and len(drafters) > 1:
    raise ValueError(
      f'replacement=False draws from one law, got {len(drafters)} drafters.'
    )
  if options.method == 'spectr' and len(drafters) > 1:
    raise ValueError(
      f'spectr needs K drafts from one law, got {len(drafters)} drafters; '
      'choose specinfer or gls for different drafters.'
    )
  sizes = [target.config.vocab_size]
  for drafter in drafters:
    check_drafter(drafter)
    _check_tokenizers(target, drafter)
    own = drafter.config if isinstance(drafter, LanguageModel) else drafter
    sizes.append(own.vocab_size)
  return max(sizes)


def _check_tokenizers(target, drafter):
  """Refuses two known tokenizers that disagree on any token."""
  ours, theirs = target.tokenizer, getattr(drafter, 'tokenizer', None)
  if ours is None or theirs is None:
    return
  differing = _differing_token(ours, theirs)
  if differing is not None:
    token, index = differing
    raise ValueError(
      f'target and drafter have different tokenizers: token {token!r} with '
      f"id {index} is in only one of them; use a drafter with the target's "
      'tokenizer.'
    )


@functools.lru_cache(maxsize=8)  # a large vocabulary takes a second to list
def _differing_token(ours, theirs):
  """The first (token, id) that only one tokenizer has, or None."""
  ours, theirs = ours.get_vocab().items(), theirs.get_vocab().items()
  return min(ours ^ theirs, key=lambda item: item[1], default=None)


def _check_prompts(prompts, lengths, vocab_size):
  prompts, lengths = np.asarray(prompts), np.asarray(lengths)
  if prompts.ndim != 2 or 0 in prompts.shape:
    raise ValueError(
      f'prompts must have shape [B, P] with P >= 1, got {prompts.shape}.'
    )
  if not np.issubdtype(prompts.dtype, np.integer):
    raise ValueError(f'prompts must be token ids, got dtype {prompts.dtype}.')
  if lengths.shape != prompts.shape[:1] or lengths.dtype.kind not in 'iu':
    raise ValueError(
      f'prompt_lengths must be {prompts.shape[0]} integers, got shape '
      f'{lengths.shape} of dtype {lengths.dtype}.'
    )
  if lengths.min() < 1 or lengths.max() > prompts.shape[1]:
    bad = lengths[(lengths < 1) | (lengths > prompts.shape[1])][0]
    raise ValueError(
      f'prompt_lengths must be in [1, {prompts.shape[1]}], got {bad}; an '
      'empty prompt needs at least a start token.'
    )
  prompts = prompts[:, : lengths.max()]
  prompts = np.where(np.arange(prompts.shape[1]) < lengths[:, None], prompts, 0)
  if prompts.min() < 0 or prompts.max() >= vocab_size:
    bad = prompts[(prompts < 0) | (prompts >= vocab_size)][0]
    raise ValueError(
      f'prompts hold token {bad}, outside the vocabulary of {vocab_size}.'
    )
  return prompts.astype(np.int32), jnp.asarray(lengths, jnp.int32)


def _engine(target, drafters, options, vocab_size, prompts):
  """The static engine and the traced parameters."""
  needed = prompts.shape[1] + options.max_new_tokens
  if options.cache_length is not None and options.cache_length < needed:
    raise ValueError(
      f'cache_length={options.cache_length} cannot hold prompts of '
      f'{prompts.shape[1]} tokens and max_new_tokens='
      f'{options.max_new_tokens}; {needed} are needed.'
    )
  padded = -(-prompts.shape[1] // _BUCKET) * _BUCKET
  capacity = options.cache_length or padded + options.max_new_tokens
  if options.method == 'autoregressive':
    drafters = ()
  pairs = [as_drafter(drafter) for drafter in drafters]
  engine = loop.Engine(
    target.static,
    vocab_size,
    tuple(drafter for drafter, _ in pairs),
    options,
    capacity,
  )
  return engine, loop.Params(target.params, tuple(p for _, p in pairs))


def _bucket(prompts, capacity):
  """Pads prompts so that few lengths are ever compiled."""
  size = min(-(-prompts.shape[1] // _BUCKET) * _BUCKET, capacity)
  return jnp.pad(jnp.asarray(prompts), ((0, 0), (0, size - prompts.shape[1])))


def _check_outcome(tokens, lengths, figures, options):
  """Refuses what only the run could tell: laws without a possible token."""
  empty = (tokens < 0) & (np.arange(tokens.shape[1]) < lengths[:, None])
  if empty.any():
    row, place = np.argwhere(empty)[0]
    raise ValueError(
      f'row {row}: the target has no possible token at new token {place} (NaN '
      'or all -inf logits); repair the model, or relax logit_bias and '
      'min_new_tokens.'
    )
  invalid = int(figures.invalid_drafts.sum())
  # Without replacement a small support leaves slots empty by right.
  if invalid and options.replacement and options.method in loop.REJECTION:
    raise ValueError(
      f'{invalid} drafts had no possible token (NaN or all -inf logits of a '
      f'drafter), which method {options.method!r} cannot verify; repair the '
      'drafter or use gumbel_tree, which such drafts cannot harm.'
    )
