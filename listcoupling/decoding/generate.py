"""The public door of decoding: checks, buckets, timing, results."""

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from listcoupling import gumbel, validation
from listcoupling.decoding import filters, loop, placement, programs
from listcoupling.decoding.drafters import (
  as_drafter,
  as_list,
  check_drafter,
  check_shapes,
)
from listcoupling.decoding.language_model import LanguageModel, check_model
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions


class Metrics(NamedTuple):
  """Figures of one call, all per row but the last two; the words are vLLM's."""

  block_efficiency: np.ndarray  # [B] tokens returned per target call
  target_calls: np.ndarray  # [B] forwards of the target after the prompt
  drafted_tokens: np.ndarray  # [B] proposals judged by the target
  accepted_tokens: np.ndarray  # [B] drafted tokens that are in the text
  accepted_per_position: np.ndarray  # [B, L] blocks that accepted depth j
  # [B, L] the same as the best-first tree expected; NaN for other methods.
  predicted_per_position: np.ndarray
  # [B] slots left empty: no possible token. By right where a law has few; above
  # 0 for a model without filters, its logits are NaN somewhere.
  invalid_drafts: np.ndarray
  # Whole batch, wall clock from the end of the prompt's forward to the last
  # token, compilation excluded.
  tokens_per_second: float
  # Share of the rows' blocks that wrote; in the others a row waited, done, for
  # its neighbours.
  occupancy: float

  def row(self, b: int) -> 'Metrics':
    """The figures of one row, without axis B; the last two are the batch's."""
    figures = {
      name: value[b]
      for name, value in self._asdict().items()
      if name not in ('tokens_per_second', 'occupancy')
    }
    return self._replace(**figures)

  @property
  def acceptance_rate(self) -> np.ndarray:
    """[B, L] share of the target calls that accepted depth j."""
    calls = np.maximum(self.target_calls, 1)
    return self.accepted_per_position / np.expand_dims(calls, -1)

  @property
  def mean_acceptance_length(self) -> np.ndarray:
    """[B] 1 + accepted tokens per target call."""
    return 1 + self.accepted_tokens / np.maximum(self.target_calls, 1)

  @property
  def draft_acceptance_rate(self) -> np.ndarray:
    """[B] accepted tokens per drafted token; 0 without drafts."""
    return self.accepted_tokens / np.maximum(self.drafted_tokens, 1)


class Generation(NamedTuple):
  """Generated text of a batch."""

  tokens: np.ndarray  # [B, M] int32, stop token included, then pad_token
  lengths: np.ndarray  # [B] int32
  metrics: Metrics


