"""Generations on meshes of eight host devices; run by `mesh_test`.

  python -m tests.devices.mesh_cases RESULTS.json [CASE ...]

JAX must see the devices before it starts, hence a process of its own.
"""

import dataclasses
import functools
import json
import os
import pathlib
import sys
import tempfile

os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs import decoding_iid, decoding_matching
from configs import table_pairs as table_pairs_config
from listcoupling import gumbel, kernels, program_text
from listcoupling.decoding import analysis, generate, loop, placement
from listcoupling.decoding import programs as store
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.serving import _select, generate_many
from listcoupling.experiments import run
from listcoupling.experiments.language import (
  block_efficiency,
  matching,
  protocol,
  table_pairs,
)
from listcoupling.models import attention_splash, cost, sharding, transformer
from listcoupling.models.random_pair import random_pair
from listcoupling.models.transformer_config import TransformerConfig
from tests import fakes, floats
from tests.devices import training_cases
from tests.experiments.language import fakes as letters
from tests.models import attention_splash_test

KEY = 7
ROWS, VOCAB = 8, 4096
MESHES = {
  'tp': dict(tp=8),  # more than key heads
  'both': dict(data=2, tp=4),
  'fsdp': dict(data=2, fsdp=2, tp=2),
}
OPTIONS = GenerateOptions(num_drafts=4, draft_length=3, max_new_tokens=32)


def mesh(sizes, devices=None):
  """Automatic axes, but for 'both': as `jax.make_mesh` makes them."""
  if devices is None and 'fsdp' not in sizes and len(sizes) == 2:
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes))
  devices = jax.devices() if devices is None else devices
  count = int(np.prod(list(sizes.values())))
  return Mesh(np.array(devices[:count]).reshape(*sizes.values()), tuple(sizes))


@functools.cache
def network():
  """Four key heads, drafter and target of one vocabulary."""
  config = TransformerConfig(
    *(VOCAB, 64, 2, 8, 4, 16, 128), qkv_bias=True, tie_embeddings=False
  )
  return random_pair(gumbel.seed_key(0), config, draft_layers=1, gain=0.1)


def prompts():
  """Eight rows of different lengths."""
  rows = np.arange(ROWS * 8).reshape(ROWS, 8) * 61 % VOCAB
  return rows, 1 + np.arange(ROWS) % 8


def networks(results):
  """Every mesh against one device, with the margins where they differ."""
  target, drafter = network()
  rows, lengths = prompts()
  key = gumbel.seed_key(KEY)

  def text(mesh=None, target=target):
    return generate.generate(
      key, target, drafter, rows, lengths, OPTIONS, mesh=mesh
    )

  reference = text()

  @functools.cache  # seldom asked for
  def margins():
    """And what rounding changes of them: both logits of a race."""
    texts = analysis.rows_of(rows, lengths, reference)
    of_one = floats.apart(
      lambda params: analysis.logits_along(
        target._replace(params=params), texts
      ),
      target.params,
    )
    found = analysis.canonical_margins(
      key, target, rows, lengths, reference, OPTIONS
    )
    return found, 2 * of_one

  for name, sizes in MESHES.items():
    out = text(mesh(sizes))
    differ = out.tokens != reference.tokens
    results[name] = {
      'tokens': int(out.lengths.sum()),
      'margins': [
        float(margins()[0][row, differ[row].argmax()])
        for row in np.flatnonzero(differ.any(axis=1))
      ],
      'apart': margins()[1] if differ.any() else 0.0,
      'block_efficiency': float(out.metrics.block_efficiency.mean()),
    }
  placed = mesh(MESHES['tp'])
  moved = target._replace(
    params=jax.device_put(target.params, NamedSharding(placed, PartitionSpec()))
  )
  call = generate.prepare(key, moved, drafter, rows, lengths, OPTIONS)
  results['kept'] = {
    'mesh': dict(call.mesh.shape),
    'key_heads': call.sampler.target.config.num_kv_heads,
    'spec': str(call.params.target['layer_0']['down'].sharding.spec),
  }


