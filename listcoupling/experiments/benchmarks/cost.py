"""Cost of a block on paper, and of its programs for 1 to 8 host devices.

A forward multiplies every weight once per token and reads it once however many
tokens there are; that is why the nodes of a tree can be cheap. Paper sums what
must be done, nothing that a compiler adds; of a compiled program its text is
counted. Nothing is timed: the devices of a host share its cores.

Legend: B batch, S nodes of a forward, N nodes of the tree besides the root, K
beam, L draft length, T tokens of a row so far, V vocabulary, D features, H
heads, J key heads, E features of a head, F perceptron, d devices.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from listcoupling import gumbel, program_text
from listcoupling.decoding import generate, loop
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks.speed import Table, grid
from listcoupling.gumbel import Domain
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig

_NUMBER = 2  # bytes of a weight, a cache entry, an activation: bfloat16
_LOGIT = 4  # bytes of a logit, written once and read once
_THREEFRY = 75  # integer operations of a random word


class Cost(NamedTuple):
  """Of one program on each of d devices."""

  operations: float  # multiplications and additions
  bytes: float  # that memory has to move
  words: float = 0.0  # random
  sent: float = 0.0  # bytes of results that devices exchange
  exchanges: float = 0.0  # how many


def weights(config: TransformerConfig) -> int:
  """Numbers that a token is multiplied with, the head's included."""
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
  number: int = _NUMBER,
) -> Cost:
  """A forward of S nodes per row behind T tokens, shared by d devices.

  Args:
    config: of the model.
    batch: B.
    nodes: S.
    used: T.
    devices: d, which share heads, perceptron and vocabulary ('tp').
    number: bytes of a weight.

  Returns:
    Its `Cost` per device. Two sums are exchanged in a layer and one of the
    embeddings; key heads are stored more than once where d > J.

  Example:
    >>> config = TransformerConfig(100, 8, 1, 2, 1, 4, 16)
    >>> weights(config), forward(config, 1, 1, 0).operations
    (1376, 2784.0)
  """
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
  )


def block(
  target: TransformerConfig,
  drafter: TransformerConfig | None,
  batch: int,
  used: int,
  *,
  tree: tuple[int, int, int] = (0, 1, 0),
  written: float = 1.0,
  **shared: int,
) -> list[Cost]:
  """The forwards of a block, one after another, and its races.

  The drafter reads the last L + 1 tokens again and then K nodes at L - 1
  depths; the target reads root and tree. Each race needs V words per row: L to
  draft, as many to learn from the last block, one per token written.

  Args:
    target: its config.
    drafter: its config; None for plain sampling.
    batch: B.
    used: T.
    tree: (N, K, L).
    written: tokens of a row and block.
    **shared: devices and number, see `forward`.

  Returns:
    `Cost` of each part, the races last. The parts run one after another, so
    that each is bound by what it needs most of.
  """
  (num_nodes, num_drafts, draft_length), parts = tree, []
  devices = shared.get('devices', 1)
  if drafter is not None:
    step = forward(drafter, batch, num_drafts, used, **shared)
    parts.append(forward(drafter, batch, draft_length + 1, used, **shared))
    parts += [step] * (draft_length - 1)
  parts.append(forward(target, batch, 1 + num_nodes, used, **shared))
  races = 2 * draft_length + written
  words = races * batch * target.vocab_size / devices
  exchanges = races if devices > 1 else 0
  sent = 12.0 * batch * exchanges  # the largest, the least, its token
  parts.append(Cost(_THREEFRY * words, 0.0, words, sent, exchanges))
  return parts


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

  def seconds(self, parts: Sequence[Cost]) -> float:
    """Time of programs that run one after another."""
    return sum(map(self._part, parts))

  def _part(self, cost: Cost) -> float:
    integers = _THREEFRY * cost.words
    products = cost.operations - integers
    busy = max(
      products / self.operations + integers / self.integers,
      cost.bytes / self.bandwidth,
    )
    # A sum over d devices passes each byte about twice.
    moved = 2 * cost.sent * (self.devices - 1) / self.devices / self.link
    return (busy + moved) / self.reached + cost.exchanges * self.latency


H100 = Machine('8 x H100', 8, 989e12, 17e12, 3.35e12, 450e9, 10e-6)
# Integers: 2 cores of 8 x 128 lanes with 4 units at 1.75 GHz.
V5P = Machine('8 x TPU v5p', 8, 459e12, 14e12, 2.765e12, 300e9, 5e-6)


def _llama(hidden, layers, heads, head_dim, intermediate, tied=False):
  return TransformerConfig(
    128256, hidden, layers, heads, 8, head_dim, intermediate,
    tie_embeddings=tied,
  )  # fmt: skip


_LARGEST = _llama(8192, 80, 64, 128, 28672)
PAIRS = {
  '70B + 1B': (_LARGEST, _llama(2048, 16, 32, 64, 8192, tied=True)),
  '70B + 8B': (_LARGEST, _llama(4096, 32, 32, 128, 14336)),
}


