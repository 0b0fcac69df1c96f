"""Negative controls: broken noise must show in the joint law.

The decoder cannot express these mistakes, so each test breaks it by hand.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel, rejection
from listcoupling.decoding import draft, loop, methods, programs, verify
from tests import statistics
from tests.decoding import exact
from tests.decoding.samples import PROMPTS, VOCAB, p_values, plain, texts


@pytest.fixture(autouse=True)
def _compiled_apart():
  """Programs of a broken decoder are never called by another test."""
  programs.clear()
  yield
  programs.clear()


def test_rejection_with_the_noise_of_its_drafts_is_biased(monkeypatch):
  """Trap 1: noise of the verifier that the draft was drawn with."""
  monkeypatch.setattr(gumbel, 'RESIDUAL', 0)  # the stream of draft 0
  found = p_values(plain('single'), num_drafters=1)
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
  found = p_values(plain('block'), num_drafters=1)
  assert min(found) <= statistics.LEVEL


def replace_verifier(monkeypatch, name, choose):
  """The method `name` with another choice of its tokens."""
  broken = functools.partial(verify._verify_chains, choose=choose)
  method = methods.METHODS[name]._replace(verify=broken)
  monkeypatch.setitem(methods.METHODS, name, method)


def test_active_drafts_chosen_by_their_next_token_are_biased(monkeypatch):
  """Trap 2: conditional list sampling must not look at the tokens judged."""

  def peeking(key, law, judged, config):
    first = judged.tokens[gumbel.argmax(judged.live)]
    live = judged.live & (judged.tokens == first)
    return verify._choose_gls(
      key, law, judged._replace(live=live), config, strong=False
    )

  replace_verifier(monkeypatch, 'gls', peeking)
  found = p_values(plain('gls'))
  assert min(found) <= statistics.LEVEL


def test_drafts_of_another_slots_law_are_biased(monkeypatch):
  """Each draft is judged by the law it was drawn from, not by slot 0's."""

  def careless(tokens, probs, *rest):
    probs = jnp.broadcast_to(probs[:1], probs.shape)
    return rejection.specinfer_accept(tokens, probs, *rest)

  choose = functools.partial(verify._choose_by_rejection, accept=careless)
  replace_verifier(monkeypatch, 'specinfer', choose)
  found = p_values(plain('specinfer'))
  assert min(found) <= statistics.LEVEL


def _most_likely_alone(keys, params, state, text, running, config, sampling):
  """Chains of which only the likelier half of the nodes is judged.

  This is what a budget of nodes does: what was drawn decides what is kept.
  """
  laws = config._replace(keep_laws=True)
  proposals, state = draft.propose_chains(
    keys, params, state, text, running, laws, sampling
  )
  own = jnp.maximum(proposals.tokens, 0)[:, :, None]
  probs = jax.nn.softmax(proposals.laws.logits)
  probs = jnp.take_along_axis(probs, own, axis=2)[:, :, 0]
  kept = probs >= jnp.median(probs, axis=1, keepdims=True)
  return proposals._replace(tokens=jnp.where(kept, proposals.tokens, -1)), state


@pytest.mark.parametrize('method', ['single', 'gumbel_chains'])
def test_a_choice_of_nodes_biases_rejection_and_no_race(monkeypatch, method):
  """The score of a token's count after one prompt: large there, small here."""
  broken = methods.METHODS[method]._replace(
    propose=_most_likely_alone,
    rejection=False,  # whose door refuses gaps
  )
  monkeypatch.setitem(methods.METHODS, method, broken)
  options = plain(method, num_drafts=2, draft_temperatures=(2.0,))
  tokens, target = texts(options, num_drafters=1, rows=60_000)
  table = np.asarray(target.params, np.float64)
  prompt = PROMPTS[1]
  law = exact.law(table[prompt[-2], prompt[-1]], options)
  first = tokens[1::2, 0]
  z = [
    statistics.proportion_z((first == i).sum(), first.size, law[i])
    for i in range(VOCAB)
  ]
  if method == 'single':
    assert np.abs(z).max() > statistics.SIGMAS
  else:
    assert np.abs(z).max() < statistics.SIGMAS
