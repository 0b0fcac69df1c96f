"""Tables of speed: rows kept, times taken in turn, tables of both kinds."""

import functools
import time

import jax
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.decoding import tuning
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import speed
from listcoupling.experiments.benchmarks.speed import Workload, milliseconds
from listcoupling.models.transformer_config import TransformerConfig
from tests import fakes, statistics


def test_rows_are_kept_and_belong_to_one_machine(tmp_path, monkeypatch):
  table = speed.Table(speed.grid(x=(2, 3)), lambda x: {'double': 2 * x})
  rows = speed.run(lambda: table, tmp_path, {'seed': 0})
  assert rows == [
    {'case': 'x 2', 'x': 2, 'double': 4}, {'case': 'x 3', 'x': 3, 'double': 6}
  ]  # fmt: skip
  done = table._replace(measure=None)
  assert speed.run(lambda: done, tmp_path, {'seed': 0}) == rows
  with pytest.raises(ValueError, match='settings of seed'):
    speed.run(lambda: done, tmp_path, {'seed': 1})
  monkeypatch.setattr(speed, 'environment', lambda: {'device': 'another'})
  with pytest.raises(ValueError, match='environment.device'):
    speed.run(lambda: done, tmp_path, {'seed': 0})


def test_times_are_taken_in_turn_after_a_first_round(capsys, monkeypatch):
  calls = []
  seconds = {'a': iter([99.0, 1.0, 7.0, 2.0]), 'b': iter([0.0, 5.0, 5.0, 3.0])}
  functions = {name: functools.partial(calls.append, name) for name in 'ab'}
  monkeypatch.setattr(
    speed, 'timed', lambda own, _: (own(), next(seconds[calls[-1]]))
  )
  times = milliseconds(functions, rounds=3)
  assert ''.join(calls) == 'ab' * 4  # one round more: it compiles
  assert times == {'a': 2000, 'b': 5000}  # medians, without the first
  monkeypatch.undo()
  nap = {'nap': lambda: time.sleep(0.02)}
  assert 20 <= milliseconds(nap, rounds=1)['nap'] < 1000
  assert not capsys.readouterr().err
  assert speed.in_turn(nap, 2, show=True) == {'nap': [None, None]}
  shown = capsys.readouterr().err
  assert 'round: 100%' in shown and 'nap' in shown


def _model(seed):
  return fakes.table_model(
    2 * jax.random.normal(jax.random.key(seed), (6,) * 3)
  )


def _workload():
  prompts = np.ones((2, 3), np.int32), np.array([3, 2])
  return Workload(jax.random.key(0), _model(0), _model(1), *prompts)


def test_the_random_pair_is_of_the_size_it_is_called_by():
  pair = jax.eval_shape(
    lambda key: [
      model.params for model in speed.load_workload(key, '25M')[1:3]
    ],
    gumbel.seed_key(0),
  )
  target, drafter = (
    sum(leaf.size for leaf in jax.tree.leaves(params)) for params in pair
  )
  assert 24e6 < target < 28e6 and 3.5e6 < drafter < 5e6


def test_decoding_measures_each_method_once_per_setting():
  table = speed.decoding(
    _workload(),
    batches=(1, 4), drafts=(2, 3), methods=('autoregressive', 'gls_strong'),
    options=GenerateOptions(draft_length=2, max_new_tokens=6), rounds=1,
  )  # fmt: skip
  assert len(table.settings) == 2 * 3
  once = dict(batch=4, num_drafts=3, method='autoregressive')
  assert once not in table.settings
  rows = [table.row(setting) for setting in table.settings[3:5]]
  settings = [(row['batch'], row['num_drafts'], row['method']) for row in rows]
  assert settings == [(4, 2, 'autoregressive'), (4, 2, 'gls_strong')]
  assert rows[0]['same_text'] == rows[0]['block_efficiency'] == 1
  assert rows[1]['same_text'] < 1 < rows[1]['block_efficiency']  # not plain


def test_the_whole_table_has_every_method():
  settings = speed.decoding(_workload()).settings
  assert {setting['method'] for setting in settings} == set(METHODS)


def test_the_loop_of_a_small_model(monkeypatch):
  def milliseconds(functions, *, rounds):
    found = {name: function() for name, function in functions.items()}
    if 'block' in found:
      assert (found['block'][1].target_calls == 3).all()
    return {name: {'block': 8.0, 'models': 6.0}[name] for name in functions}

  monkeypatch.setattr(speed, 'milliseconds', milliseconds)
  setting = dict(method='gls', num_drafts=1, draft_length=1)
  row = speed.overhead(_workload()).row(setting)
  assert row['num_nodes'] == 1
  assert (row['models_ms'], row['block_ms']) == (6, 8)
  assert row['overhead'] == 0.25


