"""Schemes through files, pictures as tiles, and where side information lies."""

import os
import pathlib
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.data import image_files
from listcoupling.data import images as image_data
from listcoupling.image_codec import bitstream, fits, transport
from listcoupling.image_codec import scheme as schemes
from tests.image_codec import fakes

ROOT = pathlib.Path(__file__).parents[2]
R, K, L, N = 20, 2, 4, 64
SCHEMES = bitstream.SCHEME_NAMES


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A workdir of all schemes, a file of each, and side information."""
  folder = tmp_path_factory.mktemp('transport')
  fakes.save_workdir(folder / 'work', 0)
  return folder


@pytest.fixture(scope='module')
def halves():
  images = image_data.load_halves('digits')['test']
  return images.left[:R], images.right[:R]


@pytest.fixture(scope='module')
def models(folder):
  options = dict(num_decoders=K, num_messages=L)
  more = {
    'gls': dict(beta=0.3),
    'gls_kmeans': dict(beta=0.3, num_groups=K),
    'list_quantiser': dict(bin_size=2),
    'lattice': dict(beta=0.3, num_groups=K),
  }
  return {
    name: fits.load_model(folder / 'work', scheme=name, **options, **more[name])
    for name in SCHEMES
  }


@pytest.fixture(scope='module')
def coded(folder, models, halves):
  """scheme -> its file; crops of the left halves beside it."""
  found = {}
  for name, trained in models.items():
    container = transport.encode(
      trained, halves[1], seed=5, num_decoders=K, num_messages=L,
      num_candidates=N if name.startswith('gls') else None,
      num_groups=1 if name == 'list_quantiser' else K, with_indices=True,
    )  # fmt: skip
    bitstream.write(folder / name, container)
    found[name] = container
  sides, _ = transport.take_crops(models['gls'], halves[0], K, seed=5)
  for k in range(K):
    known = image_files.SideInformation(sides[:, k], k, container.key_data)
    image_files.write_side(folder / f'side_{k}.npz', known)
  return found


def _sides(folder):
  return np.stack(
    [
      image_files.read_side(folder / f'side_{k}.npz', (3, 3)).side
      for k in (0, 1)
    ],
    axis=1,
  )


@pytest.mark.parametrize('name', SCHEMES)
def test_files_say_what_the_schemes_say(folder, models, coded, halves, name):
  trained, scheme = models[name], schemes.SCHEMES[name]
  container, sides = bitstream.read(folder / name), _sides(folder)
  settings = transport._settings(container)
  prepared = scheme.prepare(
    gumbel.seed_key(5), jnp.arange(R, dtype=jnp.int32), trained.model, settings,
    images=halves[1], sides=sides,
  )  # fmt: skip
  encoding = scheme.encode(trained.model, prepared, halves[1], settings)
  np.testing.assert_array_equal(container.messages, encoding.message)
  np.testing.assert_array_equal(container.indices, encoding.index)
  decoding = scheme.decode(
    trained.model, prepared, encoding.message, sides, jnp.arange(K), settings
  )
  for k in range(K):
    index, images = transport.decode(trained, container, sides[:, k], k)
    np.testing.assert_array_equal(index, decoding.index[:, k])
    fakes.assert_answers(images, decoding.images[:, k])
  found = np.asarray(decoding.index == encoding.index[:, None])
  assert len(set(container.messages.tolist())) > 1  # the message says something
  assert np.any(found) and not np.all(found)
  if name == 'list_quantiser':
    assert np.all(np.sum(found, 1) <= 1)  # each codeword has one owner
    assert container.bin_size == 2 and container.num_candidates == 16
  else:
    if name == 'lattice':
      assert np.all(np.sum(found, 1) <= 1)
      assert container.num_candidates == 8 << 4
    assert container.num_groups == K
  # The control: crops of other images are other answers.
  _, other = transport.decode(trained, container, np.roll(sides[:, 1], 1, 0), 1)
  assert np.abs(other - decoding.images[:, 1]).max() > fakes.answer_error()


_DECODE = """
import sys
import numpy as np
from listcoupling.data import image_files
from listcoupling import image_codec
folder = sys.argv[1]
for name in image_codec.SCHEMES:
  held = image_codec.read(f'{folder}/{name}')
  trained = image_codec.load_named(f'{folder}/work', held)
  known = image_files.read_side(f'{folder}/side_1.npz', (3, 3))
  index, images = image_codec.decode(trained, held, known.side, 1)
  np.savez(f'{folder}/decoded_{name}', index=index, images=images)
  # JAX solves the linear system of a lattice by the LAPACK of scipy.
  assert name == 'lattice' or 'scipy' not in sys.modules
