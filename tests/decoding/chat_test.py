"""Chat templates are read from a checkpoint and filled in without access."""

import json
import shutil
import sys

import pytest

from listcoupling.decoding import chat

SOURCE = """{{ bos_token }}
{%- for message in messages %}
  {%- if message.role not in ('user', 'assistant') %}
    {{- raise_exception('no role ' + message.role) }}
  {%- endif %}
  {%- if message.role == 'assistant' %}
    {%- generation %}[{{ message.content }}]{% endgeneration %}
  {%- else %}
    {{- message | tojson }}
  {%- endif %}
  {%- if loop.index > 8 %}{% break %}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}>{% endif %}"""
TALK = [
  {'role': 'user', 'content': 'Grüße'},
  {'role': 'assistant', 'content': 'Hi'},
]
WRITTEN = '<s>{"role": "user", "content": "Grüße"}[Hi]'


def _write(folder, config, source=None):
  (folder / 'tokenizer_config.json').write_text(json.dumps(config))
  if source is not None:
    (folder / 'chat_template.jinja').write_text(source, 'utf-8')
  return folder


@pytest.mark.parametrize(
  ('template', 'source'),
  [
    (SOURCE, None),
    ([dict(name='tools', template='x'), dict(name='default', template=SOURCE)],
     None),
    (None, SOURCE),
    ('an older one', SOURCE),
  ],
)  # fmt: skip
def test_a_template_is_found_wherever_a_checkpoint_keeps_it(
  tmp_path, template, source
):
  config = {'bos_token': {'content': '<s>'}, 'eos_token': None, 'n_token': 3}
  config['chat_template'] = template
  read = chat.read_chat_template(_write(tmp_path, config, source))
  assert read.render(TALK) == WRITTEN + '>'
  assert read.render(TALK, add_generation_prompt=False) == WRITTEN
  if isinstance(template, list):
    assert chat.read_chat_template(tmp_path, 'tools').source == 'x'


def test_a_template_comes_with_the_model_from_the_hub(tmp_path, monkeypatch):
  there, here = tmp_path / 'there', tmp_path / 'here'
  there.mkdir()
  _write(there, {'bos_token': '<s>'}, SOURCE)
  (there / 'pytorch_model.bin').touch()

  def download(name, allow_patterns):
    assert name == 'owner/name'
    here.mkdir()
    for pattern in allow_patterns:
      for path in there.glob(pattern):
        shutil.copy(path, here)
    return str(here)

  monkeypatch.setattr('huggingface_hub.snapshot_download', download)
  assert chat.read_chat_template('owner/name').render(TALK) == WRITTEN + '>'
  assert not (here / 'pytorch_model.bin').exists()
  with pytest.raises(FileNotFoundError, match='no_such'):
    chat.read_chat_template('./no_such')
  with pytest.raises(ValueError, match='got None'):
    chat.read_chat_template(None)


def test_what_is_missing_or_damaged_is_named(tmp_path):
  with pytest.raises(ValueError, match='no chat template'):
    chat.read_chat_template(tmp_path)
  _write(tmp_path, {'chat_template': [dict(name='tools', template='x')]})
  with pytest.raises(ValueError, match=r"'default'.*\['tools'\]"):
    chat.read_chat_template(tmp_path)
  (tmp_path / 'tokenizer_config.json').write_text('{')
  with pytest.raises(ValueError, match='tokenizer_config.json is damaged'):
    chat.read_chat_template(tmp_path)
  _write(tmp_path, {'chat_template': ['x', {'name': 3}]})
  with pytest.raises(ValueError, match='no chat template'):
    chat.read_chat_template(tmp_path)
  (tmp_path / 'chat_template.jinja').write_bytes(b'\xff')
  with pytest.raises(ValueError, match='chat_template.jinja is damaged'):
    chat.read_chat_template(tmp_path)
  (tmp_path / 'chat_template.jinja').write_bytes(b'x' * (2**20 + 1))
  with pytest.raises(ValueError, match='chat_template.jinja has 1048577 bytes'):
    chat.read_chat_template(tmp_path)


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    (SOURCE, 'no role system'),
    ('{% for %}', 'cannot be filled in'),
    ('{{ 1 + "a" }}', 'cannot be filled in'),
    ('{{ 1 // 0 }}', 'cannot be filled in'),
    ("{{ messages.__class__.__mro__[1].__subclasses__() }}", 'unsafe|access'),
    ("{{ messages.append(1) }}", 'safe'),
    # Endless in time, memory or depth.
    ('{% for a in range(9**5) %}{% for b in range(9**5) %}{% endfor %}'
     '{% endfor %}', 'more than 2 seconds'),
    ('{{ "a" * 9 ** 11 }}', 'over 1073741824 bytes'),
    ('{% set x = "a" * 2 ** 20 %}{{ x * 1024 }}', 'over 1073741824 bytes'),
    ('{{ "a"|center(2 ** 24 + 1) }}', 'has 16777217 characters'),
    ('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', 'recursion'),
    ('{{ ' + '(' * 99999, 'recursion'),
  ],
)  # fmt: skip
def test_a_template_that_cannot_be_filled_in_is_refused(source, message):
  template = chat.ChatTemplate(source, {'bos_token': ''}, 'it.jinja')
  with pytest.raises(ValueError, match=f'it.jinja.*({message})'):
    template.render([{'role': 'system', 'content': ''}])


def test_rows_are_filled_in_together_and_named():
  source = '{% for m in messages %}{{ 1 // m.content }}{% endfor %}'
  template = chat.ChatTemplate(source, {})
  rows = {number: [{'content': number}] for number in (2, 1, -1)}
  assert template.render_rows(rows) == {2: '0', 1: '1', -1: '-1'}
  assert template.render_rows({}) == {}
  with pytest.raises(ValueError, match=r'prompts\[7\] .*by zero'):
    template.render_rows(rows | {7: [{'content': 0}], 8: []})
  with pytest.raises(ValueError, match='what JSON holds: got function'):
    template.render([], tools=[lambda: 1])


def test_without_jinja_the_remedy_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'jinja2', None)
  with pytest.raises(ImportError, match='listcoupling.chat'):
    chat.ChatTemplate('', {}).render([])
