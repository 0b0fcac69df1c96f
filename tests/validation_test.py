"""Every public door refuses what is no law in one line that names it."""

import decimal
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import listcoupling as lc
from listcoupling import gumbel, rejection, validation
from listcoupling.compression import list_quantiser
from listcoupling.decoding import filters, tree
from listcoupling.decoding.options import GenerateOptions
from listcoupling.models import attention
from tests import statistics

_KEY = jax.random.key(0)
_LOGITS = np.log([0.5, 0.3, 0.2])
_LAW = np.array([0.5, 0.3, 0.2])
_LABELS = np.array([0, 1, 0])

# The argument that is tried, and the call.
_LOGIT_DOORS = {
  'lists, draft_logits': lambda x: lc.gumbel_list_sampling(
    _KEY, x, _LOGITS, num_drafts=2
  ),
  'lists, target_logits': lambda x: lc.gumbel_list_sampling(
    _KEY, _LOGITS, x, num_drafts=2
  ),
  'shared race, draft_logits': lambda x: lc.shared_race_list_sampling(
    _KEY, x, _LOGITS, num_drafts=2
  ),
  'gumbel, target_logits': lambda x: lc.gumbel_coupling(_KEY, _LOGITS, x),
  'maximal, draft_logits': lambda x: lc.maximal_coupling(_KEY, x, _LOGITS),
  'minhash, target_logits': lambda x: lc.weighted_minhash_coupling(
    _KEY, _LOGITS, x
  ),
  'few bits, draft_logits': lambda x: lc.low_communication_coupling(
    _KEY, x, _LOGITS, max_bits=8
  ),
  'encode, log_weights': lambda x: lc.compression.encode(
    _KEY, x, _LABELS, num_decoders=2
  ),
  'decode, log_weights': lambda x: lc.compression.decode(
    _KEY, x, _LABELS, 1, decoder=0, num_decoders=2
  ),
}
_LAW_DOORS = {
  'total variation, p': lambda x: lc.bounds.total_variation(x, _LAW),
  'gumbel, q': lambda x: lc.bounds.gumbel_coupling_probability(_LAW, x),
  'minhash, p': lambda x: lc.bounds.weighted_minhash_probability(x, _LAW),
  'bound, p': lambda x: lc.bounds.list_matching_bound(x, _LAW, 2),
  'conditional, q': lambda x: lc.bounds.conditional_list_matching_bound(
    _LAW, x, 2
  ),
  'exact, p': lambda x: lc.bounds.list_matching_probability(x, _LAW, 2),
  'optimum, q': lambda x: lc.bounds.optimal_list_acceptance(_LAW, x, 2),
}
_NUMBER_DOORS = {
  'error bound, information_density': lambda x: (
    lc.bounds.compression_error_bound(x, 4)
  ),
  'encode, labels': lambda x: lc.compression.encode(
    _KEY, _LOGITS, x, num_decoders=2
  ),
  'decode, labels': lambda x: lc.compression.decode(
    _KEY, _LOGITS, x, 1, decoder=0, num_decoders=2
  ),
  'decode, message': lambda x: lc.compression.decode(
    _KEY, _LOGITS, _LABELS, x, decoder=0, num_decoders=2
  ),
  'decode, decoder': lambda x: lc.compression.decode(
    _KEY, _LOGITS, _LABELS, 1, decoder=x, num_decoders=2
  ),
  'error bound, num_messages': lambda x: lc.bounds.compression_error_bound(
    _LAW, x
  ),
  'intervals, candidates': lambda x: lc.compression.interval_labels(x, 1.0, 2),
  'intervals, width': lambda x: lc.compression.interval_labels(_LAW, x, 2),
  'intervals, offset': lambda x: lc.compression.interval_labels(
    _LAW, 1.0, 2, x
  ),
  'random labels, num_messages': lambda x: lc.compression.random_labels(
    _KEY, 4, x
  ),
  'k-means, centres': lambda x: lc.compression.kmeans_labels(_LAW[None], x),
  'list quantiser, points': lambda x: lc.compression.list_quantiser.encode(
    x, _LAW[:, None], num_decoders=1
  ),
  'list quantiser, message': lambda x: lc.compression.list_quantiser.decode(
    x, num_decoders=2
  ),
  'simulate, side_variance': lambda x: lc.compression.gaussian.simulate(
    _KEY, 0.1, 2, num_trials=2, num_decoders=2, side_variance=x
  ),
  'lists, num_drafts': lambda x: lc.gumbel_list_sampling(
    _KEY, _LOGITS, _LOGITS, num_drafts=x
  ),
  'encode, num_decoders': lambda x: lc.compression.encode(
    _KEY, _LOGITS, _LABELS, num_decoders=x
  ),
  'few bits, max_bits': lambda x: lc.low_communication_coupling(
    _KEY, _LOGITS, _LOGITS, max_bits=x
  ),
}

