"""The image table: every row, files, pictures, resuming, refusals."""

import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import colors

from configs import vae_digits
from listcoupling import files, gumbel, tables
from listcoupling.data import images as image_data
from listcoupling.experiments import images, plots
from listcoupling.image_codec import bitstream, fits, transport
from listcoupling.image_codec import scheme as schemes
from listcoupling.models import vae
from listcoupling.training import image_fits
from tests import floats, statistics

K = 2


def _config(**changes):
  config = vae_digits.get_config()
  config.train.model.hidden_size = 16
  config.train.model.side_features = 8
  config.train.model.estimator_size = 8
  config.train.steps = 40
  config.train.steps_per_call = 40
  config.train.num_negatives = 4
  config.train.num_held_out = 20
  config.num_decoders = (1, 2)
  config.num_messages = (4,)
  config.num_groups = (1, 2)
  config.bin_sizes = (1, 2)
  config.num_candidates = (16, 32)
  config.num_images = 12
  config.num_held_out_images = 12
  config.num_repeats = 2
  config.refine.update(
    num_images=48, num_kmeans=200, num_candidates=32, steps=5,
    classifier_steps=5, batch_size=8, hidden_size=8,
  )  # fmt: skip
  config.update(changes)
  return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('images')
  return workdir, images.run(_config(), workdir, seed=1)


def test_table_has_every_row(finished):
  workdir, rows = finished
  columns = 'scheme', 'num_decoders', 'num_messages', 'num_groups', 'bin_size'
  names = [tuple(r.get(name) for name in columns) for r in rows]
  wanted = [
    ('mean_image', None, 1, None, None),
    ('kmeans', None, 4, None, None),
  ]
  wanted += [('side_only', k, 1, 1, None) for k in (1, 2)]
  for scheme in ('gls', 'gls_kmeans'):
    wanted += [(scheme, k, 4, g, None) for k, g in ((1, 1), (2, 1), (2, 2))]
  wanted += [('list_quantiser', k, 4, 1, m) for k in (1, 2) for m in (1, 2)]
  wanted += [('shared_race', 2, 4, 1, None)]
  wanted += [('lattice', k, 4, k, None) for k in (1, 2)]
  assert sorted(names, key=str) == sorted(wanted, key=str)
  by_name = dict(zip(names, rows))
  for name, row in by_name.items():
    assert row['images'] == 12 and 0 < row['mse_se'] < row['mse'] < 1
    if name[1] == 2:
      assert row['mse'] < row['mse_mean'] < row['mse_worst']
      both = (row['mse'] + row['mse_worst']) / 2
      one_sum = statistics.rounding(1)  # of two errors, in float32
      assert row['mse_mean'] == pytest.approx(both, rel=one_sum)
    if name[0] in ('gls', 'shared_race'):
      assert row['num_candidates'] in (16, 32) and row['repeats'] == 2
  for groups in (1, 2):
    assert 0 < by_name['gls', 2, 4, groups, None]['error_bound'] < 1
  plain = by_name['list_quantiser', 2, 4, 1, 1]
  assert 'ahead' not in plain and plain['error_rate'] == 0
  for name in (('list_quantiser', 2, 4, 1, 2), ('gls_kmeans', 2, 4, 2, None)):
    ahead = plain['mse'] - by_name[name]['mse']
    # Three means of 12 images and two repeats.
    error = statistics.rounding(3 * 14, plain['mse'], np.float64)
    assert by_name[name]['ahead'] == pytest.approx(ahead, rel=0, abs=error)
  for k in (1, 2):
    chosen = [
      by_name['list_quantiser', k, 4, 1, m]['is_chosen'] for m in (1, 2)
    ]
    assert sorted(chosen) == [False, True]
  kmeans = by_name['kmeans', None, 4, None, None]['mse']
  assert by_name['mean_image', None, 1, None, None]['mse'] > kmeans
  read = tables.read_csv(workdir / 'results.csv')
  assert [r['mse'] for r in read] == [r['mse'] for r in rows]
  assert not (workdir / 'choice' / 'side_only.json').exists()
  assert (workdir / 'choice' / 'lattice.json').exists()  # compress reads it
  record = files.read_json(workdir / 'results.json')
  assert record['settings']['config']['train']['beta'] == 0.3
  fit = fits.read_fit(fits.fit_path(workdir, 'list_quantiser', 8))
  assert fit.mean_weight == 0.1 and 0 < fit.reach < 1
  assert [r['mse'] for r in record['table']] == [r['mse'] for r in rows]
  text = images.run.as_text(rows)
  assert 'side_only' in text and f'{rows[0]["mse"]:.4f}' in text
  names = ['rate_distortion', *(f'examples_{s}' for s in images.EVALUATED)]
  assert all((workdir / f'{name}.png').exists() for name in names)


