"""Prompts come in whole, text goes out whole."""

import collections
import contextlib
import dataclasses
import io
import warnings

import jax
import numpy as np
import pytest
import tokenizers

from listcoupling import gumbel, validation
from listcoupling.decoding import analysis, chat, text
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.models.pretrained import shipped_pair
from tests import floats

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
  with pytest.warns(UserWarning, match=r"prompts\[1\] .*'<s>'.*sees it twice"):
    text.encode_prompts(tokenizer, ['def', '<s>def'])


@pytest.mark.parametrize(
  ('tokenizer', 'texts', 'message'),
  [
    (None, ['a'], 'no tokenizer.json'),
    (TOKENIZER, ['a', ''], r"prompts\[1\] has no tokens, got ''"),
    (TOKENIZER, ['a', 3], r'prompts\[1\] must be a string.*got int'),
    (TOKENIZER, [], 'no prompts'),
    (TOKENIZER, 5, 'prompts must be a string or a sequence.*got 5'),
    (TOKENIZER, None, 'prompts must be .*got None'),
    (TOKENIZER, b'def', "prompts must be .*got b'def'"),
    (TOKENIZER, [[1.5, 2]], r'prompts\[0\] .*token id, got \[1.5, 2'),
    (TOKENIZER, [[1], ['a']], r"prompts\[1\] .*token id, got \['a'\]"),
    (TOKENIZER, [[[1], [1, 2]]], r'prompts\[0\] .*token id'),
    (TOKENIZER, [[1], [2**40]], r'prompts\[1\] .*got 1099511627776'),
    (TOKENIZER, [[-1]], r'prompts\[0\] .*got -1'),
    (TOKENIZER, ['a', '\ud800'], r'prompts\[1\] .*surrogate'),
    ('gpt2', ['a'], 'tokenizer must be .*load_pretrained, got str'),
  ],
)
def test_prompts_that_are_none_are_refused(tokenizer, texts, message):
  with pytest.raises(ValueError, match=message):
    text.encode_prompts(tokenizer, texts)


@pytest.mark.parametrize('row', [[], [1.5], [[1]], ['a']])
def test_rows_that_hold_no_ids_are_refused(row):
  with pytest.raises(ValueError, match=r'prompts\[1\] must hold at least one'):
    text.pad_prompts([[1], row])


def _printed(rows):
  """A printer's output after each of several states of row 0, and at last."""
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


PAIR = shipped_pair()
PROMPTS = ['def main(', 'import ', 'class A', 'for x in']
OPTIONS = GenerateOptions(
  num_drafts=2, draft_length=2, max_new_tokens=24, stop_tokens=()
)
KEY = gumbel.seed_key(3)


def _texts(prompts=PROMPTS, key=KEY, options=OPTIONS, **settings):
  return text.generate_text(
    key, PAIR[0], [PAIR[1]], prompts, options, **settings
  )


@pytest.fixture(scope='module')
def alone():
  """One text per prompt, all in one batch, streamed."""
  pieces = collections.defaultdict(str)

  def on_text(row, new):
    pieces[row] += new

  return _texts(on_text=on_text), pieces


def test_texts_are_those_of_generate(alone):
  prompts, lengths = text.encode_prompts(TOKENIZER, PROMPTS)
  out = generate(KEY, PAIR[0], [PAIR[1]], prompts, lengths, OPTIONS)
  for b, done in enumerate(alone[0]):
    assert done.prompt == PROMPTS[b] and done.finish_reason == 'length'
    assert list(done.prompt_tokens) == prompts[b, : lengths[b]].tolist()
    assert list(done.tokens) == out.tokens[b].tolist()
    assert done.text == TOKENIZER.decode(out.tokens[b].tolist())
    assert done.text == alone[1][b]
    assert done.metrics.target_calls == out.metrics.target_calls[b]


