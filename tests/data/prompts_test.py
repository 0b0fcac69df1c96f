import gzip
import io
import json
import os
import pathlib
import types

import pyarrow
import pytest
from pyarrow import parquet

from listcoupling.data import prompts

_DROP = {
  'nfl_1': {
    'passage': 'Ten men ran.',
    'qa_pairs': [
      {'question': 'How many?', 'answer': {'number': '10'}, 'query_id': 'q1'},
      {'question': 'Who ran?', 'answer': {}, 'query_id': 'q2'},
    ],
    'wiki_url': '',
  }
}
_MBPP = [
  {'task_id': n, 'text': f'task {n}\r\n', 'code': 'pass', 'test_list': []}
  for n in (2, 11, 510, 511)
]


def _write(path, lines):
  path.parent.mkdir(parents=True, exist_ok=True)
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  data = text.encode()
  path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)
  return path


_PARAGRAPH = 'Two lines\nof a paragraph ' + 'that goes on ' * 6 + 'and ends.'


@pytest.fixture
def data(tmp_path):
  """A folder with every data set in its own form."""
  _write(
    tmp_path / 'gsm8k/test.jsonl',
    [{'question': 'Two plus two?', 'answer': '#### 4'}, {'question': ' '}],
  )
  _write(
    tmp_path / 'humaneval/HumanEval.jsonl.gz',
    [{'task_id': 'HumanEval/0', 'prompt': 'def f():\n', 'test': ''}],
  )
  _write(tmp_path / 'mbpp/mbpp.jsonl', _MBPP)
  drop = tmp_path / 'drop/drop_dataset_dev.json'
  drop.parent.mkdir()
  drop.write_text(json.dumps(_DROP))
  _write(
    tmp_path / 'natural_reasoning/full.jsonl',
    [{'question': f'Why {n}?', 'reference_answer': ''} for n in range(3)],
  )
  for name in ('wikitext2/test.txt', 'tinyshakespeare/input.txt'):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(f' = A title = \n \n {_PARAGRAPH}\n\nEnd.\n')
  return tmp_path


_EXPECTED = {
  'gsm8k': (('1', 'Two plus two?\n'),),
  'humaneval': (('HumanEval/0', 'def f():\n'),),
  'mbpp': (('11', 'task 11\n\n'), ('510', 'task 510\n\n')),
  'drop': (
    ('q1', 'Ten men ran.\nHow many?\n'),
    ('q2', 'Ten men ran.\nWho ran?\n'),
  ),
  'natural_reasoning': (
    ('1', 'Why 0?\n'),
    ('2', 'Why 1?\n'),
    ('3', 'Why 2?\n'),
  ),
  'wikitext2': (('2', f'{_PARAGRAPH}\n'),),
  'tinyshakespeare': (('2', f'{_PARAGRAPH}\n\n'),),
}


@pytest.mark.parametrize('dataset', prompts.FORMATS)
def test_every_data_set_is_read_in_its_own_form(data, dataset, monkeypatch):
  monkeypatch.setenv('LISTCOUPLING_DATA', str(data))
  for path in (None, data):
    found = prompts.load_prompts(dataset, path)
    assert tuple(zip(found.names, found.texts)) == _EXPECTED[dataset]
    assert found.source.startswith(str(data / dataset))


def test_other_forms_of_the_same_data(tmp_path):
  sanitized = tmp_path / 'sanitized-mbpp.json'
  sanitized.write_text(json.dumps([{'task_id': 12, 'prompt': 'Sort.'}]))
  assert prompts.load_prompts('mbpp', sanitized).texts == ('Sort.\n',)
  table = pyarrow.Table.from_pylist([{'question': 'a'}, {'question': 'b'}])
  parquet.write_table(table, tmp_path / 'test.parquet')
  found = prompts.load_prompts('gsm8k', tmp_path / 'test.parquet')
  assert found.texts == ('a\n', 'b\n')
  lines = [{'query_id': 'q', 'passage': 'P.', 'question': 'Q?', 'section': 1}]
  found = prompts.load_prompts('drop', _write(tmp_path / 'd.jsonl', lines))
  assert found.texts == ('P.\nQ?\n',)


