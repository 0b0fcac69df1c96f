"""Options of a generation: what is asked for, checked once at the door."""

import dataclasses
import functools
import math
import operator
from collections.abc import Mapping

from listcoupling.decoding.methods import METHODS


@dataclasses.dataclass(frozen=True)
class GenerateOptions:
  """How `generate` drafts, verifies and shapes the target law.

  The law of the text is set by temperature, top_k, top_p, min_p,
  repetition_penalty, logit_bias, min_new_tokens and stop_tokens, applied in
  the order of the transformers library: bias, penalty, minimum length,
  temperature, top-k, top-p, min-p. The rest changes speed alone. Numbers may
  be numpy or jax scalars, lists any sequence, logit_bias a mapping.

  Attributes:
    method: one of `methods.METHODS`.
    num_drafts: K, drafts; the width of the beam of gumbel_tree; becomes 1 for
      the methods of one draft, single and block.
    draft_length: L, largest depth of the draft tree.
    max_new_tokens: M, most tokens generated per row.
    temperature: of the target; 0 takes the most likely token.
    draft_temperatures: of the drafts, cycled over the K of them; None means
      the target's. For gumbel_tree they are cycled over the drafters.
    top_k: keep the k most likely tokens (lowest ids on ties); 0 keeps all.
    top_p: keep the fewest most likely tokens of at least this mass.
    min_p: keep tokens of at least this share of the most likely one's mass.
    repetition_penalty: divides positive and multiplies negative logits of
      tokens already in the row; 1 is off.
    logit_bias: ((token, bias), ...) added to the logits.
    min_new_tokens: stop tokens are impossible before this many.
    stop_tokens: ids that end a row; the stop token is part of the text. None
      means those of the target's checkpoint, () none.
    pad_token: fills the rest of a row.
    cache_length: tokens a row may hold, prompt included; None takes what is
      needed.
    num_nodes: nodes of gumbel_tree besides the root that the target judges;
      None is a budget of K L.
    forward_nodes: nodes of every forward of the target, root included, at
      least those of the draft tree; prompts are read in chunks of as many. Then
      the logits of a position are the same to the last bit whatever the method,
      its K, L and tree, the drafters, the place where a block or the prompt
      ends and the order of rows; they still depend on the number of rows, the
      machine, the number format and forward_nodes itself. Attention reads the
      cache once per node. None takes what the tree needs.
    allow_long: write past the largest position the target was made for.
    replacement: False draws the K drafts after the root without replacement
      (specinfer and traversal with one drafter and one draft temperature).
    draft_cost: of a step of the drafter, in forwards of the target; gumbel_tree
      drafts no depth that is expected to gain less. 0 drafts on while any node
      can be gained; `tune` finds a value.

  Raises:
    ValueError: for a value of the wrong type; `check` for those out of range.

  Example:
    >>> options = GenerateOptions(method='gls', num_drafts=8, top_k=50)
    >>> options.check(vocab_size=151936)
  """

  method: str = 'gumbel_tree'
  num_drafts: int = 4
  draft_length: int = 4
  max_new_tokens: int = 128
  temperature: float = 1.0
  draft_temperatures: tuple[float, ...] | None = None
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  repetition_penalty: float = 1.0
  logit_bias: tuple[tuple[int, float], ...] = ()
  min_new_tokens: int = 0
  stop_tokens: tuple[int, ...] | None = None
  pad_token: int = 0
  cache_length: int | None = None
  num_nodes: int | None = None
  forward_nodes: int | None = None
  allow_long: bool = False
  replacement: bool = True
  draft_cost: float = 0.0

  def __post_init__(self):
    """Values of a plain meaning become Python's: options are hashable."""
    if not isinstance(self.method, str) or self.method not in METHODS:
      raise ValueError(
        f'method must be one of {", ".join(METHODS)}, got {self.method!r}.'
      )
    freeze = functools.partial(object.__setattr__, self)
    for field in dataclasses.fields(self)[1:]:
      value = getattr(self, field.name)
      if value is not None or field.default is not None:
        freeze(field.name, _READERS[field.name](field.name, value))
    if METHODS[self.method].single_draft:
      freeze('num_drafts', min(self.num_drafts, 1))

  def check(self, vocab_size: int) -> None:
    """Raises ValueError naming the first option that makes no sense."""
    self._check_ranges()
    self._check_tokens(vocab_size)
    method, shared = (
      METHODS[self.method],
      len(set(self.slot_temperatures())) < 2,
    )
    if not self.replacement and not (method.distinct and shared):
      raise ValueError(
        'replacement=False needs method specinfer or traversal and one draft '
        f'temperature, got {self.method} and {self.draft_temperatures}.'
      )
    if method.one_law and not shared:
      raise ValueError(
        f'{self.method} needs K drafts from one law, got draft_temperatures='
        f'{self.draft_temperatures}; choose specinfer or gls for diverse '
        'drafts.'
      )
    if self.num_nodes is not None and not method.best_first:
      raise ValueError(
        f'num_nodes={self.num_nodes} is for gumbel_tree alone, got method '
        f'{self.method!r}, whose K chains of L tokens are its nodes; set '
        'num_drafts and draft_length.'
      )
    if self.draft_cost and not method.best_first:
      raise ValueError(
        f'draft_cost={self.draft_cost} is for gumbel_tree alone, got method '
        f'{self.method!r}, which drafts all of its L depths; leave it at 0.'
      )
    least = 1 + (self.tree_nodes() if method.drafts else 0)
    if self.forward_nodes is not None and self.forward_nodes < least:
      raise ValueError(
        f'forward_nodes={self.forward_nodes} is below the {least} nodes of '
        f'{self.method}, 1 + num_nodes (else 1 + num_drafts * draft_length); '
        'raise it, or draft fewer.'
      )

  def _check_ranges(self):
    for name, (minimum, maximum) in _RANGES.items():
      values = getattr(self, name)
      if values is None:
        continue
      for value in values if isinstance(values, tuple) else (values,):
        if not minimum <= value <= maximum:
          wanted = f'at least {minimum}'
          if name == 'top_p':
            wanted = 'in (0, 1], where 1 keeps all'
          elif maximum == 1:
            wanted = f'in [{minimum}, {maximum}]'
          elif value > maximum:
            is_float = maximum == _FLOAT32
            wanted = (
              f'{wanted} and finite' if is_float else f'at most {maximum}'
            )
          raise ValueError(f'{name} must be {wanted}, got {value}.')
    nodes = self.num_drafts * self.draft_length
    if nodes > _MOST_NODES:
      raise ValueError(
        f'num_drafts={self.num_drafts} times draft_length={self.draft_length} '
        f'must be at most {_MOST_NODES} nodes, got {nodes}.'
      )
    if self.draft_temperatures == ():
      raise ValueError(
        'draft_temperatures must hold at least one number, got (); use None '
        "for the target's temperature."
      )

  def _check_tokens(self, vocab_size):
    named = [('stop_tokens', token) for token in self.stop_tokens or ()]
    named += [('logit_bias', token) for token, _ in self.logit_bias]
    for name, token in named:
      if not 0 <= token < vocab_size:
        raise ValueError(
          f'{name} holds token {token}, outside the vocabulary of '
          f'{vocab_size} tokens.'
        )
    for token, bias in self.logit_bias:
      if not abs(bias) <= _FLOAT32 and bias != -math.inf:
        raise ValueError(
          f'logit_bias of token {token} must be finite or -inf, got {bias}.'
        )

  def slot_temperatures(self) -> tuple[float, ...]:
    """Temperature of draft k = 0..K-1."""
    cycle = self.draft_temperatures or (self.temperature,)
    return tuple(cycle[k % len(cycle)] for k in range(self.num_drafts))

  def tree_nodes(self) -> int:
    """Nodes besides the root that the target judges in a block."""
    return self.num_nodes or self.num_drafts * self.draft_length


