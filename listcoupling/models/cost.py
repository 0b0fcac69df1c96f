"""Cost of a block on paper: operations, bytes and exchanges between devices.

A forward multiplies every weight once per token and reads it once however many
tokens there are; that is why the nodes of a tree can be cheap. Paper sums what
must be done, nothing that a compiler adds.

Legend: B batch, S nodes of a forward, N nodes of the tree besides the root, K
beam, L draft length, T tokens of a row so far, V vocabulary, d devices.
"""

from collections.abc import Sequence
from typing import NamedTuple

from listcoupling import validation
from listcoupling.models.transformer_config import TransformerConfig

__all__ = [
  'Cost',
  'H100',
  'Machine',
  'V5P',
  'WORD_OPERATIONS',
  'block',
  'forward',
  'weights',
]


def __dir__():
  return __all__


WORD_OPERATIONS = 75  # on integers, for a random word of threefry
_LOGIT = 4  # bytes of a logit, written once and read once


class Cost(NamedTuple):
  """Of one program on each of d devices."""

  operations: float  # multiplications and additions of numbers
  bytes: float  # that memory has to move
  words: float = 0.0  # random, of `WORD_OPERATIONS` each
  sent: float = 0.0  # bytes of results that devices exchange
  exchanges: float = 0.0  # how many
  devices: int = 1  # d


def _config(model, name: str) -> TransformerConfig:
  """The config of a model, or the config itself."""
  config = getattr(model, 'config', model)
  if not isinstance(config, TransformerConfig):
    raise ValueError(
      f'{name} must be a TransformerConfig, or a model that has one as '
      f'`.config`, got {validation.shown(model)}.'
    )
  return config


def weights(config: TransformerConfig) -> int:
  """Numbers that a token is multiplied with, the head's included."""
  config = _config(config, 'config')
  size = config.hidden_size * config.vocab_size
  heads = config.num_heads + config.num_kv_heads
  attention = 2 * config.hidden_size * config.head_dim * heads
  perceptron = 3 * config.hidden_size * config.intermediate_size
  return size + config.num_layers * (attention + perceptron)


def forward(
  config: TransformerConfig,
  batch: int,
  nodes: int,
  used: int,
  *,
  devices: int = 1,
  number: int = 2,
) -> Cost:
  """A forward of S nodes per row behind T tokens, shared by d devices.

  Args:
    config: of the model, or a model that has one.
    batch: B.
    nodes: S.
    used: T.
    devices: d, which share heads, perceptron and vocabulary ('tp').
    number: bytes of a weight, a cache entry, an activation; 2 is bfloat16.

  Returns:
    Its `Cost` per device. Two sums are exchanged in a layer and one of the
    embeddings; key heads are stored more than once where d > J.

  Raises:
    ValueError: for what is no config, B, S, d below 1, T below 0, a `number`
      that is not positive.

  Example:
    >>> config = TransformerConfig(100, 8, 1, 2, 1, 4, 16)
    >>> weights(config), forward(config, 1, 1, 0).operations
    (1376, 2784.0)
  """
  config = _config(config, 'config')
  for name, size in (('batch', batch), ('nodes', nodes), ('devices', devices)):
    validation.check_positive_int(size, name)
  validation.check_positive_int(used, 'used', minimum=0)
  validation.check_positive(number=number)
  tokens = batch * nodes
  width = config.num_heads * config.head_dim
  seen = used + nodes
  products = 2 * tokens * weights(config)
  scores = 4 * tokens * seen * width * config.num_layers
  heads = max(config.num_kv_heads, devices)
  cache = 2 * batch * seen * heads * config.head_dim * config.num_layers
  logits = 2 * _LOGIT * tokens * config.vocab_size
  sums = 2 * config.num_layers + 1 if devices > 1 else 0
  return Cost(
    (products + scores) / devices,
    (number * (weights(config) + cache) + logits) / devices,
    sent=sums * number * tokens * config.hidden_size,
    exchanges=sums,
    devices=devices,
  )


def _check_tree(tree, drafter) -> None:
  """Raises ValueError unless (N, K, L) is a tree, or none without a drafter."""
  try:
    num_nodes, num_drafts, draft_length = tree
  except (TypeError, ValueError):
    raise ValueError(f'tree must be (N, K, L), got {tree!r}.') from None
  if drafter is None and not num_nodes and not draft_length:
    return
  validation.check_positive_int(num_drafts, 'K of tree=(N, K, L)')
  validation.check_positive_int(draft_length, 'L of tree=(N, K, L)')
  validation.check_positive_int(num_nodes, 'N of tree=(N, K, L)')
  if num_nodes < num_drafts:
    raise ValueError(
      f'tree=(N, K, L) must have N of at least K, got {tuple(tree)}: a beam of '
      f'{num_drafts} needs so many nodes.'
    )


