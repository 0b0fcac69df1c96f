"""Drafter invariance: canonical noise writes one text, token for token."""

import dataclasses
import functools
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel, together
from listcoupling.decoding import invariance, placement, programs
from listcoupling.decoding.drafters import NGramDrafter
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from tests import fakes
from tests.decoding import exact

VOCAB, ROWS, LENGTH = 7, 24, 13  # 13 is no multiple of any block
KEYS = jax.random.split(jax.random.key(11), ROWS)
TARGET, (GOOD, SECOND) = fakes.random_pair(VOCAB, 0.7, 5, 2)
BAD = fakes.table_model(-np.asarray(TARGET.params))
BROKEN = fakes.table_model(
  np.where(np.arange(VOCAB) % 2, np.nan, 1.0)[:, None, None] + TARGET.params
)
SHORT = fakes.table_model(GOOD.params[:4, :4, :4])
PLAIN = GenerateOptions(
  method='autoregressive',
  max_new_tokens=LENGTH,
  temperature=0.9,
  stop_tokens=(3,),
  min_new_tokens=4,
  pad_token=VOCAB,
)
FILTERED = dataclasses.replace(
  PLAIN,
  top_k=5,
  top_p=0.95,
  min_p=0.01,
  repetition_penalty=1.3,
  logit_bias=((1, 0.5), (6, -np.inf)),
  # The exact fit: the last block reaches past the last entry of the text.
  cache_length=5 + LENGTH,
)


def some_prompts(seed=0, size=5):
  rng = np.random.default_rng(seed)
  prompts = rng.integers(0, VOCAB, (ROWS, size))
  return prompts, rng.integers(1, size + 1, ROWS)


PROMPTS, LENGTHS = some_prompts()


def write(options, drafters=(), prompts=PROMPTS, lengths=LENGTHS, keys=KEYS):
  return generate(keys, TARGET, drafters, prompts, lengths, options)


def with_method(options, method, width, length):
  """`options` for another method, with K = width and L = length."""
  return dataclasses.replace(
    options, method=method, num_drafts=width, draft_length=length
  )


def slow_text(key, prompt, options, noise_of):
  """One row by a plain loop: argmin E / q at every position."""
  row, table = list(prompt), np.asarray(TARGET.params, np.float64)
  while len(row) - len(prompt) < options.max_new_tokens:
    before = row[-2] if len(row) > 1 else row[-1]
    law = exact.law(
      table[before, row[-1]],
      options,
      seen=row,
      num_new=len(row) - len(prompt),
    )
    noise = np.asarray(noise_of(gumbel.position_key(key, len(row))), float)
    row.append(int(np.argmin(noise / np.maximum(law, 1e-300))))
    if row[-1] in options.stop_tokens:
      break
  return row[len(prompt) :]


def assert_slow_text(out, options, noise_of, rows=8):
  for row in range(rows):
    prompt = PROMPTS[row, : LENGTHS[row]].tolist()
    text = slow_text(KEYS[row], prompt, options, noise_of)
    assert out.tokens[row, : out.lengths[row]].tolist() == text
    assert (out.tokens[row, out.lengths[row] :] == options.pad_token).all()


def canonical(key):
  return gumbel.exponential(key, VOCAB)


@pytest.mark.parametrize('options', [PLAIN, FILTERED], ids=['plain', 'filters'])
def test_autoregressive_is_the_race_of_every_position(options):
  assert_slow_text(write(options), options, canonical)


