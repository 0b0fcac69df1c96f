"""The law of the text: every method against exact enumeration."""

import jax
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.decoding import loop
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import METHODS, GenerateOptions
from tests import fakes, statistics
from tests.decoding import exact

ROWS = 40_000
VOCAB = 5
PROMPTS = ((2,), (0, 3, 1))  # of different length, alternating over the rows
LENGTH = 3  # tokens whose joint law is checked


def texts(options, *, seed=0, num_drafters=2, noise=1.5):
  """First tokens [ROWS, LENGTH] and the target."""
  target, drafters = fakes.random_pair(VOCAB, noise, 3, num_drafters)
  prompts = np.zeros((ROWS, 3), int)
  prompts[::2, :1], prompts[1::2] = PROMPTS
  lengths = np.where(np.arange(ROWS) % 2, 3, 1)
  if options.method == 'autoregressive':
    drafters = []
  out = generate(
    jax.random.key(seed), target, drafters, prompts, lengths, options
  )
  return out.tokens[:, :LENGTH], target


def p_values(options, **kwargs):
  """Chi-square p-values of the joint law, one per prompt."""
  tokens, target = texts(options, **kwargs)
  return [
    statistics.law_p_value(
      exact.encode(tokens[row::2], VOCAB),
      exact.joint_law(target, prompt, options, LENGTH),
    )
    for row, prompt in enumerate(PROMPTS)
  ]


def plain(method, **changes):
  """Diverse drafters wherever the method allows them."""
  diverse = method not in ('spectr', 'single', 'block')
  single = method in ('single', 'block')
  settings = dict(
    method=method,
    num_drafts=1 if single else 3,
    draft_length=2,
    max_new_tokens=4,
    draft_temperatures=(0.7, 1.4) if diverse else (0.7,),
    pad_token=VOCAB,
  )
  return GenerateOptions(**(settings | changes))


def drafters_of(method):
  return 1 if method in ('spectr', 'single', 'block') else 2


@pytest.mark.parametrize('method', METHODS)
def test_joint_law_of_three_tokens(method):
  found = p_values(plain(method), num_drafters=drafters_of(method))
  print(method, found)
  assert min(found) > statistics.LEVEL


def test_the_check_sees_another_temperature():
  tokens, target = texts(plain('autoregressive'))
  wrong = plain('autoregressive', temperature=1.1)
  law = exact.joint_law(target, PROMPTS[0], wrong, LENGTH)
  statistics.assert_not_law(exact.encode(tokens[::2], VOCAB), law)


def test_rejection_with_the_noise_of_its_drafts_is_biased(monkeypatch):
  """Trap 1, which the engine cannot express."""
  monkeypatch.setattr(gumbel, 'RESIDUAL', 0)  # the stream of draft 0
  found = p_values(plain('single', pad_token=VOCAB + 1), num_drafters=1)
  print('shared noise', found)
  assert min(found) <= statistics.LEVEL


class _PositionsAlone:
  """Stands in for `gumbel` in the loop: blocks do not enter the key."""

  @staticmethod
  def position_key(key, position):
    del position
    return key


def test_block_verification_with_noise_by_position_alone_is_biased(
  monkeypatch,
):
  """Trap 4: it looks ahead at drafts that the next block draws again."""
  monkeypatch.setattr(loop, 'gumbel', _PositionsAlone)
  found = p_values(plain('block', pad_token=VOCAB + 2), num_drafters=1)
  print('noise by position', found)
  assert min(found) <= statistics.LEVEL
