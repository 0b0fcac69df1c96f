"""Top-k and top-p of `filters` without a sort, against sorting in numpy.

Apart from `filters_test`, for this is compiled with all optimizations: it goes
over whole vocabularies.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from listcoupling.decoding import filters
from listcoupling.decoding.options import GenerateOptions
from tests import statistics

VOCAB = 20_000
RNG = np.random.default_rng(0)
LAWS = dict(
  flat=np.zeros(VOCAB),
  peaked=RNG.normal(0, 9, VOCAB),
  broad=RNG.normal(0, 1, VOCAB),
  steps=np.round(RNG.normal(0, 2, VOCAB)),
  two_steps=np.where(RNG.random(VOCAB) < 0.5, 0.0, -0.7),
  # Apart by less than a float of weight 1 can tell.
  nearly_flat=1e-9 * RNG.integers(0, 5, VOCAB),
  heavy_tail=-np.abs(RNG.standard_cauchy(VOCAB)),
  half_impossible=np.where(RNG.random(VOCAB) < 0.5, -np.inf, RNG.random(VOCAB)),
)
MASSES = (1e-7, 0.01, 0.5, 0.9, 0.999)
MISSING = 1e-6  # mass that may be, by the docstring of `filters.top_p`


def law(name):
  return np.float32(LAWS[name])


def share_error(atoms):
  """Of a mass of shares that are each rounded up or down, as if by chance."""
  return statistics.SIGMAS * np.sqrt(atoms / 4) / (1.5 * 2**30)


def sorted_top_p(logits, mass, slack=MISSING):
  """The kept atoms by a stable sort in float64."""
  weights = np.exp(np.float64(logits) - logits.max())
  order = np.argsort(-logits, kind='stable')
  reached = np.cumsum(weights[order] / weights.sum())
  kept = np.zeros(len(logits), bool)
  kept[order[: 1 + np.sum(reached < np.float32(mass) - slack)]] = True
  return kept


top_p = jax.jit(filters.top_p)


@pytest.mark.parametrize('name', LAWS)
def test_top_p_keeps_the_fewest(name):
  logits = law(name)
  for mass in MASSES:
    kept = np.asarray(top_p(logits, jnp.float32(mass)))
    # Rounding may count a mass short of it by a little less or more: of shares,
    # and the whole, the mass, its difference and product by half a unit each.
    error = share_error(VOCAB) + statistics.rounding(4 / 2)
    most, fewest = (
      sorted_top_p(logits, mass, MISSING + sign * error) for sign in (-1, 1)
    )
    assert fewest.sum() <= kept.sum() <= most.sum(), mass
    np.testing.assert_array_equal(kept & most, kept)
    np.testing.assert_array_equal(kept & fewest, fewest)


def test_top_p_counts_to_the_atom_where_rounding_is_no_matter():
  """Also with a traced mass, and mapped over rows."""
  logits = jnp.stack([jnp.asarray(law(name)) for name in ('flat', 'steps')])
  kept = jax.jit(jax.vmap(filters.top_p, (0, None)))(logits, 0.3001)
  for row, mask in zip(np.asarray(logits), np.asarray(kept)):
    np.testing.assert_array_equal(mask, sorted_top_p(row, 0.3001))
  assert kept[0].sum() == 6002 and kept[0, :6002].all()


def test_the_sum_of_shares_is_the_same_in_any_order():
  weights = np.exp(law('heavy_tail'))
  shares = np.asarray(filters._shares(jnp.asarray(weights)), np.int64)
  assert 2**30 < shares.sum() < 2**31
  exact = np.float64(weights) / np.float64(weights).sum()
  parts = np.arange(VOCAB) % 7 == 3
  found = shares[parts].sum() / shares.sum()
  error = share_error(parts.sum())
  np.testing.assert_allclose(found, exact[parts].sum(), rtol=0, atol=error)


@pytest.mark.parametrize('name', LAWS)
@pytest.mark.parametrize('k', [1, 50, VOCAB // 40])
def test_top_k_is_that_of_jax(name, k):
  logits = jnp.asarray(law(name))
  wanted = jax.lax.top_k(logits, k)
  found = filters.top_k(logits, k)
  for one, other in zip(found, wanted):
    np.testing.assert_array_equal(one, other)
    assert one.dtype == other.dtype


def test_top_k_of_a_row_of_nan_or_nothing():
  for value in (np.nan, -np.inf):
    values, tokens = filters.top_k(jnp.full(300, value), 2)
    np.testing.assert_array_equal(values, [value, value])
    np.testing.assert_array_equal(tokens, [0, 1])


def longest_sort(module: str) -> int:
  """Largest axis that a lowered program sorts or takes the top of."""
  sorts = re.findall(
    r'stablehlo\.sort"\(.*?\}\) : \(tensor<(\d+)x', module, re.S
  )
  tops = re.findall(r'top_k\(.*?\) : tensor<(\d+)x', module)
  return max(map(int, sorts + tops), default=0)


@pytest.mark.parametrize('platform', ['cpu', 'cuda', 'tpu'])
def test_nothing_of_the_vocabulary_is_sorted(platform):
  options = GenerateOptions(top_k=50, top_p=0.9)

  def lowered(function):
    shape = jax.ShapeDtypeStruct((151_936,), jnp.float32)
    jitted = jax.jit(function)
    return export.export(jitted, platforms=[platform])(shape).mlir_module()

  only_p = lowered(
    lambda row: filters.warp(row, 1.0, GenerateOptions(top_p=0.9))
  )
  assert longest_sort(only_p) == 0
  both = lowered(lambda row: filters.warp(row, 1.0, options))
  assert 0 < longest_sort(both) < 4000
  # The sorts are seen: two negative controls.
  assert longest_sort(lowered(jnp.sort)) == 151_936
  assert longest_sort(lowered(lambda row: jax.lax.top_k(row, 9))) == 151_936


def test_samples_of_a_tied_law():
  """Five of ten equal atoms carry the mass, not ten and not four."""
  tied = filters.warp(jnp.zeros(10), 1.0, GenerateOptions(top_p=0.5))
  keys = jax.random.split(jax.random.key(0), 20_000)
  samples = jax.vmap(
    lambda key: filters.sample(filters.noise(key, tied), tied)
  )(keys)
  statistics.assert_law(samples, np.repeat([0.2, 0.0], 5))
  statistics.assert_not_law(samples, np.repeat([1 / 6, 0.0], [6, 4]))
