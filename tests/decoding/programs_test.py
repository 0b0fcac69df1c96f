"""Programs: which are compiled, how often, and which are kept."""

import contextlib
import dataclasses
import operator
import threading
import time
from concurrent import futures
from typing import NamedTuple

import jax
import numpy as np
import pytest

from listcoupling.decoding import programs
from listcoupling.decoding.generate import (
  generate,
  rows_bucket,
  tokens_bucket,
)
from listcoupling.decoding.options import GenerateOptions
from tests import fakes

VOCAB = 12
TARGET, (DRAFTER,) = fakes.random_pair(VOCAB, 0.7, 5)
OPTIONS = GenerateOptions(
  num_drafts=2,
  draft_length=2,
  max_new_tokens=9,
  temperature=0.9,
  top_p=0.9,
  min_p=0.01,
  repetition_penalty=1.2,
  min_new_tokens=2,
  stop_tokens=(3,),
)


def write(options=OPTIONS, drafters=DRAFTER, rows=4, seed=0):
  prompts = np.arange(2 * rows).reshape(rows, 2) % VOCAB
  return generate(
    jax.random.key(seed), TARGET, drafters, prompts, [2] * rows, options
  )


@contextlib.contextmanager
def events():
  """Counts what JAX traces, lowers and compiles."""
  seen = []

  def listener(name, *args, **kwargs):
    if any(word in name for word in ('jaxpr', 'mlir', 'compile')):
      seen.append(name)

  jax.monitoring.register_event_duration_secs_listener(listener)
  try:
    yield seen
  finally:
    jax.monitoring.unregister_event_duration_listener(listener)


NUMBERS = [
  dict(temperature=0.3),
  dict(temperature=0.0),
  dict(draft_temperatures=(0.5,)),
  dict(top_p=0.5),
  dict(min_p=0.2),
  dict(repetition_penalty=2.0),
  dict(logit_bias=((1, 0.5), (4, -np.inf))),
  dict(logit_bias=tuple((token, 0.5) for token in range(8))),
  dict(min_new_tokens=5),
  dict(stop_tokens=()),
  dict(stop_tokens=tuple(range(4, 12))),
  dict(max_new_tokens=20),
  dict(pad_token=99),
]


def test_numbers_compile_nothing():
  """A second call of equal shapes traces, lowers and compiles nothing."""
  texts = [write(seed=1).tokens.tobytes()]
  for change in NUMBERS:
    with events() as seen:
      out = write(dataclasses.replace(OPTIONS, **change), seed=1)
    assert not seen, (change, seen)
    texts.append(out.tokens.tobytes())
  # All of them do something, but for what a drafter is told.
  same = [
    change for change, text in zip(NUMBERS, texts[1:]) if text == texts[0]
  ]
  assert same == [dict(draft_temperatures=(0.5,))]


def test_the_counter_sees_another_filter():
  write()
  with events() as seen:
    write(dataclasses.replace(OPTIONS, top_p=1.0))
  assert seen


def test_buckets_hold_and_waste_little():
  for count in range(1, 400):
    size = rows_bucket(count)
    assert count <= size <= max(count + 1, 1.5 * count)
    size = tokens_bucket(count)
    assert count <= size <= max(count + 31, 1.25 * count)
  assert len({rows_bucket(count) for count in range(1, 257)}) <= 16
  assert len({tokens_bucket(count) for count in range(1, 4097)}) <= 45


@pytest.mark.parametrize('method', ['gumbel_tree', 'specinfer'])
def test_rows_of_the_bucket_change_nothing(method):
  """Five rows run as six; each has the text of its own key."""
  options = dataclasses.replace(OPTIONS, method=method)
  keys = jax.random.split(jax.random.key(2), 6)
  prompts = np.arange(12).reshape(6, 2) % VOCAB
  six = generate(keys, TARGET, DRAFTER, prompts, [2] * 6, options)
  five = generate(keys[:5], TARGET, DRAFTER, prompts[:5], [2] * 5, options)
  np.testing.assert_array_equal(five.tokens, six.tokens[:5])
  for name, value in five.metrics._asdict().items():
    if name not in ('tokens_per_second', 'occupancy'):
      np.testing.assert_array_equal(value, getattr(six.metrics, name)[:5])