_MOST_NODES = 1 << 14  # of a tree: masks grow with the square
_MOST_TOKENS = 1 << 24  # of a row
_FLOAT32 = 3.4e38  # largest number of the arithmetic
_WORD = (1 << 31) - 1  # tokens are 32-bit words

_RANGES = {
  'num_drafts': (1, _MOST_NODES),
  'draft_length': (1, _MOST_NODES),
  'max_new_tokens': (1, _MOST_TOKENS),
  'temperature': (0, _FLOAT32),
  'draft_temperatures': (0, _FLOAT32),
  'top_k': (0, _WORD),
  'top_p': (math.ulp(0), 1),
  'min_p': (0, 1),
  'repetition_penalty': (1e-6, _FLOAT32),
  'min_new_tokens': (0, _WORD),
  'pad_token': (-_WORD, _WORD),
  'cache_length': (1, _MOST_TOKENS),
  'num_nodes': (1, _MOST_NODES),
  'forward_nodes': (1, 1 + _MOST_NODES),
  'draft_cost': (0, _FLOAT32),
}

_OFF = {
  'temperature': '0 takes the most likely token',
  'draft_cost': '0 turns it off',
  'top_k': '0 keeps all tokens',
  'top_p': '1 keeps all tokens',
  'min_p': '0 keeps all tokens',
  'repetition_penalty': '1 turns it off',
  'logit_bias': 'give {token: bias} or ((token, bias), ...)',
  'stop_tokens': 'give token ids, None or ()',
  'draft_temperatures': "give numbers, or None for the target's temperature",
}


