"""A binary source: nested codes shared out among groups of decoders, exactly.

Not in Rowan, Phan, Khisti (2025), arXiv 2506.05632, whose setting this is: one
message out of L to K decoders, the best of which counts. The source X is
uniform on {0, 1}^n, decoder k sees it through a binary symmetric channel that
flips a bit with probability p_k, and errors are shares of wrong bits. As in
`lattices` the codebook is a chain of nested linear codes: a decoder's bin, the
G bins of a message, all words. The encoder takes a word nearest to X and sends
its message; decoder k takes the word of bin k mod G nearest to what it sees.
G = 1 is one bin for all, G = K one for each; groups in between are the
"codebook diversity" of arXiv 2601.10648.

Everything is a finite sum: no trials, no keys.

Legend: n bits, X = 2^n sequences, K decoders, L messages, G groups, B words of
a bin.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from listcoupling import validation
from listcoupling.compression import codec

__all__ = [
  'Errors',
  'MAX_BITS',
  'best_bins',
  'errors',
  'nested_words',
]


def __dir__():
  return __all__


MAX_BITS = 10


class Errors(NamedTuple):
  """Expected shares of wrong bits."""

  best: float  # of the decoder nearest to the source
  mean: float  # of all K
  worst: float


def _reed_muller(num_bits: int) -> np.ndarray:
  """Rows of the transform of Reed and Muller, heaviest first: [n] integers."""
  rows = np.ones((1, 1), np.int64)
  while len(rows) < num_bits:
    rows = np.kron(rows, np.array([[1, 0], [1, 1]]))
  order = np.argsort(-rows.sum(1), kind='stable')
  return rows[order] @ (1 << np.arange(num_bits))


def _span(rows) -> np.ndarray:
  """All sums of rows: [2^R]."""
  words = np.zeros(1, np.int64)
  for row in rows:
    words = np.concatenate([words, words ^ row])
  return words


def nested_words(
  num_bits: int, num_messages: int, num_groups: int, bin_size: int
) -> np.ndarray:
  """Words of Reed and Muller's codes, by message and group.

  The words of a bin are far apart, the G bins of a message side by side.

  Args:
    num_bits: n, a power of two.
    num_messages: L, a power of two, as G and B.
    num_groups: G.
    bin_size: B.

  Returns:
    [L, G, B] integers; bit i of the sequence is bit i of the number.

  Raises:
    ValueError: for numbers that are no powers of two, n above 10 or more words
      than sequences.

  Example:
    >>> nested_words(4, 2, 2, 2).tolist()
    [[[0, 15], [5, 10]], [[3, 12], [6, 9]]]
  """
  sizes = {
    'num_bits': num_bits,
    'num_messages': num_messages,
    'num_groups': num_groups,
    'bin_size': bin_size,
  }
  for name, value in sizes.items():
    validation.check_positive_int(value, name)
    if value & (value - 1):
      raise ValueError(f'{name} must be a power of two, got {value}.')
  total = num_messages * num_groups * bin_size
  if num_bits > MAX_BITS or total > 2**num_bits:
    raise ValueError(
      f'num_bits must be at most {MAX_BITS} and 2^num_bits hold '
      f'num_messages * num_groups * bin_size words, got {num_bits} for {total}.'
    )
  rows = _reed_muller(num_bits)
  logs = [int(np.log2(s)) for s in (bin_size, num_messages, num_groups)]
  own, message, group = np.split(rows[: sum(logs)], np.cumsum(logs)[:2])
  return (
    _span(message)[:, None, None]
    ^ _span(group)[None, :, None]
    ^ _span(own)[None, None, :]
  )


def _distances(words, others) -> np.ndarray:
  """Hamming distances [..., X] of integers."""
  return np.bitwise_count(words[..., None] ^ others)


def errors(
  words: np.ndarray, flip_probabilities: Sequence[float], num_bits: int
) -> Errors:
  """Expected errors of best, mean and worst decoder.

  Ties of encoder and decoders are broken by fair coins, each its own; with the
  races of `codec`, which they share, ties of decoder and encoder fall alike
  more often. No matter where words are all sequences: the encoder has no ties.

  Args:
    words: [L, G, B], see `nested_words`; any words will do.
    flip_probabilities: [K] p_k in [0, 1/2]; 1/2 is no side information.
    num_bits: n, at most 10.

  Returns:
    `Errors`.

  Raises:
    ValueError: for probabilities outside, words outside of {0, 1}^n, of
      another shape or type, or G that does not divide K.

  Example:
    >>> errors(nested_words(4, 1, 1, 16), [.1], 4).best  # its own noise
    0.1
  """
  words = np.asarray(validation.as_numbers(words, 'words'))
  _check(words, flip_probabilities, num_bits)
  words = words.astype(np.int64)
  every = np.arange(2**num_bits)
  noise = _distances(every, every)  # [X, X]
  away = _distances(words, every)  # [L, G, B, X]
  nearest = away == away.min((0, 1, 2))
  sent = nearest.sum((1, 2)) / nearest.sum((0, 1, 2))  # [L, X] P(message | x)
  total = np.zeros(3)
  for message, chance in enumerate(sent):
    law = np.stack(
      [
        _law(away[message, k % words.shape[1]], noise, p)
        for k, p in enumerate(flip_probabilities)
      ]
    )  # [K, X, n + 1]
    total += _best_mean_worst(law) @ chance / len(every)
  return Errors(*(float(np.round(x / num_bits, 12)) for x in total))


def best_bins(
  num_bits: int,
  num_messages: int,
  num_groups: int,
  flip_probabilities: Sequence[float],
) -> tuple[int, Errors]:
  """Words of a bin with which the best decoder errs least, and the errors.

  Args:
    num_bits: n, at most 10.
    num_messages: L.
    num_groups: G.
    flip_probabilities: [K] see `errors`.

  Returns:
    B and its `Errors`.

  Raises:
    ValueError: see `nested_words` and `errors`.

  Example:
    >>> best_bins(4, 2, 1, [.2, .2])[0]
    8
  """
  nested_words(num_bits, num_messages, num_groups, 1)  # refuses what has none
  most = 2**num_bits // (num_messages * num_groups)
  found = []
  for size in (2**b for b in range(most.bit_length())):
    words = nested_words(num_bits, num_messages, num_groups, size)
    found.append((errors(words, flip_probabilities, num_bits), size))
  least, size = min(found)
  return size, least


def _law(away, noise, p) -> np.ndarray:
  """Law of a decoder's distance to the source: [X, n + 1].

  Args:
    away: [B, X] distances of the bin's words to every sequence.
    noise: [X, X].
    p: of its channel.
  """
  num_bits = int(noise.max())
  channel = float(p) ** noise * (1 - float(p)) ** (num_bits - noise)
  nearest = away == away.min(0)  # [B, Y]
  picked = channel @ (nearest / nearest.sum(0)).T  # [X, B]
  law = np.zeros((len(noise), num_bits + 1))
  rows = np.arange(len(noise))
  for word, distance in enumerate(away):
    law[rows, distance] += picked[:, word]
  return law


def _best_mean_worst(law) -> np.ndarray:
  """Expected least, mean and largest of independent distances: [3, X]."""
  above = 1 - np.cumsum(law, -1)[..., :-1]  # [K, X, n] P(distance > i)
  least, most = above.prod(0), 1 - (1 - above).prod(0)
  return np.stack([least.sum(-1), above.mean(0).sum(-1), most.sum(-1)])


def _check(words, flip_probabilities, num_bits) -> None:
  validation.check_positive_int(num_bits, 'num_bits')
  p = np.asarray(flip_probabilities, float)
  if num_bits > MAX_BITS:
    raise ValueError(f'num_bits must be at most {MAX_BITS}, got {num_bits}.')
  if p.ndim != 1 or not p.size or not np.all((p >= 0) & (p <= 0.5)):
    raise ValueError(
      'flip_probabilities must be one number in [0, 1/2] for each decoder, got '
      f'{flip_probabilities}.'
    )
  if words.ndim != 3 or not words.size or words.dtype.kind not in 'iu':
    raise ValueError(
      f'words must be integers [L, G, B], got {words.dtype} of shape '
      f'{words.shape}.'
    )
  if words.min() < 0 or words.max() >= 2**num_bits:
    raise ValueError(
      f'words must lie in 0..{2**num_bits - 1}, got {words.min()}..'
      f'{words.max()}.'
    )
  codec.check_groups(words.shape[1], p.size)