def test_the_store_is_bounded_and_keeps_the_latest(monkeypatch):
  programs.clear()
  monkeypatch.setattr(programs, 'SIZE', 2)
  made = [
    programs.get(abs, np.zeros(size, np.float32)) for size in (1, 2, 1, 3, 1)
  ]
  assert made[0] is made[2] is made[4]
  assert [len(kept) for kept in programs._programs.values()] == [2]
  assert made[1] is not programs.get(abs, np.zeros(2, np.float32))
  np.testing.assert_array_equal(made[3](np.float32([-1, 2, -3])), [1, 2, 3])


def test_a_round_of_more_programs_has_room(monkeypatch):
  programs.clear()
  monkeypatch.setattr(programs, 'SIZE', 2)

  def go_round():
    return [programs.get(abs, np.zeros(n, np.float32)) for n in (1, 2, 3)]

  with programs.room(3), programs.room(1):
    first, second = go_round(), go_round()
  assert all(map(operator.is_, first, second))
  third = go_round()  # there is no room any more
  assert not any(map(operator.is_, third, go_round()))
  assert [len(kept) for kept in programs._programs.values()] == [2]


def test_each_device_has_room_of_its_own(monkeypatch):
  """Programs of many do not drop one that another needs next."""
  monkeypatch.setattr(programs, 'SIZE', 1)

  class Place(NamedTuple):
    device_set: frozenset

  monkeypatch.setattr(
    programs, '_signature', lambda leaf: (leaf.shape, Place(frozenset(leaf)))
  )
  ones, twos = np.ones(2), np.full(2, 2.0)
  made = [programs.get(abs, each) for each in (ones, twos, ones, twos)]
  assert made[0] is made[2] and made[1] is made[3]
  assert made[0] is not made[1]


def test_threads_that_ask_together_share_one_program():
  traced = []

  def slow(x):
    traced.append(1)
    time.sleep(0.3)  # the others come meanwhile
    return x + 1

  with futures.ThreadPoolExecutor(3) as pool:
    made = list(pool.map(lambda _: programs.get(slow, np.zeros(4)), range(3)))
  assert len(traced) == 1
  assert made[0] is made[1] is made[2]


def test_a_program_that_cannot_be_made_is_not_kept():
  def wrong(x):
    raise ValueError('no such program')

  for _ in range(2):
    with pytest.raises(ValueError, match='no such program'):
      programs.get(wrong, np.zeros(3))
  kept = programs._programs.values()
  assert not any(key[0] is wrong for each in kept for key in each)


def test_whoever_waits_for_an_interrupted_thread_compiles_itself():
  began, traced = threading.Event(), []

  def slow(x):
    traced.append(1)
    if len(traced) == 1:
      began.set()
      time.sleep(0.3)  # the other comes meanwhile
      raise KeyboardInterrupt
    return x + 1

  with futures.ThreadPoolExecutor(2) as pool:
    first = pool.submit(programs.get, slow, np.zeros(5))
    assert began.wait(60)
    second = pool.submit(programs.get, slow, np.zeros(5))
    assert isinstance(first.exception(), KeyboardInterrupt)
    np.testing.assert_array_equal(second.result()(np.zeros(5)), np.ones(5))
  assert len(traced) == 2
  assert second.result() is programs.get(slow, np.zeros(5))


def test_a_failure_leaves_another_program_of_the_same_key_alone():
  kept = []

  def wrong(x):
    if not kept:
      kept.append(None)
      programs.clear()
      kept.append(programs.get(wrong, np.zeros(6)))
      raise ValueError('no such program')
    return x

  with pytest.raises(ValueError, match='no such program'):
    programs.get(wrong, np.zeros(6))
  assert programs.get(wrong, np.zeros(6)) is kept[1]


def test_prompts_of_every_length_are_read_by_one_program():
  """Up to the capacity, and past one chunk."""
  options = GenerateOptions(
    num_drafts=2, draft_length=2, max_new_tokens=5, cache_length=170
  )
  plain = dataclasses.replace(options, method='autoregressive')
  rng = np.random.default_rng(0)
  prompts = rng.integers(0, VOCAB, (2, 165))

  def both(lengths):
    args = jax.random.key(0), TARGET, DRAFTER, prompts, lengths
    out = generate(*args, options).tokens
    np.testing.assert_array_equal(out, generate(*args, plain).tokens)
    return out

  both([165, 3])
  with events() as seen:
    for lengths in ([64, 65], [1, 130], [128, 127]):
      both(lengths)
  assert not seen
  # A row does not depend on how its neighbour's prompt is cut.
  np.testing.assert_array_equal(both([165, 70])[0], both([165, 3])[0])
