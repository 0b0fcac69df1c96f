"""A queue of requests against the same requests one by one."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
import pytest

from listcoupling.decoding import serving
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.decoding.serving import generate_many
from tests import fakes

VOCAB, REQUESTS = 7, 9
TARGET, (DRAFTER,) = fakes.random_pair(VOCAB, 0.7, 5)
OPTIONS = GenerateOptions(
  num_drafts=2, draft_length=2, max_new_tokens=30, stop_tokens=(3,)
)
RNG = np.random.default_rng(0)
PROMPTS = RNG.integers(0, VOCAB, (REQUESTS, 4))
LENGTHS = RNG.integers(1, 5, REQUESTS)
KEY = jax.random.key(5)


def serve(batch_size):
  return generate_many(
    KEY, TARGET, DRAFTER, PROMPTS, LENGTHS, OPTIONS, batch_size=batch_size
  )


@pytest.mark.parametrize('batch_size', [1, 4, 12])
def test_every_request_has_the_text_of_its_own_key(batch_size):
  wanted = generate(KEY, TARGET, DRAFTER, PROMPTS, LENGTHS, OPTIONS)
  done = {}
  found = generate_many(
    KEY,
    TARGET,
    DRAFTER,
    PROMPTS,
    LENGTHS,
    OPTIONS,
    batch_size=batch_size,
    on_done=lambda request, tokens: done.update({request: tokens.tolist()}),
  )
  np.testing.assert_array_equal(found.tokens, wanted.tokens)
  np.testing.assert_array_equal(found.lengths, wanted.lengths)
  for name, value in wanted.metrics._asdict().items():
    if name not in ('tokens_per_second', 'occupancy'):
      np.testing.assert_array_equal(getattr(found.metrics, name), value)
  assert len(np.unique(wanted.lengths)) > 3  # slots end at different times
  calls = wanted.metrics.target_calls
  used = calls.sum() / (calls.size * calls.max())
  assert wanted.metrics.occupancy == used
  # With one slot none ever waits.
  assert (found.metrics.occupancy == 1) == (batch_size == 1)
  for request, count in enumerate(wanted.lengths):
    assert done[request] == wanted.tokens[request, :count].tolist()


def test_occupancy_counts_the_blocks_that_a_slot_waits():
  """Two slots: 0 ends after 1 block, 2 in its place after 3, 3 after 5."""
  calls = np.array([1, 12, 3, 5])
  options = GenerateOptions(
    'autoregressive', max_new_tokens=12, temperature=0.0, stop_tokens=(12,)
  )
  found = generate_many(
    KEY, fakes.counting_model(13), (), 12 - calls[:, None], np.ones(4, int),
    options, batch_size=2,
  )  # fmt: skip
  np.testing.assert_array_equal(found.metrics.target_calls, calls)
  # Request 1 goes on alone for 3 blocks: 12 blocks of 2 slots.
  assert found.metrics.occupancy == (1 + 12 + 3 + 5) / (2 * (1 + 3 + 5 + 3))


def test_slots_that_end_together_are_refilled_with_their_own(monkeypatch):
  twins = np.array([0, 0, 1, 1, *range(4, REQUESTS)])
  keys = jax.random.split(KEY, REQUESTS)[twins]
  call = TARGET, DRAFTER, PROMPTS[twins], LENGTHS[twins], OPTIONS
  counts, read = [], serving._read
  monkeypatch.setattr(
    serving,
    '_read',
    lambda call, slots: counts.append(len(slots)) or read(call, slots),
  )
  found = serving.generate_many(keys, *call, batch_size=4)
  assert 2 in counts  # read as a batch of their own
  np.testing.assert_array_equal(found.tokens, generate(keys, *call).tokens)


def test_slots_make_sense():
  with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
    serve(0)
  assert serve(10**9).tokens.shape == (REQUESTS, 30)  # a slot per request


def test_one_request_is_one_generation():
  call = TARGET, DRAFTER, PROMPTS[:1], LENGTHS[:1], OPTIONS
  found = generate_many(KEY, *call, batch_size=8)
  np.testing.assert_array_equal(found.tokens, generate(KEY, *call).tokens)
  assert found.metrics.occupancy == 1


class Positions(NamedTuple):
  vocab_size: int
  max_positions: int | None


LONG = np.zeros((3, 40), int)
REFUSED = {
  'no request': (
    dict(prompts=np.zeros((0, 4), int), lengths=[]),
    r'B, P >= 1, got \(0, 4\)',
  ),
  'none but rows of nothing': (
    dict(prompts=np.zeros((3, 0), int), lengths=[0] * 3),
    r'B, P >= 1, got \(3, 0\)',
  ),
  'one request too long for a slot': (
    dict(prompts=LONG, lengths=[1, 40, 1], cache_length=64),
    'cache_length=64 cannot hold prompts of 40 tokens.*70 are needed',
  ),
  'one request past the positions': (
    dict(prompts=LONG, lengths=[1, 40, 1], max_positions=64),
    r'prompts\[1\] may reach 70 tokens.*past the 64 positions',
  ),
  'a request of no token': (
    dict(prompts=LONG, lengths=[1, 0, 1]),
    r'prompt_lengths must be in \[1, 40\], got 0',
  ),
  'a key too few': (
    dict(prompts=LONG, lengths=[1] * 3, keys=2),
    r'\(3,\)',
  ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_a_queue_that_cannot_be_served_is_refused_at_once(name, monkeypatch):
  """Before any request is begun: the last may be the one that does not fit."""
  changes, words = REFUSED[name]
  monkeypatch.setattr(serving, '_serve', None)
  settings = {'keys': 3, 'cache_length': None, 'max_positions': None} | changes
  config = Positions(VOCAB, settings['max_positions'])
  with pytest.raises(ValueError, match=words):
    generate_many(
      jax.random.split(KEY, settings['keys']),
      TARGET._replace(config=config),
      DRAFTER,
      settings['prompts'],
      settings['lengths'],
      dataclasses.replace(OPTIONS, cache_length=settings['cache_length']),
      batch_size=2,
    )
