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
