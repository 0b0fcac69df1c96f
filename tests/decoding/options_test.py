"""Options as people spell them: taken where plain, else refused by name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.decoding.drafters import NGramDrafter
from listcoupling.decoding.generate import generate
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from tests import fakes

VOCAB = 7
TARGET, (DRAFTER,) = fakes.random_pair(VOCAB, 0.7, 5)
KEY = jax.random.key(0)

PLAIN = [
  (dict(stop_tokens=5), dict(stop_tokens=(5,))),
  (dict(stop_tokens=np.array([5, 2])), dict(stop_tokens=(5, 2))),
  (dict(stop_tokens=[]), dict(stop_tokens=())),
  (dict(logit_bias={5: -100}), dict(logit_bias=((5, -100.0),))),
  (dict(logit_bias=[[1, np.float32(2)]]), dict(logit_bias=((1, 2.0),))),
  (dict(max_new_tokens=np.int64(8)), dict(max_new_tokens=8)),
  (dict(top_k=jnp.int32(3)), dict(top_k=3)),
  (dict(temperature=1), dict(temperature=1.0)),
  (dict(temperature=jnp.float32(0.5)), dict(temperature=0.5)),
  (dict(top_p=np.float64(0.5)), dict(top_p=0.5)),
  (dict(draft_temperatures=0.5), dict(draft_temperatures=(0.5,))),
  (dict(draft_temperatures=np.ones(2)), dict(draft_temperatures=(1.0, 1.0))),
  (dict(allow_long=np.True_), dict(allow_long=True)),
]


@pytest.mark.parametrize('given,meant', PLAIN)
def test_plain_spellings_are_taken(given, meant):
  options = GenerateOptions(**given)
  assert options == GenerateOptions(**meant)
  assert hash(options) == hash(GenerateOptions(**meant))
  for name, value in meant.items():
    assert type(getattr(options, name)) is type(value)


STRANGE = [
  (dict(temperature=None), ['temperature', 'None', '0 takes the most likely']),
  (dict(temperature='1'), ['temperature', "'1'", 'a number']),
  (dict(top_k=None), ['top_k', 'None', '0 keeps all']),
  (dict(top_k=2.0), ['top_k', '2.0', 'an int']),
  (dict(top_p=None), ['top_p', 'None', '1 keeps all']),
  (dict(num_drafts=np.True_), ['num_drafts', 'True', 'an int']),
  (dict(stop_tokens='</s>'), ['stop_tokens', '</s>', 'token ids']),
  (dict(stop_tokens=[1.5]), ['stop_tokens', '1.5']),
  (dict(logit_bias=[3]), ['logit_bias', '3', '{token: bias}']),
  (dict(logit_bias=[(1, 2, 3)]), ['logit_bias', '(1, 2, 3)']),
  (dict(draft_temperatures={1: 2}), ['draft_temperatures', '{1: 2}']),
  (dict(replacement=1), ['replacement', '1', 'True or False']),
  (dict(allow_long=None), ['allow_long', 'None']),
  (dict(pad_token=None), ['pad_token', 'None']),
  (dict(method=None), ['method', 'None', 'gumbel_tree']),
]


@pytest.mark.parametrize('given,words', STRANGE)
def test_other_types_are_refused_by_name(given, words):
  with pytest.raises(ValueError) as error:
    GenerateOptions(**given)
  assert '\n' not in str(error.value)
  for word in words:
    assert word in str(error.value)


@pytest.mark.parametrize('name', ['temperature', 'repetition_penalty'])
def test_the_range_named_is_the_range_checked(name):
  with pytest.raises(ValueError, match='at least .* and finite, got inf'):
    GenerateOptions(**{name: np.inf}).check(VOCAB)
  with pytest.raises(ValueError, match=r'at least [0-9e.-]*, got -1.0'):
    GenerateOptions(**{name: -1}).check(VOCAB)


OUT_OF_RANGE = [
  (dict(temperature=10**400), ['temperature', 'a float holds']),
  (dict(temperature=1e300), ['temperature', 'finite', '1e+300']),
  (dict(draft_temperatures=1e300), ['draft_temperatures', 'finite']),
  (dict(repetition_penalty=1e39), ['repetition_penalty', '1e+39']),
  (dict(logit_bias={5: 1e39}), ['logit_bias', 'token 5', '1e+39']),
  (dict(logit_bias={5: -1e39}), ['logit_bias', 'token 5', '-1e+39']),
  (dict(max_new_tokens=10**12), ['max_new_tokens', 'at most', '10' + '0' * 11]),
  (dict(cache_length=10**12), ['cache_length', 'at most']),
  (dict(num_drafts=10**9), ['num_drafts', 'at most']),
  (dict(draft_length=10**9), ['draft_length', 'at most']),
  (dict(num_drafts=1000, draft_length=1000), ['num_drafts=1000', 'nodes']),
  (dict(num_nodes=10**9), ['num_nodes', 'at most']),
  (dict(top_k=2**40), ['top_k', 'at most']),
  (dict(min_new_tokens=2**40), ['min_new_tokens', 'at most']),
  (dict(pad_token=2**31), ['pad_token', 'at most']),
]


@pytest.mark.parametrize('given,words', OUT_OF_RANGE)
def test_what_no_word_or_memory_holds_is_refused_by_name(given, words):
  with pytest.raises(ValueError) as error:
    GenerateOptions(**given).check(VOCAB)
  for word in words:
    assert word in str(error.value)


class _Blank:
  """The members of a drafter, not yet of the right kind."""

  prefill = open_block = extend = None

  def __init__(self, vocab_size, params):
    self.vocab_size, self.params = vocab_size, params


STRANGE_CALLS = [
  (dict(drafters=_Blank('7', None)), ['_Blank.vocab_size', "'7'"]),
  (dict(drafters=_Blank(VOCAB, 'abc')), ['_Blank.params', 'abc', 'arrays']),
  (dict(drafters=5), ['drafters', '5', 'NGramDrafter']),
  (dict(drafters='ngram'), ['drafters', 'ngram']),
  (dict(prompts=[[1, 2], [3]]), ['prompts', 'pad_prompts']),
  (dict(prompts=['def main(']), ['prompts', 'encode_prompts']),
  (dict(prompts=[1, 2]), ['prompts', '(2,)', 'pad_prompts']),
  (dict(prompt_lengths=[2.0]), ['prompt_lengths', 'float64']),
  (dict(prompt_lengths=None), ['prompt_lengths']),
  (dict(key=jax.random.split(KEY, 3)), ['key', '(1,)', '(3,)', 'split']),
  (dict(key=jax.random.PRNGKey(0)), ['key', 'wrap_key_data']),
  (dict(target='gpt2'), ['target', 'load_pretrained']),
  (dict(options=None), ['options', 'GenerateOptions']),
  (dict(on_block='print'), ['on_block', 'print']),
]


@pytest.mark.parametrize('given,words', STRANGE_CALLS)
def test_calls_that_mean_nothing_are_refused_by_name(given, words):
  call = dict(
    key=KEY, target=TARGET, drafters=DRAFTER, prompts=[[1, 2]],
    prompt_lengths=[2], options=GenerateOptions(),
  )  # fmt: skip
  with pytest.raises(ValueError) as error:
    generate(**call | given)
  assert '\n' not in str(error.value)
  for word in words:
    assert word in str(error.value)


@pytest.mark.parametrize('ended', [False, [True] * 3, ['stop'], [1]])
def test_what_ends_rows_is_a_truth_value_for_each(ended):
  with pytest.raises(ValueError, match='on_block must return None or 1 truth'):
    generate(
      KEY, TARGET, DRAFTER, [[1, 2]], [2], OPTIONS,
      on_block=lambda tokens, lengths: ended,
    )  # fmt: skip


@pytest.mark.parametrize(
  'given', [dict(vocab_size='7'), dict(order=0), dict(order=10**9)]
)
def test_an_ngram_drafter_checks_its_sizes(given):
  with pytest.raises(ValueError, match=next(iter(given))):
    NGramDrafter(**dict(vocab_size=VOCAB) | given)


def test_a_cost_ends_the_drafting_of_the_tree_alone():
  GenerateOptions(draft_cost=0.2).check(vocab_size=9)
  with pytest.raises(ValueError, match=r'draft_cost=0\.2 .*gls'):
    GenerateOptions('gls', draft_cost=0.2).check(vocab_size=9)
  with pytest.raises(ValueError, match='draft_cost must be at least 0'):
    GenerateOptions(draft_cost=-0.1).check(vocab_size=9)


@pytest.mark.parametrize('method', METHODS)
def test_nodes_are_counted_for_the_tree_alone(method):
  options = GenerateOptions(method, num_nodes=3)
  if METHODS[method].best_first:
    options.check(VOCAB)
    with pytest.raises(ValueError, match='num_nodes must be at least 1, got 0'):
      dataclasses.replace(options, num_nodes=0).check(VOCAB)
  else:
    with pytest.raises(ValueError, match=f'num_nodes=3.*{method}'):
      options.check(VOCAB)


def write(options, target=TARGET, drafters=DRAFTER, prompts=((1, 2),)):
  lengths = [len(prompts[0])] * len(prompts)
  return generate(KEY, target, drafters, prompts, lengths, options)


class _Config(fakes.TableConfig):
  """With what a checkpoint says beside its vocabulary."""

  stop_tokens = (3,)
  max_positions = 20


CHECKPOINT = TARGET._replace(config=_Config(VOCAB))
OPTIONS = GenerateOptions(num_drafts=2, draft_length=2, max_new_tokens=16)


def test_the_checkpoint_ends_the_text_unless_told():
  free = write(dataclasses.replace(OPTIONS, stop_tokens=()), CHECKPOINT)
  assert free.lengths[0] == 16 and 3 in free.tokens[0, :-1]
  first = free.tokens[0].tolist().index(3) + 1
  assert write(OPTIONS, CHECKPOINT).lengths[0] == first
  assert write(OPTIONS, TARGET).lengths[0] == 16  # its checkpoint has none


def test_positions_past_the_target_are_refused_and_a_drafters_warned_of():
  write(OPTIONS, CHECKPOINT, prompts=((1, 2, 3, 4),))  # 20, the limit
  prompts = ((1, 2, 3, 4, 5),)
  with pytest.raises(ValueError, match=r'prompts\[0\].*21.*20 positions') as e:
    write(OPTIONS, CHECKPOINT, prompts=prompts)
  assert 'allow_long=True' in str(e.value)
  insist = dataclasses.replace(OPTIONS, allow_long=True)
  reference = write(insist, CHECKPOINT, prompts=prompts)
  with pytest.warns(UserWarning, match=r'20 positions of drafters\[0\]'):
    drafter = DRAFTER._replace(config=_Config(VOCAB))
    stops = dataclasses.replace(OPTIONS, stop_tokens=3)
    out = write(stops, TARGET, drafter, prompts)
  np.testing.assert_array_equal(out.tokens, reference.tokens)


def test_one_drafter_needs_no_list():
  np.testing.assert_array_equal(
    write(OPTIONS).tokens, write(OPTIONS, drafters=[DRAFTER]).tokens
  )


class Bigrams:
  """A drafter with arrays, of the smallest kind."""

  vocab_size = VOCAB

  def __init__(self, logits):
    self.params = logits

  def prefill(self, params, text, shape, capacity):
    return ()

  def open_block(self, params, state, text):
    last = jnp.take_along_axis(text.tokens, text.root[:, None], 1)
    return params[last[:, 0]], state

  def extend(self, params, state, text, depth, nodes, parents):
    return params[nodes], state


@dataclasses.dataclass(frozen=True)
class UnhashableBigrams(Bigrams):
  """Equal by its arrays, which have no hash."""

  params: jax.Array


LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(VOCAB, VOCAB)))


@pytest.mark.parametrize('make', [Bigrams, UnhashableBigrams])
def test_a_drafter_may_hold_arrays(make):
  out = write(OPTIONS, drafters=make(LOGITS))
  plain = dataclasses.replace(OPTIONS, method='autoregressive')
  np.testing.assert_array_equal(out.tokens, write(plain, drafters=()).tokens)
  assert out.metrics.accepted_tokens.sum() > 0


def _broken(method, result):
  made = type('Broken', (Bigrams,), {method: result})
  return made(LOGITS)


BROKEN = [
  (
    _broken('open_block', lambda self, params, state, text: (params, state)),
    ['Broken.open_block', '(7, 7)', '(1, 7)'],
  ),
  (
    _broken('extend', lambda self, params, *args: params),
    ['Broken.extend', '(logits, state)'],
  ),
  (
    _broken('extend', lambda self, params, state, *args: (params[0], state)),
    ['Broken.extend', '(7,)', '(1, 2, 7)'],
  ),
  (
    _broken('prefill', lambda self, params, text, shape, capacity: text.root),
    ['Broken.prefill', 'open_block'],
  ),
  (
    _broken(
      'extend',
      lambda self, params, state, text, depth, nodes, parents: (
        params[nodes],
        (nodes,),
      ),
    ),
    ['Broken.extend', 'open_block', 'int32[1, 2]'],
  ),
  (
    _broken('extend', lambda self, params, *args: 1 + 'x'),
    ['Broken.extend', 'cannot be traced', 'params'],
  ),
]


@pytest.mark.parametrize('drafter,words', BROKEN)
def test_a_drafter_of_wrong_shapes_is_refused_before_the_loop(drafter, words):
  def open_block(self, params, state, text):
    return params[text.root % VOCAB], ()

  if 'prefill' in vars(type(drafter)):
    type(drafter).open_block = open_block
  with pytest.raises(ValueError) as error:
    write(OPTIONS, drafters=drafter)
  for word in words:
    assert word in str(error.value)


@pytest.mark.parametrize('options', [None, dict(top_k=3)])
def test_options_of_another_type_are_refused(options):
  with pytest.raises(ValueError, match='GenerateOptions'):
    write(options)


def test_reading_all_fields_is_what_the_door_does():
  """A field without a reader would pass unread."""
  from listcoupling.decoding import options

  names = {field.name for field in dataclasses.fields(GenerateOptions)}
  assert set(options._READERS) == names - {'method'}
  assert set(options._RANGES) < names