def test_the_models_alone_read_what_a_block_reads():
  """As many forwards, and no two nodes alike, which compilers would merge."""
  read = []

  def watched(model):
    def apply(params, tokens, *rest):
      jax.debug.callback(lambda x: read.append(x.tolist()), tokens)
      return model.apply(params, tokens, *rest)

    return model._replace(apply=apply)

  workload = _workload().resized(1)
  target, drafter = map(watched, (workload.target, workload.drafter))
  options = GenerateOptions(num_drafts=2, draft_length=4, num_nodes=20)
  call, state, block = speed.third_block(
    workload._replace(target=target, drafter=drafter), options
  )
  jax.effects_barrier()
  read.clear()
  jax.block_until_ready(block())
  jax.effects_barrier()
  sizes = [len(tokens[0]) for tokens in read]
  read.clear()
  models = functools.partial(speed._model_calls, sampler=call.sampler)
  jax.block_until_ready(jax.jit(models)(call.params, state))
  jax.effects_barrier()
  assert [len(tokens[0]) for tokens in read] == sizes == [5, 2, 2, 2, 21]
  opened, *depths, judged = (tokens[0] for tokens in read)
  assert depths == [[1, 2], [2, 3], [3, 4]]
  assert judged[1:] == list(range(20)) and judged[0] == opened[-1]