heavy = ['PIL', 'matplotlib', 'ml_collections', 'optax', 'orbax', 'sklearn',
         'tensorboardX', 'tensorflow', 'tensorflow_datasets']
sources = 'binary distortion gaussian gaussian_baselines poisson_functional'
heavy += [f'listcoupling.compression.{x}' for x in sources.split()]
sys.exit(', '.join(x for x in heavy if x in sys.modules) or 0)
"""


_OTHER_MACHINE = {
  'JAX_ENABLE_X64': '1',
  'JAX_DEFAULT_PRNG_IMPL': 'rbg',
}


# Unlike that of the tests.
_OTHER_COMPILER = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '0', 'XLA_FLAGS': ''}


def test_another_process_decodes_under_other_settings(folder, models, coded):
  """And imports nothing that trained the networks or simulates a source."""
  done = subprocess.run(
    [sys.executable, '-c', _DECODE, folder], cwd=ROOT, check=False,
    env=os.environ | _OTHER_MACHINE | _OTHER_COMPILER, capture_output=True,
    text=True, timeout=300,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  for name, trained in models.items():
    side = _sides(folder)[:, 1]
    index, images = transport.decode(trained, coded[name], side, 1)
    with np.load(folder / f'decoded_{name}.npz') as kept:
      np.testing.assert_array_equal(kept['index'], index)
      fakes.assert_answers(kept['images'], images)


_DRAWS = """
import jax.numpy as jnp, numpy as np, sys
from listcoupling import gumbel
from listcoupling.data import side_information
from listcoupling.image_codec import scheme
key = gumbel.seed_key(3)
left = jnp.asarray(np.arange(480.).reshape(5, 12, 8), jnp.float32)
book = scheme.draw_codebook(key, jnp.arange(5, dtype=jnp.int32), 30, 2)
np.savez(
  sys.argv[1], latents=book.latents,
  crops=side_information.draw_sides(key, left, left, 2, (3, 3)),
  **{kind: scheme.draw_labels(
       book, scheme.Settings(30, 1, 6, labels=kind, width=np.float32(.5)))
     for kind in ('random', 'balanced', 'lattice')})