def test_a_text_depends_on_its_key_and_prompt_alone(alone):
  singles = [done.text for done in alone[0]]
  several = _texts(batch_size=4, num_samples=3)
  assert len(several) == 12
  assert [done.text for done in several[::3]] == singles
  assert len({done.text for done in several}) == 12
  keys = text._keys(KEY, 4, 3)
  picked = [7, 2, 9, 0]
  again = _texts([PROMPTS[i // 3] for i in picked], keys[np.array(picked)])
  assert [done.text for done in again] == [several[i].text for i in picked]
  ids = [list(done.prompt_tokens) for done in alone[0]]
  by_ids = _texts(ids)
  assert [done.text for done in by_ids] == singles
  assert by_ids[0].prompt == ids[0]


def test_a_stop_string_ends_a_text_and_is_cut_off(alone):
  whole = alone[0][1].text
  stop = whole[5:8]
  pieces = []
  ended = _texts(
    stop_strings=[stop, 'never to be seen'],
    on_text=lambda row, new: pieces.append(new) if row == 1 else None,
  )
  assert ended[1].finish_reason == 'stop_string'
  assert ended[1].text == whole[: whole.find(stop)] == ''.join(pieces)
  assert stop in TOKENIZER.decode(list(ended[1].tokens))
  assert stop not in TOKENIZER.decode(list(ended[1].tokens[:-1]))
  assert ended[1].tokens == alone[0][1].tokens[: len(ended[1].tokens)]
  assert ended[1].metrics.target_calls < alone[0][1].metrics.target_calls
  for row in (0, 2, 3):
    if stop not in alone[0][row].text:
      assert ended[row].text == alone[0][row].text


def test_a_stop_token_ends_a_text(alone):
  stop = alone[0][0].tokens[4]
  options = dataclasses.replace(OPTIONS, stop_tokens=(stop,))
  done = _texts(options=options)[0]
  assert done.finish_reason == 'stop_token' and done.tokens[-1] == stop
  assert done.tokens == alone[0][0].tokens[: len(done.tokens)]


def test_log_probabilities_are_those_of_the_model(alone):
  scored = _texts(logprobs=True)
  for plain, done in zip(alone[0], scored):
    row = np.array([done.prompt_tokens + done.tokens])
    # Forwards of one shape; what comes after the logits may round otherwise.
    padded = np.pad(row, ((0, 0), (0, -row.size % analysis._BUCKET)))[:, :-1]
    logits = analysis.logits_along(PAIR[0], padded)[0]
    laws = np.asarray(jax.nn.log_softmax(logits, axis=-1))
    error = floats.apart(jax.nn.log_softmax, logits)
    count = len(done.tokens)
    expected = laws[np.arange(row.size - 1), row[0, 1:]][-count:]
    np.testing.assert_allclose(done.logprobs, expected, rtol=0, atol=error)
    assert done._replace(logprobs=None)[:5] == plain[:5]


TEMPLATE = chat.ChatTemplate(
  "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m.content }}"
  '{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}',
  {'bos_token': '#'},
)


def test_chat_templates_make_prompts_of_messages(alone):
  messages = [{'role': 'user', 'content': 'import '}]
  done = _texts(['import ', messages, PROMPTS[2], [1]], chat_template=TEMPLATE)
  prompts = [TOKENIZER.decode(list(each.prompt_tokens)) for each in done]
  assert prompts[0] == prompts[1] == '#<user>import <assistant>'
  assert done[1].prompt == messages
  assert done[3].prompt_tokens == (1,)
  with pytest.raises(ValueError, match=r'prompts\[0\] .*need a chat_template'):
    _texts([messages])


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(batch_size=0), 'batch_size'),
    (
      dict(options=GenerateOptions(num_drafts=0)),
      '^num_drafts must be at least 1, got 0',
    ),
    (dict(num_samples=1.5), 'num_samples.*1.5'),
    (dict(stop_strings='abc'), "sequence of non-empty strings, got 'abc'"),
    (dict(stop_strings=['']), 'non-empty'),
    (dict(stop_strings=None), 'non-empty strings, got None'),
    (dict(on_done=5), 'on_done must be callable or None, got 5'),
    (dict(on_text=5), 'on_text must be callable or None, got 5'),
    (dict(logprobs='x'), "logprobs must be one of .*, got 'x'"),
    (dict(add_special_tokens='x'), 'add_special_tokens must be one of'),
    (dict(chat_template='x'), 'read_chat_template gives, got str'),
    (dict(prompts=[b'a']), r"prompts\[0\] .* got b'a'"),
    (dict(prompts=['a', '']), r'prompts\[1\]'),
    (dict(prompts=['a', 1.5]), r'prompts\[1\].*float'),
    (dict(key=KEY[None]), r'\(4,\)'),
    (dict(prompts=[[1], [9999]], batch_size=1), r'prompts\[1\] .* 9999'),
    (dict(prompts=[[1], [1] * 9999], batch_size=1), r'prompts\[1\] may reach'),
  ],
)
def test_bad_requests_are_named_before_a_text_begins(settings, message):
  with pytest.raises(ValueError, match=message):
    _texts(**{'on_text': pytest.fail, **settings})


def test_texts_are_handed_on_batch_by_batch_and_counted_at_a_terminal(capsys):
  done = []
  texts = _texts(
    prompts=['a', [1]],
    num_samples=2,
    batch_size=3,
    on_done=lambda *text: done.append(text),
  )
  assert [number for number, _ in done] == [0, 1, 2, 3]
  assert [one.tokens for _, one in done] == [one.tokens for one in texts]
  found = text.write(
    KEY, PAIR[0], [PAIR[1]], ['a', [1]], OPTIONS, num_samples=2, batch_size=3
  )
  assert [row['text'] for row in found['rows']] == [one.text for one in texts]
  assert not capsys.readouterr().out
  shown = text.format_report(found)
  places = [
    shown.index(words)
    for words in (
      '== Prompt\na\n-- Text 1\n', '\n-- Text 2\n',
      '== Prompt\n[1]\n-- Text 3\n', '\n-- Text 4\n',
    )
  ]  # fmt: skip
  assert places == sorted(places) and shown.count('== Prompt') == 2


def test_a_prompt_that_fails_late_is_named_among_all(monkeypatch):
  """Its batch knows it by another index."""

  def refuse(keys, *_, **__):
    raise validation.ItemError('prompts', len(keys) - 1, 'fails.')

  monkeypatch.setattr(text, 'generate', refuse)
  with pytest.raises(ValueError, match=r'^prompts\[1\] fails.$'):
    _texts(prompts=['a', 'b', 'c'], num_samples=2, batch_size=4)