@pytest.mark.parametrize(
  'method,width,length',
  [
    ('gumbel_tree', 3, 4),
    ('gumbel_tree', 1, 1),
    ('gumbel_chains', 3, 4),
  ],
)
def test_one_drafter_changes_nothing(method, width, length):
  options = with_method(PLAIN, method, width, length)
  reference = write(PLAIN)
  calls = {}
  for name, drafter in dict(
    itself=TARGET, good=GOOD, bad=BAD, broken=BROKEN
  ).items():
    out = write(options, [drafter])
    np.testing.assert_array_equal(out.tokens, reference.tokens, name)
    np.testing.assert_array_equal(out.lengths, reference.lengths)
    calls[name] = out.metrics.target_calls.sum()
  # A drafter costs or saves calls, so the texts were not drafted alike.
  assert calls['itself'] < calls['good'] < calls['bad'] <= LENGTH * ROWS


@pytest.mark.parametrize('method', ['gumbel_tree', 'gumbel_chains'])
def test_a_mixture_of_drafters_changes_nothing(method):
  """Models, a shorter vocabulary and n-grams; K not divisible by D."""
  options = with_method(PLAIN, method, 5, 3)
  drafters = [GOOD, NGramDrafter(VOCAB, order=2), SHORT]
  out = write(options, drafters)
  np.testing.assert_array_equal(out.tokens, write(PLAIN).tokens)
  assert out.metrics.accepted_tokens.sum() > 0


@pytest.mark.parametrize('method', ['gumbel_tree', 'gumbel_chains'])
def test_filters_keep_the_invariance(method):
  options = with_method(FILTERED, method, 3, 2)
  out = write(options, [SECOND])
  np.testing.assert_array_equal(out.tokens, write(FILTERED).tokens)


TREE = with_method(PLAIN, 'gumbel_tree', 3, 4)


def test_rows_do_not_see_their_neighbours():
  reference = write(TREE, [GOOD])
  order = np.random.default_rng(1).permutation(ROWS)
  moved = write(TREE, [GOOD], PROMPTS[order], LENGTHS[order], KEYS[order])
  np.testing.assert_array_equal(moved.tokens, reference.tokens[order])
  np.testing.assert_array_equal(
    moved.metrics.target_calls, reference.metrics.target_calls[order]
  )
  strangers, lengths = some_prompts(9)
  strangers[::2], lengths[::2] = PROMPTS[::2], LENGTHS[::2]
  mixed = write(TREE, [GOOD], strangers, lengths)
  np.testing.assert_array_equal(mixed.tokens[::2], reference.tokens[::2])
  assert not np.array_equal(mixed.tokens[1::2], reference.tokens[1::2])


def _programs():
  return {key for kept in programs._programs.values() for key in kept}


def test_padding_changes_neither_text_nor_compilation():
  reference = write(TREE, [GOOD])
  compiled = _programs()
  for size in (6, 31):
    padded = np.full((ROWS, size), 6)
    padded[:, :5] = PROMPTS
    out = write(TREE, [GOOD], padded)
    np.testing.assert_array_equal(out.tokens, reference.tokens)
  write(TREE, [BAD], *some_prompts(4, 18))
  assert _programs() == compiled


def test_one_key_is_folded_by_row():
  key = jax.random.key(8)
  rows = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(ROWS))
  single, many = write(TREE, [GOOD], keys=key), write(TREE, [GOOD], keys=rows)
  np.testing.assert_array_equal(single.tokens, many.tokens)
  same = np.tile(PROMPTS[:1], (ROWS, 1)), np.full(ROWS, 5)
  equal_prompts = write(TREE, [GOOD], *same, keys=key).tokens
  assert len(np.unique(equal_prompts, axis=0)) > ROWS // 2


def test_rows_end_at_stop_tokens_and_not_before_the_minimum():
  for out in (write(PLAIN), write(TREE, [GOOD])):
    for text, length in zip(out.tokens, out.lengths):
      stops = np.flatnonzero(text == 3)
      assert length == (stops[0] + 1 if len(stops) else LENGTH)
      assert length > 4
    assert len(np.unique(out.lengths)) > 3


