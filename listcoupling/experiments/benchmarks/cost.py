"""Costs of blocks as tables: on paper, and of programs for 1 to 8 devices.

The programs are compiled for host devices and their text is counted. Nothing
is timed: the devices of a host share its cores.

Legend: B batch, T tokens of a row so far, N nodes of the tree besides the
root, K beam, L draft length.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from listcoupling import gumbel, program_text
from listcoupling.decoding import generate, loop
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks.speed import Table, grid
from listcoupling.gumbel import Domain
from listcoupling.models.cost import (
  H100,
  V5P,
  WORD_OPERATIONS,
  Machine,
  block,
)
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig


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
  alone = functools.cache(
    lambda: _figures(key, pair, options, None)['megaflop']
  )

  def measure(axis, devices):
    mesh = Mesh(np.array(jax.devices()[:devices]), (axis,))
    row = _figures(key, pair, options, mesh if devices > 1 else None)
    shared = devices if axis == 'tp' else 1
    parts = block(
      *(model.config for model in pair),
      _BATCH * shared // devices,
      _PROMPT,
      tree=(options.tree_nodes(), options.num_drafts, options.draft_length),
      devices=shared,
      number=4,  # float32
    )
    operations = sum(x.operations + WORD_OPERATIONS * x.words for x in parts)
    return {
      **row,
      'times_devices': row['megaflop'] * devices / alone(),
      'paper_megaflop': operations / 1e6,
      'paper_sent_kb': sum(part.sent for part in parts) / 1e3,
      'megaflop_to_paper': row['megaflop'] * 1e6 / operations,
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
  return {
    'megaflop': program.cost_analysis()['flops'] / 1e6,
    'sent_kb': sum(program_text.collective_bytes(text).values()) / 1e3,
    'exchanges': len(program_text.collectives(text)),
  }
