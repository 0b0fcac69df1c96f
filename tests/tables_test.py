"""Tables: what is written is read, aligned text."""

import numpy as np
import pytest

from listcoupling import tables


def test_what_is_written_is_read(tmp_path):
  path = tmp_path / 'table.csv'
  rows = [{'a': 1, 'b': np.float32(0.5)}, {'a': 2, 'c': 'x,"\n'}]
  tables.write_csv(path, rows)
  assert tables.read_csv(path) == [
    {'a': 1, 'b': 0.5, 'c': None},
    {'a': 2, 'b': None, 'c': 'x,"\n'},
  ]
  with pytest.raises(ValueError, match='table.csv'):
    tables.write_csv(path, [])
  third = [{'x': 1 / 3, 'y': float('nan'), 'z': True}]
  tables.write_csv(path, third)
  read = tables.read_csv(path)[0]
  assert read['x'] == 1 / 3 and read['z'] is True
  assert np.isnan(read['y'])


@pytest.mark.parametrize('damage', [b'a,b\n1,2,3\n', b'a,b\n\xff,2\n'])
def test_damage_is_named(tmp_path, damage):
  (tmp_path / 'table.csv').write_bytes(damage)
  with pytest.raises(ValueError, match='table.csv is damaged at line'):
    tables.read_csv(tmp_path / 'table.csv')


def test_numbers_survive_a_cell(tmp_path):
  numbers = [3, 0.25, 1e-9]
  row = {'a': tables.join(numbers), 'b': tables.join([]), 'c': tables.join([7])}
  tables.write_csv(tmp_path / 'a.csv', [row])
  read = tables.read_csv(tmp_path / 'a.csv')[0]
  assert tables.split(read['a']).tolist() == numbers
  assert tables.split(read['b']).tolist() == []
  assert tables.split(read['c']).tolist() == [7]


def test_text_is_aligned_and_errors_stand_beside():
  rows = [
    {'name': 'a', 'x': 1.25, 'x_se': 0.5, 'd': -0.5, 'd_se': 0.125},
    {'name': 'long', 'x': 10.0, 'x_se': None, 'd': None},
  ]
  columns = [
    tables.Column('who', 'name'),
    tables.Column('x', 'x', '.1f'),
    tables.Column('change', 'd', '+.2f'),
  ]
  assert tables.as_text(rows, columns) == (
    'who      x        change\na      1.2 ± 0.5  -0.50 ± 0.12\nlong  10.0'
  )
  for nothing in (None, ''):  # in any row: no column
    columns = [tables.Column('x', 'x'), tables.Column('paper', 'paper')]
    text = tables.as_text([{'x': 1, 'paper': nothing}, {'x': 2}], columns)
    assert text == 'x\n1\n2'
  every = tables.as_text(rows).splitlines()
  assert every[0].split() == ['name', 'x', 'x_se', 'd', 'd_se']
