"""Text in, text out: prompts become tokens, tokens become text.

`generate_text` does all of it; the rest are its parts.

Legend: B rows of a batch, R texts asked for, P prompt tokens, M new tokens.
"""

import bisect
import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from listcoupling import gumbel, validation
from listcoupling.decoding import analysis, placement
from listcoupling.decoding.chat import ChatTemplate
from listcoupling.decoding.generate import (
  Metrics,
  check_prompts,
  generate,
  with_stops,
)
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.gumbel import Domain


class Completion(NamedTuple):
  """One text that was asked for."""

  prompt: Any  # as it was given
  prompt_tokens: tuple[int, ...]
  text: str | None  # without prompt and special tokens; None: no tokenizer
  tokens: tuple[int, ...]  # generated, stop token included
  finish_reason: str  # 'stop_token', 'stop_string' or 'length'
  logprobs: tuple[float, ...] | None  # of `tokens` under the model as it is
  metrics: Metrics  # of this row; tokens_per_second is that of its batch


def generate_text(
  key: jax.Array,
  target: LanguageModel,
  drafters: Sequence,
  texts: Sequence[Any],
  options: GenerateOptions,
  *,
  batch_size: int = 16,
  num_samples: int = 1,
  stop_strings: Sequence[str] = (),
  add_special_tokens: bool | None = None,
  logprobs: bool = False,
  chat_template: ChatTemplate | None = None,
  on_text: Callable[[int, str], None] | None = None,
  on_done: Callable[[int, Completion], None] | None = None,
) -> list[Completion]:
  """Continues any number of texts, in batches.

  A text depends on its own key and prompt, not on the other prompts, the
  batches or `num_samples`.

  Args:
    key: one typed key, folded by prompt as `generate` folds it by row, and by
      sample from the second on; or [R] keys.
    target: the language model whose law the texts follow.
    drafters: as for `generate`.
    texts: prompts; each a string, a list of messages (with `chat_template`) or
      a list of token ids.
    options: see `GenerateOptions`.
    batch_size: rows that are generated at a time.
    num_samples: texts per prompt.
    stop_strings: the first of them in a text ends it and is cut off, with all
      that follows.
    add_special_tokens: see `encode_prompts`; None means not under a chat
      template, which writes them itself, and else yes.
    logprobs: whether to return natural log-probabilities of the tokens, at
      temperature 1 and before all filters. Costs a forward of each text.
    chat_template: from `read_chat_template`; a string is then what a user says.
    on_text: called with the number of a text, from 0, and what was added to
      it, as it comes.
    on_done: called with the number of a text and its completion, when its batch
      is done.

  Returns:
    R = len(texts) * num_samples completions, all samples of the first prompt,
    then those of the second, and so on.

  Raises:
    ValueError: as `generate` and `encode_prompts`.

  Example:
    >>> import listcoupling as lc
    >>> target, drafter = lc.shipped_pair()
    >>> options = GenerateOptions(max_new_tokens=8)
    >>> done, = generate_text(jax.random.key(0), target, [drafter],
    ...                       ['def main('], options)
    >>> len(done.tokens), done.finish_reason
    (8, 'length')
  """
  validation.check_untraced('generate_text', key, getattr(target, 'params', ()))
  tokenizer, texts = target.tokenizer, _as_texts(texts)
  with placement.agreement(None, target) as agree:
    options = with_stops(target, options)
    options.check(target.config.vocab_size)
    _check_numbers(batch_size=batch_size, num_samples=num_samples)
    _check_strings(tokenizer, stop_strings, on_text, on_done)
    _check_switch(logprobs, 'logprobs', (False, True))
    rows = _prompt_rows(tokenizer, texts, add_special_tokens, chat_template)
    keys = _keys(key, len(rows), num_samples)
    _check_rows(rows, batch_size, target, options)
    agree(batch_size=batch_size, num_samples=num_samples)
  completions = []
  for first in range(0, len(keys), batch_size):
    batch = [i // num_samples for i in range(first, len(keys))[:batch_size]]
    streams = _Streams(tokenizer, len(batch), stop_strings, on_text, first)
    own = keys[first : first + batch_size], rows, batch
    out = _continue(*own, target, drafters, options, streams)
    prompts = [(texts[i], rows[i]) for i in batch]
    done = _completions(prompts, out, streams, options.stop_tokens)
    completions += _scored(done, target) if logprobs else done
    for number in range(first, len(completions)) if on_done else ():
      on_done(number, completions[number])
  return completions


def _check_rows(rows, batch_size, target, options):
  """Refuses prompts of any batch before one is continued."""
  for first in range(0, len(rows), batch_size):
    batch = range(first, len(rows))[:batch_size]
    with _numbered(batch):
      check_prompts(*pad_prompts([rows[i] for i in batch]), target, options)


@contextlib.contextmanager
def _numbered(batch):
  """Errors on prompts of a batch name their places in the whole list."""
  try:
    yield
  except validation.ItemError as error:
    index = batch[error.index]
    raise validation.ItemError(error.name, index, error.words) from error


def _continue(keys, rows, batch, target, drafters, options, streams):
  """A batch of rows as `generate` does; `streams` have all of its text."""
  on_block = streams if streams.are_watched else None
  prompts = pad_prompts([rows[i] for i in batch])
  call = keys, target, drafters, *prompts, options
  with _numbered(batch):
    out = generate(*call, on_block=on_block)
  streams(out.tokens, out.lengths, last=True)
  return out


def _check_strings(tokenizer, stop_strings, on_text, on_done):
  if not isinstance(stop_strings, (list, tuple)) or not all(
    isinstance(stop, str) and stop for stop in stop_strings
  ):
    raise ValueError(
      'stop_strings must be a sequence of non-empty strings, got '
      f'{stop_strings!r}.'
    )
  _check_callable(on_text, 'on_text')
  _check_callable(on_done, 'on_done')
  if tokenizer is None and (stop_strings or on_text is not None):
    raise ValueError(
      'the target has no tokenizer.json, which stop_strings and on_text need; '
      'leave them out, or use stop_tokens.'
    )


def _check_numbers(**numbers):
  for name, value in numbers.items():
    validation.check_positive_int(value, name)


def _check_callable(value, name):
  if value is not None and not callable(value):
    raise ValueError(f'{name} must be callable or None, got {value!r:.80}.')


def _check_switch(value, name, choices):
  if not any(value is each for each in choices):
    raise ValueError(f'{name} must be one of {choices}, got {value!r:.80}.')


def _prompt_rows(tokenizer, texts, add_special_tokens, chat_template):
  """Token ids of each prompt, of whatever kind it is."""
  _check_switch(add_special_tokens, 'add_special_tokens', (None, False, True))
  if add_special_tokens is None:
    add_special_tokens = chat_template is None
  if not isinstance(chat_template, ChatTemplate | None):
    raise ValueError(
      'chat_template must be what read_chat_template gives, got '
      f'{type(chat_template).__name__}.'
    )
  tokenizer, rows, chats = _whole(tokenizer), [], {}
  for row, text in enumerate(texts):
    if not isinstance(text, (str, Sequence, np.ndarray, jax.Array)):
      kinds = 'a string, a list of messages or of token ids'
      found = type(text).__name__
      raise _refusal(row, f'must be {kinds}, got {found}.')
    if any(isinstance(each, Mapping) for each in text):
      chats[row] = text
    elif chat_template is not None and isinstance(text, str):
      chats[row] = [{'role': 'user', 'content': text}]
  if chats and chat_template is None:
    raise _refusal(
      min(chats),
      'holds messages, which need a chat_template; read_chat_template takes '
      "the checkpoint's, the flag --chat too.",
    )
  filled = chat_template.render_rows(chats) if chats else {}
  for row, text in enumerate(texts):
    text = filled.get(row, text)
    if isinstance(text, str):
      text = _encode(tokenizer, text, row, add_special_tokens)
    rows.append(_check_ids(text, row))
  return rows


def _as_texts(texts):
  """One text or several as a list."""
  if isinstance(texts, str):
    return [texts]
  if isinstance(texts, (bytes, Mapping)) or not isinstance(texts, Iterable):
    raise ValueError(
      f'prompts must be a string or a sequence of prompts, got {texts!r:.80}.'
    )
  return list(texts)


def _check_ids(ids, row):
  """Token ids of one prompt as a list."""
  try:
    ids = np.asarray(ids)
  except ValueError:
    ids = np.asarray(None)  # lists of different lengths
  if ids.ndim != 1 or not ids.size or ids.dtype.kind not in 'iu':
    raise _refusal(
      row, f'must hold at least one token id, got {ids.tolist()!r:.80}.'
    )
  bad = ids[(ids < 0) | (ids > np.iinfo(np.int32).max)]
  if bad.size:
    raise _refusal(row, f'must hold ids in 0 .. 2^31 - 1, got {bad[0]}.')
  return ids.tolist()


def _refusal(row, words):
  return validation.ItemError('prompts', row, words)


def _keys(key, num_prompts, num_samples):
  """[R] keys of the texts."""
  if getattr(key, 'ndim', 0) == 1:
    validation.check_key(key, (num_prompts * num_samples,))
    return key
  validation.check_key(key)

  def one(number):
    row = gumbel.position_key(key, number // num_samples)
    sample = number % num_samples
    other = gumbel.domain_key(row, Domain.SAMPLE, sample)
    return jnp.where(sample == 0, row, other)

  count = num_prompts * num_samples
  return jax.jit(jax.vmap(one))(np.arange(count, dtype=np.int32))


class _Streams:
  """The `on_block` of a batch: hands text on, ends rows at stop strings."""

  def __init__(self, tokenizer, size, stop_strings, on_text, first):
    self.rows = [TextStream(tokenizer, stop_strings) for _ in range(size)]
    self.first = first
    self.are_watched = bool(stop_strings) or on_text is not None
    self._on_text = on_text

  def __call__(self, tokens, lengths, last=False):
    """Returns [B], whether a row has met a stop string."""
    for b, stream in enumerate(self.rows):
      new = stream.push(tokens[b, : lengths[b]].tolist(), last=last)
      if new and self._on_text is not None:
        self._on_text(self.first + b, new)
    return np.array([row.stopped_by is not None for row in self.rows])


def _completions(prompts, out, streams, stop_tokens) -> list[Completion]:
  """Those of a batch, whose prompts are told with their tokens."""
  return [
    _completion(prompt, row, out, b, streams.rows[b], stop_tokens)
    for b, (prompt, row) in enumerate(prompts)
  ]


def _completion(prompt, row, out, b, stream, stop_tokens) -> Completion:
  """Row b of a batch, and why and where it ends."""
  tokens = out.tokens[b, : out.lengths[b]].tolist()
  reason = 'stop_token' if tokens[-1] in stop_tokens else 'length'
  if stream.stopped_by is not None:
    reason = 'stop_string'
    # Up to the token that completed it.
    sizes = range(1, len(tokens))
    tokens = tokens[
      : 1 + bisect.bisect(sizes, False, key=stream.stops_in(tokens))
    ]
  return Completion(
    prompt=prompt,
    prompt_tokens=tuple(row),
    text=stream.text,
    tokens=tuple(tokens),
    finish_reason=reason,
    logprobs=None,
    metrics=out.metrics.row(b),
  )


def _scored(completions, target):
  """Completions with the log-probabilities of their tokens."""
  rows = [done.prompt_tokens + done.tokens for done in completions]
  scores = analysis.log_probabilities(target, pad_prompts(rows)[0])
  return [
    done._replace(
      logprobs=tuple(score[: len(row) - 1][-len(done.tokens) :].tolist())
    )
    for done, row, score in zip(completions, rows, scores)
  ]


def encode_prompts(
  tokenizer: tokenizers.Tokenizer | None,
  texts: str | Sequence[Any],
  *,
  add_special_tokens: bool | None = None,
  chat_template: ChatTemplate | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Token ids of several texts, right-padded.

  Truncation and padding that the tokenizer may have been saved with do not
  apply: every prompt is whole, and no more than that.

  Args:
    tokenizer: of the target.
    texts: non-empty strings, or one of them; lists of token ids pass through.
    add_special_tokens: what the tokenizer puts around a text, such as a token
      that begins it; None: unless a template is filled in. A prompt that begins
      with that token already gives a warning.
    chat_template: filled in with lists of messages, and with strings as one
      message of a user.

  Returns:
    prompts [B, P] int32 and their lengths [B] int32.

  Raises:
    ValueError: for a text without a token, for what is no text, or without a
      tokenizer.

  Example:
    >>> import listcoupling as lc
    >>> tokenizer = lc.shipped_pair()[0].tokenizer
    >>> prompts, lengths = encode_prompts(tokenizer, ['def'])
    >>> prompts.shape[0], int(lengths[0]) >= 1
    (1, True)
  """
  texts = _as_texts(texts)
  return pad_prompts(
    _prompt_rows(tokenizer, texts, add_special_tokens, chat_template)
  )


def _encode(tokenizer, text, row, add_special_tokens):
  if tokenizer is None:
    raise ValueError(
      'the target has no tokenizer.json, got text prompts; give token ids, or '
      'put the tokenizer.json of the model beside its weights.'
    )
  try:
    ids = tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
  except TypeError as error:
    words = 'holds half a surrogate pair, which no text has; repair it'
    raise _refusal(row, f'{words}: {text[:80]!r}.') from error
  if not ids:
    raise _refusal(
      row, f'has no tokens, got {text[:80]!r}; give at least one character.'
    )
  if add_special_tokens and ids[:1] == ids[1:2]:
    _warn_if_doubled(tokenizer, ids[0], row)
  return ids


def _whole(tokenizer):
  """The tokenizer, or a copy of it without truncation and padding."""
  if tokenizer is None:
    return None
  if not isinstance(tokenizer, tokenizers.Tokenizer):
    raise ValueError(
      'tokenizer must be a tokenizers.Tokenizer such as that of '
      f'load_pretrained, got {type(tokenizer).__name__}.'
    )
  if tokenizer.truncation is None and tokenizer.padding is None:
    return tokenizer
  tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
  tokenizer.no_truncation()
  tokenizer.no_padding()
  return tokenizer


def _warn_if_doubled(tokenizer, first: int, row: int):
  if tokenizer.encode('', add_special_tokens=True).ids[:1] == [first]:
    token = tokenizer.id_to_token(first)
    warnings.warn(
      f'prompts[{row}] begins with {token!r}, which the tokenizer puts there, '
      'too; the model sees it twice. Take it out, or set '
      'add_special_tokens=False.',
      stacklevel=4,
    )


def pad_prompts(
  rows: Sequence[Sequence[int]],
) -> tuple[np.ndarray, np.ndarray]:
  """Rows of token ids, right-padded.

  Args:
    rows: B lists of at least one token id.

  Returns:
    prompts [B, P] int32, 0 past the end of a row, and lengths [B] int32.

  Raises:
    ValueError: for no rows, an empty row, or what is no token id.

  Example:
    >>> prompts, lengths = pad_prompts([[5, 6], [7]])
    >>> prompts.tolist(), lengths.tolist()
    ([[5, 6], [7, 0]], [2, 1])
  """
  rows = [_check_ids(row, number) for number, row in enumerate(_as_texts(rows))]
  if not rows:
    raise ValueError('no prompts were given; give at least one.')
  lengths = np.array([len(row) for row in rows], np.int32)
  prompts = np.zeros((len(rows), lengths.max()), np.int32)
  for number, row in enumerate(rows):
    prompts[number, : len(row)] = row
  return prompts, lengths


class TextStream:
  """The text of one row as its tokens come; special tokens are left out.

  Half a character waits for its other half, and, where strings end the text,
  so does what may be the beginning of one.

  Example:
    >>> import listcoupling as lc
    >>> tokenizer = lc.shipped_pair()[0].tokenizer
    >>> ids, stream = tokenizer.encode('a, b').ids, TextStream(tokenizer)
    >>> stream.push(ids[:-1]) + stream.push(ids, last=True)
    'a, b'
  """

  def __init__(self, tokenizer, stop_strings: Sequence[str] = ()):
    # So far, cut before a stop string; None without a tokenizer.
    self.text = None if tokenizer is None else ''
    self.stopped_by: str | None = None  # the stop string that was met
    self._tokenizer = tokenizer
    self._stop_strings = tuple(stop_strings)
    self._given = ''

  def push(self, tokens: Sequence[int], *, last: bool = False) -> str:
    """Takes all tokens of the row so far; returns the text that is new.

    Args:
      tokens: [t] ids, those of earlier calls first.
      last: nothing more will come: nothing is held back.
    """
    if self.stopped_by is not None or self._tokenizer is None:
      return ''
    text = self._tokenizer.decode(list(tokens))
    self.text, self.stopped_by = _cut(text, self._stop_strings)
    ready = self.text
    if not last and self.stopped_by is None:
      ready = text.rstrip('\ufffd')
      ready = ready[: len(ready) - self._held_back(ready)]
    if not ready.startswith(self._given):  # a decoder that looks back
      return ''
    new = ready[len(self._given) :]
    self._given = ready
    return new

  def stops_in(self, tokens: Sequence[int]) -> Callable[[int], bool]:
    """Tells of a number of first tokens whether a stop string is in them."""

    def stops(size):
      text = self._tokenizer.decode(list(tokens[:size]))
      return _cut(text, self._stop_strings)[1] is not None

    return stops

  def _held_back(self, text) -> int:
    """Length of the longest end of `text` that begins a stop string."""
    sizes = (
      size
      for stop in self._stop_strings
      for size in range(1, len(stop))
      if text.endswith(stop[:size])
    )
    return max(sizes, default=0)


def _cut(text, stop_strings):
  """Text before the first stop string, and that string or None."""
  places = [(text.find(stop), stop) for stop in stop_strings]
  place, stop = min((p for p in places if p[0] >= 0), default=(len(text), None))
  return text[:place], stop


class _Printer:
  """See `printer`."""

  def __init__(self, tokenizer):
    self._stream = TextStream(tokenizer)
    self._tokens = []

  def __call__(self, tokens, lengths):
    self._tokens = tokens[0, : lengths[0]].tolist()
    print(self._stream.push(self._tokens), end='', flush=True)

  def finish(self):
    print(self._stream.push(self._tokens, last=True), end='', flush=True)


def show(number: int, new: str) -> None:
  """An `on_text` of `generate_text` that prints what comes, for one text."""
  del number
  print(new, end='', flush=True)


def printer(tokenizer: tokenizers.Tokenizer) -> _Printer:
  """An `on_block` of `generate` that prints what each block added to row 0.

  All that is whole is printed at once; half a character waits for the next
  block. `generate` calls `finish()` after the last one, which prints the rest,
  U+FFFD where a character stayed incomplete.

  Args:
    tokenizer: of the target.

  Returns:
    A callable of tokens [B, M] and lengths [B] with a method `finish()`.

  Example:
    >>> import listcoupling as lc
    >>> tokenizer = lc.shipped_pair()[0].tokenizer
    >>> ids = np.array([tokenizer.encode('def f').ids])
    >>> show = printer(tokenizer)
    >>> show(ids, np.array([ids.shape[1]])), show.finish()  # doctest: +SKIP
    def f
  """
  return _Printer(tokenizer)


def write(
  key, target, drafters, texts, options, *, stream: bool = False, **how
) -> dict:
  """`generate_text` at a terminal; a bar on stderr, or the text as it comes.

  Args:
    key, target, drafters, texts, options: of `generate_text`.
    stream: whether the text, of which there is one, is printed at once.
    **how: of `generate_text`.

  Returns:
    `report` of the texts.
  """
  import tqdm  # of scripts alone

  began = time.perf_counter()
  total = len(_as_texts(texts)) * how.get('num_samples', 1)
  bar = tqdm.tqdm(
    desc='compiling', total=total, unit='text', leave=False, disable=None
  )

  def on_text(number, new):
    bar.close()
    show(number, new)

  def on_done(*_):
    bar.set_description('writing', refresh=False)
    bar.update()

  with bar:
    how['on_text'] = on_text if stream else None
    done = generate_text(
      key, target, drafters, texts, options, on_done=on_done, **how
    )
  return report(done, time.perf_counter() - began)


def report(completions: Sequence[Completion], seconds: float) -> dict:
  """Completions as plain Python values, for JSON.

  Args:
    completions: of one call of `generate_text`.
    seconds: that it took, by the wall clock.

  Returns:
    `rows`, one per text, and two rates: `tokens_per_second` of the decoding
    loop alone, and that of the whole call, with compilation and prompts, as
    `tokens_per_second_overall`.
  """
  rows, looped = [], 0.0
  for done in completions:
    figures = done.metrics
    calls = int(figures.target_calls)
    written = float(figures.block_efficiency) * calls
    looped += written / max(figures.tokens_per_second, 1e-9)
    rows.append(
      dict(
        prompt=done.prompt,
        prompt_ids=list(done.prompt_tokens),
        text=done.text,
        token_ids=list(done.tokens),
        finish_reason=done.finish_reason,
        logprobs=done.logprobs and list(done.logprobs),
        block_efficiency=float(figures.block_efficiency),
        target_calls=calls,
        drafted_tokens=int(figures.drafted_tokens),
        accepted_tokens=int(figures.accepted_tokens),
        accepted_per_position=figures.accepted_per_position.tolist(),
      )
    )
  tokens = sum(len(row['token_ids']) for row in rows)
  return dict(
    rows=rows,
    tokens_per_second=tokens / max(looped, 1e-9),
    tokens_per_second_overall=tokens / max(seconds, 1e-9),
  )


def format_report(report_: dict) -> str:
  """A `report` for people: each text under its prompt, then the figures."""
  parts, texts = [], enumerate(report_['rows'], 1)
  prompts = itertools.groupby(texts, lambda text: str(text[1]['prompt']))
  for prompt, own in prompts:
    parts.append(f'== Prompt\n{prompt}')
    for place, row in own:
      text = row['token_ids'] if row['text'] is None else row['text']
      parts.append(f'-- Text {place}\n{text}')
  return '\n'.join([*parts, format_rates(report_)])


def format_rates(report_: dict) -> str:
  """The figures of a `report`, on lines of their own."""
  tokens = sum(len(row['token_ids']) for row in report_['rows'])
  calls = sum(row['target_calls'] for row in report_['rows'])
  return (
    f'\n[{tokens} tokens, {tokens / max(calls, 1):.2f} per target call.\n'
    f' {report_["tokens_per_second"]:.0f} tokens/s in the decoding loop, '
    f'{report_["tokens_per_second_overall"]:.0f} with compilation and prompts]'
  )
