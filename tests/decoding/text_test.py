"""Prompts come in whole, text goes out whole."""

import contextlib
import io
import warnings

import numpy as np
import pytest
import tokenizers

from listcoupling.decoding import text
from listcoupling.models.pretrained import shipped_pair

TOKENIZER = shipped_pair()[0].tokenizer


def _copy():
  return tokenizers.Tokenizer.from_str(TOKENIZER.to_str())


@pytest.mark.parametrize('state', ['truncation', 'padding', 'both'])
def test_what_a_tokenizer_was_saved_with_touches_no_prompt(state):
  tokenizer, prompt = _copy(), 'def main(argv):\n  """Prints files."""\n'
  if state != 'padding':
    tokenizer.enable_truncation(3)
  if state != 'truncation':
    tokenizer.enable_padding(length=64)
  assert len(tokenizer.encode(prompt).ids) in (3, 64)  # it would matter
  prompts, lengths = text.encode_prompts(tokenizer, [prompt, 'x'])
  whole = [TOKENIZER.encode(each).ids for each in (prompt, 'x')]
  assert lengths.tolist() == [len(row) for row in whole]
  for row, length, ids in zip(prompts, lengths, whole):
    assert row[:length].tolist() == ids and not row[length:].any()
  # The caller's tokenizer is as it was.
  assert len(tokenizer.encode(prompt).ids) in (3, 64)


def _with_start_token():
  tokenizer = _copy()
  tokenizer.add_special_tokens(['<s>'])
  start = tokenizer.token_to_id('<s>')
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='<s> $A', special_tokens=[('<s>', start)]
  )
  return tokenizer, start


def test_special_tokens_are_switched_and_a_doubled_one_is_named():
  tokenizer, start = _with_start_token()
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    prompts, _ = text.encode_prompts(tokenizer, 'def')
    bare, _ = text.encode_prompts(tokenizer, 'def', add_special_tokens=False)
    text.encode_prompts(tokenizer, '<s>def', add_special_tokens=False)
    text.encode_prompts(TOKENIZER, '  def  def')
  assert prompts[0].tolist() == [start, *bare[0].tolist()]
  with pytest.warns(UserWarning, match="row 1: .*'<s>'.*sees it twice"):
    text.encode_prompts(tokenizer, ['def', '<s>def'])


@pytest.mark.parametrize(
  ('tokenizer', 'texts', 'message'),
  [
    (None, ['a'], 'no tokenizer.json'),
    (TOKENIZER, ['a', ''], "row 1: prompt '' has no tokens"),
    (TOKENIZER, ['a', 3], 'row 1: .*must be a string, got int'),
    (TOKENIZER, [], 'no prompts'),
  ],
)
def test_prompts_that_are_none_are_refused(tokenizer, texts, message):
  with pytest.raises(ValueError, match=message):
    text.encode_prompts(tokenizer, texts)


@pytest.mark.parametrize('row', [[], [1.5], [[1]], ['a']])
def test_rows_that_hold_no_ids_are_refused(row):
  with pytest.raises(ValueError, match='row 1: a prompt must be a list'):
    text.pad_prompts([[1], row])


def _printed(rows):
  """What a printer shows after each of several states of row 0, and at last."""
  out, show, shown = io.StringIO(), text.printer(TOKENIZER), []
  with contextlib.redirect_stdout(out):
    for row in rows:
      show(np.array([row + [0] * 9]), np.array([len(row)]))
      shown.append(out.getvalue())
    show.finish()
  return shown, out.getvalue()


def test_a_printer_prints_what_is_whole_at_once_and_the_rest_at_last():
  start = TOKENIZER.encode('x = ').ids
  words = start + TOKENIZER.encode('return value').ids
  cat = TOKENIZER.encode('\u732b').ids
  assert len(cat) > 1
  shown, whole = _printed([start, words + cat[:1], words + cat])
  assert shown == ['x = ', 'x = return value', 'x = return value\u732b'] and (
    whole == shown[-1]
  )
  shown, whole = _printed([start, words + cat[:1]])
  assert shown[-1] == 'x = return value'
  assert whole == TOKENIZER.decode(words + cat[:1]) == shown[-1] + '\ufffd'


def test_a_stop_string_is_held_back_and_cut_off():
  whole = 'one two\n\nthree'
  ids = TOKENIZER.encode(whole).ids
  stream = text.TextStream(TOKENIZER, ['\n\nth', 'zzz'])
  pieces = [stream.push(ids[:n]) for n in range(1, len(ids) + 1)]
  assert ''.join(pieces) == stream.text == 'one two'
  assert stream.stopped_by == '\n\nth'
  # What only begins a stop string comes in the end.
  stream = text.TextStream(TOKENIZER, ['threefold'])
  early = ''.join(stream.push(ids[:n]) for n in range(1, len(ids) + 1))
  assert early == 'one two\n\n'
  assert stream.push(ids, last=True) == 'three' and stream.stopped_by is None