# (N, K, L) and the tokens per block it gave on pairs of tables at sigma 1 and
# .5: `language.table_pairs.tokens_per_call`, 64 rows of 384 tokens of one pair.
# Errors over rows are below .03; pairs at one distance differ by .02 to .08.
TREES = {
  (4, 4, 3): {'70B + 1B': 2.42, '70B + 8B': 3.11},
  (8, 4, 4): {'70B + 1B': 2.94, '70B + 8B': 3.96},
  (16, 8, 5): {'70B + 1B': 3.47, '70B + 8B': 4.87},
  (32, 8, 6): {'70B + 1B': 4.02, '70B + 8B': 5.83},
  (64, 8, 6): {'70B + 1B': 4.49, '70B + 8B': 6.25},
}


def paper(
  *,
  machines: Sequence[Machine] = (H100, V5P),
  batches: Sequence[int] = (1, 8, 32, 128),  # B
  used: int = 2048,  # T
) -> Table:
  """Tokens per second, plain and with trees: large pairs on large machines."""
  by_name = {machine.name: machine for machine in machines}

  def measure(pair, machine, batch):
    machine, (target, drafter) = by_name[machine], PAIRS[pair]
    own = dict(batch=batch, used=used, devices=machine.devices)
    plain = batch / machine.seconds(block(target, None, **own))
    rates = {}
    for tree, tokens in TREES.items():
      parts = block(target, drafter, tree=tree, written=tokens[pair], **own)
      rates[tree[0]] = batch * tokens[pair] / machine.seconds(parts)
    best = max(rates, key=rates.get)
    return {
      'plain_tokens_per_s': plain,
      **{f'n{nodes}_to_plain': rate / plain for nodes, rate in rates.items()},
      'best_nodes': best,
      'best_tokens_per_s': rates[best],
    }

  return Table(grid(machine=by_name, pair=PAIRS, batch=batches), measure)


COUNTS = (1, 2, 4, 8)  # of host devices
_CONFIG = TransformerConfig(4096, 256, 4, 8, 8, 32, 1024, tie_embeddings=False)
# One draft step, since a loop's body counts once in a program's figures.
_ONE_STEP = GenerateOptions(num_drafts=4, draft_length=2, max_new_tokens=64)
_BATCH, _PROMPT = 8, 64


def add_host_devices() -> None:
  """Makes this process see as many CPU devices as `scaling` can use.

  Before JAX is used; afterwards the table has as many rows as it can.
  """
  try:
    jax.config.update('jax_num_cpu_devices', max(COUNTS))
  except RuntimeError:
    pass


def scaling(
  key: jax.Array,
  *,
  counts: Sequence[int] = COUNTS,
  config: TransformerConfig = _CONFIG,
  options: GenerateOptions = _ONE_STEP,
) -> Table:
  """A block of a tree on each number of devices, by 'tp' and by 'data'.

  Counts past the devices at hand are left out; the drafter has the first layer
  of the target, whose config is given.
  """
  init_key = gumbel.domain_key(key, Domain.MODEL_INIT)
  pair = random_pair(init_key, config, draft_layers=1, gain=0.1)
  alone = functools.cache(lambda: _figures(key, pair, options, None))

  def measure(axis, devices):
    mesh = Mesh(np.array(jax.devices()[:devices]), (axis,))
    row = _figures(key, pair, options, mesh if devices > 1 else None)
    share = row['megaflop'] / alone()['megaflop']
    shared = devices if axis == 'tp' else 1
    expected = _on_paper(pair, options, shared, devices)
    return {
      **row,
      'to_one_device': share,
      'times_devices': share * devices,
      'paper_megaflop': expected.operations / 1e6,
      'paper_sent_kb': expected.sent / 1e3,
      'megaflop_to_paper': row['megaflop'] * 1e6 / expected.operations,
    }

  counts = [count for count in counts if count <= jax.device_count()]
  settings = grid(devices=counts, axis=('tp', 'data'))
  return Table(
    [x for x in settings if x['devices'] > 1 or x['axis'] == 'tp'], measure
  )


def _figures(key, pair, options, mesh) -> dict:
  """Of one block's program, per device."""
  tokens = np.arange(_BATCH * _PROMPT).reshape(_BATCH, _PROMPT)
  call = generate.prepare(
    gumbel.domain_key(key, Domain.TEXTS),
    *pair,
    tokens % pair[0].config.vocab_size,
    np.full(_BATCH, _PROMPT),
    options,
    mesh,
  )
  program = call.compiled(loop.block, *call.prefill())
  text = program.as_text()
  sent = program_text.collective_bytes(text)
  return {
    'megaflop': program.cost_analysis()['flops'] / 1e6,
    'argument_mb': program.memory_analysis().argument_size_in_bytes / 1e6,
    'sent_kb': sum(sent.values()) / 1e3,
    'all_reduce_kb': sent.get('all-reduce', 0) / 1e3,
    'exchanges': len(program_text.collectives(text)),
  }


def _on_paper(pair, options, shared, count) -> Cost:
  """A block in float32 with one draft step, of devices that share weights."""
  parts = block(
    *(model.config for model in pair),
    _BATCH * shared // count,
    _PROMPT,
    tree=(options.tree_nodes(), options.num_drafts, options.draft_length),
    devices=shared,
    number=4,
  )
  return Cost(*map(sum, zip(*parts)))
