import numpy as np
import pytest
from tokenizers import processors

from listcoupling.data import prompt_choice
from listcoupling.data.prompts import Prompts
from tests import fakes


def _tokenizer(start=False):
  """One token per letter."""
  tokenizer = fakes.word_tokenizer('^abcdefgh', '.')
  if start:
    tokenizer.post_processor = processors.TemplateProcessing(
      single='^ $A', special_tokens=[('^', 0)]
    )
  return tokenizer


def _prompts(*texts):
  return Prompts(tuple(map(str, range(len(texts)))), texts, 'here')


def _choose(prompts, tokenizer=None, **changes):
  settings = dict(num_prompts=10, seed=0, max_tokens=4)
  return prompt_choice.choose(
    prompts, tokenizer or _tokenizer(), **{**settings, **changes}
  )


def test_fewer_prompts_are_all_taken_in_order():
  chosen = _choose(_prompts('ab', 'c', 'abcd'))
  assert chosen.names == ('0', '1', '2')
  assert chosen.tokens.tolist() == [[1, 2, 0, 0], [3, 0, 0, 0], [1, 2, 3, 4]]
  assert chosen.lengths.tolist() == [2, 1, 4]
  assert (chosen.num_cut, chosen.num_dropped) == (0, 0)


def test_the_choice_is_seeded_and_grows():
  prompts = _prompts(*('abcdefgh'[i % 8] for i in range(50)))
  names = [_choose(prompts, seed=3, num_prompts=n).names for n in (10, 20)]
  assert names[0] == _choose(prompts, seed=3).names
  assert names[0] != _choose(prompts, seed=4).names
  assert set(names[0]) < set(names[1]) and len(names[1]) == 20
  assert list(names[1]) == sorted(names[1], key=int)


def test_long_prompts_are_cut_from_the_left_or_dropped():
  prompts = _prompts('abcdef', 'ab')
  cut = _choose(prompts)
  assert cut.tokens[0].tolist() == [3, 4, 5, 6] and cut.num_cut == 1
  kept = _choose(prompts, _tokenizer(start=True))
  assert kept.tokens[0].tolist() == [0, 4, 5, 6]  # the start token stays
  dropped = _choose(prompts, long_prompts='drop')
  assert dropped.names == ('1',) and dropped.num_dropped == 1
  with pytest.raises(ValueError, match='no prompt of here has at most 4'):
    _choose(_prompts('abcdef'), long_prompts='drop')


def test_drops_are_replaced_by_other_prompts():
  prompts = _prompts(*(['abcdef', 'ab'] * 20))
  chosen = _choose(prompts, long_prompts='drop', num_prompts=20)
  assert len(chosen.names) == 20 and chosen.lengths.max() == 2


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'num_prompts': 0}, 'num_prompts'),
    ({'max_tokens': 1}, 'max_tokens'),
    ({'long_prompts': 'keep'}, 'keep'),
  ],
)
def test_bad_arguments(changes, message):
  with pytest.raises(ValueError, match=message):
    _choose(_prompts('ab'), **changes)


def test_a_tokenizer_is_needed_and_must_find_tokens():
  with pytest.raises(ValueError, match='tokenizer.json'):
    prompt_choice.choose(
      _prompts('a'), None, num_prompts=1, seed=0, max_tokens=4
    )
  with pytest.raises(ValueError, match='no tokens'):
    _choose(_prompts(''))


@pytest.mark.parametrize('count, size', [(1, 4), (4, 4), (10, 4), (9, 3)])
def test_batches_hold_every_prompt_once(count, size):
  lengths = np.random.default_rng(count).integers(1, 9, count)
  batches = prompt_choice.deal(lengths, size)
  rows = np.concatenate([batch.rows[: batch.size] for batch in batches])
  assert sorted(rows.tolist()) == list(range(count))
  assert len({batch.rows.size for batch in batches}) == 1
  assert batches[0].rows.size <= size
  # The longest go to different batches.
  longest = [lengths[batch.rows].max() for batch in batches]
  assert min(longest) >= np.sort(lengths)[-len(batches)]
  with pytest.raises(ValueError, match='batch_size'):
    prompt_choice.deal(lengths, 0)
