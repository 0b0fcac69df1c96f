"""The three schemes through files: what decoders make of them, and refusals."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.compression import container
from listcoupling.compression import images as image_codec
from listcoupling.data import images as image_data
from listcoupling.experiments import (
  compress,
  compress_files,
  image_files,
  image_schemes,
)
from tests.experiments import compress_fakes

ROOT = pathlib.Path(__file__).parents[2]
R, K, L, N = 20, 2, 4, 64
SCHEMES = container.SCHEMES


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('schemes')
  compress_fakes.save_workdir(folder / 'work', 0)
  compress_fakes.save_workdir(folder / 'other', 10)
  images = image_data.load_images('digits').test_images[:R]
  np.save(folder / 'images.npy', images)
  return folder


@pytest.fixture(scope='module')
def models(folder):
  options = dict(num_decoders=K, num_messages=L, beta=0.3)
  work = folder / 'work'
  return {
    'gls': compress.load_model(work, beta=0.3),
    'cells': compress.load_model(work, scheme='cells', **options),
    'list_quantiser': compress.load_model(
      work, scheme='list_quantiser', **{**options, 'beta': None}
    ),
  }


def _values(folder, scheme, **changes):
  values = dict(
    model=folder / 'work', images=folder / 'images.npy',
    file=folder / f'{scheme}.lcz', crops=folder / f'crops_{scheme}',
    side=folder / f'crops_{scheme}' / 'decoder_1.npz',
    output=folder / 'never.npy', decoder=None, num_decoders=K, num_messages=L,
    num_candidates=None, seed=5, labels=None, width=0.0, shared_race=False,
    indices=True, scheme=scheme,
    beta=None if scheme == 'list_quantiser' else 0.3,
  )  # fmt: skip
  return {**values, **changes}


@pytest.fixture(scope='module')
def reports(folder):
  """What encode said; files and crops are in `folder`."""
  return {s: compress_files.encode(_values(folder, s)) for s in SCHEMES}


def _direct(model, coded, sides, right):
  """`image_schemes.Sent` from the candidates and races of a file."""
  if coded.scheme == 'list_quantiser':
    return image_schemes.send_list(model.refined, sides, right, K)
  key = jax.random.wrap_key_data(jnp.array(coded.key_data, jnp.uint32))
  books = jax.vmap(
    lambda row: image_codec.make_codebook(
      jax.random.fold_in(key, row), coded.num_candidates, L, 4
    )
  )(jnp.arange(R))
  nets, params = model.networks, model.params
  weights = jax.vmap(
    lambda x, u: image_codec.encoder_log_weights(params, x, u, nets)
  )(right, books.latents)
  odds = jnp.stack(
    [nets.estimate(params, books.latents, sides[:, k]) for k in range(K)], 1
  )
  trials = image_codec.Trials(
    books.race_key, None, books.latents, weights, odds, sides
  )
  if coded.scheme == 'cells':
    return image_schemes.send_cells(model.refined, trials, right, K, L)
  sent = image_codec.transmit(trials, books.labels, num_decoders=K)
  images = image_codec.reconstruct(params, trials, sent.index, networks=nets)
  return image_schemes.Sent(images, None, np.asarray(sent.found), None)


@pytest.mark.parametrize('scheme', SCHEMES)
def test_files_say_what_the_schemes_say(folder, models, reports, scheme):
  model = models[scheme]
  coded = container.read(folder / f'{scheme}.lcz', model_digest=model.digest)
  assert coded.scheme == scheme == reports[scheme]['scheme']
  images = image_files.read_images(folder / 'images.npy')
  left, right = compress.split_source(images, model.config)
  sides = compress.take_crops(model, left, K, 5)
  sent = _direct(model, coded, jnp.asarray(sides), jnp.asarray(right))
  found = []
  for k in range(K):
    kept = image_files.read_crops(
      folder / f'crops_{scheme}' / f'decoder_{k}.npz', (3, 3)
    )
    np.testing.assert_array_equal(kept.side, sides[:, k])
    index, answer = compress.decode(model, coded, kept.side, k)
    np.testing.assert_allclose(answer, sent.images[:, k], atol=1e-5)
    np.testing.assert_array_equal(index == coded.indices, sent.found[:, k])
    found.append(index == coded.indices)
  assert len(set(coded.messages.tolist())) > 1  # the message says something
  assert np.any(found) and not np.all(found)
  if scheme == 'list_quantiser':
    assert np.all(np.sum(found, 0) == 1)  # each codeword has one owner
  # The control: crops of other images are other answers.
  _, other = compress.decode(model, coded, np.roll(sides[:, 1], 1, 0), 1)
  assert np.abs(other - sent.images[:, 1]).max() > 1e-3


@pytest.mark.parametrize('scheme', SCHEMES)
def test_reports_count_every_byte(folder, reports, scheme):
  size = (folder / f'{scheme}.lcz').stat().st_size
  count = {'gls': 256, 'cells': N, 'list_quantiser': L * K}[scheme]
  assert reports[scheme]['num_candidates'] == count
  indices = -(-R * (count - 1).bit_length() // 8)  # all are powers of two
  assert size == reports[scheme]['overhead_bytes'] + R * 2 // 8 + indices
  inspected = compress_files.inspect({'file': folder / f'{scheme}.lcz'})
  assert inspected == reports[scheme]
  assert inspected['bits_per_pixel'] == 2 / 32
  assert scheme in compress_files.as_text(inspected).splitlines()[0]


def test_another_process_decodes(folder, models, reports):
  done = subprocess.run(
    [
      sys.executable, 'scripts/compress.py', 'decode',
      f'--model={folder / "work"}', f'--file={folder / "cells.lcz"}',
      f'--side={folder / "crops_cells" / "decoder_1.npz"}',
      f'--output={folder / "decoded.npy"}',
      f'--images={folder / "images.npy"}', '--format=json',
    ],
    cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  report = json.loads(done.stdout)
  coded = container.read(folder / 'cells.lcz')
  crops = image_files.read_crops(
    folder / 'crops_cells' / 'decoder_1.npz', (3, 3)
  )
  index, images = compress.decode(models['cells'], coded, crops.side, 1)
  np.testing.assert_allclose(np.load(folder / 'decoded.npy'), images, atol=1e-6)
  source = np.load(folder / 'images.npy')[:, :, 4:]
  assert report['mse'] == pytest.approx(np.mean((images - source) ** 2))
  assert report['match_rate'] == np.mean(index == coded.indices)


def test_another_scheme_or_fit_is_refused(folder, models, reports):
  digests = {model.digest for model in models.values()}
  assert len(digests) == 3
  side = np.zeros((R, 3, 3), np.float32)
  for scheme, model in models.items():
    coded = container.read(folder / f'{scheme}.lcz')
    for other in set(SCHEMES) - {scheme}:
      with pytest.raises(container.ModelError, match='made with model'):
        compress.decode(models[other], coded, side, 0)
      forged = coded._replace(model_digest=models[other].digest)
      with pytest.raises(container.HeaderError, match='labels|of'):
        compress.decode(models[other], forged, side, 0)
    if model.refined:
      arrays = jax.tree.leaves(model.refined)
      changed = jax.tree.unflatten(
        jax.tree.structure(model.refined),
        [*arrays[:-1], arrays[-1] + np.float32(1e-6)],
      )
      other = compress.make_list_model(changed)
      if scheme == 'cells':
        other = compress.make_cells_model(models['gls'], changed)
      with pytest.raises(container.ModelError, match='made with model'):
        compress.decode(other, coded, side, 0)


@pytest.mark.parametrize('scheme', SCHEMES)
def test_another_workdir_is_refused(folder, reports, tmp_path, scheme):
  values = _values(
    folder, scheme, model=folder / 'other', output=tmp_path / 'x.npy'
  )
  with pytest.raises(container.ModelError, match='has [0-9a-f]{12}'):
    compress_files.decode(values)
  assert not (tmp_path / 'x.npy').exists()


@pytest.mark.parametrize(
  'scheme, change, message',
  [
    ('cells', dict(num_messages=5), r'5 messages; there are fits for \[4, 6\]'),
    ('cells', dict(num_decoders=3), r'3 decoders; there are fits for \[1, 2\]'),
    ('cells', dict(num_messages=6, beta=1.0), r'\[0.3\], got 1.0'),
    ('list_quantiser', dict(num_messages=5), r'5 messages; .* \[4, 6\]'),
    # There is a list of 12 cells, but it is of 6 messages to 2 decoders.
    ('list_quantiser', dict(num_messages=12, num_decoders=1), '12 messages; '),
    (
      'list_quantiser',
      dict(num_messages=4, num_decoders=1),
      r'list_4\.saf.*of \[8, 12\] cells',
    ),
    ('list_quantiser', dict(num_messages=12, num_decoders=3), '3 decoders'),
    ('list_quantiser', dict(beta=0.3), 'none, got 0.3'),
    ('gls', dict(beta=None), r'\[0.3, 1.0\], got None'),
    ('gls', dict(beta=0.5), r'\[0.3, 1.0\], got 0.5'),
    ('vq', {}, 'scheme must be one of'),
    ('cells', dict(labels='random'), 'labels of cells'),
    ('cells', dict(shared_race=True), 'shared_race'),
    ('list_quantiser', dict(num_candidates=9), '8, got 9'),
    ('list_quantiser', dict(width=1.0), 'width'),
    ('gls', dict(labels='lattice', width=1e-50), '1e-50'),
    ('gls', dict(labels='lattice', width=1e39), r'1e\+39'),
    ('gls', dict(file=pathlib.Path()), 'is a folder; --file'),
  ],
)
def test_what_is_not_there_is_named(folder, tmp_path, scheme, change, message):
  values = _values(folder, scheme, file=tmp_path / 'coded', crops=None)
  with pytest.raises((FileNotFoundError, ValueError), match=message):
    compress_files.encode({**values, **change})
  assert not list(tmp_path.iterdir())


def test_fits_for_other_numbers_are_refused(models):
  fit = dict(seed=0, num_decoders=K, num_messages=6)
  for scheme in ('cells', 'list_quantiser'):
    with pytest.raises(ValueError, match='6 messages to 2 decoders need'):
      compress.plan(models[scheme], (R, 8, 4), **fit)
  with pytest.raises(ValueError, match='up to 2 decoders'):
    compress.plan(
      models['cells'], (R, 8, 4), seed=0, num_decoders=3, num_messages=L
    )
  with pytest.raises(ValueError, match='classifier'):
    compress.make_cells_model(models['gls'], models['list_quantiser'].refined)
