"""Options of a generation: what is asked for, checked once at the door."""

import dataclasses
import functools
import math

METHODS = (
  'autoregressive',
  'gumbel_tree',
  'gumbel_chains',
  'gls',
  'gls_strong',
  'specinfer',
  'spectr',
  'single',
  'block',
)

SINGLE_DRAFT = ('single', 'block')


@dataclasses.dataclass(frozen=True)
class GenerateOptions:
  """How `generate` drafts, verifies and shapes the target law.

  The law of the text is set by temperature, top_k, top_p, min_p,
  repetition_penalty, logit_bias, min_new_tokens and stop_tokens, applied in
  the order of the transformers library: bias, penalty, minimum length,
  temperature, top-k, top-p, min-p. The rest changes speed alone.

  Attributes:
    method: one of `METHODS`.
    num_drafts: K, nodes per depth of the draft tree; becomes 1 for the methods
      of one draft, single and block.
    draft_length: L, depths of the draft tree.
    max_new_tokens: M, most tokens generated per row.
    temperature: of the target; 0 takes the most likely token.
    replacement: False draws the K drafts after the root without replacement
      (specinfer with one drafter and one draft temperature only).
    draft_temperatures: of the drafts, cycled over the K of them; None means
      the target's. The beam of gumbel_tree leaves the root at the first that
      each drafter has.
    top_k: keep the k most likely tokens (lowest ids on ties); 0 keeps all.
    top_p: keep the fewest most likely tokens of at least this mass.
    min_p: keep tokens of at least this share of the most likely one's mass.
    repetition_penalty: divides positive and multiplies negative logits of
      tokens already in the row; 1 is off.
    logit_bias: ((token, bias), ...) added to the logits.
    min_new_tokens: stop tokens are impossible before this many.
    stop_tokens: ids that end a row; the stop token is part of the text.
    pad_token: fills the rest of a row.
    cache_length: tokens a row may hold, prompt included; None takes what is
      needed.

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
  stop_tokens: tuple[int, ...] = ()
  pad_token: int = 0
  cache_length: int | None = None
  replacement: bool = True

  def __post_init__(self):
    """Lists become tuples: options are static, so they must be hashable."""
    freeze = functools.partial(object.__setattr__, self)
    if self.method in SINGLE_DRAFT:
      freeze('num_drafts', min(self.num_drafts, 1))
    freeze('stop_tokens', tuple(self.stop_tokens))
    freeze('logit_bias', tuple(tuple(pair) for pair in self.logit_bias))
    if self.draft_temperatures is not None:
      freeze('draft_temperatures', tuple(self.draft_temperatures))

  def check(self, vocab_size: int) -> None:
    """Raises ValueError naming the first option that makes no sense."""
    if self.method not in METHODS:
      raise ValueError(
        f'method must be one of {", ".join(METHODS)}, got {self.method!r}.'
      )
    self._check_ranges()
    self._check_tokens(vocab_size)
    if not self.replacement and (
      self.method != 'specinfer' or len(set(self.slot_temperatures())) > 1
    ):
      raise ValueError(
        'replacement=False needs method specinfer and one draft temperature, '
        f'got {self.method} and {self.draft_temperatures}.'
      )
    if self.method == 'spectr' and len(set(self.slot_temperatures())) > 1:
      raise ValueError(
        'spectr needs K drafts from one law, got draft_temperatures='
        f'{self.draft_temperatures}; choose specinfer or gls for diverse '
        'drafts.'
      )

  def _check_ranges(self):
    finite = (
      ('temperature', self.temperature, 0, math.inf),
      ('min_p', self.min_p, 0, 1),
      ('repetition_penalty', self.repetition_penalty, 1e-6, math.inf),
    )
    for temperature in self.draft_temperatures or ():
      finite += (('draft_temperatures', temperature, 0, math.inf),)
    for name, value, low, high in finite:
      if not (low <= value <= high) or not math.isfinite(value):
        raise ValueError(
          f'{name} must be a finite number in [{low}, {high}], got {value}.'
        )
    if not 0 < self.top_p <= 1:
      raise ValueError(f'top_p must be in (0, 1], got {self.top_p}.')
    if self.draft_temperatures is not None and not self.draft_temperatures:
      raise ValueError(
        'draft_temperatures must hold at least one number, got (); use None '
        "for the target's temperature."
      )
    integers = (
      ('num_drafts', 1),
      ('draft_length', 1),
      ('max_new_tokens', 1),
      ('top_k', 0),
      ('min_new_tokens', 0),
    )
    if self.cache_length is not None:
      integers += (('cache_length', 1),)
    for name, minimum in integers:
      value = getattr(self, name)
      if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f'{name} must be an int, got {value!r}.')
      if value < minimum:
        raise ValueError(f'{name} must be at least {minimum}, got {value}.')

  def _check_tokens(self, vocab_size):
    named = [('stop_tokens', token) for token in self.stop_tokens]
    named += [('logit_bias', token) for token, _ in self.logit_bias]
    for name, token in named:
      if not 0 <= token < vocab_size:
        raise ValueError(
          f'{name} holds token {token}, outside the vocabulary of '
          f'{vocab_size} tokens.'
        )
    for token, bias in self.logit_bias:
      if math.isnan(bias) or bias == math.inf:
        raise ValueError(
          f'logit_bias of token {token} must be finite or -inf, got {bias}.'
        )

  def slot_temperatures(self) -> tuple[float, ...]:
    """Temperature of draft k = 0..K-1."""
    cycle = self.draft_temperatures or (self.temperature,)
    return tuple(cycle[k % len(cycle)] for k in range(self.num_drafts))
