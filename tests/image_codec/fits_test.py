"""Networks of the codec read from folders: which, and what is refused."""

import itertools
import shutil

import jax
import numpy as np
import pytest

from listcoupling import files
from listcoupling.image_codec import bitstream, fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.models import vae
from tests.image_codec import fakes

OPTIONS = dict(scheme='gls_kmeans', num_decoders=2, num_messages=4)


@pytest.fixture(scope='module')
def work(tmp_path_factory):
  work = tmp_path_factory.mktemp('folders') / 'work'
  fakes.save_workdir(work, 0)
  return work


@pytest.fixture
def copy(work, tmp_path):
  shutil.copytree(work, tmp_path / 'copy')
  return tmp_path / 'copy'


def _same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_networks_are_those_that_were_saved(work):
  found = [fits.load_model(work, beta=b) for b in (0.3, 1.0)]
  assert found[0].digest != found[1].digest
  _same(found[0].model.params, jax.tree.map(np.asarray, fakes.random_vae(0)))
  assert found[0].model.networks is vae.networks(fakes.SIZES)
  assert fits.load_model(work / 'model_beta_0.3').digest == found[0].digest
  read = fits.load_model(work, **{**OPTIONS, 'scheme': 'list_quantiser'})
  _same(read.model.fit, fakes.random_fit(8, 8, None))
  assert read.model.networks is None and read.num_candidates == 8
  options = {**OPTIONS, 'scheme': 'list_quantiser', 'bin_size': 2}
  read = fits.load_model(work, **options)
  _same(read.model.fit, fakes.random_fit(2, 16, 'sides'))
  read = fits.load_model(work, num_groups=2, **OPTIONS)
  _same(read.model.fit, fakes.random_fit(1, 8))
  options = {**OPTIONS, 'scheme': 'lattice', 'num_groups': 2}
  read = fits.load_model(work, **options)
  _same(read.model.fit, fakes.random_fit(3, 8, 'lattice'))
  assert read.num_candidates == 8 << 4
  read = fits.load_model(work, beta=1.0, **OPTIONS)
  _same(read.model.fit, fakes.random_fit(4, 4))
  assert read.num_candidates == 64


def test_a_digest_covers_all_that_a_decoder_uses():
  model = fakes.random_model(0, 12)
  found = {fits.make_trained('gls_kmeans', model).digest}
  leaves, tree = jax.tree.flatten(model)
  for i, leaf in enumerate(leaves):
    changed = [
      *leaves[:i],
      np.asarray(leaf) + np.float32(0.1),
      *leaves[i + 1 :],
    ]
    changed = jax.tree.unflatten(tree, changed)
    found.add(fits.make_trained('gls_kmeans', changed).digest)
  found.add(fits.make_trained('gls', model._replace(fit=None)).digest)
  found.add(
    fits.make_trained('list_quantiser', schemes.Model(fit=model.fit)).digest
  )
  assert len(found) == len(leaves) + 3


def test_fits_of_other_codes_lie_in_other_files():
  sizes = itertools.product((1, 2, 4), (1, 2, 4), (None, 0.3, 1.0))
  paths = [
    fits.fit_path('a', 'gls_kmeans', 16, beta, num_groups=g, bin_size=m)
    for g, m, beta in sizes
  ]
  assert len(set(paths)) == len(paths) == 27


def test_networks_that_do_not_belong_together_are_refused():
  model = fakes.random_model(0, 12)
  bare = model.fit._replace(classifier=None)
  for scheme in ('gls_kmeans', 'lattice'):
    with pytest.raises(ValueError, match=f'{scheme} needs .* classifier'):
      fits.make_trained(scheme, model._replace(fit=bare))
  sizes = vae.VAEConfig((8, 4), (3, 2), kind='dense')
  other = model._replace(networks=vae.networks(sizes))
  with pytest.raises(
    ValueError, match=r'side_shape \(3, 2\), its fit \(3, 3\)'
  ):
    fits.make_trained('gls_kmeans', other)


