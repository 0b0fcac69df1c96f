"""Sources of text: files, JSON lines, prepared TFDS data, this Python."""

import gzip
import json
import os

import pytest

from listcoupling.data import sources

ROWS = [
  {'question': 'what is 1+1?', 'answer': '2\r\n#### 2', 'task_id': 10},
  {'question': 'what is é?', 'answer': 'é', 'task_id': 11},
  {'question': 'what is {x}?', 'answer': 7, 'task_id': 511},
]


def write_rows(path, rows=ROWS):
  text = '\n'.join(json.dumps(row) for row in rows) + '\n\n'
  data = text.encode()
  path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)
  return path


@pytest.mark.parametrize('name', ['a.jsonl', 'a.jsonl.gz'])
def test_fields_are_joined_in_order(tmp_path, name):
  path = write_rows(tmp_path / name)
  documents = sources.read_source(f'{path}?fields=question+answer')
  assert documents == [
    (f'{name} line 1', 'what is 1+1?\n2\n#### 2'),
    (f'{name} line 2', 'what is é?\né'),
    (f'{name} line 3', 'what is {x}?\n7'),
  ]
  turned = sources.read_source(f'{path}?fields=answer+question')
  assert turned[1].text == 'é\nwhat is é?'


def test_skipped_objects_leave_no_trace(tmp_path):
  path = write_rows(tmp_path / 'a.jsonl')
  documents = sources.read_source(f'{path}?fields=answer&skip=task_id:11-510')
  assert [document.text for document in documents] == ['2\n#### 2', '7']
  one = sources.read_source(f'{path}?fields=answer&skip=task_id:10')
  assert [document.text for document in one] == ['é', '7']
  with pytest.raises(ValueError, match='no text after skipping'):
    sources.read_source(f'{path}?fields=answer&skip=task_id:1-999')


def test_environment_variables_lead_to_files(tmp_path, monkeypatch):
  write_rows(tmp_path / 'a.jsonl')
  monkeypatch.setenv('SOME_DATA', str(tmp_path))
  documents = sources.read_source('$SOME_DATA/a.jsonl?fields=answer')
  assert len(documents) == 3
  monkeypatch.delenv('SOME_DATA')
  with pytest.raises(FileNotFoundError, match='SOME_DATA.*not set'):
    sources.read_source('$SOME_DATA/a.jsonl?fields=answer')


@pytest.mark.parametrize(
  'query, message',
  [
    ('', r'there are \[.answer., .question., .task_id.\]'),
    ('?fields=question+reply', "no field 'reply'"),
    ('?fields=answer&skip=task_id', 'skip is FIELD:LOW-HIGH'),
    ('?fields=answer&skip=id:1-2', "no field 'id'"),
    ('?fields=answer&skip=question:1-2', "must be a number, got 'what"),
    ('?fields=answer&split=test', r"unknown options \['split'\]"),
    ('?columns=answer', r"unknown options \['columns'\]"),
  ],
)
def test_wrong_options_are_refused(tmp_path, query, message):
  path = write_rows(tmp_path / 'a.jsonl')
  with pytest.raises(ValueError, match=message):
    sources.read_source(f'{path}{query}')


def test_damaged_files_are_refused(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"answer": 1}\n{"answer": \n')
  with pytest.raises(ValueError, match='line 2 is not JSON'):
    sources.read_source(f'{path}?fields=answer')
  path.write_text('[1]\n')
  with pytest.raises(ValueError, match='line 1 must be a JSON object'):
    sources.read_source(f'{path}?fields=answer')
  packed = tmp_path / 'a.jsonl.gz'
  packed.write_bytes(b'not packed')
  with pytest.raises(ValueError, match='is damaged'):
    sources.read_source(f'{packed}?fields=answer')


def test_text_files_are_one_document(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes('é\r\nb\n'.encode())
  assert sources.read_source(path) == [('a.txt', 'é\nb\n')]
  with pytest.raises(ValueError, match='it takes none'):
    sources.read_source(f'{path}?fields=a')
  with pytest.raises(FileNotFoundError, match='nowhere.txt'):
    sources.read_source(tmp_path / 'nowhere.txt')
  path.write_text(' \n')
  with pytest.raises(ValueError, match='a.txt is empty'):
    sources.read_source(path)
  path.write_bytes('é'.encode('latin-1'))
  with pytest.raises(ValueError, match='a.txt is not UTF-8'):
    sources.read_source(path)


@pytest.fixture(scope='module')
def tfds_folder(tmp_path_factory):
  """A data set of five records as TFDS writes it, without TensorFlow."""
  tfds = pytest.importorskip('tensorflow_datasets')
  folder = tmp_path_factory.mktemp('tfds')
  with tfds.core.registered.skip_registration():

    class Sums(tfds.core.GeneratorBasedBuilder):
      name = 'sums'
      VERSION = tfds.core.Version('1.0.0')

      def _info(self):
        features = {
          'question': tfds.features.Text(),
          'answer': tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
          builder=self, features=tfds.features.FeaturesDict(features)
        )

      def _split_generators(self, downloads):
        return {'train': self._generate_examples()}

      def _generate_examples(self):
        for i in range(5):
          yield i, {'question': f'é + {i}?', 'answer': str(i)}

  builder = Sums(data_dir=os.fspath(folder), file_format='array_record')
  builder.download_and_prepare()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tfds.core.constants, 'DATA_DIR', os.fspath(folder))
    yield


@pytest.mark.usefixtures('tfds_folder')
def test_prepared_tfds_text_is_read():
  source = 'tfds:sums?split=train&fields=question+answer'
  texts = {document.text for document in sources.read_source(source)}
  assert texts == {f'é + {i}?\n{i}' for i in range(5)}
  left = sources.read_source(source + '&skip=answer:1-3')
  assert {document.text for document in left} == {'é + 0?\n0', 'é + 4?\n4'}
  part = sources.read_source('tfds:sums?split=train[:40%]&fields=answer')
  assert len(part) == 2


@pytest.mark.usefixtures('tfds_folder')
def test_what_tfds_lacks_is_named():
  with pytest.raises(FileNotFoundError, match='nothing_here.*TFDS_DATA_DIR'):
    sources.read_source('tfds:nothing_here?fields=question')
  with pytest.raises(ValueError, match='tests'):
    sources.read_source('tfds:sums?split=tests&fields=question')
  with pytest.raises(ValueError, match='answer.*question'):
    sources.read_source('tfds:sums')


def test_real_files_keep_the_test_tasks_out():
  data = os.environ.get('LISTCOUPLING_DATA')
  if not data:
    pytest.skip('LISTCOUPLING_DATA is not set: no GSM8K and MBPP here.')
  from configs import lm_pair_target

  sums = sources.read_source(lm_pair_target.DATA[0])
  assert len(sums) == 7473
  assert sums[0].text.startswith('Natalia sold clips') and '####' in (
    sums[0].text
  )
  tasks = sources.read_source(lm_pair_target.DATA[1])
  assert len(tasks) == 974 - 500
  lines = {int(document.name.split()[-1]) for document in tasks}
  assert not lines & set(range(11, 511))  # line n holds task n
