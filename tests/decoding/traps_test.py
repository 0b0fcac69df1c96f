"""Negative controls: broken noise must show in the joint law.

The engine cannot express these mistakes, so each test breaks it by hand. Every
control has a pad_token of its own: options are static, so the broken loop is
compiled apart and never reused.
"""

import jax.numpy as jnp

from listcoupling import gumbel
from listcoupling.decoding import loop, verify
from tests import statistics
from tests.decoding.samples import VOCAB, p_values, plain


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


def test_active_drafts_chosen_by_their_next_token_are_biased(monkeypatch):
  """Trap 2: conditional list sampling must not look at the tokens judged."""
  choose = verify._choose

  def peeking(key, law, tokens, probs, live, options):
    live = live & (tokens == tokens[gumbel.argmax(live)])
    return choose(key, law, tokens, probs, live, options)

  monkeypatch.setattr(verify, '_choose', peeking)
  found = p_values(plain('gls', pad_token=VOCAB + 3))
  print('peeking', found)
  assert min(found) <= statistics.LEVEL


def test_drafts_of_another_slots_law_are_biased(monkeypatch):
  """Each draft is judged by the law it was drawn from, not by slot 0's."""
  accept = verify.rejection.specinfer_accept

  def careless(tokens, probs, target, uniforms, noise, live):
    probs = jnp.broadcast_to(probs[:1], probs.shape)
    return accept(tokens, probs, target, uniforms, noise, live)

  monkeypatch.setattr(verify.rejection, 'specinfer_accept', careless)
  found = p_values(plain('specinfer', pad_token=VOCAB + 4))
  print('law of slot 0', found)
  assert min(found) <= statistics.LEVEL
