"""The compressor's commands and report: what is wrong is said in one line."""

import json

import numpy as np
import pytest
from absl.testing import flagsaver

from listcoupling.compression import container
from listcoupling.experiments import compress, compress_files, image_files
from scripts import compress as script
from tests.experiments import compress_fakes

R, N, L, K = 3, 16, 6, 2


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A model, images, a file of messages (all 0) and crops (all black)."""
  folder = tmp_path_factory.mktemp('files')
  compress_fakes.save_vae(folder / 'model', 0)
  np.save(folder / 'images.npy', np.zeros((R, 8, 8)))
  coded = _plan(compress.load_model(folder / 'model'))
  container.write(folder / 'coded', coded)
  image_files.write_crops(
    folder / 'crops.npz', np.zeros((R, 3, 3)), 0, coded.key_data
  )
  return folder


def _plan(model, seed=0, num_candidates=N):
  return compress.plan(
    model, (R, 8, 4), seed=seed, num_decoders=K, num_messages=L,
    num_candidates=num_candidates,
  )  # fmt: skip


def test_another_seed_does_not_compile_again(folder):
  model = compress.load_model(folder / 'model')
  plans = [_plan(model), _plan(model._replace(digest=bytes(32)), seed=1)]
  assert plans[0].key_data != plans[1].key_data
  statics = {compress._static(coded) for coded in plans}
  assert len(statics) == 1
  assert compress._static(_plan(model, num_candidates=9)) not in statics


def test_what_is_wrong_with_a_file_is_said_once(folder):
  model = compress.load_model(folder / 'model')
  coded = container.read(folder / 'coded')
  side = np.zeros((R, 3, 3))
  for change, message in (
    (dict(source='numbers'), 'holds numbers, not images'),
    (dict(labels='interval', width=1.0), 'has interval labels, images of gls'),
  ):
    with pytest.raises(container.HeaderError, match=message):
      compress.decode(model, coded._replace(**change), side, 0)


def test_a_perfect_answer_is_json(folder):
  coded = container.read(folder / 'coded')
  coded = coded._replace(indices=np.zeros(R, int))
  images = np.zeros((R, 8, 4))
  report = compress_files.quality_report(coded, coded.indices, images, images)
  assert report == {'mse': 0.0, 'psnr_db': None, 'match_rate': 1.0}
  json.dumps(report, allow_nan=False)
  assert 'None' in compress_files.as_text(report)


@pytest.mark.parametrize(
  'command, place',
  [
    ('decode --side=crops.npz --file=coded --output', 'folder.npy'),
    ('decode --side=crops.npz --file=coded --output', 'a_file/x.npy'),
    ('encode --images=images.npy --file', 'folder.npy'),
    ('encode --images=images.npy --file', 'a_file/coded'),
    ('encode --images=images.npy --crops=a_file --file', 'a_file'),
    ('inspect --file', 'folder.npy'),
  ],
)
def test_outputs_that_cannot_be_written(
  folder, tmp_path, monkeypatch, capsys, command, place
):
  (tmp_path / 'a_file').touch()
  (tmp_path / 'folder.npy').mkdir()
  monkeypatch.chdir(folder)
  command = command.replace('=a_file', f'={tmp_path}/a_file')
  arguments = [
    'compress.py', *command.split(), str(tmp_path / place), '--model=model',
    f'--num_messages={L}', f'--num_candidates={N}',
  ]  # fmt: skip
  with flagsaver.flagsaver():
    run = script.command.guard(script.main)
    assert run(script.flags.FLAGS(arguments)) == 1
  error = capsys.readouterr().err.splitlines()[-2]
  assert error.startswith('compress.py: ')
  assert str(tmp_path / place.split('/')[0]) in error