def test_curves_are_the_rows(finished, tmp_path, drawn):
  _, rows = finished
  images.run.figures['rate_distortion.png'](rows, tmp_path / 'curves.png')
  panels = drawn['curves.png']
  assert [axes.get_title() for axes in panels] == [
    f'K = {k}, {which} decoder' for k in (1, 2)
    for which in ('best', 'mean', 'worst')
  ]  # fmt: skip
  assert {*panels[0].get_xticks()} == {
    np.log2(r['num_messages']) for r in rows if r['scheme'] == 'gls'
  }
  for axes, name in zip(panels[3:], ('mse', 'mse_mean', 'mse_worst')):
    _check_curves(axes, rows, name)


def _check_curves(axes, rows, name):
  """Curves of two decoders, of the column."""
  curves = dict(zip(*reversed(axes.get_legend_handles_labels())))
  for label, scheme, num_groups in (
    ('GLS', 'gls', 1),
    ('GLS, a group each', 'gls', 2),
    ('lattice', 'lattice', 2),
  ):
    (row,) = (
      r
      for r in rows
      if (r['scheme'], r['num_decoders'], r.get('num_groups'))
      == (scheme, 2, num_groups)
    )
    assert curves[label].lines[0].get_ydata().tolist() == [row[name]]


def test_the_heading_of_examples_fits_two_decoders(tmp_path, drawn):
  rng, found = np.random.default_rng(0), np.array([[1, 0], [1, 1], [0, 0]])
  left, right = rng.uniform(size=(2, 3, 8, 4))
  sent = SimpleNamespace(
    images=rng.uniform(size=(3, 2, 8, 4)), found=found.astype(bool),
    error=rng.uniform(size=(3, 2)),
  )  # fmt: skip
  images.examples(
    SimpleNamespace(left=left, right=right), rng.uniform(size=(3, 2, 3, 3)),
    sent, tmp_path / 'examples.png', title='lists, 4 bits to 2 decoders',
    choice='codeword',
  )  # fmt: skip
  canvas = drawn['examples.png'][0].figure
  (heading,) = canvas.texts
  words = ' '.join(heading.get_text().split())
  heading = heading.get_window_extent()
  assert 0 <= heading.x0 and heading.x1 <= canvas.bbox.width
  assert (
    "lists, 4 bits to 2 decoders: green = a decoder with the encoder's "
    in (words)
    and 'codeword, orange = with another' in words
  )
  frames = [
    [colors.to_hex(axis.spines['top'].get_edgecolor()) for axis in row[3::2]]
    for row in np.reshape(canvas.axes, (3, 6))  # an image each, in order
  ]
  hues = np.array([plots.ORANGE, plots.GREEN])
  assert frames == np.char.lower(hues)[found].tolist()
  whole, source = (axis.get_window_extent() for axis in canvas.axes[:2])
  # One scale: of corners that are a few float64 operations from the canvas.
  error = statistics.rounding(8, canvas.bbox.width, np.float64)
  assert whole.height == pytest.approx(source.height, rel=0, abs=error)
  assert whole.width == pytest.approx(2 * source.width, rel=0, abs=error)


