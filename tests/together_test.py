"""Errors and stops of several processes, with the others' part played here."""

import signal

import jax
import numpy as np
import pytest

from listcoupling import together


@pytest.fixture
def told(monkeypatch):
  """Gifts of this process, the first of two, to each exchange."""
  given = []

  def exchange(x):
    given.append(int(x))
    return np.stack([x, np.zeros_like(x)])

  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(
    together.multihost_utils, 'process_allgather', lambda x: exchange(x)
  )
  return given


def _fail(error):
  raise error


def test_a_stop_while_others_are_awaited_is_told_at_the_next_exchange(
  told, monkeypatch
):
  def interrupted(x):
    signal.raise_signal(signal.SIGINT)
    return np.zeros((2, *x.shape), x.dtype)

  with monkeypatch.context() as patch:
    patch.setattr(together.multihost_utils, 'process_allgather', interrupted)
    assert together.together(lambda: 'done') == 'done'
  with pytest.raises(KeyboardInterrupt):
    together.together(lambda: _fail(AssertionError('worked on')))
  assert told == [together._STOPPED]
  assert together.together(lambda: 'again') == 'again'  # it is told once


@pytest.mark.parametrize(
  'error, state',
  [
    (KeyboardInterrupt(), together._STOPPED),
    (SystemExit(1), together._FAILED),
    (ValueError('x'), together._FAILED),
  ],
)
def test_whatever_ends_a_call_is_told_once(told, error, state):
  with pytest.raises(type(error)):
    with together.all_or_none(), together.agreed():
      _fail(error)
  assert told == [state]


def test_the_stop_of_another_stops_this_one(told, monkeypatch):
  def other(x):
    return np.array([x, together._STOPPED])

  monkeypatch.setattr(together.multihost_utils, 'process_allgather', other)
  with pytest.raises(KeyboardInterrupt):
    together.together(lambda: None)
