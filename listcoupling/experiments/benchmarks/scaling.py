"""Programs of a block for 1 to 8 host devices, beside what paper says.

Nothing is timed: the devices of a host share its cores.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from listcoupling import gumbel
from listcoupling.decoding import generate, loop
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import cost, hlo
from listcoupling.experiments.benchmarks.timing import Case
from listcoupling.gumbel import Domain
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig

COUNTS = (1, 2, 4, 8)
_CONFIG = TransformerConfig(4096, 256, 4, 8, 8, 32, 1024, tie_embeddings=False)
# One draft step, since a loop's body counts once in a program's figures.
_OPTIONS = GenerateOptions(num_drafts=4, draft_length=2, max_new_tokens=64)
_BATCH, _PROMPT = 8, 64


def add_host_devices() -> None:
  """Makes this process see as many CPU devices as the table needs.

  Before JAX is used; afterwards the table has as many rows as it can.
  """
  try:
    jax.config.update('jax_num_cpu_devices', max(COUNTS))
  except RuntimeError:
    pass


def scaling_cases(
  key,
  *,
  counts: Sequence[int] = COUNTS,
  config: TransformerConfig = _CONFIG,
  options: GenerateOptions = _OPTIONS,
) -> list[Case]:
  """A block of a tree on each number of devices, by 'tp' and by 'data'.

  Args:
    key: typed key.
    counts: of devices; those that are not at hand are left out.
    config: of the target; the drafter has its first layer.
    options: of the block.
  """
  pair = random_pair(
    gumbel.domain_key(key, Domain.MODEL_INIT),
    config,
    draft_layers=1,
    gain=0.1,
  )
  alone = functools.cache(lambda: _figures(key, pair, options, None))

  def measure(axis, count):
    mesh = None
    if count > 1:
      mesh = Mesh(np.array(jax.devices()[:count]), (axis,))
    row = _figures(key, pair, options, mesh)
    share = row['megaflop'] / alone()['megaflop']
    paper = _paper(pair, options, axis, count)
    return {
      'devices': count,
      **row,
      'to_one_device': share,
      'times_devices': share * count,
      'paper_megaflop': paper.operations / 1e6,
      'paper_sent_kb': paper.sent / 1e3,
      'megaflop_to_paper': row['megaflop'] * 1e6 / paper.operations,
    }

  return [
    Case(f'{axis}={count}', functools.partial(measure, axis, count))
    for count in counts
    for axis in (('tp',) if count == 1 else ('tp', 'data'))
    if count <= jax.device_count()
  ]


def _figures(key, pair, options, mesh):
  """Per device, of one block."""
  target, drafter = pair
  tokens = np.arange(_BATCH * _PROMPT).reshape(_BATCH, _PROMPT)
  call = generate.prepare(
    gumbel.domain_key(key, Domain.TEXTS),
    target,
    drafter,
    tokens % target.config.vocab_size,
    np.full(_BATCH, _PROMPT),
    options,
    mesh,
  )
  program = call.compiled(loop.block, *call.prefill())
  text = program.as_text()
  sent = hlo.collective_bytes(text)
  return {
    'megaflop': program.cost_analysis()['flops'] / 1e6,
    'argument_mb': program.memory_analysis().argument_size_in_bytes / 1e6,
    'sent_kb': sum(sent.values()) / 1e3,
    'all_reduce_kb': sent.get('all-reduce', 0) / 1e3,
    'exchanges': len(hlo.collectives(text)),
  }


def _paper(pair, options, axis, count):
  """`cost.block` in float32, with one draft step."""
  target, drafter = (model.config for model in pair)
  shared = count if axis == 'tp' else 1
  return cost.total(
    cost.block(
      target,
      drafter,
      _BATCH * shared // count,
      _PROMPT,
      num_nodes=options.tree_nodes(),
      num_drafts=options.num_drafts,
      draft_length=options.draft_length,
      devices=shared,
      number=4,
    )
  )