def test_metrics_add_up():
  began = time.perf_counter()
  out = write(TREE, [GOOD])
  whole = time.perf_counter() - began  # compilation included
  m = out.metrics
  assert (np.diff(m.accepted_per_position, axis=1) <= 0).all()
  np.testing.assert_array_equal(
    m.accepted_tokens, m.accepted_per_position.sum(1)
  )
  np.testing.assert_array_equal(
    m.block_efficiency, out.lengths / m.target_calls
  )
  np.testing.assert_array_equal(
    m.drafted_tokens + m.invalid_drafts, m.target_calls * 3 * 4
  )
  # Every call adds one token to the accepted ones; only the last may not:
  # at an accepted stop token or at max_new_tokens.
  short = m.accepted_tokens + m.target_calls - out.lengths
  assert set(short.tolist()) <= {0, 1}
  np.testing.assert_array_equal(
    m.acceptance_rate, m.accepted_per_position / m.target_calls[:, None]
  )
  assert m.tokens_per_second >= out.lengths.sum() / whole


def slow_chains(key, row, options, model):
  """The K chains of one block, chain k on stream k of every position."""
  table, chains = np.asarray(model.params, np.float64), []
  for stream in range(options.num_drafts):
    chain = list(row)
    for _ in range(options.draft_length):
      before = chain[-2] if len(chain) > 1 else chain[-1]
      law = exact.draft_law(
        table[before, chain[-1]], options.temperature, options
      )
      at = gumbel.position_key(key, len(chain))
      noise = np.asarray(gumbel.exponential(at, VOCAB, stream))
      chain.append(int(np.argmin(noise / law)))
    chains.append(chain[len(row) :])
  return chains


def slow_list_sampling(key, prompt, options, model):
  """Algorithm 2, or its strong form: text, calls, acceptances per depth."""
  strong, length = options.method == 'gls_strong', options.draft_length
  table, row = np.asarray(TARGET.params, np.float64), list(prompt)
  calls, accepted = 0, np.zeros(length, int)

  def done():
    num_new = len(row) - len(prompt)
    stopped = num_new and row[-1] in options.stop_tokens
    return stopped or num_new == options.max_new_tokens

  while not done():
    calls += 1
    chains = slow_chains(key, row, options, model)
    active = list(range(options.num_drafts))
    for depth in range(length + 1):
      before = row[-2] if len(row) > 1 else row[-1]
      law = exact.law(
        table[before, row[-1]], options, num_new=len(row) - len(prompt)
      )
      at = gumbel.position_key(key, len(row))
      noise = np.asarray(gumbel.exponential_streams(at, VOCAB, len(chains)))
      noise = noise.min(axis=0) if strong else noise[active].min(axis=0)
      row.append(int(np.argmin(noise / np.maximum(law, 1e-300))))
      if depth < length:
        active = [k for k in active if chains[k][depth] == row[-1]]
        accepted[depth] += bool(active)
      if done() or not active:
        break
  return row[len(prompt) :], calls, accepted


@pytest.mark.parametrize('method', ['gls_strong', 'gls'])
def test_blocks_are_those_of_the_algorithm(method):
  """Text, target calls and acceptances of a plain loop over Algorithm 2.

  A drafter that misread the accepted text would cost calls alone.
  """
  options = with_method(PLAIN, method, 3, 4)
  out = write(options, [SECOND])
  for row in range(6):
    text, calls, accepted = slow_list_sampling(
      KEYS[row], PROMPTS[row, : LENGTHS[row]].tolist(), options, SECOND
    )
    assert out.tokens[row, : out.lengths[row]].tolist() == text
    assert out.metrics.target_calls[row] == calls
    np.testing.assert_array_equal(
      out.metrics.accepted_per_position[row], accepted
    )


@pytest.mark.parametrize('method', ['gls_strong', 'gls'])
def test_list_sampling_invariance(method):
  """Proposition 6: strong invariance; the conditional kind is no such thing."""
  options = with_method(PLAIN, method, 3, 4)
  good, bad = (write(options, [d]).tokens for d in (GOOD, BAD))
  assert np.array_equal(good, bad) == (method == 'gls_strong')
  if method == 'gls_strong':
    assert_slow_text(
      write(options, [GOOD]),
      options,
      lambda key: gumbel.exponential_streams(key, VOCAB, 3).min(axis=0),
    )


