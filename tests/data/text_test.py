"""Text of this Python, its split, and the byte-level tokenizer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listcoupling.data import text
from tests import statistics

LINES = 'def f(x):\n    return x + 1\n\nThe value of x is returned.\n' * 20


@pytest.fixture(scope='module')
def tokenizer():
  return text.train_tokenizer([LINES], 280)


def test_python_text_is_there_and_recorded():
  corpus = text.load_corpus()
  again = text.load_corpus()
  assert corpus.record == again.record
  assert corpus.record['bytes'] > 1e6
  assert len(corpus.record['sha256']) == 64
  names = corpus.record['train'] + corpus.record['held_out']
  assert len(names) == corpus.record['documents'] == len(set(names))
  assert 'os.py' in names
  assert not any('_sysconfigdata' in name for name in names)
  assert not any(name.startswith('test/') for name in names)
  # Hashing is a coin of probability .05.
  statistics.assert_proportion(len(corpus.held_out), len(names), 0.05)


def write(tmp_path, name, content):
  path = tmp_path / name
  path.write_text(content, encoding='utf-8')
  return path


def test_side_of_a_document_depends_on_it_alone(tmp_path):
  paths = [write(tmp_path, f'{i}.txt', f'text {i} é\n') for i in range(60)]
  both = text.load_corpus(paths, held_out_fraction=0.4)
  part = text.load_corpus(paths[::2], held_out_fraction=0.4)
  assert both.train and both.held_out and part.held_out
  assert set(part.held_out) == set(both.held_out) & set(
    part.train + part.held_out
  )
  assert both.record['sha256'] != part.record['sha256']


def test_one_file_is_cut(tmp_path):
  path = write(tmp_path, 'one.txt', LINES)
  corpus = text.load_corpus([path], held_out_fraction=0.1)
  assert corpus.train[0].text + corpus.held_out[0].text == LINES
  assert len(corpus.held_out[0].text) == -(-len(LINES) // 10)


def test_sources_are_read_together(tmp_path):
  one = write(tmp_path, 'one.txt', LINES)
  two = write(tmp_path, 'two.jsonl', '{"a": "first"}\n{"a": "second"}\n')
  corpus = text.load_corpus([one, f'{two}?fields=a'])
  names = corpus.record['train'] + corpus.record['held_out']
  assert {'two.jsonl line 1', 'two.jsonl line 2'} < set(names)
  assert corpus.record['documents'] == 3
  with pytest.raises(FileNotFoundError, match='nowhere.txt'):
    text.load_corpus([tmp_path / 'nowhere.txt'])
  with pytest.raises(ValueError, match='1.5'):
    text.load_corpus(held_out_fraction=1.5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text())
def test_any_text_comes_back(tokenizer, string):
  ids = tokenizer.encode(string).ids
  assert tokenizer.decode(ids) == string
  assert all(0 <= i < tokenizer.get_vocab_size() for i in ids)


def test_tokenizer_is_deterministic_and_merges(tokenizer):
  again = text.train_tokenizer([LINES], 280)
  assert again.to_str() == tokenizer.to_str()
  assert tokenizer.get_vocab_size() == 280
  assert tokenizer.token_to_id(text.END_OF_TEXT) == 0
  assert len(tokenizer.encode(LINES).ids) < len(LINES) / 2
  with pytest.raises(ValueError, match='256'):
    text.train_tokenizer([LINES], 256)


def test_documents_end_with_the_token(tokenizer):
  documents = [text.Document('a', 'return x'), text.Document('b', 'é')]
  ids = text.encode_documents(tokenizer, documents)
  assert ids.dtype == np.int32
  ends = np.flatnonzero(ids == 0)
  assert len(ends) == 2 and ends[-1] == len(ids) - 1
  assert tokenizer.decode(ids[: ends[0]].tolist()) == 'return x'
  assert tokenizer.decode(ids[ends[0] + 1 : -1].tolist()) == 'é'
  other = text.tokenizers.Tokenizer(text.models.BPE())
  with pytest.raises(ValueError, match='endoftext'):
    text.encode_documents(other, documents)
