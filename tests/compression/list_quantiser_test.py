"""The list quantiser: its best decoder is a quantiser of L K words."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import cluster

from listcoupling.compression import list_quantiser
from tests import statistics


@pytest.fixture(scope='module')
def sample():
  rng = np.random.default_rng(0)
  points = rng.normal(size=(600, 3)).astype(np.float32)
  return points, list_quantiser.fit_codewords(points, 12)


def test_as_many_codewords_as_points_lie_in_a_row():
  """Three of them, of which the one in the middle came first."""
  points = np.array([[3.0], [0.0], [10.0]], np.float32)
  found = list_quantiser.fit_codewords(points, 3)[:, 0].tolist()
  assert found in ([0.0, 3.0, 10.0], [10.0, 3.0, 0.0])


@pytest.mark.parametrize('num_decoders', [1, 2, 4])
def test_best_decoder_has_the_nearest_of_all_words(sample, num_decoders):
  points, words = sample
  message = list_quantiser.encode(points, words, num_decoders=num_decoders)
  assert int(message.max()) < 12 // num_decoders and int(message.min()) == 0
  cells = list_quantiser.decode(message, num_decoders=num_decoders)
  assert cells.shape == (600, num_decoders)
  points, words = np.float64(points), np.float64(words)
  distance = ((points[:, None] - words[np.asarray(cells)]) ** 2).sum(-1)
  every = ((points[:, None] - words) ** 2).sum(-1)
  # A word is chosen by its square, three products and two sums, less twice as
  # many of its product with the point.
  size = (words**2).sum(-1) + 2 * np.abs(points) @ np.abs(words).T
  error = statistics.rounding(3 + 2 + 3 + 2 + 1, size.max())
  assert (distance.min(1) <= every.min(1) + error).all()
  wrong = (np.asarray(cells) + num_decoders) % 12  # control: another message
  distance = ((points[:, None] - words[wrong]) ** 2).sum(-1)
  assert (distance.min(1) > every.min(1) + error).all()


@pytest.mark.parametrize('num_decoders, bin_size', [(1, 2), (2, 3), (3, 2)])
def test_every_codeword_has_one_message_owner_and_place(num_decoders, bin_size):
  count = 12 // (num_decoders * bin_size)
  every = list_quantiser.bins(
    jnp.arange(count), 12, num_decoders=num_decoders, bin_size=bin_size
  )  # [L, K, M]
  assert sorted(np.asarray(every).ravel().tolist()) == list(range(12))
  for m in range(count):
    for k in range(num_decoders):
      for j in every[m, k].tolist():
        assert j // num_decoders % count == m and j % num_decoders == k


def test_side_information_tells_the_words_of_a_bin_apart(sample):
  """Scores by the first coordinate: right wherever they can be."""
  points, words = sample
  options = dict(num_decoders=2, bin_size=3)
  message = list_quantiser.encode(points, words, **options)
  assert set(np.asarray(message).tolist()) == {0, 1}
  scores = -((points[:, None, :1] - words[None, :, :1]) ** 2).sum(-1)
  both = np.stack([scores, np.zeros_like(scores)], 1)  # [R, K, F]
  found = np.asarray(list_quantiser.decode(message, both, **options))
  own = np.asarray(list_quantiser.bins(message, 12, **options))
  for r in range(0, 600, 30):
    by_hand = max(own[r, 0], key=lambda j, r=r: scores[r, j])
    assert found[r].tolist() == [by_hand, own[r, 1, 0]]
  sent = np.asarray(list_quantiser.nearest(points, words))
  one = sent % 2 == 0
  right = (found[one, 0] == sent[one]).sum()
  assert statistics.proportion_z(right, one.sum(), 1 / 3) > statistics.SIGMAS
  blind = (found[~one, 1] == sent[~one]).sum()
  z = statistics.proportion_z(blind, (~one).sum(), 2 / 3)
  assert z < -statistics.SIGMAS


def test_words_of_a_bin_are_far_apart_and_of_a_message_near(sample):
  words = sample[1]
  own = np.asarray(
    list_quantiser.bins(jnp.arange(2), 12, num_decoders=2, bin_size=3)
  )

  def mean_gap(pairs):
    return np.mean([np.linalg.norm(words[i] - words[j]) for i, j in pairs])

  apart = [(a, b) for bin in own.reshape(-1, 3) for a, b in ((bin[0], bin[1]),
           (bin[1], bin[2]))]  # fmt: skip
  near = [(own[m, 0, b], own[m, 1, b]) for m in (0, 1) for b in range(3)]
  assert mean_gap(apart) > mean_gap(near)
  in_a_row = [(j, j + 1) for j in range(11) if j % 3 < 2]  # bins of neighbours
  assert mean_gap(apart) > mean_gap(in_a_row)


def test_words_are_means_in_an_order_of_neighbours(sample):
  points, words = sample
  assert words.dtype == np.float32 and words.shape == (12, 3)
  own = np.asarray(list_quantiser.nearest(points, words))
  means = np.stack([points[own == i].mean(0) for i in range(12)])
  # k-means stops once all words together move by less than its tolerance.
  least = cluster.KMeans().tol * points.var(0).mean()
  assert ((means - words) ** 2).sum() < least
  every = np.linalg.norm(words[:, None] - words, axis=-1)

  def length(order):
    return every[order[:-1], order[1:]].sum()

  # The level of a permutation test: fewer than one in a hundred orders that
  # know nothing of neighbours are as short; words are too few for SIGMAS.
  rng = np.random.default_rng(1)
  others = np.array([length(rng.permutation(12)) for _ in range(1000)])
  assert np.mean(others <= length(np.arange(12))) < 0.01


def test_bad_sizes_are_refused(sample):
  points, words = sample
  with pytest.raises(ValueError, match='num_decoders'):
    list_quantiser.encode(points, words, num_decoders=5)
  with pytest.raises(ValueError, match='num_decoders'):
    list_quantiser.decode(jnp.zeros(2, int), num_decoders=0)
  with pytest.raises(ValueError, match='at least 0, got -1'):
    list_quantiser.decode(jnp.array([2, -1]), num_decoders=2)
  with pytest.raises(ValueError, match='2 . 4'):
    list_quantiser.encode(points, words, num_decoders=2, bin_size=4)
  with pytest.raises(ValueError, match='below 2, got 2'):
    list_quantiser.bins(jnp.array([2]), 12, num_decoders=2, bin_size=3)
  for scores in (None, jnp.zeros((1, 3, 12))):
    with pytest.raises(ValueError, match='log_scores must have shape'):
      list_quantiser.decode(jnp.array([1]), scores, num_decoders=2, bin_size=3)
  with pytest.raises(ValueError, match='count'):
    list_quantiser.fit_codewords(points[:3], 4)
  assert jnp.asarray(words).shape == (12, 3)
