"""One of two processes that work together; run by `processes_test`.

python -m tests.devices.process_cases PROCESS PORT FOLDER
"""

import dataclasses
import functools
import json
import pathlib
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

import listcoupling as lc
from listcoupling import gumbel
from listcoupling.decoding import generate, placement, tuning
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.serving import generate_many
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig
from tests import fakes
from tests.devices import (
  mesh_cases,
  process_table_cases,
  process_training_cases,
)


def _tuned(process, target, drafter):
  """The choice of `tune` by clocks that disagree, one for each process."""
  mesh = placement.parse_mesh('data=2')
  target = target.place(target, mesh)
  clock = iter([(9.0, 1.0), (1.0, 9.0)][process] * 6)
  tuning.generate = lambda *args: fakes.timed(next(clock))
  tuning.GRID = ((1, 2, 2),)
  options = GenerateOptions(max_new_tokens=4)
  return tuning.tune(
    gumbel.seed_key(0), target, drafter, [[1]], [1], options
  ).method


def generate_text(results, process, folder):
  """Two models, and calls that are refused."""
  key = gumbel.seed_key(7)
  options = GenerateOptions(num_drafts=2, draft_length=2, max_new_tokens=32)
  exact, (drafter,) = fakes.random_pair(vocab_size=16, noise=0.5)
  models = {'network': mesh_cases.network(), 'table': (exact, drafter)}
  rows, lengths = mesh_cases.prompts()

  def text(name, mesh, rows=rows, options=options):
    own, size = models[name], models[name][0].config.vocab_size
    return generate.generate(
      *(key, *own, rows % size, np.resize(lengths, len(rows)), options),
      mesh=mesh,
    )

  # Chains are compiled sooner than the tree, which the table has.
  for name, mesh, method, count, size in (
    ('table', 'data=2', 'gumbel_tree', 40, 256),
    ('network', 'tp=2', 'gumbel_chains', 8, 32),
  ):
    asked = dict(
      rows=np.resize(rows, (count, rows.shape[1])),
      options=dataclasses.replace(options, method=method, max_new_tokens=size),
    )
    out = text(name, placement.parse_mesh(mesh), **asked)
    results[f'{name} {mesh}'] = {
      'tokens': out.tokens.tolist(),
      'lengths': out.lengths.tolist(),
      'calls': out.metrics.target_calls.tolist(),
    }
    if process == 0:
      alone = text(name, None, **asked)
      results[f'{name} alone'] = alone.tokens.tolist()

  mesh = placement.parse_mesh('data=2')
  message = functools.partial(fakes.refusal, text, 'table', mesh)
  results['other prompts'] = message(rows=rows + process)
  bad = GenerateOptions(temperature=-1.0) if process else options
  results['bad options'] = message(options=bad)
  queue = key, exact, drafter, rows % 16, lengths, options
  results['other slots'] = fakes.refusal(
    generate_many, *queue, batch_size=4 + 2 * process, mesh=mesh
  )
  results['no slots in one'] = fakes.refusal(
    generate_many, *queue, batch_size=4 * process, mesh=mesh
  )
  placed = exact.place(exact, mesh)
  results['bad text'] = fakes.refusal(
    lc.generate_text, key, placed, drafter, [[1], [15 + process]], options
  )
  results['after'] = message()
  results['tuned'] = _tuned(process, exact, drafter)


def refused_meshes(results, process, folder):
  """Arguments that fit no mesh, given by both processes and by one alone."""
  del folder
  exact, (drafter,) = fakes.random_pair(vocab_size=16, noise=0.5)
  rows, tp = [[1, 2]] * 4, placement.parse_mesh('tp=2')
  data, strange = (
    placement.parse_mesh('data=2'),
    jax.make_mesh((2,), ('model',)),
  )
  options = GenerateOptions(num_drafts=2, draft_length=2, max_new_tokens=4)

  def message(mesh, rows=rows, target=exact, drafter=drafter):
    call = target, drafter, rows, [2] * len(rows), options
    write = generate.generate
    return fakes.refusal(write, gumbel.seed_key(0), *call, mesh=mesh)

  odd, heads = (
    random_pair(
      gumbel.seed_key(0),
      TransformerConfig(size, 24, 1, count, count, 8, 32),
      draft_layers=1,
      gain=0.1,
    )
    for size, count in ((127, 2), (128, 3))
  )
  results['refused meshes'] = {
    'name': message(strange),
    'name of one': message(strange if process else data),
    'batch': message(data, rows[:1]),
    'batch of one': message(data, rows[: 4 - 3 * process]),
    'vocabulary': message(tp, target=odd[0], drafter=odd[1]),
    'heads': message(tp, target=heads[0], drafter=heads[1]),
    'mesh of one': message(data if process else tp),
  }


def main(process, port, folder, *names):
  """Joins, runs all or those named, writes what was found."""
  process, folder = int(process), pathlib.Path(folder)
  jax.distributed.initialize(f'127.0.0.1:{port}', 2, process)
  # They meet now: the first meeting waits for half a minute at most.
  multihost_utils.sync_global_devices('start')
  np.testing.assert_equal(jax.process_count(), 2)
  results = {}
  cases = process_training_cases.CASES + process_table_cases.CASES
  for case in (generate_text, refused_meshes, *cases):
    if not names or case.__name__ in names:
      case(results, process, folder)
  (folder / f'{process}.json').write_text(json.dumps(results))


if __name__ == '__main__':
  main(*sys.argv[1:])
