"""A folder belongs to one run and, at a time, to one process."""

import multiprocessing
import pathlib

import pytest

from configs import vae_digits
from listcoupling import workdirs
from listcoupling.image_codec import fits
from listcoupling.training import image_fits, language_model, vae
from tests.training import tiny_text


@pytest.mark.parametrize('given', [None, '', 5, 'FILE', 'FILE/within'])
def test_a_workdir_is_a_folder_that_was_named(tmp_path, given):
  (tmp_path / 'FILE').touch()
  if given and isinstance(given, str):
    given = tmp_path / given
  wanted = tmp_path / 'FILE' if isinstance(given, pathlib.Path) else given
  with pytest.raises(ValueError, match=f'{wanted}.*workdir|workdir.*{wanted}'):
    workdirs.as_folder(given)
  assert (
    workdirs.as_folder(tmp_path / 'new' / 'one') == tmp_path / 'new' / 'one'
  )


def _hold(folder, gate, answers):
  gate.wait()
  try:
    with workdirs.held(folder):
      answers.put('taken')
      gate.wait()  # until both have tried
  except ValueError as error:
    answers.put(str(error))
    gate.wait()


def test_two_at_once_do_not_both_take_a_folder(tmp_path):
  context = multiprocessing.get_context('spawn')
  gate, answers = context.Barrier(2), context.Queue()
  runs = [
    context.Process(target=_hold, args=(tmp_path, gate, answers))
    for _ in range(2)
  ]
  for run in runs:
    run.start()
  first, second = sorted((answers.get(timeout=60) for _ in runs), key=len)
  for run in runs:
    run.join()
  assert first == 'taken' and 'in use by another process' in second
  with workdirs.held(tmp_path):  # free again
    pass


def test_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path):
  folder = tmp_path / 'new' / 'run'
  with pytest.raises(RuntimeError):
    with workdirs.held(folder):
      raise RuntimeError
  assert not list(tmp_path.iterdir())
  with workdirs.held(folder):
    (folder / 'row').touch()
  assert [x.name for x in folder.iterdir()] == ['row']


def _digits(folder):
  del folder
  return vae_digits.get_config().train


def _fit(config, folder):
  del config
  sizes = fits.CodecSizes('list_quantiser', 2, 4)
  image_fits.fit_codec(vae_digits.get_config(), folder, sizes)


def _words(folder):
  return tiny_text.small_config(tiny_text.write_text(folder / 'text.txt'))


@pytest.mark.parametrize(
  'train, config_of',
  [
    (vae.train, _digits),
    (_fit, _digits),
    (language_model.train_and_evaluate, _words),
  ],
)
def test_no_training_joins_another_run(tmp_path, train, config_of):
  config, run = config_of(tmp_path), tmp_path / 'run'
  with workdirs.held(run):
    with pytest.raises(ValueError, match='run is in use by another process'):
      train(config, run)
    assert [x.name for x in run.iterdir()] == ['.lock']


def test_a_refusal_names_a_few_of_many_settings(tmp_path):
  kept, wanted = {f'a{i}': 0 for i in range(12)}, {'a0': 0}
  with pytest.raises(ValueError, match=r'a6 \(was 0\) and 3 more; resume'):
    workdirs.check_settings(tmp_path, kept, wanted)