def _pair():
  target, (drafter,) = fakes.random_pair()
  return target, drafter


def test_changes_are_counted_token_by_token(monkeypatch):
  target, drafter = _pair()
  plain = np.arange(12).reshape(4, 3)

  def run(key, target, drafters, prompts, lengths, options):
    rows = plain[prompts[:, 0]].copy()
    if options.num_drafts == 2:  # one change that is seen
      rows[prompts[:, 0] == 1, 2] += 1
    return types.SimpleNamespace(tokens=rows)

  margins = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, -2e-4]] + 2 * [[1.0] * 3])
  monkeypatch.setattr(invariance, 'generate', run)
  monkeypatch.setattr(
    invariance.analysis, 'canonical_margins', lambda *_: margins
  )
  rows = invariance.count_changes(
    jax.random.key(0), target, drafter, np.arange(4)[:, None],
    np.ones(4, int), GenerateOptions(), methods=('gumbel_tree', 'gls'),
  )  # fmt: skip
  assert len(rows) == 12 + 10  # two trees of fewer nodes
  for row in rows:
    changed = row['change'] == 'K = 2'
    assert row['identical'] == 12 - changed
    assert row['diverging_rows'] == changed
    if row['method'] == 'gls':
      assert 'explained' not in row
    else:
      assert row['explained'] is True
    if changed and row['method'] == 'gumbel_tree':
      assert row['largest_margin'] == 2e-4
    else:
      assert np.isnan(row['largest_margin'])
  exact = invariance.count_changes(
    jax.random.key(0), target, drafter, np.arange(4)[:, None], np.ones(4, int),
    GenerateOptions(forward_nodes=17), methods=('gumbel_tree',),
  )  # fmt: skip
  # There rounding explains nothing.
  wrong = [row['change'] for row in exact if not row['explained']]
  assert wrong == ['K = 2']
  # The number of rows is left as it is.
  names = {row['change'] for row in rows} - {row['change'] for row in exact}
  assert names == {'two half batches'}


def test_meshes_are_counted_against_plain_sampling_on_one_device(monkeypatch):
  """Here they give another first row to trees on the mesh 'b'."""
  target, _ = _pair()
  text = np.arange(12).reshape(4, 3)
  other = text + [[0, 1, 1]] * (np.arange(4)[:, None] == 0)

  def generate(key, target, drafters, prompts, lengths, options, mesh=None):
    assert (options.method == 'autoregressive') == (not drafters)
    tokens = other if mesh == 'b' and drafters else text
    return types.SimpleNamespace(tokens=tokens)

  margins = np.arange(12).reshape(4, 3) * -1e-2
  monkeypatch.setattr(invariance, 'generate', generate)
  monkeypatch.setattr(invariance, 'prepare', lambda *_: None)
  monkeypatch.setattr(
    invariance.analysis, 'canonical_margins', lambda *_: margins
  )
  count = functools.partial(
    invariance.count_changes, jax.random.key(0), target, target,
    np.arange(4)[:, None], np.ones(4, int), GenerateOptions(),
    meshes={'first': 'a', 'second': 'b'},
  )  # fmt: skip
  rows = count()
  assert [row['identical'] for row in rows] == [12, 12, 12, 10]
  assert rows[3]['method'] == 'gumbel_tree' and rows[3]['change'] == 'second'
  assert rows[3]['largest_margin'] == 1e-2 and rows[3]['diverging_rows'] == 1
  assert [row['explained'] for row in rows] == [True, True, True, False]
  with pytest.raises(ValueError, match='got gls'):
    count(methods=('gumbel_tree', 'gls'))
  with pytest.raises(ValueError, match="got 'magic'"):
    count(methods=('gumbel_tree', 'magic'))


