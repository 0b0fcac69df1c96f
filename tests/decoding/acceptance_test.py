"""Acceptance against theory: blocks of one depth on a fixed pair of laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import bounds
from listcoupling.decoding import calibration
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from tests import fakes, statistics
from tests.decoding import exact
from tests.statistics import SIGMAS

TARGET, (DRAFTER,) = fakes.random_pair(6, 2.0, 2)


TRIALS = 40_000
PROMPT = (0, 1)


def first_acceptances(method, width=3):
  """Blocks of TRIALS rows that accepted their first drafted token.

  With L = 1 and one new token there is one block per row.
  """
  options = GenerateOptions(
    method, num_drafts=width, draft_length=1, max_new_tokens=1
  )
  out = generate(
    jax.random.key(4),
    TARGET,
    [DRAFTER],
    np.tile(PROMPT, (TRIALS, 1)),
    np.full(TRIALS, 2),
    options,
  )
  assert (out.metrics.target_calls == 1).all()
  return int(out.metrics.accepted_tokens.sum())


@pytest.fixture(scope='module')
def laws():
  return tuple(exact.law_after(model, PROMPT) for model in (DRAFTER, TARGET))


@pytest.mark.parametrize('method', ['gls', 'gumbel_chains'])
def test_list_sampling_accepts_with_the_exact_matching_probability(
  method, laws
):
  count = first_acceptances(method)
  exact_ = float(bounds.list_matching_probability(*laws, 3))
  statistics.assert_proportion(count, TRIALS, exact_)
  bound = float(bounds.list_matching_bound(*laws, 3))
  assert statistics.proportion_z(count, TRIALS, bound) > -SIGMAS
  for other in (2, 4):  # the control: another number of drafts
    wrong = float(bounds.list_matching_probability(*laws, other))
    assert abs(statistics.proportion_z(count, TRIALS, wrong)) > SIGMAS


@pytest.mark.parametrize('method', ['specinfer', 'spectr'])
def test_rejection_stays_below_the_optimum(method, laws):
  count = first_acceptances(method)
  optimum = float(bounds.optimal_list_acceptance(*laws, 3))
  list_sampling = float(bounds.list_matching_probability(*laws, 3))
  assert statistics.proportion_z(count, TRIALS, optimum) < SIGMAS
  assert statistics.proportion_z(count, TRIALS, list_sampling) > SIGMAS


def test_single_accepts_the_overlap(laws):
  count = first_acceptances('single', width=1)
  overlap = 1 - float(bounds.total_variation(*laws))
  statistics.assert_proportion(count, TRIALS, overlap)


def test_beam_holds_the_likeliest_tokens(laws):
  """Depth 1 before anything is learned: the mean over pairs (a, tau)."""
  count = first_acceptances('gumbel_tree')
  list_sampling = float(bounds.list_matching_probability(*laws, 3))
  assert statistics.proportion_z(count, TRIALS, list_sampling) > SIGMAS
  p, q = (np.asarray(law, np.float64) for law in laws)
  # So many trials by hand that the error of their share hardly counts.
  noise = np.random.default_rng(0).gumbel(size=(20 * TRIALS, len(p)))
  texts = np.argmax(np.log(q) + noise, axis=-1)

  def share(worths):
    listed = np.argsort(-worths, axis=-1)[:, :3]
    return np.mean((listed == texts[:, None]).any(axis=-1))

  fit = calibration.fit(calibration.start(jnp.zeros(1, jnp.int32)))
  worths = 0.0
  for a, tau, weight in zip(
    fit.scales[0], fit.temperatures[0], fit.log_weights[0]
  ):
    powers = np.exp((float(a) * np.log(p) + noise) / float(tau))
    worths += np.exp(float(weight)) * powers / powers.sum(-1, keepdims=True)
  statistics.assert_proportion(count, TRIALS, share(worths))
  # The control: one race, the three smallest times.
  wrong = share(np.log(p) + noise)
  assert abs(statistics.proportion_z(count, TRIALS, wrong)) > SIGMAS