def test_a_template_of_ones_own(data):
  found = prompts.load_prompts(
    'humaneval', data, template='# {task_id}\n{prompt}'
  )
  assert found.texts == ('# HumanEval/0\ndef f():\n',)


def test_a_template_field_that_is_missing_is_named_with_its_line(data):
  path = data / 'gsm8k/test.jsonl'
  with pytest.raises(ValueError, match=f"{path} line 2 has no field 'answer'"):
    prompts.load_prompts('gsm8k', path, template='{question}{answer}')


@pytest.mark.parametrize(
  'name, text, message',
  [
    ('a.jsonl', '{"question": "a"}\n{"quest', 'line 2 is not JSON'),
    ('a.jsonl', '{"question": "a"}\n[1]\n', 'line 2 must be a JSON object'),
    ('a.jsonl', '\n{"query": "a"}\n', r"line 2 has no field 'question'.*query"),
    ('a.jsonl', '{"question": ["a"]}', "line 1: field 'question' must be text"),
    ('a.jsonl', '', 'holds no prompt'),
    ('a.json', '[{"question": "a"', 'a.json is not JSON'),
    ('a.json', '3', 'must hold a list'),
    ('a.json', '{"p": {"passage": "x"}}', "passage 'p' has no field"),
    ('a.doc', 'a', 'must end in one of'),
    (
      'a.txt',
      'a',
      "no field 'question' of gsm8k; .*"
      r'--config.datasets="\(\'gsm8k\',\)" --config.templates.gsm8k=\'{text}',
    ),
    ('a.parquet', 'a', 'not a Parquet file'),
  ],
)
def test_bad_files_are_named(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message) as error:
    prompts.load_prompts('gsm8k', tmp_path / name)
  assert name in str(error.value)


def test_a_set_with_names_is_not_asked_for_by_template_alone(tmp_path):
  path = _write(tmp_path / 'a.jsonl', [{'author': 'x', 'text': 'y'}])
  with pytest.raises(ValueError) as error:
    prompts.load_prompts('humaneval', path, template='{text}')
  words = str(error.value)
  assert "no field 'task_id' of humaneval; it has ['author', 'text']" in words
  assert words.endswith("--config.templates.gsm8k='{text}'.")
  assert prompts.load_prompts('gsm8k', path, template='{text}').texts == ('y',)