def test_what_is_finished_is_read(finished, monkeypatch):
  workdir, rows = finished

  def refuse(*_, **__):
    raise AssertionError('made again')

  monkeypatch.setattr(image_fits.training, 'train', refuse)
  monkeypatch.setattr(image_fits.Codecs, '_best', refuse)
  for name in ('repeat', 'measure'):
    monkeypatch.setattr(images, name, refuse)
  assert images.run(_config(), workdir, seed=1) == rows
  changed = _config()
  changed.refine.steps = 6
  with pytest.raises(ValueError, match='other settings of config.refine.steps'):
    images.run(changed, workdir, seed=1)
  with pytest.raises(ValueError, match='other settings of config.num_messages'):
    images.run(_config(num_messages=(4, 3)), workdir, seed=1)
  with pytest.raises(ValueError, match='other settings of seed'):
    images.run(_config(), workdir, seed=2)


@pytest.mark.parametrize(
  'name, message',
  [
    ('repeats/gls_0.npz', 'gls_0.npz is damaged'),
    ('fits/list_quantiser_8.safetensors', 'list_quantiser_8.* is damaged'),
    ('model/vae.safetensors', 'vae.safetensors is damaged'),
  ],
)
def test_damaged_work_is_named(finished, tmp_path, name, message):
  shutil.copytree(finished[0], tmp_path / 'copy')
  path = tmp_path / 'copy' / name
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message):
    images.run(_config(), tmp_path / 'copy', seed=1)


def test_results_of_other_networks_are_refused(finished, tmp_path):
  shutil.copytree(finished[0], tmp_path / 'copy')
  path = tmp_path / 'copy' / 'model' / vae.FILE
  params, sizes, about = vae.load(path)
  params['decoder']['Dense_0']['bias'] += np.float32(1)
  vae.save(path, params, sizes, beta=about['beta'])
  with pytest.raises(ValueError, match='other networks of .*beta 0.3'):
    images.run(_config(), tmp_path / 'copy', seed=1)


def test_a_table_shares_no_fit_with_other_numbers(finished, tmp_path):
  """Whichever was there first: a table, or what one codec needs."""
  config, path = _config(), 'fits/list_quantiser_8.safetensors'
  codecs = image_fits.Codecs(
    config.train, finished[0], image_data.load_halves('digits'), {},
    config.refine, num_decoders=[K], num_messages=4,
  )  # fmt: skip
  code = fits.CodecSizes('list_quantiser', K, 4)
  with pytest.raises(ValueError, match=r'num_codewords \(16, now 8\)'):
    codecs.fit({code: [fits.CodecSetting(None, 1)]})
  (tmp_path / 'fits').mkdir()
  shutil.copy(finished[0] / path, tmp_path / path)
  config = _config(
    schemes=('list_quantiser',), num_decoders=(2, 4), num_messages=(2, 4)
  )
  with pytest.raises(ValueError, match=r'8.*num_decoders \(\[2\], now \[2, 4'):
    images.run(config, tmp_path, seed=1)
  assert [x.name for x in (tmp_path / 'fits').iterdir()] == [path[5:]]


def _apart(trained, code, sides):
  """By roundings of the networks that answer, from latents of the prior."""
  own = schemes.SCHEMES[trained.scheme]
  model = jax.tree.map(jnp.asarray, trained.model)
  words = jnp.zeros(sides.shape[:2], jnp.int32)
  settings = schemes.Settings(1, code.num_decoders, code.num_messages)
  shape = *words.shape, model.config.latent_size

  def answer(latents):
    images = None
    if own.has_lattice or not own.has_fit:
      images = schemes.vae_images(model, latents, sides)
    if not own.has_fit:
      return images
    given = latents, sides, settings, images
    return schemes._answer(model.fit, words, words, *given).images

  return floats.apart(answer, jax.random.normal(jax.random.key(0), shape))