def _refuse(name, value, wanted):
  remedy = _OFF.get(name)
  return ValueError(
    f'{name} must be {wanted}, got {value!r}'
    + (f'; {remedy}.' if remedy else '.')
  )


def _integer(name, value):
  try:
    if _kind(value) == 'b':
      raise TypeError
    return operator.index(value)
  except TypeError:
    raise _refuse(name, value, 'an int') from None


def _kind(value):
  """Kind of a scalar: 'b' for truth values, as numpy names it."""
  return (
    'b'
    if isinstance(value, bool)
    else getattr(getattr(value, 'dtype', None), 'kind', '')
  )


def _number(name, value):
  try:
    if isinstance(value, str) or _kind(value) == 'b':
      raise TypeError
    return float(value)
  except OverflowError:
    raise _refuse(name, value, 'a number that a float holds') from None
  except (TypeError, ValueError):
    raise _refuse(name, value, 'a number') from None


def _truth(name, value):
  if _kind(value) != 'b':
    raise _refuse(name, value, 'True or False')
  return bool(value)


def _several(read, wanted):
  """Reads one value or a sequence of them."""

  def reader(name, values):
    if isinstance(values, (str, bytes, Mapping)):
      raise _refuse(name, values, wanted)
    try:
      values = list(values)
    except TypeError:
      values = [values]
    return tuple(read(name, value) for value in values)

  return reader


def _pairs(name, pairs):
  if isinstance(pairs, Mapping):
    pairs = pairs.items()
  try:
    pairs = [tuple(pair) for pair in pairs]
  except TypeError:
    raise _refuse(name, pairs, 'pairs of token and bias') from None
  for pair in pairs:
    if len(pair) != 2:
      raise _refuse(name, pair, 'pairs of token and bias')
  return tuple((_integer(name, i), _number(name, bias)) for i, bias in pairs)


_READERS = dict(
  num_drafts=_integer,
  draft_length=_integer,
  max_new_tokens=_integer,
  temperature=_number,
  draft_temperatures=_several(_number, 'numbers'),
  top_k=_integer,
  top_p=_number,
  min_p=_number,
  repetition_penalty=_number,
  logit_bias=_pairs,
  min_new_tokens=_integer,
  stop_tokens=_several(_integer, 'token ids'),
  pad_token=_integer,
  cache_length=_integer,
  num_nodes=_integer,
  forward_nodes=_integer,
  allow_long=_truth,
  replacement=_truth,
  draft_cost=_number,
)
