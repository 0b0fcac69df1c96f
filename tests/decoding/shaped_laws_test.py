"""The law of the text under filters, penalties and stop tokens."""

import pytest

from tests import statistics
from tests.decoding import exact
from tests.decoding.samples import (
  LENGTH,
  PROMPTS,
  VOCAB,
  drafters_of,
  p_values,
  plain,
  texts,
)

SHAPE = dict(
  temperature=1.2,
  top_k=4,
  top_p=0.93,
  min_p=0.02,
  repetition_penalty=1.5,
  logit_bias=((1, 0.7),),
  stop_tokens=(3,),
  min_new_tokens=1,
)


@pytest.mark.parametrize(
  'method',
  ['gls', 'gls_strong', 'specinfer', 'spectr', 'single', 'block', 'traversal'],
)
def test_joint_law_with_every_filter(method):
  found = p_values(plain(method, **SHAPE), num_drafters=drafters_of(method))
  assert min(found) > statistics.LEVEL


@pytest.fixture(scope='module')
def written():
  return texts(plain('gls', **SHAPE))


@pytest.mark.parametrize(
  'change',
  [
    dict(top_k=3),
    dict(top_p=0.8),
    dict(repetition_penalty=1.3),
    dict(min_new_tokens=0),
    dict(stop_tokens=()),
    dict(logit_bias=()),
  ],
  ids=lambda change: next(iter(change)),
)
def test_the_check_sees_every_filter(written, change):
  """The same texts against a law with one option changed."""
  tokens, target = written
  other = plain('gls', **(SHAPE | change))
  found = min(
    statistics.law_p_value(
      exact.encode(tokens[row::2], VOCAB),
      exact.joint_law(target, prompt, other, LENGTH),
    )
    for row, prompt in enumerate(PROMPTS)
  )
  assert found <= statistics.LEVEL