def test_files_say_what_the_table_says(finished):
  """One choice, one codec: the same messages and answers, file or table."""
  workdir = finished[0]
  halves = image_data.load_halves('digits', num_held_out=20)
  few = images.spread(halves['test'], 12)
  for name, groups, size in (
    ('gls', 2, 1), ('gls_kmeans', 2, 1), ('gls_kmeans', 1, 1),
    ('list_quantiser', 1, 2), ('list_quantiser', 1, 1), ('lattice', 2, 1),
  ):  # fmt: skip
    trained = fits.load_model(
      workdir, scheme=name, num_decoders=K, num_messages=4, num_groups=groups,
      bin_size=size,
    )  # fmt: skip
    codecs = images.make_codecs(
      _config(), workdir, halves, {0.3: trained.model}
    )
    beta = None if name == 'list_quantiser' else 0.3
    setting = fits.CodecSetting(beta, trained.num_candidates, size)
    code = fits.CodecSizes(name, K, 4, groups)
    codecs.fit(images.choices_of(_config(), name))
    trials = codecs.prepare(gumbel.seed_key(7), few, code, setting)
    sent = codecs.send(code, trials, setting)
    coded = transport.encode(
      trained, few.right, seed=7, num_decoders=K, num_messages=4,
      num_groups=groups, with_indices=True,
    )  # fmt: skip
    sides, _ = transport.take_crops(trained, few.left, K, seed=7)
    np.testing.assert_array_equal(sides, trials.sides)
    coded = bitstream.from_bytes(bitstream.to_bytes(coded))
    error = _apart(trained, code, sides)
    for k in range(K):
      index, answers = transport.decode(trained, coded, sides[:, k], k)
      np.testing.assert_array_equal(index == coded.indices, sent.found[:, k])
      np.testing.assert_allclose(answers, sent.images[:, k], rtol=0, atol=error)


def test_errors_are_those_of_the_images(finished):
  workdir, rows = finished
  trained = fits.load_model(
    workdir, scheme='gls_kmeans', num_decoders=K, num_messages=4
  )
  halves = image_data.load_halves('digits', num_held_out=20)
  codecs = images.make_codecs(_config(), workdir, halves, {0.3: trained.model})
  code = fits.CodecSizes('gls_kmeans', K, 4)
  setting = fits.CodecSetting(0.3, 32)
  codecs.fit(images.choices_of(_config(), 'gls_kmeans'))
  test = images.spread(halves['test'], 12)
  found = []
  for i in range(2):
    key = gumbel.domain_key(gumbel.seed_key(1), gumbel.Domain.REPEAT, i)
    trials = codecs.prepare(key, test, code, setting)
    sent = codecs.send(code, trials, setting)
    pixels = np.float64(sent.images) - test.right[:, None]
    found.append((pixels**2).reshape(12, K, -1).mean(-1))
  assert (found[0] != found[1]).any()  # a repeat draws anew
  (row,) = (
    r
    for r in rows
    if (r['scheme'], r.get('num_groups')) == ('gls_kmeans', 1)
    and r['num_decoders'] == K
  )
  # There in float32: a difference, its square, the sum of 32, their mean.
  error = statistics.rounding(1 + 1 + 32 + 1)
  assert row['mse'] == pytest.approx(np.min(found, -1).mean(), rel=error)
  assert row['mse_worst'] == pytest.approx(np.max(found, -1).mean(), rel=error)


def test_settings_are_chosen_on_images_held_out():
  """Evenly spread ones of "select", with a key of no repeat."""
  held_out = np.arange(5.0).reshape(1, 5, 1, 1).repeat(2, 0)
  asked = []
  codecs = SimpleNamespace(
    halves={'select': image_data.Halves(*held_out)},
    choose=lambda *args: asked.append(args),
  )
  for count in (3, 0):
    config = _config(num_held_out_images=count)
    images.choose(config, codecs, {'a codec': []}, seed=3)
  (key, chosen_on, choices), (_, without, _) = asked
  assert chosen_on.right.ravel().tolist() == [0, 2, 4]
  assert choices == {'a codec': []} and without is None
  seed = gumbel.seed_key(3)
  assert not any(
    key == gumbel.domain_key(seed, gumbel.Domain.REPEAT, i) for i in range(100)
  )


