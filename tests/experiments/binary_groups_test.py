"""The binary table: rows, where some groups are best, refusals."""

import pytest

from configs import binary_groups as config_file
from listcoupling import tables
from listcoupling.compression import binary
from listcoupling.experiments import binary_groups


def _config(**changes):
  config = config_file.get_config()
  config.update(dict(cases=('2: .2 .2 .2 .2',)) | changes)
  return config


def test_every_number_of_groups_has_its_best_bins(tmp_path):
  rows = binary_groups.TABLE.run(_config(), tmp_path)
  assert [row['num_groups'] for row in rows] == [1, 2, 4]
  one, two, four = (row['best'] for row in rows)
  assert two < one - 0.005 and two < four - 0.005
  for row in rows:
    assert row['best'] <= row['mean'] <= row['worst']
    # No other size of bins is better.
    for size in (1, 4, 16, 64):
      if 2 * row['num_groups'] * size <= 256:
        words = binary.nested_words(8, 2, row['num_groups'], size)
        other = binary.errors(words, (0.2,) * 4, 8)
        assert other.best >= row['best']
  read = tables.read_csv(tmp_path / 'results.csv')
  assert [row['best'] for row in read] == [one, two, four]
  assert (tmp_path / 'groups.png').exists()
  assert '0.2 0.2 0.2 0.2' in binary_groups.TABLE.as_text(rows)


def test_groups_without_words_have_no_row(tmp_path):
  rows = binary_groups.TABLE.run(
    _config(num_bits=2, cases=('2: .2 .2 .2 .2',)), tmp_path
  )
  assert [row['num_groups'] for row in rows] == [1, 2]


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(cases=('2 .2 .2',)), "got '2 .2 .2'"),
    (dict(cases=('2: .2 .6',)), 'cases'),
    (dict(cases=('3: .2 .2',)), 'num_messages must be a power of two, got 3'),
    (dict(num_bits=6), 'num_bits must be a power of two, got 6'),
    (dict(num_bits=16), 'at most 10'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    binary_groups.TABLE.run(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