"""


def test_shared_bits_do_not_depend_on_the_machines_settings(tmp_path):
  paths = tmp_path / 'here.npz', tmp_path / 'there.npz'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, 'argv', ['', str(paths[0])])
    exec(_DRAWS, {})
  subprocess.run(
    [sys.executable, '-c', _DRAWS, paths[1]], cwd=ROOT, check=True,
    env=os.environ | _OTHER_MACHINE, timeout=300,
  )  # fmt: skip
  with np.load(paths[0]) as here, np.load(paths[1]) as there:
    assert len(here.files) == 5
    for name in here.files:
      np.testing.assert_array_equal(here[name], there[name], err_msg=name)


def test_files_of_another_scheme_or_model_are_refused(models, coded):
  side = np.zeros((R, 3, 3), np.float32)
  for name, trained in models.items():
    for other in set(SCHEMES) - {name}:
      with pytest.raises(bitstream.ModelError, match='made with model'):
        transport.decode(models[other], coded[name], side, 0)
      forged = coded[name]._replace(model_digest=models[other].digest)
      with pytest.raises(bitstream.ContainerError, match='the file is of'):
        transport.decode(models[other], forged, side, 0)
    forged = coded[name]._replace(shape=(R, 9, 4))
    with pytest.raises(bitstream.ContainerError, match=r'shape \(9, 4\)'):
      transport.decode(trained, forged, side, 0)


def test_a_message_that_no_candidate_carries_is_refused(models, coded):
  """Of 4 candidates some of 4 random labels are missing."""
  container = transport.encode(
    models['gls'], np.zeros((R, 8, 4)), seed=0, num_decoders=1, num_messages=4,
    num_candidates=4,
  )  # fmt: skip
  side = np.zeros((R, 3, 3))
  transport.decode(models['gls'], container, side, 0)
  shifted = container._replace(messages=(container.messages + 1) % 4)
  with pytest.raises(
    bitstream.ContainerError, match=r'messages\[\d+\] is .* no cand'
  ):
    transport.decode(models['gls'], shifted, side, 0)


@pytest.mark.parametrize(
  'name, change, message',
  [
    ('gls', dict(num_messages=N + 1), 'num_messages'),
    ('gls', dict(num_messages=0), 'num_messages'),
    ('gls', dict(num_decoders=0), 'num_decoders'),
    ('gls', dict(num_groups=3), 'num_groups'),
    ('gls', dict(labels='kmeans'), 'labels'),
    ('gls', dict(labels='lattice'), 'width'),
    ('gls', dict(width=1.0), 'width'),
    ('gls', dict(labels='lattice', width=1e-50), '1e-50'),
    ('gls', dict(labels='lattice', width=1e39), r'1e\+39'),
    (
      'gls',
      dict(labels='lattice', width=1.0, num_messages=2**16,
           num_candidates=2**17),
      'lattice labels in 4 dimensions',
    ),
    ('gls_kmeans', dict(labels='random'), 'labels must be one'),
    ('gls_kmeans', dict(shared_race=True), 'shared_race'),
    ('gls_kmeans', dict(num_messages=6), '6 messages to 2 decoders need 12'),
    ('gls_kmeans', dict(num_decoders=4), 'up to 2 decoders'),
    ('list_quantiser', dict(num_messages=6), 'multiple of 6 .* got 16'),
    ('list_quantiser', dict(num_candidates=9), 'multiple of 4 .* got 9'),
    ('list_quantiser', dict(width=1.0), 'width'),
    ('lattice', dict(num_candidates=64), '8 cosets in 4 .* be 128, got 64'),
    ('lattice', dict(num_candidates=60), 'multiple of 4 .* 2 .* got 60'),
    ('lattice', dict(num_groups=1), '4 messages to 2 decoders need 4 codew'),
    ('lattice', dict(labels='lattice'), 'labels must be one'),
    ('gls', dict(names=('a.png',)), 'names must be those'),
  ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(models, name, change, message):
  good = dict(seed=0, num_decoders=K, num_messages=L)
  if name != 'list_quantiser':
    good |= dict(num_groups=K)
  if name.startswith('gls'):
    good |= dict(num_candidates=N)
  transport.plan(models[name], (R, 8, 4), **good)
  with pytest.raises(ValueError, match=message):
    transport.plan(models[name], (R, 8, 4), **{**good, **change})


def test_bytes_are_no_pixels(models):
  images = np.full((2, 8, 4), 255, np.uint8)
  with pytest.raises(ValueError, match='got 255 to 255; divide bytes by 255'):
    transport.encode(
      models['gls'], images, seed=0, num_decoders=K, num_messages=L
    )


def test_an_image_without_a_candidate_is_named(monkeypatch, models):
  def encode(count, **fields):
    index = np.where(np.arange(count) == 4, -1, 0)
    found = types.SimpleNamespace(index=index, message=index)
    monkeypatch.setattr(transport, '_chunks', lambda *_: found)
    shape = models['gls'].model.config.source_shape
    with pytest.raises(ValueError) as refusal:
      transport.encode(
        models['gls'], np.zeros((count, *shape)), seed=0, num_decoders=K,
        num_messages=L, **fields,
      )  # fmt: skip
    return str(refusal.value)

  assert encode(6) == 'images[4] gives no candidate any weight.'

  height, width = models['gls'].model.config.source_shape
  found = encode(6, picture=(height, 6 * width), names=('a.png', 'b.png'))
  words = 'gives no candidate any weight in tile 1 of 3, from 0.'
  assert found == f'images[1] (b.png) {words}'


def test_another_seed_does_not_compile_again(models):
  def plan(**changes):
    settings = dict(seed=0, num_decoders=K, num_messages=L, num_candidates=N)
    return transport.plan(models['gls'], (R, 8, 4), **{**settings, **changes})

  plans = [plan(), plan(seed=1), plan(names=[f'{i}' for i in range(R)])]
  assert plans[0].key_data != plans[1].key_data
  assert len({transport._settings(x) for x in plans}) == 1
  assert transport._settings(plan(num_candidates=9)) != transport._settings(
    plans[0]
  )


def test_side_information_must_belong_to_the_file(coded):
  side = np.zeros((R, 3, 3))
  words = coded['gls'].key_data

  def check(decoder, *known):
    known = image_files.SideInformation(*known)
    return transport.check_decoder(coded['gls'], known, decoder, (3, 3))

  assert check(None, side, 1, words) == check(1, side) == 1
  for message, arguments in {
    'that of decoder 0, not of 1': (1, side, 0),
    r'0\.\.1, got 2': (2, side),
    'got -1': (-1, side),
    r'\(20, 3, 3\), got \(20, 3, 4\)': (0, np.zeros((R, 3, 4))),
    'decoder must be given': (None, side),
    'another key': (0, side, 0, (0, 9)),
  }.items():
    with pytest.raises(ValueError, match=message):
      check(*arguments)


def test_few_images_of_many_candidates_at_once(models):
  container = transport.plan(
    models['gls'], (R, 8, 4), seed=0, num_decoders=K, num_messages=L,
    num_candidates=2**18,
  )  # fmt: skip
  assert transport._step(container) == 4
  assert transport._step(container._replace(num_candidates=256)) == 64


SOURCE = (8, 4)
RNG = np.random.default_rng(0)


def _file_of(blocks, kind='crop'):
  """A file of these blocks, and networks that know `kind` of them."""
  model = schemes.Model(fit=fakes.random_fit(0, 4, None))
  trained = fits.make_trained('list_quantiser', model, side_kind=kind)
  container = bitstream.Container(
    'list_quantiser', (0, 1), 4, 2, 2, blocks.right.shape,
    np.zeros(len(blocks.right), int), trained.digest, labels='kmeans',
    picture=blocks.size,
  )  # fmt: skip
  bitstream.check(container)
  return trained, container


@pytest.mark.parametrize(
  'size, tiles',
  [((8, 8), 1), ((8, 9), 2), ((9, 8), 2), ((17, 20), 9), ((16, 24), 6)],
)
@pytest.mark.parametrize('colours', [(), (3,)])
def test_tiles_are_put_together_again(size, tiles, colours):
  images = RNG.uniform(size=(5, *size, *colours)).astype(np.float32)
  blocks = transport.cut(images, (*SOURCE, *colours))
  assert blocks.right.shape == (5 * tiles, *SOURCE, *colours)
  _, container = _file_of(blocks)
  assert container.num_tiles == tiles
  known = image_files.SideInformation(
    blocks.left, corners=np.zeros((5 * tiles, 2), int)
  )
  np.testing.assert_array_equal(
    transport.join(container, blocks.right, known), images
  )
  # The control: tiles of other pictures are another picture.
  turned = transport.join(container, np.roll(blocks.right, 1, 0), known)
  assert not np.array_equal(turned, images)


def test_what_tiles_lack_repeats_the_edge():
  image = RNG.uniform(size=(1, 9, 11))
  blocks = transport.cut(image, SOURCE)
  np.testing.assert_array_equal(blocks.left[1, :, :3], image[0, :8, 8:])
  edge = np.broadcast_to(image[0, :8, 10:], (8, 4))
  np.testing.assert_array_equal(blocks.right[1], edge)


def test_sources_may_be_given_as_they_are():
  right = RNG.uniform(size=(3, 8, 4))
  blocks = transport.cut(right, SOURCE)
  assert blocks.left is None and blocks.size == (0, 0)
  np.testing.assert_array_equal(blocks.right, right)
  _, container = _file_of(blocks)
  with pytest.raises(ValueError, match='whole pictures cannot be made'):
    transport.join(container, right, image_files.SideInformation(right))


@pytest.mark.parametrize(
  ('shape', 'fault'),
  [
    ((8, 7), 'too small'),
    ((7, 8), 'too small'),
    ((8, 8, 3), 'in other colours; convert them to grey'),
    ((4, 4), 'too small'),
  ],
)
def test_pictures_that_are_no_tile_are_refused_by_their_fault(shape, fault):
  with pytest.raises(ValueError) as caught:
    transport.cut(np.zeros((2, *shape)), SOURCE)
  for words in (str(shape), fault, '(8, 4)', '(8, 8)'):
    assert words in str(caught.value)


def test_trials_know_what_the_model_knows():
  blocks = transport.cut(RNG.uniform(size=(4, 8, 8)), SOURCE)
  trained, _ = _file_of(blocks)
  crops, corners = transport.take_crops(trained, blocks.left, 2, 3)
  assert crops.shape == (4, 2, 3, 3)
  assert len(np.unique(corners.reshape(-1, 2), axis=0)) > 2
  for image, row, places in zip(blocks.left, crops, corners):
    for crop, (y, x) in zip(row, places):
      np.testing.assert_array_equal(crop, image[y : y + 3, x : x + 3])
  trained, _ = _file_of(blocks, 'edge')
  _, corners = transport.take_crops(trained, blocks.left, 2, 3)
  assert np.all(corners == (0, 1))
  trained, _ = _file_of(blocks, 'noisy')
  with pytest.raises(ValueError, match="of kind 'noisy'"):
    transport.take_crops(trained, blocks.left, 2, 3)


def test_a_part_that_lies_at_one_place_is_taken_of_pictures():
  images = RNG.uniform(size=(4, 9, 8))
  blocks = transport.cut(images, SOURCE)
  trained, container = _file_of(blocks, 'edge')
  own = image_files.SideInformation(images)
  placed = transport.place_side(trained, container, own)
  np.testing.assert_array_equal(placed.side, blocks.left[:, :3, 1:])
  assert np.all(placed.corners == (0, 1))
  again = transport.place_side(
    trained, container, image_files.SideInformation(placed.side)
  )
  np.testing.assert_array_equal(again.side, placed.side)
  # A crop may lie anywhere: nothing is taken, nothing is placed.
  trained, container = _file_of(blocks)
  assert transport.place_side(trained, container, own) is own
  grey = transport.join(container, blocks.right, own)
  assert np.all(grey[:, :, :4] == 0.5)


@pytest.mark.parametrize(
  'corners',
  [[place] * 4 for place in ((6, 0), (0, 2), (-1, 0), (0, 0, 0))],
)
def test_places_outside_of_the_left_half_are_refused(corners):
  blocks = transport.cut(RNG.uniform(size=(4, 8, 8)), SOURCE)
  trained, container = _file_of(blocks)
  known = image_files.SideInformation(
    np.zeros((4, 3, 3)), corners=np.asarray(corners, int)
  )
  with pytest.raises(ValueError, match=r'4 places in \(0, 0\)..\(5, 1\)'):
    transport.place_side(trained, container, known)
  for side, places in ((known.side[:3], corners), (known.side, corners[:3])):
    few = image_files.SideInformation(side, corners=np.asarray(places, int))
    with pytest.raises(ValueError, match='must have 4 entries, .* got '):
      transport.place_side(trained, container, few)
