import gzip

import pytest

from listcoupling.data import records


def test_a_number_is_a_field_but_a_truth_value_is_not():
  record = records.Record('here', {'n': 3, 'b': True})
  assert records.field(record, 'missing', 'n') == '3'
  with pytest.raises(ValueError, match='here'):
    records.field(record, 'b')


def test_records_come_one_at_a_time(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"n": 1}\n\n{"n": 2}\nbroken')
  found = records.read(path)
  assert [next(found).fields['n'], next(found).fields['n']] == [1, 2]
  with pytest.raises(ValueError, match='a.jsonl line 4 is not JSON'):
    next(found)


def test_a_line_ends_at_a_newline_alone(tmp_path):
  path = tmp_path / 'a.jsonl'
  text = 'one\u2028line\x85of\x0bmany\x0cends\r'
  path.write_bytes(f'{{"n": "{text[:-1]}"}}\r\n{{"n": 2}}\n'.encode())
  with pytest.raises(ValueError, match='line 1 is not JSON'):  # \x0b is none
    list(records.read(path))
  text = 'one\u2028line\x85of\u2029ends'
  path.write_bytes(f'{{"n": "{text}"}}\r\n{{"n": 2}}\n'.encode())
  assert [row.fields['n'] for row in records.read(path)] == [text, 2]


@pytest.mark.parametrize(
  'name, content',
  [
    ('a.jsonl', b'[' * 100_000),
    ('a.json', b'[' * 100_000),
    ('a.json', b'\xff'),
    ('a.json', b'3'),
    ('a.jsonl.gz', b'no gzip'),
    ('a.jsonl.gz', gzip.compress(b'{"n": 1}' * 99, mtime=0)[:-20]),
    ('a.jsonl.gz', gzip.compress(b'{}', mtime=0)[:10] + b'\xff' * 20),
    ('a.parquet', b'PAR1'),
  ],
)
def test_damage_is_named_with_its_file(tmp_path, name, content):
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(ValueError, match=name):
    list(records.read(path))


def test_what_unzips_without_end_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(records, '_MOST_LINE', 50)
  monkeypatch.setattr(records, '_MOST_JSON', 50)
  for name in ('a.jsonl.gz', 'b.json.gz'):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'[{"n": 1}]\n' + b' ' * 39))
    if name == 'b.json.gz':
      assert list(records.read(path)) == [(f'{path}[0]', {'n': 1})]
    path.write_bytes(gzip.compress(b' ' * 10**6))
    with pytest.raises(ValueError, match=f'{name}.* more than 50 bytes'):
      list(records.read(path))


def test_parquet_whose_text_is_none_is_named(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  path = tmp_path / 'a.parquet'
  table = pyarrow.table({'q': ['some words']})
  parquet.write_table(table, path, compression='none', use_dictionary=False)
  assert [x.where for x in records.read(path)] == [f'{path} row 1 (from 1)']
  data = path.read_bytes()
  assert [row.fields for row in records.read(path)] == [{'q': 'some words'}]
  path.write_bytes(data.replace(b'some words', b'some\xffwords'))
  with pytest.raises(ValueError, match='a.parquet.*damaged after 0 rows'):
    list(records.read(path))


def test_bytes_that_are_no_text_are_named():
  assert records.field(records.Record('here', {'n': b'1'}), 'n') == '1'
  with pytest.raises(ValueError, match="here: field 'n' must be text"):
    records.field(records.Record('here', {'n': b'\xff'}), 'n')