def generate(
  key: jax.Array,
  target: LanguageModel,
  drafters: Sequence,
  prompts,
  prompt_lengths,
  options: GenerateOptions,
  *,
  mesh: Mesh | None = None,
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
    drafters: one drafter or several, language models or others; draft k uses
      drafter k mod D. Empty for `autoregressive`.
    prompts: [B, P] token ids, right-padded.
    prompt_lengths: [B], at least 1.
    options: see `GenerateOptions`.
    mesh: devices that share the work, with axes 'data' (rows), 'tp'
      (vocabulary, heads, perceptron) and 'fsdp' (storage); None takes the mesh
      that the target's parameters lie on, if any. Several processes make the
      same call and get the same result. See `placement`.
    on_block: called after every block with tokens [B, M] and lengths [B] so
      far; costs one host round trip per block. It may return [B] bool, the rows
      that end here. Its `finish()`, if it has one, is called after the last.

  Returns:
    `Generation`.

  Raises:
    ValueError: for prompts, options or models that do not fit each other or
      the mesh, for a target without a possible token somewhere, for a
      drafter without one under a rejection method, or inside of `jax.jit`,
      `jax.vmap` or `jax.grad`.

  Example:
    >>> import listcoupling as lc
    >>> target, drafter = lc.shipped_pair()
    >>> out = generate(jax.random.key(0), target, [drafter], [[1, 2, 3]], [3],
    ...                GenerateOptions(max_new_tokens=8))
    >>> out.tokens.shape
    (1, 8)
  """
  # Tokens, positions and noise are 32-bit words.
  with jax.enable_x64(False):
    return _generate(
      key, target, drafters, prompts, prompt_lengths, options, mesh, on_block
    )


def _generate(key, target, drafters, prompts, lengths, options, mesh, on_block):
  if on_block is not None and not callable(on_block):
    raise ValueError(f'on_block must be callable or None, got {on_block!r}.')
  call = prepare(
    key, target, drafters, prompts, lengths, options, mesh, on_block
  )
  state, info = jax.block_until_ready(call.prefill())
  step = call.compiled(loop.block if on_block else loop.run, state, info)
  began = time.perf_counter()
  if on_block is None:
    state, info = step(*call.arguments, state, info)
  else:
    while not placement.fetch(state.done).all():
      state, info = step(*call.arguments, state, info)
      ended = on_block(*gather(state, call))
      if ended is not None:
        done = placement.fetch(state.done).copy()
        done[: call.prompt_lengths.size] |= _check_ended(ended, call)
        state = state._replace(done=placement.put(done, state.done.sharding))
  jax.block_until_ready(state)
  seconds = time.perf_counter() - began
  if hasattr(on_block, 'finish'):
    on_block.finish()
  info = jax.tree.map(placement.fetch, info)
  # With `on_block` all shards run until the last row is done.
  alone = call.mesh is not None and on_block is None
  row_blocks = count_row_blocks(
    info.target_calls,
    call.prompt_lengths.size,
    call.mesh.shape['data'] if alone else 1,
  )
  return call.finish(*gather(state, call), info, seconds, row_blocks)


def _check_ended(ended, call):
  """Rows that `on_block` says end here, as [B] bool."""
  ended = np.asarray(ended)
  if ended.shape != call.prompt_lengths.shape or ended.dtype != bool:
    raise ValueError(
      f'on_block must return None or {call.prompt_lengths.size} truth values, '
      f'got shape {ended.shape} of dtype {ended.dtype}.'
    )
  return ended


class Call(NamedTuple):
  """A checked call of `generate`: its programs' arguments.

  Rows are padded to a bucket; those past the prompts are done from the start.
  """

  sampler: loop.Sampler
  options: GenerateOptions
  keys: jax.Array  # [B]
  params: loop.Params
  sampling: filters.SamplingParams
  tokens: np.ndarray  # [B, T]
  lengths: np.ndarray  # [B]
  prompt_lengths: np.ndarray  # of the rows that were asked for
  mesh: Mesh | None  # in the standard form of `placement`

  @property
  def arguments(self):
    """Arguments of `loop.run` and `loop.block` before the state."""
    return self.keys, self.params, self.sampling

  def prefill(self, done=None) -> tuple[loop.State, loop.Info]:
    """Reads the prompts; rows that are `done` [B] write nothing."""
    if done is None:
      done = np.arange(self.lengths.size) >= self.prompt_lengths.size
    rows = placement.put_rows((self.tokens, self.lengths, done), self.mesh)
    args = self.params, *rows, self.sampling
    function = placement.per_shard(
      loop.prefill, self.mesh, (False, True, True, True, False)
    )
    return programs.get(function, *args, sampler=self.sampler)(*args)

  def compiled(self, function: Callable, state, info, **static) -> Callable:
    """`loop.run` or its like for this call; the state is given up."""
    return programs.get(
      placement.per_shard(
        function, self.mesh, (True, False, False, True, True)
      ),
      *self.arguments,
      state,
      info,
      donate=(3, 4),
      out_shardings=placement.like((state, info), self.mesh),
      sampler=self.sampler,
      **static,
    )

  def finish(
    self, tokens, counts, info, seconds: float, row_blocks: int
  ) -> Generation:
    """Checks what came out and counts it up; see `Metrics`."""
    figures = _summarize(counts, info, seconds, row_blocks)
    _check_outcome(tokens, counts, figures, self.options)
    return Generation(tokens, counts, figures)


def count_row_blocks(target_calls, count: int, shards: int) -> int:
  """Rows times blocks, where each shard stops once its last row is done.

  Args:
    target_calls: [B] of all rows; shards hold equal parts of them in order.
    count: of rows that were asked for; the others write nothing.
    shards: that never wait for each other.

  Example:
    >>> count_row_blocks(np.array([9, 3, 2, 0]), 3, shards=2)
    20
  """
  calls = np.reshape(target_calls, (shards, -1))
  asked = np.arange(calls.size).reshape(calls.shape) < count
  return int((asked.sum(axis=1) * calls.max(axis=1)).sum())


def _summarize(lengths, info, seconds: float, row_blocks: int) -> Metrics:
  """`Metrics` of a batch.

  Args:
    lengths: [B] tokens written.
    info: of the loop.
    seconds: it took.
    row_blocks: rows times the blocks that ran while they were there.
  """
  info = type(info)(*(np.asarray(leaf)[: len(lengths)] for leaf in info))
  return Metrics(
    block_efficiency=lengths / np.maximum(info.target_calls, 1),
    target_calls=info.target_calls,
    drafted_tokens=info.drafted,
    accepted_tokens=info.accepted_per_position.sum(axis=1),
    accepted_per_position=info.accepted_per_position,
    predicted_per_position=info.predicted_per_position,
    invalid_drafts=info.invalid,
    tokens_per_second=float(lengths.sum()) / max(seconds, 1e-9),
    occupancy=float(info.target_calls.sum()) / max(row_blocks, 1),
  )


def prepare(
  key, target, drafters, prompts, lengths, options, mesh=None, on_block=None
) -> Call:
  """Checks the arguments of `generate` and shapes them into buckets."""
  drafters = as_list(drafters)
  validation.check_untraced('generate', key, prompts, lengths, target, drafters)
  with placement.agreement(mesh, target) as agree:
    vocab_size, options = _check_models(target, drafters, options)
    prompts, lengths = check_prompts(prompts, lengths, target, options)
    _warn_of_drafters(drafters, lengths, options)
    mesh = placement.choose_mesh(mesh, target.params)
    device = _device(target, drafters) if mesh is None else None
    batch = placement.rows_on(mesh, len(prompts), rows_bucket(len(prompts)))
    shape = batch, _capacity(prompts, options)
    keys = _row_keys(key, len(prompts), batch)
    agree(
      keys=jax.random.key_data(keys),
      prompts=prompts,
      prompt_lengths=lengths,
      options=options,
      target=target.config,
      drafters=[getattr(x, 'config', type(x).__name__) for x in drafters],
      mesh=None if mesh is None else mesh.shape,
      on_block=on_block is None,
    )
  target, drafters = place_models(target, drafters, mesh, vocab_size)
  sampler, params = _sampler(target, drafters, options, vocab_size, *shape)
  tokens, all_lengths = _into_bucket(prompts, lengths, *shape)
  return Call(
    sampler=sampler,
    options=options,
    keys=placement.put_rows(keys, mesh, device),
    params=params,
    sampling=filters.sampling_params(options),
    tokens=tokens,
    lengths=all_lengths,
    prompt_lengths=lengths,
    mesh=mesh,
  )


def _sampler(target, drafters, options, vocab_size, batch, capacity):
  """The static part of a program and its parameters; checks drafters."""
  drafts = METHODS[options.method].drafts
  pairs = [as_drafter(each) for each in drafters if drafts]
  sampler = loop.make_sampler(
    target,
    [drafter for drafter, _ in pairs],
    options,
    vocab_size=vocab_size,
    capacity=capacity,
  )
  for d, (drafter, own) in enumerate(pairs):
    if not isinstance(drafters[d], LanguageModel):
      shape = (options.draft_length, len(sampler.speculation.slots(d)))
      check_shapes(drafter, own, batch, shape, capacity)
  return sampler, loop.Params(target.params, tuple(own for _, own in pairs))


def _device(target, drafters):
  """The one that all models lie on."""
  models = {'target': target.params} | {
    f'drafters[{d}]': getattr(drafter, 'params', ())
    for d, drafter in enumerate(drafters)
  }
  return placement.one_device(models)


def place_models(
  target: LanguageModel,
  drafters: Sequence,
  mesh: Mesh | None,
  vocab_size: int,
) -> tuple[LanguageModel, list]:
  """The models on the mesh, if there is one.

  Args:
    target: whose sizes the mesh must divide.
    drafters: of them, language models are placed.
    mesh: in standard form.
    vocab_size: V, the largest of all models'.
  """
  if mesh is None:
    return target, list(drafters)
  target = target.place(target, mesh, vocab_size=vocab_size, strict=True)
  placed = []
  for drafter in drafters:
    if isinstance(drafter, LanguageModel):
      drafter = drafter.place(
        drafter, mesh, vocab_size=vocab_size, strict=False
      )
    placed.append(drafter)
  return target, placed


def rows_bucket(count: int) -> int:
  """Rows compiled for `count`: 1 to 4, 6, 8, 12, 16 ... 256, 320 ..."""
  if count > 256:
    return -(-count // 64) * 64
  size = 1 << (count - 1).bit_length()
  return size * 3 // 4 if size > 2 and count <= size * 3 // 4 else size


def tokens_bucket(count: int) -> int:
  """Tokens a row that holds `count` has room for: a quarter more at most."""
  step = max(32, 1 << max(0, (count - 1).bit_length() - 3))
  return -(-count // step) * step


def _capacity(prompts, options):
  """Tokens per row: what was asked for, or a bucket that holds the text."""
  needed = prompts.shape[1] + options.max_new_tokens
  if options.cache_length is None:
    return tokens_bucket(needed)
  if options.cache_length < needed:
    raise ValueError(
      f'cache_length={options.cache_length} cannot hold prompts of '
      f'{prompts.shape[1]} tokens and max_new_tokens='
      f'{options.max_new_tokens}; {needed} are needed.'
    )
  return options.cache_length


def gather(state: loop.State, call: Call) -> tuple[np.ndarray, np.ndarray]:
  """Generated tokens [B, M], padded, and their number [B]."""
  rows, size = call.prompt_lengths.size, call.options.max_new_tokens
  written, counts = map(placement.fetch, (state.tokens, state.num_new))
  counts = counts[:rows]
  columns = np.arange(size)
  places = np.minimum(
    call.prompt_lengths[:, None] + columns, written.shape[1] - 1
  )
  tokens = np.take_along_axis(written[:rows], places, axis=1)
  known = columns < counts[:, None]
  return np.where(known, tokens, np.int32(call.options.pad_token)), counts


def _into_bucket(prompts, lengths, batch, capacity):
  """[batch, capacity] tokens and their [batch] lengths, 1 past the prompts."""
  tokens = np.zeros((batch, capacity), np.int32)
  tokens[: len(prompts), : prompts.shape[1]] = prompts
  rest = np.ones(batch - len(lengths), np.int32)
  return tokens, np.append(lengths, rest)


def _row_keys(key, count, size):
  """[size] keys from one key or [count] keys; the rest are never read."""
  shape = (count,) if getattr(key, 'ndim', 0) == 1 else ()
  validation.check_key(key, shape)
  rows = np.arange(size)
  if shape:
    return key if size == count else key[np.minimum(rows, count - 1)]
  return _fold_rows(key, rows.astype(np.int32))


@jax.jit
def _fold_rows(key, rows):
  return gumbel.row_keys(key, rows)


def with_stops(target, options) -> GenerateOptions:
  """The options, with the checkpoint's stop tokens where none were given.

  Raises:
    ValueError: for what is no `LanguageModel` or no `GenerateOptions`.
  """
  if not isinstance(target, LanguageModel):
    raise ValueError(
      f'target must be a LanguageModel, got {type(target).__name__}; see '
      'listcoupling.load_pretrained.'
    )
  if not isinstance(options, GenerateOptions):
    raise ValueError(
      f'options must be GenerateOptions, got {type(options).__name__}.'
    )
  ordered = options.forward_nodes is not None and target.ordered is not None
  check_model(target, 'target', 'ordered' if ordered else 'apply')
  if options.stop_tokens is not None:
    return options
  stops = getattr(target.config, 'stop_tokens', None) or ()
  return dataclasses.replace(options, stop_tokens=stops)


def _check_models(target, drafters, options):
  """The common vocabulary size, and the options `with_stops`, all checked."""
  options = with_stops(target, options)
  options.check(target.config.vocab_size)
  method = METHODS[options.method]
  if not method.drafts:
    return target.config.vocab_size, options
  if not drafters:
    raise ValueError(
      f'method {options.method!r} needs at least one drafter, got none; '
      'NGramDrafter (--drafter=ngram) needs no second model, the method '
      'autoregressive no drafter.'
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
  if method.one_law and len(drafters) > 1:
    raise ValueError(
      f'{options.method} needs K drafts from one law, got {len(drafters)} '
      'drafters; choose specinfer or gls for different drafters.'
    )
  sizes = [target.config.vocab_size]
  for drafter in drafters:
    check_drafter(drafter)
    check_tokenizers(target, drafter)
    own = drafter.config if isinstance(drafter, LanguageModel) else drafter
    sizes.append(own.vocab_size)
  return max(sizes), options


def _longest(lengths, options):
  """Index of the longest prompt, tokens of its text, words on them."""
  row = int(np.argmax(lengths))
  needed = int(lengths[row]) + options.max_new_tokens
  words = (
    f'may reach {needed} tokens ({lengths[row]} of the prompt and '
    f'max_new_tokens={options.max_new_tokens})'
  )
  return row, needed, words


def _check_positions(target, lengths, options):
  """Refuses prompts that outgrow the target's positions."""
  row, needed, asked = _longest(lengths, options)
  limit = getattr(target.config, 'max_positions', None)
  hard = getattr(target.config, 'hard_limit', '')  # what insisting cannot mend
  if limit is not None and needed > limit and (hard or not options.allow_long):
    remedy = (
      f'write fewer: {hard}'
      if hard
      else ('write fewer, or insist with allow_long=True')
    )
    raise validation.ItemError(
      'prompts',
      row,
      f'{asked}, past the {limit} positions that the target was made for '
      f'(max_position_embeddings); {remedy}.',
    )


def _warn_of_drafters(drafters, lengths, options):
  """Warns of drafters made for shorter texts."""
  row, needed, asked = _longest(lengths, options)
  for d, drafter in enumerate(drafters):
    config = getattr(drafter, 'config', None)
    limit = getattr(config, 'max_positions', None)
    if limit is not None and needed > limit:
      warnings.warn(
        f'a text {asked}, past the {limit} positions of drafters[{d}]: '
        'the text is unharmed, its drafts may be poor there.',
        stacklevel=4,
      )


def check_tokenizers(target, drafter) -> None:
  """Refuses two known tokenizers that disagree on any token: ValueError."""
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


def check_prompts(
  prompts, lengths, target: LanguageModel, options: GenerateOptions
) -> tuple[np.ndarray, np.ndarray]:
  """Prompts [B, P] and lengths [B] as int32, if the target can take them.

  Raises:
    ValueError: for other shapes or types, tokens outside the vocabulary, or
      texts that outgrow the target's positions.
  """
  vocab_size = target.config.vocab_size
  try:
    prompts, lengths = np.asarray(prompts), np.asarray(lengths)
  except ValueError:  # rows of several lengths
    raise ValueError(
      'prompts must be one array [B, P] and prompt_lengths [B], got rows of '
      'different lengths; pad_prompts makes both of them.'
    ) from None
  if prompts.ndim != 2 or 0 in prompts.shape:
    raise ValueError(
      f'prompts must have shape [B, P] with B, P >= 1, got {prompts.shape}; '
      'pad_prompts makes it of lists, encode_prompts of texts.'
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
  outside = np.argwhere((prompts < 0) | (prompts >= vocab_size))
  if len(outside):
    row, place = outside[0]
    words = f'token {prompts[row, place]}, outside the vocabulary of'
    raise validation.ItemError('prompts', row, f'holds {words} {vocab_size}.')
  _check_positions(target, lengths, options)
  return prompts.astype(np.int32), lengths.astype(np.int32)


def _check_outcome(tokens, lengths, figures, options):
  """Refuses what only the run could tell: laws without a possible token."""
  empty = (tokens < 0) & (np.arange(tokens.shape[1]) < lengths[:, None])
  if empty.any():
    row, place = np.argwhere(empty)[0]
    raise validation.ItemError(
      'prompts',
      row,
      f'leaves the target no possible token after {place} new ones (NaN or all '
      '-inf logits); repair the model, or relax logit_bias and min_new_tokens.',
    )
  invalid = figures.invalid_drafts
  # Without replacement a small support leaves slots empty by right.
  if METHODS[options.method].rejection and options.replacement:
    for row in np.flatnonzero(invalid)[:1]:
      raise validation.ItemError(
        'prompts',
        row,
        f'got {invalid[row]} drafts without a possible token (NaN or all -inf '
        f'logits of a drafter), which method {options.method!r} cannot verify; '
        'repair the drafter or use gumbel_tree, which such drafts cannot harm.',
      )
  if invalid.any() and not figures.drafted_tokens.any():
    warnings.warn(
      'no draft had a possible token (NaN or all -inf logits of the drafters); '
      'the text is unharmed, but drafting only costs time: repair them. See '
      'metrics.invalid_drafts.',
      stacklevel=5,
    )