def test_damaged_gzip_is_named(tmp_path):
  whole = gzip.compress(b'{"question": "a"}\n' * 1000)
  path = tmp_path / 'a.jsonl.gz'
  for data in (whole[: len(whole) // 2], b'plain'):
    path.write_bytes(data)
    with pytest.raises(ValueError, match='a.jsonl.gz is damaged'):
      prompts.load_prompts('gsm8k', path)


def test_what_is_missing_is_named_with_the_remedy(tmp_path, monkeypatch):
  monkeypatch.delenv('LISTCOUPLING_DATA', raising=False)
  with pytest.raises(FileNotFoundError, match='LISTCOUPLING_DATA.*hub'):
    prompts.load_prompts('drop')
  with pytest.raises(FileNotFoundError, match='holds no prompts of drop'):
    prompts.load_prompts('drop', tmp_path)
  with pytest.raises(FileNotFoundError, match='none.jsonl'):
    prompts.load_prompts('drop', tmp_path / 'none.jsonl')


@pytest.mark.parametrize(
  'dataset, changes, message',
  [
    ('gsm9k', {}, 'gsm9k'),
    ('gsm8k', {'source': 'web'}, 'web'),
    ('mbpp', {'source': 'tfds'}, 'gsm8k, drop'),
    ('gsm8k', {'template': 'no field'}, 'no field'),
    ('gsm8k', {'template': '{question'}, 'malformed'),
    ('gsm8k', {'template': '{question:d}'}, 'malformed'),
    ('gsm8k', {'template': '{question.x}'}, 'malformed'),
    ('gsm8k', {'template': '{}'}, 'malformed'),
    ('mbpp', {}, r'holds no prompt of mbpp with task_id in \(11, 510\)'),
  ],
)
def test_bad_arguments(tmp_path, dataset, changes, message):
  path = _write(tmp_path / 'a.jsonl', [{'task_id': 3, 'text': 'x'}])
  with pytest.raises(ValueError, match=message):
    prompts.load_prompts(dataset, path, **changes)


def test_tfds_is_read_where_it_is_prepared(monkeypatch):
  import tensorflow_datasets as tfds

  asked = []

  def builder(name):
    if name == 'drop':
      raise tfds.core.registered.DatasetNotFoundError(name)

    def as_data_source(split):
      asked.append((name, split))
      return [{'question': b'One?', 'answer': b'1'}]

    return types.SimpleNamespace(as_data_source=as_data_source)

  monkeypatch.setattr(
    tfds.core.load.read_only_builder, 'builder_from_files', builder
  )
  assert prompts.load_prompts('gsm8k', source='tfds').texts == ('One?\n',)
  assert asked == [('gsm8k', 'test')]
  with pytest.raises(FileNotFoundError, match='tfds build drop'):
    prompts.load_prompts('drop', source='tfds')


def test_hub_downloads_small_files_and_streams_the_large_one(
  monkeypatch, tmp_path
):
  import huggingface_hub

  table = pyarrow.Table.from_pylist([{'question': 'a'}])
  parquet.write_table(table, tmp_path / 'a.parquet')
  asked = []

  def download(name, file, repo_type):
    asked.append((name, file, repo_type))
    return str(tmp_path / 'a.parquet')

  read = []

  class Stream(io.BytesIO):
    def __next__(self):
      read.append(1)
      return b'{"question": "b"}\n'

  class FileSystem:
    def open(self, path, mode):
      asked.append(path)
      return Stream()

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
  monkeypatch.setattr(huggingface_hub, 'HfFileSystem', FileSystem)
  assert prompts.load_prompts('gsm8k', source='hub').texts == ('a\n',)
  assert asked == [(*prompts.FORMATS['gsm8k'].hub, 'dataset')]
  found = prompts.load_prompts('natural_reasoning', source='hub')
  assert set(found.texts) == {'b\n'}
  head = prompts.FORMATS['natural_reasoning'].head
  assert len(found.texts) == head and len(read) <= head + 1
  assert asked[1] == 'datasets/facebook/natural_reasoning/full.jsonl'


def test_a_hub_out_of_reach_names_what_to_download(monkeypatch):
  import huggingface_hub

  def fail(*args, **kwargs):
    raise ConnectionError('no network')

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)
  monkeypatch.setattr(huggingface_hub, 'HfFileSystem', fail)
  for name in ('gsm8k', 'natural_reasoning'):
    with pytest.raises(FileNotFoundError, match='download it from') as error:
      prompts.load_prompts(name, source='hub')
    assert prompts.FORMATS[name].hub[0] in str(error.value)


def test_the_real_files():
  root = os.environ.get('LISTCOUPLING_DATA')
  if not root or not pathlib.Path(root, 'gsm8k').is_dir():
    pytest.skip('LISTCOUPLING_DATA does not name a folder with gsm8k/')
  sizes = {'gsm8k': 1319, 'humaneval': 164, 'mbpp': 500}
  for dataset, size in sizes.items():
    found = prompts.load_prompts(dataset)
    assert len(found.texts) == len(set(found.names)) == size
    assert not any('\r' in text for text in found.texts)
  assert found.names[0] == '11' and found.names[-1] == '510'