_NO_NUMBERS = [
  [[0.1, 0.2], [0.3]],
  [np.zeros(2), np.zeros(3)],
  'abc',
  ['a', 'b', 'c'],
  b'abc',
  object(),
  [object()] * 3,
  None,
  [None, 0.1, 0.2],
  [1j, 0, 0],
  {0.5, 0.1},
  {0: 1.0},
  (x for x in _LAW),
  np.array(['2020-01-01'], 'M8[D]'),
  np.array([0.5, 0.5, None]),
  np.zeros(3, [('x', float)]),
  np.ma.array([0.5, 0.3, 0.2], mask=[0, 1, 0]),
  [10**400, 1, 2],
  [decimal.Decimal('0.5')] * 3,
  np.zeros((0, 3)),
  [],
  _KEY,
]
_NO_LAWS = [
  1.5, np.zeros((1, 2, 3)), np.zeros((2, 0)), np.zeros(4),
  [np.nan, 0.0, 1.0], [np.inf, 0.0, 0.0],
]  # fmt: skip
_NO_LOGITS = [[True, False, True], [1, 2, 3]]
_NO_PROBABILITIES = [[-0.1, 0.5, 0.6], [0.5, 0.5, 1.0], [0, 0, 0]]


@pytest.mark.parametrize(
  ('doors', 'values'),
  [
    (_LOGIT_DOORS, _NO_NUMBERS + _NO_LAWS + _NO_LOGITS),
    (_LAW_DOORS, _NO_NUMBERS + _NO_LAWS + _NO_PROBABILITIES),
    (_NUMBER_DOORS, _NO_NUMBERS[:-3] + [_KEY]),
  ],
  ids=['logits', 'laws', 'numbers'],
)
def test_one_line_names_the_argument(doors, values):
  for door, call in doors.items():
    name = door.split(', ')[1]
    for value in values:
      with pytest.raises(ValueError) as refused:
        call(value)
      words = str(refused.value)
      assert name in words and '\n' not in words, (door, value, words)
      assert len(words) < 300, (door, words)


def test_a_law_must_be_left_and_rows_must_be_as_many_as_drafts():
  for door, call in _LOGIT_DOORS.items():
    if not door.startswith('decode'):  # which then looks at labels alone
      with pytest.raises(ValueError, match='every atom is -inf'):
        call(np.full(3, -np.inf))
  rows = np.stack([_LOGITS] * 3)
  with pytest.raises(ValueError, match='3 rows but num_drafts is 2'):
    lc.gumbel_list_sampling(_KEY, rows, _LOGITS, num_drafts=2)
  with pytest.raises(ValueError, match='3 rows but num_drafts is 2'):
    lc.bounds.list_matching_bound(np.exp(rows), _LAW, 2)


def test_labels_that_would_be_cut_are_refused():
  with pytest.raises(ValueError, match=r'2\^31 - 1, got 1099511627776'):
    _NUMBER_DOORS['encode, labels']([0, 1, 2**40])


def test_the_widest_floats_keep_their_differences_under_an_offset():
  law = validation.as_logits(np.longdouble(1e8) + np.longdouble(_LOGITS), 'x')
  expected = _LOGITS - _LOGITS.max()
  # Two numbers rounded to float64 at 1e8, their difference to float32.
  error = np.spacing(1e8) + statistics.rounding(1 / 2)
  np.testing.assert_allclose(law, expected, rtol=0, atol=error)