def test_every_codec_chooses_among_settings_that_it_can_have():
  config = _config(betas=(0.3, 0.6), num_messages=(16,))
  config.refine.betas = (0.6,)
  gls = images.choices_of(config, 'gls')
  assert [(x.scheme, x.num_decoders, x.num_groups) for x in gls] == [
    ('gls', 1, 1), ('gls', 2, 1), ('gls', 2, 2), ('shared_race', 2, 1),
  ]  # fmt: skip
  for code, settings in gls.items():  # L G candidates or more
    counts = (32,) if code.num_groups == 2 else (16, 32)
    assert settings == [(b, n, 1) for b in (0.3, 0.6) for n in counts]
  assert images.choices_of(config, 'gls_kmeans')['gls_kmeans', 1, 16, 1] == [
    (0.6, 32, 1)
  ]
  assert set(images.choices_of(config, 'lattice')) == {
    ('lattice', 1, 16, 1), ('lattice', 2, 16, 2),
  }  # fmt: skip
  lists = images.choices_of(config, 'list_quantiser')
  assert lists['list_quantiser', 2, 16, 1] == [(None, 1, 1), (None, 1, 2)]
  assert len(images.choices_of(config, 'side_only')) == 2
  assert all(
    own == [(0.3, 1, 1)]  # the first beta, by name
    for own in images.choices_of(config, 'side_only').values()
  )
  config.schemes = ('list_quantiser',)
  assert not images.choices_of(config, 'side_only')  # which needs a VAE


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(num_decoders=(0,)), 'num_decoders'),
    (dict(num_messages=()), 'num_messages'),
    (dict(num_candidates=(0,)), 'num_candidates'),
    (dict(num_messages=(64,)), 'num_candidates must reach'),
    (dict(train=dict(model=dict(latent_size=20))), 'latent_size 20 at'),
    (dict(num_images=1), 'num_images'),
    (dict(betas=(-1.0,)), 'betas'),
    (dict(schemes=('cells',)), 'schemes'),
    (dict(num_imagse=3), 'num_imagse'),
    (dict(bin_sizes=(0,)), 'bin_sizes'),
    (dict(num_groups=(16,)), r'num_groups.*got \(16, 32\) for 64'),
    (dict(train=dict(side_kind='left')), 'side_kind.*left'),
    (dict(train=dict(side_kind='noisy')), 'side_shape'),
    (dict(train=dict(side_noise=0.1)), 'side_noise'),
    (dict(train=dict(estimator_loss='hinge')), 'hinge'),
    (dict(train=dict(num_held_out=0)), 'num_held_out'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    images.run(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


_SIDES = (('none', (1, 1), 0.0), ('noisy', (8, 4), 0.2))


def test_side_information_is_swept(tmp_path):
  """Side by side, on the same images; a bin pays where one knows enough."""
  config = _config(
    num_decoders=(K,), num_groups=(1,), schemes=('list_quantiser',),
    num_repeats=1, num_images=360, num_held_out_images=200,
  )  # fmt: skip
  config.refine.update(
    steps=100, batch_size=64, hidden_size=32, learning_rate=5e-3,
    num_kmeans=1000,
  )  # fmt: skip
  config.train.num_held_out = 200
  config.sides = _SIDES
  rows = images.run_sweep(config, tmp_path, seed=1)
  assert not (tmp_path / 'none' / 'model').exists()  # no VAE is needed
  by_name = {(r['side'], r['bin_size']): r for r in rows if 'bin_size' in r}
  names = 'none', 'noisy_8x4_0.2'
  assert list(by_name) == [(name, m) for name in names for m in (1, 2)]
  for m in (1, 2):  # who knows more errs less
    knows_nothing, knows = (by_name[name, m] for name in names)
    error = np.hypot(knows_nothing['mse_se'], knows['mse_se'])
    assert knows['mse'] < knows_nothing['mse'] - statistics.SIGMAS * error
  blind = by_name['none', 2]
  assert not blind['is_chosen'] and blind['ahead'] < -3 * blind['ahead_se']
  noisy = by_name['noisy_8x4_0.2', 2]
  assert noisy['ahead'] > blind['ahead']
  assert noisy['psnr_plain'] == by_name['noisy_8x4_0.2', 1]['psnr']
  assert noisy['psnr_blind'] == by_name['none', 1]['psnr']
  kept = files.read_json(tmp_path / 'results.json')
  assert [r['mse'] for r in kept['table']] == [r['mse'] for r in rows]
  assert 'noisy_8x4_0.2' in images.run_sweep.as_text(rows)


@pytest.mark.parametrize(
  'sides, message',
  [
    ((), 'sides must not be empty'),
    ((('crop', 7, 0.0),), r"\(kind, \(height, width\), noise\), got \('crop'"),
    ((('crop', (9, 9), 0.0),), r'side_shape'),
    ((('edge', (7, 2), 0.0),), r'as high as a half, \(8, 4\), got \(7, 2\)'),
  ],
)
def test_bad_sides_are_refused_before_writing(tmp_path, sides, message):
  config = _config()
  config.sides = sides
  with pytest.raises(ValueError, match=message):
    images.run_sweep(config, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_plain_rows_learn_from_training_images_alone():
  rng = np.random.default_rng(0)
  train = np.where(np.arange(30) % 2, 0.25, 0.75)[:, None, None] + 0.01 * (
    rng.normal(size=(30, 2, 2))
  )
  test = np.array([0.0, 0.3, 0.9])[:, None, None] * np.ones((3, 2, 2))
  config = vae_digits.get_config()
  config.num_messages = (2,)
  config.refine.num_kmeans = 30
  mean, kmeans = images.plain_rows(config, train, SimpleNamespace(right=test))
  flat = train.reshape(30, 4)
  error = ((test.reshape(3, 4) - flat.mean(0)) ** 2).mean(1)
  assert mean['mse'] == error.mean()
  assert mean['mse_se'] == error.std(ddof=1) / np.sqrt(3)
  words = np.stack([flat[1::2].mean(0), flat[::2].mean(0)])
  error = ((test.reshape(3, 1, 4) - words) ** 2).mean(-1).min(1)
  # k-means in float32: 15 numbers .25 from the mean, less that, their sum, a
  # share of it, and the mean again; test images are .15 from their codeword.
  rounded = 2 * 0.15 * statistics.rounding(1 + 15 + 1 + 3, 0.25)
  assert kmeans['mse'] == pytest.approx(error.mean(), rel=0, abs=rounded)
  assert kmeans['num_messages'] == 2 and kmeans['images'] == 3
  assert kmeans['bits_per_pixel'] == 1 / 4 and mean['bits_per_pixel'] == 0
  # A logarithm of 3.5, which is what a rounding of it weighs in the power.
  once = statistics.rounding(4 * 3.5, kmeans['mse'], np.float64)
  mse = 10 ** (-kmeans['psnr'] / 10)
  assert mse == pytest.approx(kmeans['mse'], rel=0, abs=once)


def test_codec_rows_average_repeats_first():
  """Repeats of one image are not independent: its mean counts once."""
  rng = np.random.default_rng(1)
  values = rng.uniform(size=(2, 5, 7))  # [repeats, measure, images]
  values[:, 4] = np.nan
  code = fits.CodecSizes('shared_race', 2, 4)
  (row,) = images.codec_rows(
    vae_digits.get_config(),
    {(code, 1): values},
    {code: fits.CodecSetting(0.3, 256)},
  )
  for place, name in enumerate(('mse', 'mse_mean', 'mse_worst')):
    part = values[:, place].mean(0)
    assert row[name] == part.mean()
    assert row[f'{name}_se'] == part.std(ddof=1) / np.sqrt(7)
  assert row['error_rate'] == values[:, 3].mean(0).mean()
  assert row['error_bound'] is None and row['repeats'] == 2
  assert row['bits_per_pixel'] == 2 / 32  # of 8 x 4 pixels
  assert (row['beta'], row['num_candidates']) == (0.3, 256)


@pytest.mark.parametrize(
  'dataset, scheme, num_decoders, num_messages, wanted',
  [
    ('mnist', 'gls', 2, 16, 0.0734),
    ('mnist_tfds', 'gls', 4, 64, 0.0564),
    ('mnist', 'shared_race', 2, 16, 0.0783),
    ('mnist', 'gls_kmeans', 1, 4, 0.1027),
    ('mnist', 'side_only', 1, 4, None),
    ('cifar10_4k', 'gls', 2, 64, 0.0616),
    ('cifar10_4k', 'shared_race', 2, 64, None),
    ('digits', 'gls', 2, 16, None),
  ],
)
def test_the_papers_figures(
  dataset, scheme, num_decoders, num_messages, wanted
):
  found = images.paper_mse(dataset, scheme, num_decoders, num_messages)
  assert found == wanted


def test_every_decoder_of_a_list_is_counted():
  error = np.array([[0.4, 0.1], [0.2, 0.6]])
  found = np.array([[False, True], [False, False]])
  measured = images.measure(error, found, [0.2, 0.3])
  wanted = [[0.1, 0.2], [0.25, 0.4], [0.4, 0.6], [0, 1], [0.2, 0.3]]
  np.testing.assert_array_equal(measured, wanted)
  assert len(measured) == len(images.MEASURES)
  without = images.measure(error, error * np.nan, error[:, 0] * np.nan)
  assert np.isnan(without[3:]).all()


def test_the_text_says_where_the_list_quantiser_is_not_reached():
  def row(scheme, gap, error=0.001, **more):
    sizes = {'num_decoders': 2, 'num_messages': 4, 'num_groups': 1, 'mse': 0.1}
    gap = {} if gap is None else {'ahead': gap, 'ahead_se': error}
    return {'scheme': scheme, **sizes, **gap, **more}

  found = [
    {'scheme': 'kmeans', 'num_messages': 4, 'mse': 0.1},
    row('list_quantiser', None, bin_size=1, is_chosen=False),
    row('list_quantiser', 0.0021, bin_size=2, is_chosen=True),
    row('list_quantiser', -0.9, bin_size=4, is_chosen=False),
    row('list_quantiser', None, bin_size=1, is_chosen=True),
    row('list_quantiser', -0.0021, bin_size=2, is_chosen=True),
    row('list_quantiser', None, bin_size=2, is_chosen=True),  # M = 1 is absent
    row('lattice', 0.0019, bin_size=None),
    row('lattice', -0.0019, num_groups=2),
  ]
  _, legend, said, counts = images.as_text(found).split('\n\n')
  assert 'ahead: how much less' in legend and 'positive is better' in legend
  assert max(map(len, legend.splitlines())) < 80
  assert 'paper' not in legend
  beside = images.as_text([*found, {'scheme': 'gls', 'paper_mse': 0.07}])
  assert 'paper: best of' in ' '.join(beside.split())
  assert said.startswith('In how many settings the best decoder of a scheme')
  head, lists, lattice = map(str.split, counts.splitlines())
  assert head == ['scheme', 'ahead', 'level', 'behind']
  assert lists == ['list_quantiser', '1', '0', '1']  # not those of M = 1
  assert lattice == ['lattice', '0', '2', '0']
  plain = [x for x in found if x.get('bin_size') == 1]
  assert images.as_text(plain).endswith(legend)  # nothing to set beside it
