"""Fits on disk: round trips, and what is refused."""

import os

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from listcoupling.models import refiner_files
from tests.experiments import compress_fakes


@pytest.fixture(scope='module', params=[False, True])
def fit(request):
  return compress_fakes.random_fit(0, 6, request.param)


def _same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_round_trip(tmp_path, fit):
  path = refiner_files.list_path(tmp_path, 6)
  refiner_files.write(path, fit)
  read = refiner_files.read(path, fit.config)
  _same(read, fit)
  assert read.config == fit.config
  assert [p.name for p in path.parent.iterdir()] == ['list_6.safetensors']
  name = refiner_files.cells_path(tmp_path, 16, 2.0).name
  assert name == 'cells_16_beta_2.safetensors'


def test_files_without_a_digest_are_refused(tmp_path, fit):
  path = tmp_path / 'fit.safetensors'
  refiner_files.write(path, fit)
  safetensors.save_file(safetensors.load_file(path), path)
  with pytest.raises(ValueError, match='fit.safetensors is damaged'):
    refiner_files.read(path, fit.config)


def test_every_damage_is_refused_by_name(tmp_path, fit):
  path = tmp_path / 'fit.safetensors'
  refiner_files.write(path, fit)
  good, rng = path.read_bytes(), np.random.default_rng(0)
  refused = 0
  for place in rng.integers(len(good), size=100):
    flipped = bytearray(good)
    flipped[place] ^= 1 << int(rng.integers(8))
    for bad in (bytes(flipped), good[:place], good + b'\0' * 8):
      path.write_bytes(bad)
      with pytest.raises(ValueError, match='fit.safetensors is damaged'):
        refiner_files.read(path, fit.config)
      refused += 1
  assert refused == 300
  path.write_bytes(good)
  refiner_files.read(path, fit.config)  # the control
  with pytest.raises(FileNotFoundError, match='nowhere'):
    refiner_files.read(tmp_path / 'nowhere', fit.config)


def test_files_of_another_kind_or_size_are_refused(tmp_path, fit):
  path = tmp_path / 'fit.safetensors'
  refiner_files.write(path, fit)
  flat = safetensors.load_file(path)

  def refused(changed, message):
    safetensors.save_file(changed, path)
    with pytest.raises(ValueError, match=message) as caught:
      refiner_files.read(path, fit.config)
    assert str(path) in str(caught.value)

  refused({'w': np.zeros(3, np.float32)}, 'codewords')
  refused({**flat, 'refiner/more': np.zeros(3, np.float32)}, 'refiner/more')
  refused({k: v for k, v in flat.items() if 'table' not in k}, 'table')
  for words in (np.zeros((6, 31)), np.zeros((13, 32)), np.zeros(32)):
    refused({**flat, 'codewords': words.astype(np.float32)}, 'at most 12 of 32')
  table = flat['refiner/table']
  refused({**flat, 'refiner/table': table[:, 1:].copy()}, 'asks for')
  refused({**flat, 'refiner/table': table.astype(np.float64)}, 'float32')
  refused({**flat, 'refiner/table': table * np.nan}, 'finite')


def test_fits_of_other_sizes_are_not_written(tmp_path, fit):
  path = tmp_path / 'fit.safetensors'
  with pytest.raises(ValueError, match='codewords'):
    refiner_files.write(path, fit._replace(codewords=np.zeros((2, 3))))
  with pytest.raises(ValueError, match='tensors'):
    refiner_files.write(path, fit._replace(params={'table': np.zeros(3)}))
  assert not list(tmp_path.iterdir())


def test_files_are_replaced_whole(tmp_path, fit, monkeypatch):
  path = tmp_path / 'fit.safetensors'
  refiner_files.write(path, fit)

  def fail(*_):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    refiner_files.write(path, fit._replace(codewords=fit.codewords * 0))
  assert [p.name for p in tmp_path.iterdir()] == ['fit.safetensors']
  _same(refiner_files.read(path, fit.config), fit)


def test_settings_that_lack_something_are_named():
  settings = compress_fakes.settings()
  assert refiner_files.config_of(settings).num_cells == compress_fakes.CELLS
  for name in ('train', 'refine', 'num_decoders', 'most_messages'):
    part = {k: v for k, v in settings.items() if k != name}
    with pytest.raises(ValueError, match=name):
      refiner_files.config_of(part)
