"""Drafts without replacement: same law, more accepted."""

import pytest

from listcoupling.decoding import programs, verify
from tests import statistics
from tests.decoding.samples import p_values, plain


def _options(method='specinfer', **changes):
  changes = dict(replacement=False, draft_temperatures=(0.7,)) | changes
  return plain(method, **changes)


@pytest.mark.parametrize('method', ['specinfer', 'traversal'])
def test_the_law_is_the_targets(method):
  options = _options(method)
  assert min(p_values(options, num_drafters=1)) > statistics.LEVEL


def test_law_where_the_support_is_smaller_than_the_list():
  options = _options(top_k=2)
  assert min(p_values(options, num_drafters=1)) > statistics.LEVEL


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(method='gls'), 'gls'),
    (dict(method='specinfer', draft_temperatures=(1.0, 2.0)), r'\(1.0, 2.0\)'),
  ],
)
def test_other_methods_are_refused(changes, message):
  options = plain(**{**changes, 'replacement': False})
  with pytest.raises(ValueError, match=message):
    options.check(vocab_size=9)


def test_control_siblings_must_be_left_out(monkeypatch):
  monkeypatch.setattr(
    verify, '_without_earlier', lambda laws, tokens, live: laws
  )
  programs.clear()  # what was compiled before has no mistake
  options = _options()
  found = p_values(options, num_drafters=1)
  programs.clear()
  assert min(found) < statistics.LEVEL
