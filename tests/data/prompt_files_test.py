"""Prompts come from files as they were written, or not at all."""

import json

import pytest

from listcoupling.data import prompt_files

UNICODE_ENDS = 'a\u2028b\u2029c\x0bd\x0ce\x1cf\u0085g'


def _write(tmp_path, name, text):
  path = tmp_path / name
  path.write_bytes(text if isinstance(text, bytes) else text.encode('utf-8'))
  return path


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('one\ntwo\nthree\n', ['one', 'two', 'three']),
    ('one\r\ntwo', ['one', 'two']),
    ('\n one \n\n \t\ntwo\n', [' one ', 'two']),
    (f'{UNICODE_ENDS}\nnext', [UNICODE_ENDS, 'next']),
    ('\ufeffone', ['one']),
  ],
)
def test_only_newlines_end_a_line_and_blank_ones_are_passed_over(
  tmp_path, text, expected
):
  path = _write(tmp_path, 'prompts.txt', text)
  assert prompt_files.read_prompts(path) == expected


def test_a_whole_file_is_one_prompt(tmp_path):
  path = _write(tmp_path, 'prompts.txt', 'one\r\n\ntwo\n')
  assert prompt_files.read_prompts(path, whole_file=True) == ['one\r\n\ntwo\n']


def test_json_lines_may_span_lines_and_hold_conversations(tmp_path):
  talk = [{'role': 'user', 'content': 'Hi'}]
  lines = ['one\ntwo', {'prompt': UNICODE_ENDS, 'text': 'no'}]
  lines += [{'id': 3, 'text': 'three'}, {'messages': talk}]
  expected = ['one\ntwo', UNICODE_ENDS, 'three', talk]
  text = '\n\n'.join(json.dumps(line, ensure_ascii=False) for line in lines)
  for name in ('prompts.jsonl', 'PROMPTS.JSONL'):
    path = _write(tmp_path, name, text)
    assert prompt_files.read_prompts(path) == expected


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('p.txt', ' \n\n', 'p.txt holds no prompt'),
    ('p.txt', b'ok\n\xff', 'not UTF-8 text: byte 3'),
    ('p.jsonl', '"a"\n\n{"prompt": ', 'p.jsonl, line 3: no JSON'),
    ('p.jsonl', '{"content": "a"}', 'line 1: a prompt must be .*"content"'),
    ('p.jsonl', '{"text": 7}', 'line 1'),
    ('p.jsonl', '{"prompt": ""}', 'line 1'),
    ('p.jsonl', '["a"]', 'line 1'),
    ('p.jsonl', '7', 'line 1'),
  ],
)
def test_what_is_no_prompt_is_refused_by_line(tmp_path, name, text, message):
  with pytest.raises(ValueError, match=message):
    prompt_files.read_prompts(_write(tmp_path, name, text))


def test_prompts_of_a_command_line_are_put_together(tmp_path):
  path = _write(tmp_path, 'p.txt', 'b\nc')
  found = prompt_files.collect(['a'], path, ['1, 2', '3'])
  assert found == ['a', 'b', 'c', [1, 2], [3]]
  with pytest.raises(ValueError, match='no prompt: give --prompt'):
    prompt_files.collect([], '', [])
  for text, bad in (('1,2,x', 'x'), ('1,,2', ''), ('-1', '-1'), ('1.5', '1.5')):
    with pytest.raises(ValueError, match=f"--prompt_ids .* got '{bad}' in"):
      prompt_files.read_ids(text)
