"""Eight host devices write what one writes, and exchange little."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from listcoupling.decoding import placement
from tests import statistics

ROOT = pathlib.Path(__file__).resolve().parents[2]
# In the order that saves memory, as accelerators; a CPU else begins with all
# that waits for nothing, such as the gathers of all layers.
_IN_ORDER = '--xla_cpu_enable_concurrency_optimized_scheduler=false'
_FLAGS = f'{os.environ.get("XLA_FLAGS", "")} {_IN_ORDER}'


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  path = tmp_path_factory.mktemp('mesh') / 'results.json'
  done = subprocess.run(
    [sys.executable, '-m', 'tests.devices.mesh_cases', str(path)],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': _FLAGS},
    capture_output=True,
    text=True,
    timeout=900,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(path.read_text())


@pytest.mark.parametrize('name', ['tp', 'both', 'fsdp'])
def test_networks_write_the_same_text(results, name):
  found = results[name]
  assert found['tokens'] == 8 * 32
  assert all(abs(margin) < found['apart'] for margin in found['margins'])
  assert len(found['margins']) <= 1
  assert found['block_efficiency'] > 2


def test_tables_write_the_same_ten_thousand_tokens(results):
  found = results['table']
  # Each shard stops once its own rows are done.
  on_mesh, on_one = found.pop('occupancy')
  assert on_one < on_mesh <= 1
  assert found == {'tokens': 40 * 256, 'same': True}


def test_blocks_are_streamed_from_a_mesh_of_rows_alone(results):
  found = results['streamed']
  assert found['same'] and found['last'] == 40 * 256
  assert 256 / 4 <= found['blocks'] < 256
  assert found['exchanges'] == 0  # shards of rows never talk


def test_a_block_exchanges_sums_and_the_few_best_tokens(results):
  found = results['both block']
  assert 'collective-permute' not in found['kinds']
  assert found['largest'] < 4 * 4096 * 4  # 4 rows of a shard, V, 4 bytes
  rows, heads, entries, size = found['cache_shard']
  assert [rows, heads] == [4, 1]  # of 8 rows and 4 key heads
  assert found['largest'] < 4 * rows * heads * entries * size
  assert found['outside_the_loop'] == 0


def test_key_heads_that_are_repeated_stay_where_they_are(results):
  """Eight shards of four key heads: each has its own half of the queries."""
  found = results['tp block']
  assert 'collective-permute' not in found['kinds']
  rows, heads, entries, size = found['cache_shard']
  assert [rows, heads] == [8, 1] and found['cache'][1] == 8
  assert found['largest'] < 4 * rows * heads * entries * size
  assert found['largest'] < 8 * 4096 * 4  # rows, V, 4 bytes
  assert found['outside_the_loop'] == 0


def test_a_drafter_of_fewer_tokens_shares_them_under_top_k(results):
  found = results['short vocabulary']
  assert found['same'] and found['tokens'] == 8 * 32
  assert 'collective-permute' not in found['kinds']  # edges of the parts
  sizes = {4096 - 128, 4096, (4096 - 128) // 4, 4096 // 4}
  assert sizes.intersection(found['sizes']) == {992, 1024}


def test_a_block_exchanges_what_paper_says(results):
  found = results['both block']
  assert 1 < found['sent'] / found['sent on paper'] < 1.2


def test_a_queue_on_a_mesh_writes_what_each_request_writes_alone(results):
  found = results['serving']
  assert found['same'] and found['calls'] and len(found['lengths']) > 3
  assert sorted(found['ended']) == list(range(40)) != found['ended']
  assert found['occupancy'] == 1  # one slot a shard: it waits for no other
  assert found['refills'] == 1 and found['exchanges'] == 0


def test_a_slot_of_a_mesh_waits_for_its_own_shard_alone(results):
  """A shard looks up when one of its two rows ends, or after 8 blocks.

  Calls of requests 0 to 9: 1 12 | 12 12 | 3 6 | 2 2, then 5 and 1.
  """
  blocks = [
    1 + 5 + 6,  # 0 ends, 8 takes its slot and ends, 1 goes on alone
    8 + 4,  # 2 and 3 end together
    3 + 1 + 2,  # 4 ends, 9 takes its slot and ends, 5 goes on alone
    2 + 0 + 0,  # 6 and 7 end together, nobody is left to come
  ]
  calls = 1 + 12 + 12 + 12 + 3 + 6 + 2 + 2 + 5 + 1
  assert results['waiting']['calls']
  assert results['waiting']['occupancy'] == calls / (2 * sum(blocks)) == 56 / 64


def test_rows_are_dealt_over_devices_and_written_as_by_one(results):
  found = results['rows']
  *over_all, first, second = found['made']
  assert (first, second) == (0, 0)
  assert sorted(over_all[:-1]) == sorted([*range(8), *range(8), 0, 1])
  assert sorted(found['kept']) == sorted([*range(8), 0, 1])
  assert found['parts'] == list(range(10))
  thirds = [float(np.float32(x) / np.float32(3)) for x in range(18)]
  lines = [f'{x},{third}' for x, third in enumerate(thirds)]
  assert found['csv'].splitlines() == ['x,third', *lines]


def test_language_tables_are_dealt_over_devices(results):
  dealt, alone, _ = results['matching']
  assert (dealt['devices'], alone['devices']) == ([0, 1], [0])
  assert dealt['csv'] == alone['csv']
  assert len(dealt['csv'].splitlines()) > 1 and 'nan' not in dealt['csv']


def test_token_rates_are_measured_on_one_device(results):
  found, _ = results['block_efficiency']
  assert found['devices'] == [0] and 'gsm8k' in found['csv']


def test_language_tables_are_filled_on_a_mesh(results):
  """The models have one array each: rows that are the same are exactly so."""
  _, alone, shared = results['matching']
  assert shared['devices'] == [0, 1, 2, 3, 4, 5]
  assert shared['csv'] == alone['csv']
  alone, shared = results['block_efficiency']
  assert shared['devices'] == [0, 1, 2]
  for ours, theirs in zip(shared['rows'], alone['rows'], strict=True):
    same = {name for name in ours if ours[name] == theirs[name]}
    assert {'block_efficiency', 'acceptance_rate', 'prompts'} <= same


def test_meshes_that_a_table_cannot_be_filled_on_are_refused(results):
  found = results['refused tables']
  assert '3 prompts of a batch' in found['batch'] and 'data=4' in found['batch']
  assert (
    '2 texts (config.rows)' in found['pairs'] and 'data=3' in found['pairs']
  )
  assert 'vocab_size=4096' in found['model'] and 'tp=3' in found['model']
  assert 'other settings of mesh' in found['folder']
  assert not found['written']


def test_stored_shards_are_gathered_in_the_loop_where_they_are_used(results):
  found = results['fsdp block']
  assert 'collective-permute' not in found['kinds']
  assert found['weights'] == 4 * 4096 // 2 * 64  # the head, shared by tp=2
  assert found['other'] < 4 * 4096 * 4
  assert found['outside_the_loop'] == 0


def test_stored_shards_are_gathered_layer_by_layer(results):
  one, four, first = (
    results['gathers'][name] for name in ('one', 'four', 'first')
  )
  for found in (one, four):
    # A kernel at a time, each once a turn, beside the embedded tokens.
    assert found['gathered'] == sorted([found['activations'], *found['stored']])
    assert found['outside_the_loop'] == 0
  assert len(four['stored']) == 4 * 4 + 1 and len(one['stored']) == 4 + 1
  layer = (sum(four['stored']) - sum(one['stored'])) / 3
  # Three layers more do not take the room of one.
  assert four['temporaries'] - one['temporaries'] < layer
  assert first['outside_the_loop'] >= 4 * 4 + 1
  assert first['temporaries'] - four['temporaries'] > 3 * layer


def test_parameters_that_lie_on_a_mesh_keep_it(results):
  found = results['kept']
  assert found['mesh'] == {'data': 1, 'fsdp': 1, 'tp': 8}
  assert found['key_heads'] == 8  # each of four stored twice
  assert found['spec'].replace('PartitionSpec', 'P') == "P('tp', 'fsdp')"


def test_a_teacher_is_read_onto_the_mesh(results):
  found = results['teacher']
  ours, theirs = found['digests']
  assert ours == theirs and found['key heads'] == [1, 1]
  # Of 8 devices each holds 1 / 8 of vocabulary by hidden size, 1 / 2 of what
  # has key heads, of which there is one.
  assert 1 / 8 < found['own'] / found['whole'] < 1 / 4


def test_a_training_step_is_shared_by_eight(results):
  found = results['language model']
  assert found['flops'] < 1.02 / 8
  assert found['shard'] == [128, 16]  # of [128, 64]
  # Every array of the state but for scalars lies where the old one lay.
  assert found['reused'] > 0.99 * found['state']
  one, eight = (np.array(x) for x in found['losses'])
  # Control: a step more or less is seen.
  assert np.abs(eight - one).max() < found['apart']
  assert found['apart'] < np.abs(np.diff(one)).min()


def test_logits_are_never_whole_in_training(results):
  found = results['chunks']
  few, many, long = (
    found[name]['temporaries']
    for name in ('few words', 'many words', 'many tokens')
  )
  logits = found['many tokens']['logits']
  assert found['few words']['logits'] < found['many words']['logits'] / 3
  assert many - few < 0.2 * found['many words']['logits']
  assert long - many < 0.2 * logits and long < 0.2 * logits
  # The table of the head is summed once, not once a chunk.
  assert found['many words']['in loops'] < 1024


def test_chunks_change_no_loss(results):
  found = results['chunked loss']
  for each in found.values():
    assert max(each['differences']) < each['apart']


def test_the_image_codec_is_trained_by_eight(results):
  found = results['image codec']
  assert found['flops'] < 1.02 / 8
  one, eight = (np.array(x) for x in found['losses'])
  # The curve is a running sum, which has roundings of its own.
  error = found['apart'] + statistics.rounding(one.size, one[-1])
  assert np.abs(eight - one).max() < error
  # Control: losses of neighbouring steps are told apart.
  assert error < np.abs(np.diff(one, 2)).min()
  assert np.prod(found['shard']) == np.prod(found['kernel']) / 8


def test_a_run_goes_on_on_another_mesh(results):
  found = results['another mesh']
  assert found['saved on'] == {'data': 1, 'fsdp': 4, 'tp': 2}
  for name in ("{'data': 2, 'fsdp': 4}", 'one device'):
    assert found[name]['same bits'] and found[name]['resumed at'] == 3
    assert found[name]['difference'] < found['apart']
  assert found['never shared'] < found['apart']


def test_meshes_that_training_cannot_use_are_refused(results):
  found = results['refused trainings']
  assert 'batch_size=12' in found['batch'] and 'fsdp=4' in found['batch']
  assert "axis 'model'" in found['name']
  assert 'hidden_size=36' in found['size'] and 'fsdp=8' in found['size']
  assert 'batch_size=4' in found['images'] and 'data=8' in found['images']
  assert found['written'] == []


def test_what_does_not_fit_is_refused_by_name(results):
  found = results['refused']
  assert "axis 'model'" in found['name'] and "'tp'" in found['name']
  assert '5 prompts' in found['batch'] and 'data=8' in found['batch']
  assert 'vocab_size=4095' in found['vocabulary']
  assert 'num_kv_heads=3' in found['heads'] and 'tp=8' in found['heads']
  assert '1 prompts' in found['requests'] and 'data=4' in found['requests']
  assert '2 slots of batch_size' in found['slots']
  assert 'target lies on ' in found['devices']
  assert 'drafters[0] on ' in found['devices']


def test_axes_may_be_absent_in_any_order_and_explicit():
  device = np.array(jax.devices()[:1]).reshape(1, 1)
  found = placement.standard_mesh(Mesh(device, ('tp', 'data')))
  assert found.axis_names == placement.AXES and found.size == 1
  explicit = placement.standard_mesh(jax.make_mesh((1,), ('fsdp',)))
  assert set(explicit.axis_types) == {AxisType.Auto}
  with pytest.raises(ValueError, match='jax.make_mesh'):
    placement.standard_mesh('tp=8')
  with pytest.raises(ValueError, match="an axis 'foo'; its axes may be 'data'"):
    placement.parse_mesh('foo=9999')


def test_each_device_runs_the_kernel_on_its_own_rows_and_heads(results):
  found = results['kernel']
  assert found['same'] and found['exchanges'] == 0
  assert found['whole'] == [False, True]  # alone it could not stand there