@pytest.mark.parametrize('kind', ['float16', 'longdouble', 'float64', list])
def test_numbers_of_any_float_type_are_taken(kind):
  logits = _LOGITS.tolist() if kind is list else _LOGITS.astype(kind)
  law = _LAW.tolist() if kind is list else _LAW.astype(kind)
  assert lc.gumbel_list_sampling(_KEY, logits, _LOGITS, num_drafts=2).is_match
  # Half a unit each, first of what the law is given in: a sum, a quotient, both
  # of the other law, and what adds up to the distance.
  given = 'float32' if kind in ('longdouble', 'float64', list) else kind
  error = statistics.rounding(1 / 2, dtype=given) + statistics.rounding(4)
  assert lc.bounds.total_variation(law, _LAW) < error


def test_traced_rows_in_a_list_are_an_array():
  law = jax.jit(lambda x: validation.as_logits([x, x + 1.0], 'logits'))(2.0)
  np.testing.assert_array_equal(law, [-1, 0])


def test_neither_ranks_nor_types_are_promoted_here_and_in_processes():
  for name, value in (('rank', 'raise'), ('dtype', 'strict')):
    setting = f'jax_numpy_{name}_promotion'
    assert getattr(jax.config, setting) == os.environ[setting.upper()] == value
  with pytest.raises(ValueError, match='rank'):
    jnp.ones(2) + jnp.ones((2, 2))
  with pytest.raises(ValueError, match='implicit dtype promotion'):
    jnp.ones(2, jnp.int32) + jnp.ones(2)


def test_types_of_laws_meet_whatever_the_machine_has_set():
  """Promotion is strict here; p and q need not be of one type."""
  p, q = jnp.array([0.75, 0.25], jnp.float16), jnp.array([0.5, 0.5])
  for ours, theirs in ((p, q), (p, q.astype(jnp.bfloat16))):
    found = lc.bounds.total_variation(ours, theirs)
    assert found == 0.25 and found.dtype == jnp.float32


def _floats(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def _ints(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.int32)


# What takes arrays of stated dimensions, right ones, and others.
INSIDE = {
  'race': (
    gumbel.race,
    (_floats(4), _floats(4)),
    (_floats(4), _floats(5)),
  ),
  'spectr_ratio': (
    rejection.spectr_ratio,
    (_floats(4), _floats(4), _ints()),
    (_floats(1), _floats(4), _ints()),
  ),
  'warm_law': (
    lambda x, t: filters.warm_law(x, t, GenerateOptions()),
    (_floats(4), _floats()),
    (_floats(4), _floats(1)),
  ),
  'node_tokens': (
    lambda root, tokens: tree.node_tokens(
      root, tree.DraftTree(tokens, tokens, tokens)
    ),
    (_ints(2), _ints(2, 3)),
    (_ints(1), _ints(2, 3)),
  ),
  'write_entries': (
    attention.write_entries,
    (_floats(2, 1, 8, 4), _floats(2, 1, 3, 4), _ints(2)),
    (_floats(2, 1, 8, 4), _floats(2, 3, 4), _ints(2)),
  ),
  'nearest': (
    list_quantiser.nearest,
    (_floats(3, 2), _floats(4, 2)),
    (_floats(3, 1), _floats(4, 2)),
  ),
}


@pytest.mark.parametrize('name', INSIDE)
def test_shapes_inside_are_asserted(name):
  """While a function is traced, also over a batch of what it takes."""
  function, right, wrong = INSIDE[name]
  batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((7, *x.shape), x.dtype),
                       (right, wrong))  # fmt: skip
  jax.eval_shape(function, *right)
  jax.eval_shape(jax.vmap(function), *batch[0])
  for each, arrays in ((function, wrong), (jax.vmap(function), batch[1])):
    with pytest.raises(AssertionError, match=r'assert_\w*(rank|shape)'):
      jax.eval_shape(each, *arrays)