@pytest.mark.parametrize(
  ('dtypes', 'epsilon'),
  [
    (('int8', 'float32'), 1e-3),  # whole numbers and their scales
    (('float32', 'bfloat16'), 0.5),
    (('bfloat16', 'int8', 'float32'), 0.5),
  ],
)
def test_the_least_precise_weights_tell_what_rounding_explains(
  monkeypatch, dtypes, epsilon
):
  target, drafter = _pair()
  params = {str(i): jnp.ones(1, dtype) for i, dtype in enumerate(dtypes)}
  text = np.zeros((2, 1), int)

  def generate(key, target, drafters, prompts, lengths, options, mesh=None):
    return types.SimpleNamespace(tokens=text + bool(drafters))

  monkeypatch.setattr(invariance, 'generate', generate)
  monkeypatch.setattr(invariance, 'prepare', lambda *_: None)

  def explained(margin):
    monkeypatch.setattr(
      invariance.analysis, 'canonical_margins', lambda *_: text + margin
    )
    (row,) = invariance.count_changes(
      jax.random.key(0), target._replace(params=params), drafter, text,
      np.ones(2, int), GenerateOptions(), methods=('gumbel_tree',),
      meshes={'one': None},
    )  # fmt: skip
    return row['explained']

  assert explained(0.9 * epsilon) and not explained(1.1 * epsilon)


def test_a_bar_is_shown_on_demand(monkeypatch, capsys):
  target, drafter = _pair()
  text = np.zeros((2, 1), int)
  monkeypatch.setattr(
    invariance, 'generate', lambda *_, mesh=None: types.SimpleNamespace(
      tokens=text
    ),
  )  # fmt: skip
  monkeypatch.setattr(invariance.analysis, 'canonical_margins', lambda *_: text)
  for progress in (False, True):
    invariance.count_changes(
      jax.random.key(0), target, drafter, text, np.ones(2, int),
      GenerateOptions(), meshes={'one': None}, progress=progress,
    )  # fmt: skip
    assert ('methods' in capsys.readouterr().err) == progress


def test_weights_of_unknown_rounding_are_refused():
  target, drafter = _pair()
  half = target._replace(params=target.params.astype(np.float16))
  with pytest.raises(ValueError, match='got float16'):
    invariance.count_changes(
      jax.random.key(0), half, drafter, np.ones((2, 1), int), np.ones(2, int),
      GenerateOptions(),
    )  # fmt: skip


@pytest.mark.parametrize(
  ('rows', 'options', 'meshes', 'message'),
  [
    (1, {}, {}, 'at least 2 rows, got 1'),
    (2, {'forward_nodes': 16}, {}, 'gumbel_tree, .*forward_nodes=16 is below'),
    (2, {'cache_length': 3}, {}, 'cache_length=3 cannot hold'),
    (2, {}, {'data=3': 3}, 'data=3: 2 prompts cannot be shared'),
  ],
)
def test_mistakes_are_refused_before_anything_is_written(
  monkeypatch, rows, options, meshes, message
):
  target, drafter = _pair()
  monkeypatch.setattr(invariance, 'generate', None)
  meshes = {
    name: jax.sharding.AbstractMesh((size,), ('data',))
    for name, size in meshes.items()
  }
  if meshes:  # of more devices than there are
    monkeypatch.setattr(placement, 'choose_mesh', lambda mesh, _: mesh)
    monkeypatch.setattr(
      placement, 'agreement', lambda *_: together.agreed(False)
    )
  with pytest.raises(ValueError, match=message):
    invariance.count_changes(
      jax.random.key(0), target, drafter, np.ones((rows, 1), int),
      np.ones(rows, int), GenerateOptions(**options),
      methods=('gumbel_tree',), meshes=meshes,
    )  # fmt: skip