def test_the_digest_of_a_file_chooses(work):
  for beta in (0.3, 1.0):
    trained = fits.load_model(work, beta=beta, **OPTIONS)
    container = bitstream.Container(
      'gls_kmeans', (0, 1), 64, 2, 4, (1, 8, 4), np.zeros(1, int),
      trained.digest, labels='kmeans',
    )  # fmt: skip
    named = fits.load_named(work, container)
    assert named.digest == trained.digest
    _same(named.model, trained.model)
  with pytest.raises(bitstream.ModelError, match='000000, .* has .*, '):
    fits.load_named(work, container._replace(model_digest=bytes(32)))


def test_the_evaluation_chooses_among_betas(copy):
  first = fits.load_model(copy, beta=0.3, **OPTIONS)
  for beta, is_first in ((0.3, True), (1.0, False)):
    fakes.save_choice(
      copy, 'gls_kmeans', [[[*OPTIONS.values(), 1], [beta, 32, 1]]]
    )
    trained = fits.load_model(copy, **OPTIONS)
    assert (trained.digest == first.digest) == is_first
    assert trained.num_candidates == 64  # of the fit
  shutil.rmtree(copy / 'choice')
  with pytest.raises(ValueError, match='got None'):
    fits.load_model(copy, **OPTIONS)
  # Only one VAE has a fit of 6: nothing is to choose.
  fits.load_model(copy, **{**OPTIONS, 'num_messages': 6})
  with pytest.raises(FileNotFoundError, match='evaluate_compression'):
    fits.load_model(copy / 'model_beta_1', **OPTIONS)


def test_what_a_folder_holds_is_told_with_what_adds_the_rest(copy):
  for path in copy.glob('model*'):
    shutil.rmtree(path)
  with pytest.raises(FileNotFoundError) as told:
    fits.load_model(copy, **OPTIONS)
  words = str(told.value)
  assert 'holds no vae.safetensors, the VAE' in words
  for name, scheme, flags in (
    ('list_quantiser_8.safe', 'list_quantiser', 'decoders 2 --num_messages 4'),
    ('list_quantiser_16_bins_of_2', '', 'decoders 2 --num_messages 4'),
    ('gls_kmeans_8_groups_2_beta', 'gls_kmeans', '--num_messages 4'),
  ):
    part = words[words.index(name) :].split(')')[0]
    assert scheme in part and flags in part
  adds = f'train_vae.py --workdir {copy} --scheme gls_kmeans --num_decoders 2'
  assert f'{adds} --num_messages 4, with the same --config, adds' in words
  with pytest.raises(FileNotFoundError, match='r --num_decoders 2 --num_mess'):
    fits.load_model(
      copy, scheme='list_quantiser', num_decoders=2, num_messages=64
    )


def test_the_evaluation_chooses_the_size_of_a_bin(copy):
  job = {**OPTIONS, 'scheme': 'list_quantiser'}
  assert fits.load_model(copy, **job).num_candidates == 8
  kept = [[[*job.values(), 1], [None, 1, 2]]]
  fakes.save_choice(copy, 'list_quantiser', kept)
  assert fits.load_model(copy, **job).num_candidates == 16
  assert fits.load_model(copy, bin_size=1, **job).num_candidates == 8


