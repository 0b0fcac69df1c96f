"""Text in, text out: prompts become tokens, tokens become text.

Legend: B rows of a batch, P prompt tokens, M new tokens.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import tokenizers


def encode_prompts(
  tokenizer: tokenizers.Tokenizer | None,
  texts: str | Sequence[str],
  *,
  add_special_tokens: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
  """Token ids of several texts, right-padded.

  Truncation and padding that the tokenizer may have been saved with do not
  apply: every prompt is whole, and no more than that.

  Args:
    tokenizer: of the target.
    texts: non-empty strings, or one of them.
    add_special_tokens: what the tokenizer puts around a text, such as a token
      that begins it. A prompt that begins with that token already gives a
      warning.

  Returns:
    prompts [B, P] int32 and their lengths [B] int32.

  Raises:
    ValueError: for a text without a token, for what is no text, or without a
      tokenizer.

  Example:
    >>> from listcoupling.models.pretrained import shipped_pair
    >>> prompts, lengths = encode_prompts(shipped_pair()[0].tokenizer, ['def'])
    >>> prompts.shape[0], int(lengths[0]) >= 1
    (1, True)
  """
  if isinstance(texts, str):
    texts = [texts]
  if tokenizer is None:
    raise ValueError(
      'the target has no tokenizer.json, got text prompts; give token ids, or '
      'put the tokenizer.json of the model beside its weights.'
    )
  tokenizer = _whole(tokenizer)
  return pad_prompts(
    [
      _encode(tokenizer, text, row, add_special_tokens)
      for row, text in enumerate(texts)
    ]
  )


def _encode(tokenizer, text, row, add_special_tokens):
  if not isinstance(text, str):
    raise ValueError(
      f'row {row}: a prompt must be a string, got {type(text).__name__}.'
    )
  ids = tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
  if not ids:
    raise ValueError(
      f'row {row}: prompt {text[:80]!r} has no tokens; give at least one '
      'character.'
    )
  if add_special_tokens and ids[:1] == ids[1:2]:
    _warn_if_doubled(tokenizer, ids[0], row)
  return ids


def _whole(tokenizer):
  """The tokenizer without truncation and padding; the caller's is not moved."""
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
      f'row {row}: the prompt begins with {token!r}, which the tokenizer puts '
      'there, too; the model sees it twice. Take it out, or set '
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
  rows = [np.asarray(row) for row in rows]
  if not rows:
    raise ValueError('no prompts were given; give at least one.')
  for number, row in enumerate(rows):
    if row.ndim != 1 or not row.size or row.dtype.kind not in 'iu':
      raise ValueError(
        f'row {number}: a prompt must be a list of at least one token id, got '
        f'{row.tolist()!r}.'
      )
  lengths = np.array([row.size for row in rows], np.int32)
  prompts = np.zeros((len(rows), lengths.max()), np.int32)
  for number, row in enumerate(rows):
    prompts[number, : row.size] = row
  return prompts, lengths


class TextStream:
  """The text of one row as its tokens come; special tokens are left out.

  Half a character waits for its other half, and, where strings end the text,
  so does what may be the beginning of one.

  Example:
    >>> from listcoupling.models.pretrained import shipped_pair
    >>> tokenizer = shipped_pair()[0].tokenizer
    >>> ids, stream = tokenizer.encode('a, b').ids, TextStream(tokenizer)
    >>> stream.push(ids[:-1]) + stream.push(ids, last=True)
    'a, b'
  """

  def __init__(self, tokenizer, stop_strings: Sequence[str] = ()):
    self.text = ''  # so far; stop strings and what follows them are cut off
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
    if self.stopped_by is not None:
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


def printer(tokenizer: tokenizers.Tokenizer) -> _Printer:
  """An `on_block` of `generate` that prints what each block added to row 0.

  All that is whole is printed at once; half a character waits for the next
  block. `generate` calls `finish()` after the last one, which prints the rest,
  U+FFFD where a character stayed incomplete.

  Args:
    tokenizer: of the target.

  Returns:
    A callable of tokens [B, M] and lengths [B] with a method `finish()`.
  """
  return _Printer(tokenizer)


def report(
  generation, tokenizer, prompts: np.ndarray, lengths: np.ndarray
) -> dict:
  """A generation as plain Python values, for JSON.

  Returns:
    `rows`, one per prompt (prompt_ids, token_ids, text or None, block
    efficiency, target calls, accepted per position), and tokens_per_second.
  """
  figures = generation.metrics
  rows = []
  for b, count in enumerate(generation.lengths):
    ids = generation.tokens[b, :count].tolist()
    rows.append(
      dict(
        prompt_ids=prompts[b, : lengths[b]].tolist(),
        token_ids=ids,
        text=None if tokenizer is None else tokenizer.decode(ids),
        block_efficiency=float(figures.block_efficiency[b]),
        target_calls=int(figures.target_calls[b]),
        drafted_tokens=int(figures.drafted_tokens[b]),
        accepted_tokens=int(figures.accepted_tokens[b]),
        accepted_per_position=figures.accepted_per_position[b].tolist(),
      )
    )
  return dict(rows=rows, tokens_per_second=figures.tokens_per_second)


def format_report(report_: dict) -> str:
  """A `report` for people: the texts, then a line of figures."""
  parts = [
    row['text'] if row['text'] is not None else str(row['token_ids'])
    for row in report_['rows']
  ]
  tokens = sum(len(row['token_ids']) for row in report_['rows'])
  calls = sum(row['target_calls'] for row in report_['rows'])
  parts.append(
    f'[{tokens} tokens, {tokens / max(calls, 1):.2f} per target call, '
    f'{report_["tokens_per_second"]:.0f} tokens/s]'
  )
  return '\n\n'.join(parts)
