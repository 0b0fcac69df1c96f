"""The law of the text: every method against exact enumeration."""

import pytest

from listcoupling.decoding.methods import METHODS
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


@pytest.mark.parametrize('method', METHODS)
def test_joint_law_of_three_tokens(method):
  found = p_values(plain(method), num_drafters=drafters_of(method))
  assert min(found) > statistics.LEVEL


def test_the_check_sees_another_temperature():
  tokens, target = texts(plain('autoregressive'))
  wrong = plain('autoregressive', temperature=1.1)
  law = exact.joint_law(target, PROMPTS[0], wrong, LENGTH)
  statistics.assert_not_law(exact.encode(tokens[::2], VOCAB), law)