def test_capacity_is_compared_on_the_same_texts(monkeypatch):
  run, texts = speed.generate.generate, []

  def generate(*arguments):
    out = run(*arguments)
    texts.append((arguments[-1].cache_length, out.tokens.tolist()))
    # The first turn, which compiles, and one slow turn do not count.
    rate = {64: 8.0, 256: 6.0}[texts[-1][0]]
    rate = [99.0, rate, 1.0, rate][(len(texts) - 1) // 2]
    return out._replace(metrics=out.metrics._replace(tokens_per_second=rate))

  monkeypatch.setattr(speed.generate, 'generate', generate)
  table = speed.capacity(
    _workload(), capacities=(64, 256),
    batches=(2,), options=GenerateOptions('gls', 1, 1, 6), rounds=3,
  )  # fmt: skip
  methods = [setting['method'] for setting in table.settings]
  assert methods == ['autoregressive', 'gls']
  row = table.row(table.settings[1])
  rates = [row[f'tokens_per_second_at_{n}'] for n in (64, 256)]
  assert rates == [8, 6] and row['ratio'] == 0.75
  assert [size for size, _ in texts] == [64, 256] * 4
  assert all(text == texts[0][1] for _, text in texts)


def test_a_queue_waits_as_one_that_refills_at_once(monkeypatch):
  batches, generate = [], speed.generate.generate

  def kept(*args):
    out = generate(*args)
    batches.append(out.metrics.target_calls)
    return out

  monkeypatch.setattr(speed.generate, 'generate', kept)
  target, (drafter,) = fakes.random_pair(7, 0.7, 5)
  options = GenerateOptions(
    num_drafts=2, draft_length=2, max_new_tokens=30, stop_tokens=(3,)
  )
  table = speed.serving(
    Workload(gumbel.seed_key(0), target, drafter, np.ones((2, 4), int), [4, 2]),
    requests=24,
    batch_size=4,
    options=options,
    rounds=1,
  )
  fixed, found = map(table.row, table.settings)
  assert fixed['tokens'] == found['tokens'] > fixed['longest'] > 0
  assert fixed['ratio_to_batches'] == 1
  calls = np.array(batches[-6:])
  turned = 4 * calls.max(axis=1).sum()
  assert fixed['waiting'] == 1 - calls.sum() / turned
  ends = np.zeros(4)
  for count in calls.ravel():
    ends[ends.argmin()] += count
  turned = 4 * ends.max()
  assert found['waiting'] == 1 - calls.sum() / turned


_RATES = {0: 90.0, 4: 100.0, 16: 80.0, 6: 120.0}


@pytest.fixture
def tuned(monkeypatch):
  runs = []

  def generate(key, target, drafters, prompts, lengths, options):
    assert len(prompts) == len(lengths) == 1
    nodes = options.num_nodes or 0
    runs.append(nodes)
    rate = _RATES.get(nodes, 50.0) + len(runs) % 5 / 4
    rate += {0.1: 5.0}.get(options.draft_cost, 0.0)
    return fakes.timed(rate)

  monkeypatch.setattr(tuning, 'generate', generate)
  monkeypatch.setattr(speed.generate, 'generate', generate)
  target = fakes.table_model(np.zeros((5, 5, 5)))
  workload = Workload(
    jax.random.key(0), target, None, np.ones((3, 2), int), np.full(3, 2)
  )
  return speed.tune(workload), runs


def test_the_fastest_of_the_wider_grid_is_the_measure(tuned):
  table, runs = tuned
  rows = [table.row(setting) for setting in table.settings]
  assert len(rows) == 1 + len(tuning.settings(GenerateOptions())) + len(
    speed.WIDER
  )
  (chosen,) = [row for row in rows if row['chosen']]
  # Six nodes are faster, and not in the grid that is tuned.
  assert (chosen['num_nodes'], chosen['depths']) == (4, 4)
  assert chosen['draft_cost'] == 0.1
  assert {row['draft_cost'] for row in rows if row is not chosen} == {0}
  assert 105 / 121 <= chosen['of_best'] <= 106 / 120  # rates go up by 0 to 1
  best = max(rows, key=lambda row: row['tokens_per_second'])
  assert best['num_nodes'] == 6 and best['of_best'] == 1
  assert 0 < best['tokens_per_second_se'] < 1
  plain = rows[0]
  assert plain['method'] == 'autoregressive' and plain['num_nodes'] == 0
  assert runs.count(6) == 8  # one of them does not count


KEY = gumbel.seed_key(0)


@pytest.fixture
def times(monkeypatch):
  """Milliseconds by name that stand for what a clock would say."""
  known = {}

  def milliseconds(functions, *, rounds, calls=1):
    jax.block_until_ready([function() for function in functions.values()])
    return {name: known.get(name, 9.0) for name in functions}

  monkeypatch.setattr(speed, 'milliseconds', milliseconds)
  return known


@pytest.mark.parametrize('copy, share', [(3.0, 0.5), (6.0, 0.75)])
def test_races_stand_beside_their_limits(times, copy, share):
  times |= {'race': 4.0, 'bits': 2.0, 'copy': copy}
  table = speed.sampler(KEY, vocabularies=(100,), drafts=(2,))
  race, *others = table.settings
  assert race['draw'] == 'race'
  assert [table.row(other)['milliseconds'] for other in others] == [9, 9]
  row = table.row(race)
  assert (row['vocab_size'], row['num_drafts']) == (100, 2)
  assert row['milliseconds'] == 4 and row['ratio_to_bits'] == 2
  assert row['ratio_to_copy'] == 4 / copy and row['share_of_limit'] == share


def test_no_part_of_a_race_is_worked_out_in_advance(monkeypatch):
  asked = {}
  monkeypatch.setattr(
    speed, 'milliseconds', lambda functions, **_: asked.update(functions)
  )
  table = speed.sampler(KEY, vocabularies=(100,), drafts=(2,))
  with pytest.raises(TypeError):  # nothing was timed
    table.row(table.settings[0])
  call = asked['race']
  head = call.func.lower(*call.args).as_text().partition('@main(')[2]
  assert 'tensor<2x1x100xf32>' in head.splitlines()[0]  # laws are arguments


def test_filters_are_compared_with_none_and_schemes_with_gls(
  monkeypatch, times
):
  times |= {'none': 4.0, 'top_k': 6.0, 'gls': 3.0}
  monkeypatch.delitem(speed.FILTERS, 'top_p')
  monkeypatch.setitem(speed.FILTERS, 'top_k', {'top_k': 5})
  table = speed.vocabulary(
    KEY,
    config=TransformerConfig(64, 16, 1, 2, 1, 8, 32),
    options=GenerateOptions('gls', 2, 2, max_new_tokens=12),
    methods=('gls', 'specinfer'),
  )
  assert [tuple(x.values()) for x in table.settings] == [
    ('block', 'gls'), ('block', 'specinfer'), ('own', 'gls'),
    ('own', 'specinfer'),
  ]  # fmt: skip
  for setting in (table.settings[0], table.settings[3]):
    assert table.measure(**setting) == dict(
      none_ms=4.0, top_k_ms=6.0, top_k_ratio=1.5, top_k_to_gls=2.0
    )


def test_models_that_cost_nothing_have_the_laws_they_are_given():
  laws = np.log([0.7, 0.2, 0.1]).astype(np.float32)
  target, drafter = map(speed.constant_model, (laws, laws[::-1]))
  workload = Workload(KEY, target, drafter, np.ones((1, 2), int), [2])
  options = GenerateOptions('gls', 2, 2, 6)
  out = speed.generate.generate(*workload.resized(500).arguments(options))
  counts = np.bincount(out.tokens.ravel(), minlength=3)
  statistics.assert_proportion(counts, out.tokens.size, [0.7, 0.2, 0.1])
  with pytest.raises(AssertionError):  # not the drafter's
    statistics.assert_proportion(counts, out.tokens.size, [0.1, 0.2, 0.7])


def test_no_logits_of_models_that_cost_nothing_are_those_of_the_place_before():
  laws = np.log([0.7, 0.2, 0.1]).astype(np.float32)
  model = speed.constant_model(laws)
  places = np.array([[3, 4], [8, 9]], np.int32)
  own, cache = model.apply(model.params, places, places, None, (), None)
  assert cache == ()
  raised = laws + places[..., None].astype(np.float32)
  np.testing.assert_array_equal(own, raised)
