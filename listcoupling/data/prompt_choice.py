"""Which prompts are tried, and how they become rows of token ids.

The choice depends on a seed and on the prompts alone, so that every method and
every machine sees the same ones.

Legend: B prompts, P tokens of the longest prompt.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from listcoupling.data.prompts import Prompts

LONG_PROMPTS = ('cut', 'drop')


class Choice(NamedTuple):
  """Prompts as the models read them."""

  names: tuple[str, ...]
  tokens: np.ndarray  # [B, P] int32, right-padded with 0
  lengths: np.ndarray  # [B] int32
  num_cut: int  # prompts of which the beginning was cut off
  num_dropped: int  # prompts passed over for their length


def choose(
  prompts: Prompts,
  tokenizer,
  *,
  num_prompts: int,
  seed: int,
  max_tokens: int,
  long_prompts: str = 'cut',
) -> Choice:
  """A seeded choice of prompts, as token ids of a bounded number.

  Args:
    prompts: of `load_prompts`.
    tokenizer: a `tokenizers.Tokenizer`.
    num_prompts: how many; all of them, in their order, where there are fewer.
    seed: of the choice, which depends on nothing else than the prompts.
    max_tokens: longest prompt.
    long_prompts: 'cut' keeps the last tokens of a longer prompt (and a start
      token that the tokenizer put before it), 'drop' passes it over.

  Returns:
    `Choice`, in the order of the source.

  Raises:
    ValueError: numbers below 1, an unknown policy, no tokenizer, a prompt
      without a token, or no prompt short enough.

  Example:
    >>> import listcoupling as lc
    >>> prompts = Prompts(('1', '2'), ('def main', 'import os'), 'here')
    >>> chosen = choose(prompts, lc.shipped_pair()[0].tokenizer, num_prompts=1,
    ...                 seed=0, max_tokens=8)
    >>> chosen.tokens.shape[0]
    1
  """
  _check(tokenizer, num_prompts, max_tokens, long_prompts)
  kept, cut, dropped = {}, 0, 0
  # numpy's generator shares no bits with threefry of the same seed; which
  # prompts a table reads would change with another.
  for index in np.random.default_rng(seed).permutation(len(prompts.texts)):
    ids, was_long = _encode(tokenizer, prompts.texts[index], max_tokens)
    if was_long and long_prompts == 'drop':
      dropped += 1
      continue
    kept[int(index)] = ids
    cut += was_long
    if len(kept) == num_prompts:
      break
  if not kept:
    raise ValueError(
      f'no prompt of {prompts.source} has at most {max_tokens} tokens; raise '
      "max_tokens or choose long_prompts='cut'."
    )
  order = sorted(kept)
  lengths = np.array([len(kept[index]) for index in order], np.int32)
  tokens = np.zeros((len(order), lengths.max()), np.int32)
  for row, index in enumerate(order):
    tokens[row, : lengths[row]] = kept[index]
  names = tuple(prompts.names[index] for index in order)
  return Choice(names, tokens, lengths, cut, dropped)


def _check(tokenizer, num_prompts, max_tokens, long_prompts) -> None:
  if num_prompts < 1 or max_tokens < 2:
    raise ValueError(
      f'num_prompts must be at least 1 and max_tokens at least 2, got '
      f'{num_prompts} and {max_tokens}.'
    )
  if long_prompts not in LONG_PROMPTS:
    raise ValueError(
      f'long_prompts must be one of {", ".join(LONG_PROMPTS)}, got '
      f'{long_prompts!r}.'
    )
  if tokenizer is None:
    raise ValueError('the target has no tokenizer.json, which prompts need.')


def _encode(tokenizer, text, max_tokens) -> tuple[list[int], bool]:
  """Token ids, at most `max_tokens`, and whether there were more."""
  encoding = tokenizer.encode(text)
  ids = encoding.ids
  if not ids:
    raise ValueError(f'prompt {text!r:.60} has no tokens.')
  if len(ids) <= max_tokens:
    return ids, False
  start = ids[:1] if encoding.special_tokens_mask[0] else []
  return start + ids[len(ids) - max_tokens + len(start) :], True


class Batch(NamedTuple):
  """Rows that are generated together."""

  rows: np.ndarray  # [R] indices of prompts, the last ones perhaps twice
  size: int  # rows that count; the rest fills the batch up


def deal(lengths: Sequence[int], batch_size: int) -> list[Batch]:
  """Deals prompts into batches of one size and of like prompt lengths.

  The longest go to different batches, so that the batches are padded alike and
  one compilation serves them all.

  Args:
    lengths: [B] tokens per prompt.
    batch_size: most rows of a batch.

  Returns:
    As few batches as possible, as even as possible.

  Raises:
    ValueError: batch_size is below 1.

  Example:
    >>> [batch.rows.tolist() for batch in deal([5, 9, 7], 2)]
    [[1, 0], [2, 1]]
    >>> [batch.size for batch in deal([5, 9, 7], 2)]
    [2, 1]
  """
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}.')
  order = np.argsort(-np.asarray(lengths), kind='stable')
  count = -(-len(order) // batch_size)
  size = -(-len(order) // count)
  batches = []
  for start in range(count):
    own = order[start::count]
    # A prompt that is done counts once; any other one fills the gap.
    filled = np.concatenate([own, order[: size - len(own)]])
    batches.append(Batch(filled, len(own)))
  return batches
