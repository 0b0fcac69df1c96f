"""The public door: what it refuses, with which words, and streaming."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.decoding.drafters import NGramDrafter
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.serving import generate_many
from listcoupling.decoding.text import generate_text
from tests import fakes

VOCAB = 7
TARGET, (DRAFTER,) = fakes.random_pair(VOCAB, 0.7, 5)
KEY = jax.random.key(0)
PROMPTS, LENGTHS = [[1, 2, 0], [3, 0, 0]], [2, 1]
OPTIONS = GenerateOptions(num_drafts=3, draft_length=2, max_new_tokens=7)


def write(
  *,
  key=KEY,
  target=TARGET,
  drafters=(DRAFTER,),
  prompts=PROMPTS,
  lengths=LENGTHS,
  on_block=None,
  **changes,
):
  options = dataclasses.replace(OPTIONS, **changes)
  return generate(
    key, target, drafters, prompts, lengths, options, on_block=on_block
  )


BAD_OPTIONS = [
  (dict(method='greedy'), ["'greedy'", 'gumbel_tree']),
  (dict(temperature=-0.5), ['temperature', '-0.5']),
  (dict(temperature=np.nan), ['temperature', 'nan']),
  (dict(temperature=np.inf), ['temperature', 'inf']),
  (dict(draft_temperatures=(1.0, -2.0)), ['draft_temperatures', '-2.0']),
  (dict(draft_temperatures=()), ['draft_temperatures', 'None']),
  (dict(top_p=0.0), ['top_p', '(0, 1]', '0.0']),
  (dict(top_p=1.2), ['top_p', '(0, 1]', '1.2']),
  (dict(top_p=np.nan), ['top_p', 'nan']),
  (dict(min_p=-0.1), ['min_p', '-0.1']),
  (dict(min_p=1.1), ['min_p', '1.1']),
  (dict(top_k=-1), ['top_k', '-1']),
  (dict(top_k=2.5), ['top_k', '2.5']),
  (dict(repetition_penalty=0.0), ['repetition_penalty', '0.0']),
  (dict(num_drafts=0), ['num_drafts', '0']),
  (dict(num_drafts=True), ['num_drafts', 'True']),
  (dict(draft_length=0), ['draft_length', '0']),
  (dict(max_new_tokens=0), ['max_new_tokens', '0']),
  (dict(min_new_tokens=-1), ['min_new_tokens', '-1']),
  (dict(stop_tokens=(VOCAB,)), ['stop_tokens', '7']),
  (dict(stop_tokens=(-1,)), ['stop_tokens', '-1']),
  (dict(logit_bias=((9, 1.0),)), ['logit_bias', '9']),
  (dict(logit_bias=((2, np.nan),)), ['logit_bias', 'token 2', 'nan']),
  (dict(logit_bias=((2, np.inf),)), ['logit_bias', 'inf']),
  (dict(cache_length=8), ['cache_length=8', '9 are needed']),
  (dict(cache_length=40.5), ['cache_length', '40.5']),
  (
    dict(method='spectr', draft_temperatures=(0.5, 1.0)),
    ['spectr', '(0.5, 1.0)', 'specinfer'],
  ),
]


@pytest.mark.parametrize('changes,words', BAD_OPTIONS)
def test_options_that_make_no_sense_are_refused(changes, words):
  with pytest.raises(ValueError) as error:
    write(**changes)
  for word in words:
    assert word in str(error.value)


BAD_INPUTS = dict(
  legacy_key=(dict(key=jax.random.PRNGKey(0)), ['typed key', 'uint32']),
  integer_key=(dict(key=0), ['key', 'got 0', 'jax.random.key(seed)']),
  too_many_keys=(dict(key=jax.random.split(KEY, 3)), ['(2,)', '(3,)']),
  other_generator=(
    dict(key=jax.random.key(0, impl='rbg')),
    ['threefry', 'rbg'],
  ),
  no_prompts=(dict(prompts=np.zeros((0, 3), int), lengths=[]), ['(0, 3)']),
  flat_prompts=(dict(prompts=[1, 2]), ['[B, P]', '(2,)']),
  empty_prompt=(dict(lengths=[2, 0]), ['got 0', 'start token']),
  beyond_prompt=(dict(lengths=[2, 4]), ['[1, 3]', 'got 4']),
  float_prompts=(dict(prompts=np.ones((2, 3))), ['float64']),
  lengths_shape=(dict(lengths=[2]), ['prompt_lengths', '(1,)']),
  float_lengths=(dict(lengths=[2.0, 1.0]), ['prompt_lengths', 'float64']),
  unknown_token=(dict(prompts=[[1, VOCAB, 0], [3, 0, 0]]), ['token 7']),
  negative_token=(dict(prompts=[[1, -2, 0], [3, 0, 0]]), ['token -2']),
  no_model=(dict(target='model'), ['LanguageModel', 'load_pretrained']),
  no_drafter=(dict(drafters=()), ['gumbel_tree', 'autoregressive']),
  strange_drafter=(dict(drafters=[object()]), ['object', 'open_block']),
  crowd=(dict(drafters=[DRAFTER] * 4), ['4 drafters', 'num_drafts=3']),
  diverse_spectr=(
    dict(drafters=[DRAFTER] * 2, method='spectr'),
    ['spectr', '2 drafters', 'gls'],
  ),
)


@pytest.mark.parametrize('name', BAD_INPUTS)
def test_inputs_that_make_no_sense_are_refused(name):
  changes, words = BAD_INPUTS[name]
  with pytest.raises(ValueError) as error:
    write(**changes)
  for word in words:
    assert word in str(error.value)


def test_padding_may_hold_anything():
  plain = write()
  odd = write(prompts=[[1, 2, -100], [3, 999, -1]])
  np.testing.assert_array_equal(odd.tokens, plain.tokens)
  # Columns that no row uses take no room in the cache either.
  fits = write(cache_length=9)
  np.testing.assert_array_equal(fits.tokens, plain.tokens)
  with pytest.raises(ValueError, match='cache_length=8.*9 are needed'):
    write(cache_length=8)


def test_different_tokenizers_are_refused_when_both_are_known():
  first = fakes.word_tokenizer(['<unk>', 'the', 'cat'])
  second = fakes.word_tokenizer(['<unk>', 'the', 'dog'])
  target = TARGET._replace(tokenizer=first)
  with pytest.raises(ValueError, match='different tokenizers.*(cat|dog).*id 2'):
    write(target=target, drafters=[DRAFTER._replace(tokenizer=second)])
  same = fakes.word_tokenizer(['<unk>', 'the', 'cat'])
  reference = write().tokens
  for tokenizer in (same, None):
    drafter = DRAFTER._replace(tokenizer=tokenizer)
    out = write(target=target, drafters=[drafter])
    np.testing.assert_array_equal(out.tokens, reference)


def broken(model, token=2):
  """NaN after one token, wherever it stands."""
  return fakes.table_model(model.params.at[:, token].set(jnp.nan))


def test_a_broken_drafter_costs_speed_alone_under_canonical_noise():
  reference = write()
  out = write(drafters=[broken(DRAFTER)])
  np.testing.assert_array_equal(out.tokens, reference.tokens)
  assert out.metrics.invalid_drafts.sum() > 0
  assert reference.metrics.invalid_drafts.sum() == 0


def test_a_drafter_that_never_drafts_is_warned_of():
  reference = write().tokens
  nothing = fakes.table_model(jnp.full_like(DRAFTER.params, jnp.nan))
  with pytest.warns(UserWarning, match='no draft had a possible token'):
    out = write(drafters=[nothing])
  np.testing.assert_array_equal(out.tokens, reference)


def _in_jit(write):
  """Traced though every argument is known."""
  return jax.jit(lambda x: write() and x)(1.0)


@pytest.mark.parametrize(
  'call',
  [
    lambda: jax.jit(lambda key: write(key=key).tokens)(KEY),
    lambda: jax.vmap(lambda key: write(key=key).tokens)(KEY[None]),
    lambda: jax.vmap(lambda row: write(prompts=row[None]).tokens)(
      jnp.array(PROMPTS)
    ),
    lambda: jax.grad(
      lambda table: write(target=TARGET._replace(params=table)).tokens.sum()
    )(TARGET.params),
    lambda: jax.grad(
      lambda table: write(drafters=[fakes.table_model(table)]).tokens.sum()
    )(DRAFTER.params),
    lambda: _in_jit(write),
    lambda: _in_jit(
      lambda: generate_many(
        KEY, TARGET, DRAFTER, PROMPTS, LENGTHS, OPTIONS, batch_size=2
      )
    ),
    lambda: _in_jit(lambda: generate_text(KEY, TARGET, [], [[1]], OPTIONS)),
  ],
)
def test_a_call_inside_of_a_transformation_is_refused(call):
  with pytest.raises(ValueError, match='call it outside of jit, vmap and grad'):
    call()


def test_a_broken_drafter_is_refused_by_rejection():
  with pytest.raises(ValueError, match='specinfer.*repair the drafter'):
    write(method='specinfer', drafters=[broken(DRAFTER)])


def test_a_target_without_a_possible_token_is_refused():
  with pytest.raises(ValueError, match=r'prompts\[0\] .*no possible token'):
    write(target=broken(TARGET))


def test_streaming_gives_the_same_text():
  reference, blocks = write(stop_tokens=(3,), pad_token=9), []
  out = write(
    stop_tokens=(3,),
    pad_token=9,
    on_block=lambda tokens, lengths: blocks.append((tokens, lengths)),
  )
  np.testing.assert_array_equal(out.tokens, reference.tokens)
  np.testing.assert_array_equal(out.lengths, reference.lengths)
  assert len(blocks) == out.metrics.target_calls.max()
  np.testing.assert_array_equal(blocks[-1][0], out.tokens)
  for tokens, lengths in blocks:  # what was shown is never taken back
    assert tokens.shape == out.tokens.shape
    for row in range(2):
      np.testing.assert_array_equal(
        tokens[row, : lengths[row]], out.tokens[row, : lengths[row]]
      )
      assert (tokens[row, lengths[row] :] == 9).all()


def test_the_result_is_plain_numpy_of_the_promised_shapes():
  out = write()
  assert out.tokens.shape == (2, 7) and out.tokens.dtype == np.int32
  assert out.lengths.shape == (2,)
  assert out.metrics.accepted_per_position.shape == (2, 2)
  for name in ('block_efficiency', 'target_calls', 'drafted_tokens'):
    assert getattr(out.metrics, name).shape == (2,)
  assert isinstance(out.tokens, np.ndarray)
  assert isinstance(out.metrics.tokens_per_second, float)


def test_lists_are_as_good_as_tuples_in_options():
  options = GenerateOptions(
    stop_tokens=[3], logit_bias=[[1, 2.0]], draft_temperatures=[1.0]
  )
  assert options == GenerateOptions(
    stop_tokens=(3,), logit_bias=((1, 2.0),), draft_temperatures=(1.0,)
  )
  hash(options)


def test_ngrams_alone_can_draft():
  out = write(drafters=[NGramDrafter(VOCAB)])
  np.testing.assert_array_equal(out.tokens, write().tokens)


@pytest.mark.parametrize('method', ['single', 'block'])
def test_methods_of_one_draft_use_one(method):
  assert GenerateOptions(method=method, num_drafts=8).num_drafts == 1
  with pytest.raises(ValueError, match='num_drafts must be at least 1, got 0'):
    GenerateOptions(method=method, num_drafts=0).check(9)