def block(
  target: TransformerConfig,
  drafter: TransformerConfig | None,
  batch: int,
  used: int,
  *,
  tree: tuple[int, int, int] = (0, 1, 0),
  written: float = 1.0,
  devices: int = 1,
  number: int = 2,
) -> list[Cost]:
  """The forwards of a block, one after another, and its races.

  The drafter reads the last L + 1 tokens again and then K nodes at L - 1
  depths; the target reads root and tree. Each race needs V words per row: L to
  draft, as many to learn from the last block, one per token written.

  Args:
    target: its config, or a model that has one.
    drafter: the same; None for plain sampling.
    batch: B.
    used: T.
    tree: (N, K, L), N of at least K.
    written: tokens of a row and block.
    devices: d, see `forward`.
    number: bytes of one, see `forward`.

  Returns:
    `Cost` of each part, the races last. The parts run one after another, so
    that each is bound by what it needs most of.

  Raises:
    ValueError: as for `forward`; for a tree that is none, or a drafter without.

  Example:
    >>> large = TransformerConfig(128256, 8192, 80, 64, 8, 128, 28672)
    >>> small = TransformerConfig(128256, 2048, 16, 32, 8, 64, 8192)
    >>> row = dict(batch=1, used=2048, devices=8)
    >>> plain = H100.seconds(block(large, None, **row))
    >>> tree = dict(tree=(8, 4, 4), written=2.94)
    >>> seconds = H100.seconds(block(large, small, **row, **tree))
    >>> round(2.94 * plain / seconds, 2)  # times as fast
    2.37
  """
  target = _config(target, 'target')
  _check_tree(tree, drafter)
  validation.check_positive(written=written)
  (num_nodes, num_drafts, draft_length), parts = tree, []
  shared = dict(devices=devices, number=number)
  if drafter is not None:
    drafter = _config(drafter, 'drafter')
    step = forward(drafter, batch, num_drafts, used, **shared)
    parts.append(forward(drafter, batch, draft_length + 1, used, **shared))
    parts += [step] * (draft_length - 1)
  parts.append(forward(target, batch, 1 + num_nodes, used, **shared))
  races = 2 * draft_length + written
  words = races * batch * target.vocab_size / devices
  exchanges = races if devices > 1 else 0
  sent = 12.0 * batch * exchanges  # the largest, the least, its token
  return [*parts, Cost(0.0, 0.0, words, sent, exchanges, devices)]


class Machine(NamedTuple):
  """Devices of one kind; rates are what the maker states, per device."""

  name: str
  devices: int
  operations: float  # bfloat16, a second
  integers: float  # 32-bit integer operations, a second
  bandwidth: float  # of memory, bytes a second
  link: float  # to other devices, bytes a second in one direction
  latency: float  # seconds of an exchange, however small
  reached: float = 0.75  # share of these rates that programs reach

  def seconds(self, parts: Cost | Sequence[Cost]) -> float:
    """Time of one program, or of several that run one after another.

    Raises:
      ValueError: for a program of more devices than the machine has.
    """
    parts = [parts] if isinstance(parts, Cost) else parts
    for part in parts:
      if part.devices > self.devices:
        raise ValueError(
          f'parts must be of at most the {self.devices} devices of '
          f'{self.name}, got {part.devices}; count them with '
          f'devices={self.devices}.'
        )
    return sum(map(self._part, parts))

  def _part(self, cost: Cost) -> float:
    computing = cost.operations / self.operations
    computing += WORD_OPERATIONS * cost.words / self.integers
    busy = max(computing, cost.bytes / self.bandwidth)
    # A sum over d devices passes each byte about twice.
    moved = 2 * cost.sent * (cost.devices - 1) / cost.devices / self.link
    return (busy + moved) / self.reached + cost.exchanges * self.latency


H100 = Machine('8 x H100', 8, 989e12, 17e12, 3.35e12, 450e9, 10e-6)
# Integers: 2 cores of 8 x 128 lanes with 4 units at 1.75 GHz.
V5P = Machine('8 x TPU v5p', 8, 459e12, 14e12, 2.765e12, 300e9, 5e-6)
