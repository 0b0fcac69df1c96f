"""Where a lattice lies: its axes and its period, on a source by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.compression import lattices
from listcoupling.image_codec import scheme as schemes
from listcoupling.models import codeword_decoder
from listcoupling.training import codeword_decoder as training
from listcoupling.training import lattice_space
from tests import statistics
from tests.image_codec import fakes

R, K, L, NOISE = 4000, 2, 4, 0.5
KEY = gumbel.seed_key(0)


MODEL = schemes.Model(fakes.PixelVAE(), ())


@pytest.fixture(scope='module')
def known():
  source, *noise = jax.random.normal(jax.random.key(1), (1 + K, R, 1, 1))
  sides = jnp.stack([source + NOISE**0.5 * x for x in noise], 1)
  sizes = codeword_decoder.CodewordDecoderConfig(
    (1, 1), (1, 1), num_codewords=8, latent_size=1, hidden_size=16
  )
  latents, log_std = MODEL.networks.encode((), source)
  cut = R - R // 8  # the rest judges
  mean, _ = training.train_side_means(
    KEY, sides[:cut], latents[:cut], config=sizes, steps=400
  )
  return lattice_space.prepare(
    KEY, mean, source[cut:], sides[cut:], latents[cut:],
    np.exp(np.mean(np.asarray(log_std), 0)), sizes,
  )  # fmt: skip


def _taken_as_it_is(known):
  """[R, K, 1] squared errors of side information that is not shrunk."""
  count = len(known.latents)
  return np.asarray(known.latents[:, None] - known.sides[:count, :, 0]) ** 2


def _assert_between(squares, least, known):
  """Not below the posterior's variance, and better than what is not shrunk.

  By 5 standard errors of images; the decoders of one image are alike.
  """
  each = squares.mean((1, 2))
  error = statistics.SIGMAS / len(each) ** 0.5
  assert each.mean() > least - error * each.std()
  gain = _taken_as_it_is(known).mean((1, 2)) - each
  assert gain.mean() > error * gain.std()


def test_what_side_information_leaves_is_the_unit(known):
  """The posterior of N(0, 1) seen through N(0, s) has variance s / (1 + s)."""
  left = np.asarray(known.latents[:, None] - known.means, np.float64)
  _assert_between(left**2, NOISE / (1 + NOISE), known)
  with pytest.raises(AssertionError):  # control: the decoders' own view
    _assert_between(_taken_as_it_is(known), NOISE / (1 + NOISE), known)
  with pytest.raises(AssertionError):  # control: less than can be known
    _assert_between(0.5 * left**2, NOISE / (1 + NOISE), known)
  for transform in known.transforms:  # of one axis all are alike
    square = np.mean((left @ np.float64(transform)) ** 2)
    # The axis is rounded to float32, which counts twice in the square.
    assert square == pytest.approx(1, rel=0, abs=statistics.rounding(1))


def test_the_period_is_that_of_the_least_error(known):
  settings = schemes.Settings(1, K, L, K)
  space = lattice_space.choose(known, MODEL, settings)
  code = lattices.make_code('Z', L, num_groups=K)
  unit = float(space.transform[0, 0])
  x, seen = np.asarray(known.latents) * unit, np.asarray(known.means) * unit
  errors = {}
  for period in lattice_space.PERIODS:
    best = np.inf
    offset = jnp.stack([lattices.dither(key, (), code) for key in known.keys])
    message = lattices.encode(x, offset, period, code)
    for k in range(K):
      word = lattices.decode(
        message, seen[:, k], offset, period, code, decoder=k
      )
      best = np.minimum(best, (np.asarray(word) - x)[:, 0] ** 2)
    errors[period] = best / unit**2
  means = {period: each.mean() for period, each in errors.items()}
  period = min(means, key=means.get)
  assert space.period == np.float32(period)
  spaces = jax.tree.map(lambda leaf: leaf[None], space._replace(mean=None))
  found = lattice_space.errors(known, MODEL, spaces, settings=settings)
  # A square of d changes by 2 d times the change of d: of a latent in units, in
  # the cell, of its point, and back, on both sides.
  each = 2 * np.float64(errors[period]) ** 0.5
  error = each.mean() * statistics.rounding(8, np.abs(known.latents).max())
  assert found[0] == pytest.approx(means[period], rel=0, abs=error)
  # A lattice that is too fine or too coarse costs more.
  gap = errors[lattice_space.PERIODS[-1]] - errors[period]
  assert gap.mean() > statistics.SIGMAS * gap.std() / np.sqrt(len(gap))


def _sizes(transform, square):
  """transform.T @ square @ transform, of which no terms cancel."""
  return np.abs(transform).T @ np.abs(square) @ np.abs(transform)


def test_axes_are_stretched_between_pixels_and_decoders():
  """Power 0: a step is the same change of the pixels; 1: the same doubt."""
  rng = np.random.default_rng(0)
  spread = np.array([0.1, 0.4])
  left = rng.normal(size=(5000, 2)) @ np.array([[1.0, 0.3], [0.0, 0.2]])
  pixels, between, doubt = np.float64(lattice_space.transforms(left, spread))
  turned = spread[:, None] * pixels
  alike = turned @ turned.T
  size = alike[0, 0]
  # Axes are rounded to float32, by a half each, once in each of two factors.
  np.testing.assert_allclose(
    alike, size * np.eye(2), rtol=0, atol=statistics.rounding(1, size)
  )
  square = left.T @ left / len(left)
  white = doubt.T @ square @ doubt
  error = statistics.rounding(1, _sizes(doubt, square).max())
  np.testing.assert_allclose(white, np.eye(2), rtol=0, atol=error)
  ratios = []
  for transform in (pixels, between, doubt):
    squares = np.diag(transform.T @ square @ transform)
    sizes = np.diag(_sizes(transform, square)) / squares
    error = statistics.rounding(1, sizes.sum())  # of product and quotient
    # The cell's volume.
    assert squares.prod() == pytest.approx(1, rel=0, abs=error)
    ratios.append(squares[0] / squares[1])  # the widest axis comes first
  assert ratios[0] > ratios[1] > ratios[2]
  assert ratios[2] == pytest.approx(1, rel=0, abs=error)
