"""Models of the compressor read from folders: which, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from listcoupling.compression import container
from listcoupling.experiments import compress, compress_folders
from tests.experiments import compress_fakes

OPTIONS = dict(scheme='cells', num_decoders=2, num_messages=4)


@pytest.fixture(scope='module')
def work(tmp_path_factory):
  work = tmp_path_factory.mktemp('folders') / 'work'
  compress_fakes.save_workdir(work, 0)
  return work


def test_parameters_are_those_of_the_checkpoint(work):
  models = [compress_folders.load_model(work, beta=b) for b in (0.3, 1.0)]
  assert models[0].digest != models[1].digest
  folder = work / 'model_beta_0.3'
  assert compress_folders.load_model(folder).digest == models[0].digest
  fit = compress_fakes.random_fit(8, 8, False)
  read = compress_folders.load_model(
    work, **{**OPTIONS, 'scheme': 'list_quantiser'}
  )
  jax.tree.map(np.testing.assert_array_equal, read.refined, fit)
  assert read.networks is None and read.num_candidates == 8


def test_the_digest_of_a_file_chooses(work):
  for beta in (0.3, 1.0):
    model = compress_folders.load_model(work, beta=beta, **OPTIONS)
    coded = container.Coded(
      (0, 1), 64, 2, 4, (1, 8, 4), np.zeros(1, int), model.digest, 'images',
      'cells', scheme='cells',
    )  # fmt: skip
    named = compress_folders.load_named(work, coded)
    assert named.digest == model.digest
    jax.tree.map(np.testing.assert_array_equal, named.params, model.params)
  with pytest.raises(container.ModelError, match='000000, .* has .*, '):
    compress_folders.load_named(work, coded._replace(model_digest=bytes(32)))


def test_the_evaluation_chooses_among_betas(work):
  choice = work / 'choice' / 'cells.json'
  choice.parent.mkdir()
  first = compress_folders.load_model(work, beta=0.3, **OPTIONS)
  for beta, is_first in ((0.3, True), (1.0, False)):
    kept = {'chosen': [[list(OPTIONS.values()), [beta, 32]]]}
    choice.write_text(json.dumps(kept))
    model = compress_folders.load_model(work, **OPTIONS)
    assert (model.digest == first.digest) == is_first
    assert model.num_candidates == 64  # of the fit
  choice.unlink()
  with pytest.raises(ValueError, match='got None'):
    compress_folders.load_model(work, **OPTIONS)
  # Only one VAE has a fit of 6: nothing is to choose.
  compress_folders.load_model(work, **{**OPTIONS, 'num_messages': 6})
  with pytest.raises(FileNotFoundError, match='refined/config.json'):
    compress_folders.load_model(work / 'model_beta_1', **OPTIONS)


def test_beta_and_candidates_are_chosen_together(work, tmp_path):
  copy, job = tmp_path / 'work', {**OPTIONS, 'scheme': 'gls'}
  shutil.copytree(work, copy)
  path = copy / 'choice' / 'gls.json'
  path.parent.mkdir(exist_ok=True)
  chosen = [[['gls', 2, 4], [1.0, 512]], [['gls', 2, 6], [0.3, 128]]]
  path.write_text(json.dumps({'chosen': chosen}))
  by_beta = {b: compress_folders.load_model(copy, beta=b) for b in (0.3, 1.0)}
  for count, (_, (beta, candidates)) in zip((4, 6), chosen):
    model = compress_folders.load_model(copy, **{**job, 'num_messages': count})
    assert model.digest == by_beta[beta].digest
    assert model.num_candidates == candidates
    shape = (1, 8, 4)
    plan = dict(seed=0, num_decoders=2, num_messages=count)
    assert compress.plan(model, shape, **plan).num_candidates == candidates
    given = compress.plan(model, shape, **plan, num_candidates=16)
    assert given.num_candidates == 16
    assert by_beta[beta].num_candidates == 256  # named, not chosen
  shutil.rmtree(copy / 'model_beta_0.3')  # one VAE: N is chosen all the same
  assert compress_folders.load_model(copy, **job).num_candidates == 512
  for damage in ('{"chosen": [[["gls", 2', '{}', '[]', '{"chosen": [3]}'):
    path.write_text(damage)
    with pytest.raises(ValueError, match='gls.json is damaged'):
      compress_folders.load_model(copy, **job)


def test_a_training_that_was_stopped_is_no_model(tmp_path):
  compress_fakes.save_vae(tmp_path / 'model', 0, step=40)
  with pytest.raises(FileNotFoundError, match='at step 40, 2500 are needed'):
    compress_folders.load_model(tmp_path)


def test_settings_of_another_kind_are_named(tmp_path):
  path = tmp_path / 'train_config.json'
  for text in ('{"steps": 3}', '{"beta": 1, "model": {}}', '[]', 'null', '{'):
    path.write_text(text)
    with pytest.raises(ValueError, match='train_config.json is damaged') as e:
      compress_folders.load_model(tmp_path)
    assert '\n' not in str(e.value)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'num_messages': None}, 'no list num_messages: fits of an earlier'),
    ({'num_messages': [6]}, r'4 messages; there are fits for \[6\]'),
    ({'refine': {'hidden_size': 8}}, "damaged: KeyError.'num_candidates'"),
  ],
)
def test_fits_of_other_settings_are_named(work, tmp_path, change, message):
  copy = tmp_path / 'work'
  shutil.copytree(work, copy)
  settings = {**compress_fakes.settings(), **change}
  settings = {k: v for k, v in settings.items() if v is not None}
  (copy / 'refined' / 'config.json').write_text(json.dumps(settings))
  for scheme in ('cells', 'list_quantiser'):
    options = {**OPTIONS, 'scheme': scheme}
    with pytest.raises((FileNotFoundError, ValueError), match=message):
      compress_folders.load_model(copy, **options)


def test_fits_that_are_still_missing_are_named(work, tmp_path):
  copy = tmp_path / 'work'
  shutil.copytree(work, copy)
  for path in copy.glob('refined/cells_4_*'):
    path.unlink()
  message = r'cells_4_beta_1\.saf.*, for cells of 4 .* fits of \[6\] messages'
  with pytest.raises(FileNotFoundError, match=message):
    compress_folders.load_model(copy, **OPTIONS)


@pytest.mark.parametrize('name', ['list_8', 'cells_4_beta_0.3', 'config'])
def test_a_damaged_fit_is_named(work, tmp_path, name):
  copy = tmp_path / 'work'
  shutil.copytree(work, copy)
  path = next((copy / 'refined').glob(f'{name}.*'))
  path.write_bytes(path.read_bytes()[:-20])
  options = {**OPTIONS, 'scheme': 'list_quantiser'}
  if name.startswith('cells'):
    options = {**OPTIONS, 'beta': 0.3}
  with pytest.raises(ValueError, match=f'{path.name} is damaged'):
    compress_folders.load_model(copy, **options)