def programs(results):
  """Bytes that devices exchange in a block."""
  target, drafter = network()
  rows, lengths = prompts()
  key = gumbel.seed_key(KEY)
  for name in MESHES:
    call = generate.prepare(
      key, target, drafter, rows, lengths, OPTIONS, mesh(MESHES[name])
    )
    state, info = call.prefill()
    program = call.compiled(loop.run, state, info)
    sent = program_text.collectives(program.as_text())
    keys = state.cache.layers[0][0]
    shards = call.mesh.shape
    results[f'{name} block'] = {
      'sent': sum(op.size for op in sent),
      'sent on paper': _sent(target, drafter, ROWS // shards['data'], shards),
      'kinds': sorted({op.code for op in sent}),
      'largest': max((op.size for op in sent), default=0),
      'weights': max(
        (op.size for op in sent if 'sharding_constraint' in op.source),
        default=0,
      ),
      'other': max(
        (op.size for op in sent if 'sharding_constraint' not in op.source),
        default=0,
      ),
      'outside_the_loop': len(_before_the_loop(program.as_text())),
      'cache_shard': list(keys.sharding.shard_shape(keys.shape)),
      'cache': list(keys.shape),
    }


def _before_the_loop(text):
  """Collectives of the outermost computation, of whatever source."""
  return program_text.collectives(text.partition('\nENTRY ')[2])


def gathers(results):
  """Blocks whose parameters 'fsdp' stores, of one layer and of four.

  'first' is what they must not be: all is gathered, then the loop begins.
  """
  cases = {'one': (1, False), 'four': (4, False), 'first': (4, True)}
  results['gathers'] = {name: _gathers(*case) for name, case in cases.items()}


def _gathers(layers, first):
  config = TransformerConfig(
    *(64, 256, layers, 2, 2, 16, 1024), tie_embeddings=False
  )
  key = gumbel.seed_key(0)
  target, _ = random_pair(key, config, draft_layers=1, gain=0.1)
  options = GenerateOptions('autoregressive', max_new_tokens=8)
  placed = mesh(dict(fsdp=4, tp=2))
  rows = [[1, 2]] * 2, [2] * 2
  call = generate.prepare(key, target, (), *rows, options, placed)
  state = jax.eval_shape(
    functools.partial(loop.prefill, sampler=call.sampler),
    *(call.params, call.tokens, call.lengths, np.zeros(2, bool)),
    call.sampling,
  )
  stored = [
    leaf
    for leaf in jax.tree.leaves(call.params)
    if 'fsdp' in leaf.sharding.spec and leaf is not call.params.target['embed']
  ]

  def run(keys, params, *rest):
    if first:
      params = jax.tree.map(
        lambda x, own: jax.lax.with_sharding_constraint(
          x,
          PartitionSpec(*(a if a == 'tp' else None for a in own.sharding.spec)),
        ),
        *(params, call.params),
      )
    return loop.run(keys, params, *rest, sampler=call.sampler)

  shared = placement.per_shard(run, call.mesh, (True, False, False, True, True))
  jitted = jax.jit(shared, donate_argnums=(3, 4))
  program = jitted.lower(*call.arguments, *state).compile()
  sent = program_text.collectives(program.as_text())
  sizes = sorted(op.size for op in sent if op.code == 'all-gather')
  return {
    'gathered': sizes,
    'stored': sorted(leaf.nbytes // 2 for leaf in stored),  # tp=2
    'activations': 2 * 256 * 4,  # rows, D
    'outside_the_loop': len(_before_the_loop(program.as_text())),
    'temporaries': program.memory_analysis().temp_size_in_bytes,
  }


def short_vocabulary(results):
  """A drafter of fewer tokens under top-k: texts, and what devices exchange."""
  target, drafter = network()
  size = VOCAB - 128
  drafter = transformer.make_language_model(
    dataclasses.replace(drafter.config, vocab_size=size),
    jax.tree.map(
      lambda leaf: leaf[:size] if leaf.shape[0] == VOCAB else leaf,
      drafter.params,
    ),
  )
  options = dataclasses.replace(OPTIONS, method='traversal', top_k=20)
  arguments = gumbel.seed_key(KEY), target, drafter, *prompts(), options
  placed = mesh(MESHES['both'])
  alone, shared = (
    generate.generate(*arguments, mesh=chosen) for chosen in (None, placed)
  )
  call = generate.prepare(*arguments, placed)
  text = call.compiled(loop.run, *call.prefill()).as_text()
  results['short vocabulary'] = {
    'same': bool((alone.tokens == shared.tokens).all()),
    'tokens': int(alone.lengths.sum()),
    'kinds': sorted({op.code for op in program_text.collectives(text)}),
    'sizes': sorted(
      {
        shape[-1]
        for op in program_text.operations(text)
        for kind, shape in op.arrays
        if kind == 'f32' and len(shape) > 1
      }
    ),
  }


def _sent(target, drafter, rows, shards):
  """Bytes of the forwards of one turn of every loop."""
  nodes = (
    (target, 1 + OPTIONS.tree_nodes()),
    (drafter, OPTIONS.draft_length + 1),
    (drafter, OPTIONS.num_drafts),
  )
  return sum(
    cost.forward(
      model.config, rows, count, 0, devices=shards['tp'], number=4
    ).sent
    for model, count in nodes
  )


def on(model, number):
  """A model that was put on a device."""
  device = jax.devices()[number]
  return model._replace(params=jax.device_put(model.params, device))


def tables(results):
  """Models that are exact everywhere, and many tokens."""
  target, (drafter,) = fakes.random_pair(vocab_size=16, noise=0.5)
  count, size = 40, 256
  rows = np.arange(3 * count).reshape(count, 3) % 16
  lengths = np.full(count, 3)
  options = GenerateOptions(num_drafts=4, draft_length=3, max_new_tokens=size)
  key = gumbel.seed_key(KEY)

  def text(key=key, drafter=drafter, **settings):
    return generate.generate(
      key, target, drafter, rows, lengths, options, **settings
    )

  target, elsewhere = on(target, 0), on(drafter, 5)
  key = jax.device_put(key, jax.devices()[3])
  reference = text(key)
  out = text(key, elsewhere, mesh=mesh(dict(data=4, tp=2)))
  results['table'] = {
    'tokens': int(out.lengths.sum()),
    'same': bool((out.tokens == reference.tokens).all()),
    'occupancy': [out.metrics.occupancy, reference.metrics.occupancy],
  }
  seen, rows_alone = [], mesh(dict(data=8))
  out = text(mesh=rows_alone, on_block=lambda *a: seen.append(a[1]))
  call = generate.prepare(
    key, target, drafter, rows, lengths, options, rows_alone
  )
  block = call.compiled(loop.block, *call.prefill())
  results['streamed'] = {
    'exchanges': len(program_text.collectives(block.as_text())),
    'same': bool((out.tokens == reference.tokens).all()),
    'blocks': len(seen),
    'last': int(seen[-1].sum()),
  }


def serving(results):
  """More requests than slots, each with a key of its own."""
  target, (drafter,) = fakes.random_pair(vocab_size=16, noise=0.5)
  count = 40
  rows = np.arange(3 * count).reshape(count, 3) % 16
  keys = jax.random.split(gumbel.seed_key(KEY), count)
  call = target, drafter, rows, 1 + np.arange(count) % 3
  options = dataclasses.replace(OPTIONS, max_new_tokens=48, stop_tokens=(3,))
  alone = generate.generate(keys, *call, options)
  ended = []
  out = generate_many(
    keys,
    *call,
    options,
    batch_size=4,
    mesh=mesh(dict(data=4, tp=2)),
    on_done=lambda request, tokens: ended.append(request),
  )
  calls = alone.metrics.target_calls
  refills = [
    program.result().as_text()
    for kept in store._programs.values()
    for key, program in kept.items()
    if key[0] is _select
  ]
  results['serving'] = {
    'refills': len(refills),
    'exchanges': sum(len(program_text.collectives(text)) for text in refills),
    'same': bool((out.tokens == alone.tokens).all()),
    'calls': bool((out.metrics.target_calls == calls).all()),
    'lengths': sorted(set(map(int, out.lengths))),
    'ended': ended,
    'occupancy': out.metrics.occupancy,
  }


def waiting(results):
  """Requests that write 1 to 12 tokens, two slots a shard."""
  calls = (1, 12, 12, 12, 3, 6, 2, 2, 5, 1)
  options = GenerateOptions(
    'autoregressive', max_new_tokens=12, temperature=0.0, stop_tokens=(12,)
  )
  out = generate_many(
    gumbel.seed_key(KEY),
    fakes.counting_model(13),
    (),
    12 - np.array(calls)[:, None],
    np.ones(len(calls), int),
    options,
    batch_size=8,
    mesh=mesh(dict(data=4)),
  )
  results['waiting'] = {
    'calls': bool((out.metrics.target_calls == calls).all()),
    'occupancy': out.metrics.occupancy,
  }


def refusals(results):
  """Messages of what does not fit."""
  target, drafter = network()
  rows, lengths = prompts()

  def message(sizes, count=ROWS, target=target):
    return fakes.refusal(
      generate.generate, gumbel.seed_key(KEY), target, drafter,
      rows[:count], lengths[:count], OPTIONS, mesh=mesh(sizes),
    )  # fmt: skip

  exact, (other,) = fakes.random_pair(vocab_size=16)
  apart = fakes.refusal(
    generate.generate, gumbel.seed_key(KEY), on(exact, 0), on(other, 5),
    [[1]], [1], OPTIONS,
  )  # fmt: skip

  def queued(count, **settings):
    return fakes.refusal(
      generate_many, gumbel.seed_key(KEY), target, drafter,
      rows[:count], lengths[:count], OPTIONS, mesh=mesh(dict(data=4)),
      **settings,
    )  # fmt: skip

  odd = TransformerConfig(4095, 64, 1, 8, 4, 16, 128)
  odd, _ = random_pair(gumbel.seed_key(0), odd, draft_layers=1, gain=0.1)
  heads = TransformerConfig(4096, 96, 1, 6, 3, 16, 128)
  heads, _ = random_pair(gumbel.seed_key(0), heads, draft_layers=1, gain=0.1)
  results['refused'] = {
    'name': message(dict(model=8)),
    'batch': message(dict(data=8), count=5),
    'vocabulary': message(dict(tp=8), target=odd),
    'heads': message(dict(tp=8), target=heads),
    'requests': queued(1, batch_size=8),
    'slots': queued(ROWS, batch_size=2),
    'devices': apart,
  }


def rows(results):
  """A table whose rows and arrays are made on all devices."""
  made, kept = [], []

  def third(x):
    number = jnp.float32(x) / 3
    made.append(number.device.id)
    return {'third': float(number)}

  def keep(x):
    kept.append(jnp.float32(x).device.id)
    held.save(f'part_{x}', {'x': x})

  with tempfile.TemporaryDirectory() as folder:
    with run.open_run(folder, {}) as held:
      held.rows({x: x for x in range(18)}, third, key='x')
      held.deal(range(10), keep)
      parts = [held.load(f'part_{x}')['x'].item() for x in range(10)]
    csv = (pathlib.Path(folder) / 'results.csv').read_text()
    with run.open_run(folder, {}) as held:  # one after the other
      timed = 'timed.csv'
      made.append(-1)
      held.rows({9: 9, 8: 8}, third, key='x', table=timed, timed=True)
  results['rows'] = {'made': made, 'kept': kept, 'parts': parts, 'csv': csv}


def kernel(results):
  """Splash attention, interpreted, of two shards of rows by two of heads."""
  arrays = attention_splash_test.operands(3, 4)
  places = placement.standard_mesh(mesh(dict(data=2, tp=2)))
  attend = functools.partial(attention_splash.attend, interpret=True)
  whole = set()

  def program(*arrays):
    whole.add((kernels._is_whole(()), kernels._is_whole(('fsdp', 'tp'))))
    return sharding.per_key_head(attend)(*arrays)

  by_heads = NamedSharding(places, PartitionSpec('data', 'tp'))
  placed = jax.device_put(arrays[:3], by_heads) + arrays[3:]
  shared = jax.jit(placement.per_shard(program, places, (True,) * 5))
  text = shared.lower(*placed).compile().as_text()
  results['kernel'] = {
    'same': np.array_equal(shared(*placed), attend(*arrays)),
    'exchanges': len(program_text.collectives(text)),
    'whole': whole.pop(),
  }


def language_tables(results):
  """Tables of a pair dealt over two devices, on one, and on meshes of more.

  Tells where the parameters lay.
  """
  protocol.load_pair = lambda *_: letters.pair()
  places = set()

  def noting(function):
    def noted(setup, *rest):
      for leaf in jax.tree.leaves((setup.target.params, setup.drafter.params)):
        places.update(device.id for device in leaf.devices())
      return function(setup, *rest)

    return noted

  protocol.continue_prompts = noting(protocol.continue_prompts)
  matched, rates = decoding_matching.get_config(), decoding_iid.get_config()
  matched.repetitions, rates.methods = 20, ('single',)
  with tempfile.TemporaryDirectory() as folder:
    folder = letters.write_prompts(pathlib.Path(folder))
    for table, config, ways in (
      (matching, matched, (2, 1, 'data=3,tp=2')),
      (block_efficiency, rates, (2, 'data=3')),
    ):
      found = results[table.__name__.rpartition('.')[2]] = []
      letters.config_of(  # in place
        folder, config, num_drafts=(2,), datasets=('gsm8k',), draft_length=2
      )
      for way in ways:
        filled, count = table.run, way
        if isinstance(way, str):
          filled, count = filled.on(placement.parse_mesh(way)), 2
        run._devices_each = functools.partial(int, count)
        places.clear()
        work = folder / f'{table.__name__}{way}'
        rows = filled(config, work)
        csv = (work / 'results.csv').read_text()
        found.append({'csv': csv, 'rows': rows, 'devices': sorted(places)})
    results['refused tables'] = _refused_tables(folder, matched)


def _refused_tables(folder, config):
  """Meshes that a table cannot be filled on; none writes a file."""
  new = folder / 'refused'

  def message(mesh, work=new):
    filled = matching.run.on(placement.parse_mesh(mesh))
    return fakes.refusal(filled, config, work)

  pairs = table_pairs_config.get_config()
  pairs.rows = 2
  found = {
    'pairs': fakes.refusal(
      table_pairs.run.on(placement.parse_mesh('data=3')), pairs, new
    ),
    'batch': message('data=4'),
    'folder': message('tp=2', folder / f'{matching.__name__}data=3,tp=2'),
  }
  protocol.load_pair = lambda *_: [
    model._replace(tokenizer=letters.letter_tokenizer()) for model in network()
  ]
  return found | {'model': message('tp=3'), 'written': new.exists()}


def main(path, *names):
  """Runs all, or those named, and writes what was found."""
  results = {}
  own = (
    *(networks, programs, gathers, short_vocabulary, tables),
    *(serving, waiting, refusals, rows, kernel),
  )
  for case in (*own, *training_cases.CASES, language_tables):
    if not names or case.__name__ in names:
      case(results)
  with open(path, 'w') as file:
    json.dump(results, file)


if __name__ == '__main__':
  main(*sys.argv[1:])