def test_beta_and_candidates_are_chosen_together(copy):
  job = {**OPTIONS, 'scheme': 'gls'}
  chosen = [
    [['gls', 2, 4, 1], [1.0, 512, 1]],
    [['gls', 2, 6, 1], [0.3, 128, 1]],
  ]
  fakes.save_choice(copy, 'gls', chosen)
  by_beta = {b: fits.load_model(copy, beta=b) for b in (0.3, 1.0)}
  for count, (_, (beta, candidates, _)) in zip((4, 6), chosen):
    trained = fits.load_model(copy, **{**job, 'num_messages': count})
    assert trained.digest == by_beta[beta].digest
    assert trained.num_candidates == candidates
    assert by_beta[beta].num_candidates == 256  # named, not chosen
  shutil.rmtree(copy / 'model_beta_0.3')  # one VAE: N is chosen all the same
  assert fits.load_model(copy, **job).num_candidates == 512
  path = copy / 'choice' / 'gls.json'
  for damage in ('{"chosen": [[["gls", 2', '{}', '[]', '{"chosen": [3]}'):
    path.write_text(damage)
    with pytest.raises(ValueError, match='gls.json is damaged'):
      fits.load_model(copy, **job)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_messages=5), r'gls_kmeans_5_beta_0.3.*holds .*gls_kmeans_4_beta'),
    (
      dict(num_decoders=3, beta=0.3),
      r'is a fit for \[1, 2\] decoders, not for 3',
    ),
    (dict(num_messages=6, beta=1.0), r'\[0.3\], got 1.0'),
    (dict(scheme='list_quantiser', num_messages=5), 'list_quantiser_10'),
    # There is a list of 12 codewords, but it is of 6 messages to 2 decoders.
    (
      dict(scheme='list_quantiser', num_messages=12, num_decoders=1),
      r'list_quantiser_12.* for \[2\] decoders, not for 1',
    ),
    (dict(scheme='list_quantiser', beta=0.3), 'none, got 0.3'),
    (dict(scheme='list_quantiser', bin_size=4), 'list_quantiser_32_bins_of_4'),
    (dict(scheme='list_quantiser', num_groups=2), 'num_groups .* 1, got 2'),
    (dict(num_groups=3), 'num_groups must divide num_decoders = 2, got 3'),
    (dict(num_groups=2, num_messages=3), 'gls_kmeans_6_groups_2_beta_0.3'),
    (dict(bin_size=2), 'bin_size of gls_kmeans must be 1, got 2'),
    (dict(num_decoders=None), 'num_decoders must be given for gls_kmeans'),
    (
      dict(scheme='list_quantiser', num_messages=None),
      'num_messages must be given for list_quantiser.* got None',
    ),
    (
      dict(scheme='lattice', num_decoders=None, num_messages=None),
      'num_decoders must be given for lattice',
    ),
    (dict(scheme='gls'), r'\[0.3, 1.0\], got None'),
    (dict(scheme='gls', beta=0.5), r'\[0.3, 1.0\], got 0.5'),
    (dict(scheme='vq'), 'scheme must be one of'),
  ],
)
def test_what_is_not_there_is_named(work, change, message):
  with pytest.raises((FileNotFoundError, ValueError), match=message):
    fits.load_model(work, **{**OPTIONS, **change})


def test_a_training_that_was_stopped_is_no_model(tmp_path):
  (tmp_path / 'model').mkdir()
  files.write_json(tmp_path / 'model' / 'train_config.json', {})
  with pytest.raises(FileNotFoundError, match='training that was stopped'):
    fits.load_model(tmp_path)


def _damages(good, rng):
  """A bit flipped, the end cut off, something added."""
  place = int(rng.integers(len(good)))
  flipped = bytearray(good)
  flipped[place] ^= 1 << int(rng.integers(8))
  return bytes(flipped), good[:place], good + b'\0' * 8


@pytest.mark.parametrize(
  'name',
  [
    'list_quantiser_8', 'gls_kmeans_4_beta_0.3', 'lattice_8_groups_2_beta_0.3',
  ],
)  # fmt: skip
def test_every_damage_is_refused_by_name(copy, name):
  path = copy / 'fits' / f'{name}.safetensors'
  good, rng = path.read_bytes(), np.random.default_rng(0)
  for _ in range(50):
    for bad in _damages(good, rng):
      path.write_bytes(bad)
      with pytest.raises(ValueError, match=f'{name}.safetensors is damaged'):
        fits.read_fit(path)
  path.write_bytes(good)
  fits.read_fit(path)  # the control


def test_files_of_another_kind_are_refused(copy):
  folder = copy / 'model_beta_1'
  shutil.copy(copy / 'fits' / 'list_quantiser_8.safetensors', folder / vae.FILE)
  with pytest.raises(ValueError, match=r'vae\.safetensors does not hold a VAE'):
    fits.load_model(folder)
  with pytest.raises(ValueError, match='does not hold a fit'):
    fits.read_fit(copy / 'model_beta_0.3' / vae.FILE)
  (folder / vae.FILE).write_bytes(b'nothing')
  with pytest.raises(ValueError, match=r'vae\.safetensors is damaged'):
    fits.load_model(folder)
