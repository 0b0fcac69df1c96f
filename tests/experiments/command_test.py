"""Scripts: a mistake is one line, a stop says that it can go on."""

import pytest

from listcoupling.experiments import command


def _raises(error):
  def main(argv):
    raise error

  return main


def test_a_mistake_is_one_line(capsys, monkeypatch):
  monkeypatch.delenv('LISTCOUPLING_TRACEBACK', raising=False)
  for error in (ValueError('K is 0'), FileNotFoundError('no K')):
    assert command.guard(_raises(error))(['a/toy.py']) == 1
    first = capsys.readouterr().err.splitlines()[0]
    assert first == f'toy.py: {error}'
  monkeypatch.setenv('LISTCOUPLING_TRACEBACK', '1')
  with pytest.raises(ValueError, match='K is 0'):
    command.guard(_raises(ValueError('K is 0')))(['toy.py'])


def test_a_stop_says_whether_it_can_go_on(capsys):
  stop = _raises(KeyboardInterrupt())
  assert command.guard(stop, resumes=True)(['toy.py']) == 130
  assert 'toy.py: stopped; the same command goes on' in capsys.readouterr().err
  assert command.guard(stop)(['toy.py']) == 130
  assert capsys.readouterr().err.strip() == 'toy.py: stopped.'


def test_other_errors_and_results_pass():
  with pytest.raises(TypeError):
    command.guard(_raises(TypeError('a bug')))(['toy.py'])
  assert command.guard(lambda argv: None)(['toy.py']) is None
