"""Drafted chains and n-grams against exact laws and slow twins."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.decoding import draft, filters, loop
from listcoupling.decoding.drafters import NGramDrafter, Text, as_drafter
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from tests import fakes, floats, statistics
from tests.decoding import exact

VOCAB = 5
ROW = (2, 0, 3, 1)  # the text of every row; its last token is the root
CAPACITY = 16
ROWS = 10


def propose(keys, models, options, row=ROW):
  """The `DraftTree` of one block after `row`, for each of the keys."""
  pairs = [as_drafter(model) for model in models]
  sampler = loop.make_sampler(
    models[0],
    [drafter for drafter, _ in pairs],
    options,
    vocab_size=VOCAB,
    capacity=CAPACITY,
  )
  params = tuple(params for _, params in pairs)
  found = _draft(keys, params, filters.sampling_params(options), sampler, row)
  shape = (len(keys), options.draft_length, options.num_drafts)
  return jax.tree.map(
    lambda leaf: np.asarray(leaf).reshape(*shape, *leaf.shape[2:]), found
  )


@functools.partial(jax.jit, static_argnums=(3, 4))
def _draft(keys, params, sampling, sampler, row):
  batch, config = len(keys), sampler.speculation
  tokens = jnp.zeros((batch, CAPACITY), jnp.int32)
  tokens = tokens.at[:, : len(row)].set(jnp.array(row))
  text = Text(tokens, jnp.full(batch, len(row) - 1, jnp.int32))
  states = tuple(
    drafter.prefill(
      own, text, (config.draft_length, len(config.slots(d))), CAPACITY
    )
    for d, (drafter, own) in enumerate(zip(config.drafters, params))
  )
  running = jnp.ones(batch, bool)
  state = draft.DraftState(states)
  return METHODS[sampler.method].propose(
    keys, params, state, text, running, config, sampling
  )[0]


def log_law(model, path, temperature):
  """Draft log-law after ROW + path, by table."""
  table = np.asarray(model.params, np.float64)
  before, last = (*ROW, *path)[-2:]
  scores = table[before, last] / temperature
  return scores - np.log(np.exp(scores).sum())


@pytest.mark.parametrize('method', ['gumbel_chains', 'specinfer'])
def test_every_chain_follows_its_own_law(method):
  """K = 3 on two drafters and two temperatures; chain k: drafter k mod 2."""
  models = fakes.random_pair(VOCAB, 1.0, 0, 2)[1]
  options = GenerateOptions(
    method, num_drafts=3, draft_length=3, draft_temperatures=(0.6, 1.5)
  )
  keys = jax.random.split(jax.random.key(3), 30_000)
  proposals = propose(keys, models, options)
  np.testing.assert_array_equal(
    proposals.parents[0], [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
  )
  for slot in range(3):
    temperature = (0.6, 1.5)[slot % 2]
    model = models[slot % 2]
    joint = np.exp(log_law(model, (), temperature))[:, None] * np.stack(
      [np.exp(log_law(model, (i,), temperature)) for i in range(VOCAB)]
    )
    pairs = proposals.tokens[:, 0, slot] * VOCAB + proposals.tokens[:, 1, slot]
    statistics.assert_law(pairs, joint.ravel())
    other = np.exp(log_law(models[1 - slot % 2], (), temperature))
    statistics.assert_not_law(proposals.tokens[:, 0, slot], other)
    # The laws handed to rejection verifiers are those that were sampled.
    error = floats.apart(
      lambda scores, t: jax.nn.softmax(scores / t),
      *(model.params, jnp.float32(temperature)),
    )
    for row, depth in itertools.product(range(20), range(3)):
      if proposals.laws is None:
        break
      path = proposals.tokens[row, :depth, slot]
      law = filters.Law(proposals.laws.logits[row, depth, slot], None)
      np.testing.assert_allclose(
        filters.probabilities(law, VOCAB),
        np.exp(log_law(model, path, temperature)),
        rtol=0,
        atol=error,
      )


@pytest.mark.parametrize('method', ['gumbel_chains', 'gls'])
def test_chains_of_one_prefix_are_independent(method):
  model = fakes.random_pair(VOCAB, 1.0)[1][0]
  options = GenerateOptions(method, num_drafts=3, draft_length=2)
  keys = jax.random.split(jax.random.key(5), 30_000)
  tokens = propose(keys, [model], options).tokens
  law = np.exp(log_law(model, (), 1.0))
  pairs = tokens[:, 0, 0] * VOCAB + tokens[:, 0, 2]
  statistics.assert_law(pairs, np.outer(law, law).ravel())
  # Second step, given that chains 0 and 1 share their first token.
  same = tokens[:, 0, 0] == tokens[:, 0, 1]
  first = tokens[:, 0, 0][same]
  common = np.bincount(first).argmax()
  law = np.exp(log_law(model, (common,), 1.0))
  pairs = (tokens[same, 1, 0] * VOCAB + tokens[same, 1, 1])[first == common]
  statistics.assert_law(pairs, np.outer(law, law).ravel())


def test_the_first_grouped_arrival_is_the_canonical_one():
  """The chains of a prefix race on times whose minimum is canonical."""
  target = fakes.random_pair(VOCAB, 1.0)[0]
  keys = jax.random.split(jax.random.key(6), 2000)
  options = GenerateOptions('gumbel_chains', num_drafts=3, draft_length=1)
  tokens = propose(keys, [target], options).tokens[:, 0]
  noise = jax.vmap(
    lambda key: gumbel.gumbel(gumbel.position_key(key, len(ROW)), VOCAB)
  )(keys)
  canonical = np.argmax(log_law(target, (), 1.0) + np.asarray(noise), axis=1)
  assert np.all((tokens == canonical[:, None]).any(axis=1))
  # Each chain is as often the first, so none may be left out.
  for left_out in range(3):
    others = np.delete(tokens, left_out, axis=1)
    assert not np.all((others == canonical[:, None]).any(axis=1))


def test_slots_belong_to_the_drafters_in_turn():
  """K = 5 on two drafters: slots 0, 2, 4 and 1, 3."""
  # Drafter d can only ever say token d.
  tables = [
    np.where(np.arange(VOCAB) == d, 0.0, -np.inf) + np.zeros((VOCAB,) * 3)
    for d in range(2)
  ]
  options = GenerateOptions('gumbel_chains', num_drafts=5, draft_length=3)
  proposals = propose(
    jax.random.split(jax.random.key(0), 2),
    [fakes.table_model(t) for t in tables],
    options,
  )
  np.testing.assert_array_equal(proposals.tokens, [[[0, 1, 0, 1, 0]] * 3] * 2)


def test_impossible_drafts_leave_slots_empty():
  table = np.zeros((VOCAB,) * 3)
  options = GenerateOptions(
    'gumbel_chains', num_drafts=3, draft_length=2, top_k=2
  )
  keys = jax.random.split(jax.random.key(0), 2)
  good = propose(keys, [fakes.table_model(table)], options)
  assert (good.tokens >= 0).all()
  table[3, 1] = np.nan  # after the root of ROW
  bad = propose(keys, [fakes.table_model(table)], options)
  assert (bad.tokens == -1).all()


class SlowNGram:
  """Prompt look-up in words: every earlier place votes."""

  def __init__(self, vocab, order, sharpness):
    self.vocab, self.order, self.sharpness = vocab, order, sharpness

  def law(self, row, path):
    text = [*row, *path]
    if len(row) == 1:
      return np.full(self.vocab, 1 / self.vocab)
    votes = np.zeros(self.vocab)
    for end in range(len(row) - 1):  # row[end + 1] is what followed
      length = 0
      while (
        length < self.order
        and length <= end
        and row[end - length] == text[-1 - length]
      ):
        length += 1
      votes[row[end + 1]] += self.sharpness**length
    return votes / votes.sum()


def vote_error(votes, smallest):
  """Relative, of laws by logarithms of sums of so many votes, the largest 1.

  A power, the sums and a logarithm, of an atom and of all.
  """
  return statistics.rounding(2 * (1 + votes - np.log(smallest)))


@pytest.mark.parametrize('order', [1, 3])
def test_ngram_laws_match_the_slow_version(order):
  """Rows of several lengths in one batch, a prompt of one token included."""
  rng = np.random.default_rng(order)
  rows = [rng.integers(0, 3, n).tolist() for n in (1, 2, 3, 8, 14)]
  tokens = np.zeros((5, CAPACITY), np.int32)
  for index, row in enumerate(rows):
    tokens[index, : len(row)] = row
  text = Text(
    jnp.asarray(tokens), jnp.array([len(row) - 1 for row in rows], jnp.int32)
  )
  drafter = NGramDrafter(VOCAB, order=order, sharpness=10.0)
  slow = SlowNGram(VOCAB, order, 10.0)
  error = vote_error(14, 10.0**-order)
  state = drafter.prefill(None, text, (3, 2), CAPACITY)
  root, state = drafter.open_block(None, state, text)
  before = [row[:-1] for row in rows]
  for index, row in enumerate(before[1:], start=1):
    np.testing.assert_allclose(  # what it would have said of the root
      exact.softmax(np.asarray(root[index, -2], np.float64)),
      slow.law(row, []),
      rtol=error,
    )
  first = np.array([[0, 2]] * 5)
  chain = jnp.broadcast_to(jnp.arange(2), (5, 2))
  depth1, state = drafter.extend(
    None, state, text, 1, jnp.asarray(first), chain
  )
  crossed = jnp.ones((5, 2), int)  # both slots continue slot 1
  second = np.array([[1, 0]] * 5)
  depth2, _ = drafter.extend(None, state, text, 2, jnp.asarray(second), crossed)
  for index, row in enumerate(rows):
    np.testing.assert_allclose(
      exact.softmax(np.asarray(root[index, -1], np.float64)),
      slow.law(row, []),
      rtol=error,
    )
    for slot in range(2):
      np.testing.assert_allclose(
        exact.softmax(np.asarray(depth1[index, slot], np.float64)),
        slow.law(row, [first[index, slot]]),
        rtol=error,
      )
      np.testing.assert_allclose(
        exact.softmax(np.asarray(depth2[index, slot], np.float64)),
        slow.law(row, [2, second[index, slot]]),
        rtol=error,
      )


def test_ngram_ignores_tokens_outside_its_vocabulary():
  text = Text(jnp.array([[1, 9, 1, 2, 1, 0]]), jnp.array([4]))
  drafter = NGramDrafter(3, order=1)
  state = drafter.prefill(None, text, (1, 1), 4)
  logits, _ = drafter.open_block(None, state, text)
  law = exact.softmax(np.asarray(logits[0, -1], np.float64))
  # 9 and 2 followed 1; 1 followed 9 and 2.
  error = vote_error(2, 0.01)
  np.testing.assert_allclose(law, [0, 2 / 102, 100 / 102], rtol=error)


def test_a_long_agreement_of_ngrams_stays_a_law():
  text = Text(jnp.array([[0, 1] * 16]), jnp.array([31]))
  drafter = NGramDrafter(3, order=24)  # 100^24 is no float32
  state = drafter.prefill(None, text, (1, 1), 32)
  logits, _ = drafter.open_block(None, state, text)
  law = exact.softmax(np.asarray(logits[0, -1], np.float64))
  np.testing.assert_array_equal(law, [1, 0, 0])


def test_nothing_follows_a_slot_without_a_token():
  """Two tokens are kept and three siblings asked for, without replacement."""
  model = fakes.random_pair(VOCAB, 1.0)[1][0]
  options = GenerateOptions(
    method='specinfer',
    replacement=False,
    num_drafts=3,
    draft_length=3,
    top_k=2,
    draft_temperatures=(1.0,),
  )
  keys = jax.random.split(jax.random.key(2), ROWS)
  tokens = propose(keys, [model], options).tokens
  assert (tokens[:, :, 2] == -1).all() and (tokens[:, :, :2] >= 0).all()


def test_the_best_of_a_shorter_vocabulary_need_no_filling():
  rows = np.round(np.random.default_rng(0).normal(size=(4, 200)), 1)  # ties
  rows[1, 2:], rows[2] = -np.inf, -np.inf  # fewer possible than are kept
  rows = jnp.asarray(rows, jnp.float32)
  options = filters.sampling_params(GenerateOptions(top_k=5))
  law = jax.vmap(lambda row: filters.warp(row, 0.7, options))
  assert draft.widen(rows, 256, options.top_k).shape == (4, 200)
  for own, filled in zip(law(rows), law(draft.widen(rows, 256))):
    np.testing.assert_array_equal(own, filled)
  for kept in (0, 200, 300):  # the law is over all tokens, or needs more
    assert draft.widen(rows, 256, kept).shape == (4, 256)
