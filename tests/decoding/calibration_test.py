"""Learning of a drafter, against plain loops and known pairs."""

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel
from listcoupling.decoding import calibration, filters
from listcoupling.decoding.options import GenerateOptions
from tests import floats, statistics
from tests.decoding import exact

VOCAB = 40
KEYS = jax.random.split(jax.random.key(3), 2)


def text_of(sigma, length, seed=0):
  """Tokens of a target without memory, drafted logits, keys: two rows."""
  rng = np.random.default_rng(seed)
  target = 2.5 * rng.normal(size=(2, length, VOCAB))
  draft = target + sigma * rng.normal(size=target.shape)
  places = jnp.arange(1, length + 1)
  noise = jax.vmap(
    lambda key: jax.vmap(
      lambda place: gumbel.gumbel(gumbel.position_key(key, place), VOCAB)
    )(places)
  )(KEYS)
  tokens = np.argmax(target + np.asarray(noise), axis=-1)
  return np.pad(tokens, ((0, 0), (1, 0))), draft, np.asarray(noise, np.float64)


def learn(tokens, draft, steps, **options):
  """Calibration of rows read `steps` tokens at a time, from the first on."""
  params = filters.sampling_params(GenerateOptions(**options))
  update = jax.jit(calibration.update)
  state = calibration.start(jnp.zeros(2, jnp.int32))
  root, window = 0, max(steps)
  padded = np.pad(draft, ((0, 0), (window, 1), (0, 0)))
  for step in steps:
    root += step
    logits = padded[:, window + root - window : window + root + 1]
    state = update(
      state,
      KEYS,
      jnp.asarray(tokens),
      jnp.full(2, root, jnp.int32),
      jnp.asarray(logits, jnp.float32),
      params.temperature,
      params,
    )
  return state


def log_likelihood(draft, noise, tokens, scale, tau, temperature=1.0):
  """Of tokens [T] under softmax((a log p + G) / tau), by hand."""
  total = 0.0
  for scores, gumbels, token in zip(draft, noise, tokens):
    law = np.log(exact.softmax(scores / temperature))
    total += np.log(exact.softmax((scale * law + gumbels) / tau)[token])
  return total


def counted(*steps):
  """Weight of the tokens of these blocks and of the 10 to start with."""
  total = 10.0
  for step in steps:
    total = total * calibration._MEMORY**step + step
  return total


def count_error(*steps):
  return floats.apart(lambda steps: counted(*steps), jnp.float32(steps))


def test_scores_are_the_log_likelihoods_of_the_text():
  """Blocks of uneven length count every token once."""
  tokens, draft, noise = text_of(1.0, 7)
  state = learn(tokens, draft, (1, 3, 1, 2), temperature=0.8)
  # One token at a time, forgetting between blocks: undone for the comparison.
  blocks = (0, 1), (1, 4), (4, 5), (5, 7)
  start = np.asarray(calibration.start(jnp.zeros(2, int)).log_likelihoods)
  for row in range(2):
    for i, j in ((0, 2), (2, 5), (4, 11)):
      wanted = start[row, i, j]
      for first, last in blocks:
        wanted = wanted * calibration._MEMORY ** (last - first)
        wanted += log_likelihood(
          draft[row, first:last],
          noise[row, first:last],
          tokens[row, 1 + first : 1 + last],
          calibration.SCALES[i],
          calibration.TEMPERATURES[j],
          0.8,
        )
      found = state.log_likelihoods[row, i, j]
      # Of each of the 7 tokens 8: the logit's temperature; the law's maximum,
      # normaliser and difference; scale and sum; temperature; normaliser.
      reach = calibration.SCALES[i] * np.ptp(draft) / 0.8 + np.ptp(noise)
      error = statistics.rounding(7 * 8, reach / calibration.TEMPERATURES[j])
      np.testing.assert_allclose(found, wanted, rtol=0, atol=error)
  np.testing.assert_allclose(
    state.inside + state.outside,
    counted(1, 3, 1, 2),
    rtol=0,
    atol=count_error(1, 3, 1, 2),
  )


def test_the_start_is_a_guess_around_one_pair():
  fit = calibration.fit(calibration.start(jnp.zeros(3, jnp.int32)))
  np.testing.assert_array_equal(fit.scales, [[1.0] * 3 + [0.5]] * 3)
  np.testing.assert_array_equal(
    fit.temperatures, np.float32(3 * [[0.5**0.5, 1.0, 0.5, 0.5**0.5]])
  )

  def log_weights(ratios):
    return jax.nn.log_softmax(-0.625 * jnp.log(ratios) ** 2)

  ratios = np.array([1.0, 0.5**0.5, 0.5**0.5, 0.5])
  weights = np.exp(-0.625 * np.log(ratios) ** 2)
  np.testing.assert_allclose(
    fit.log_weights,
    3 * [np.log(weights / weights.sum())],
    rtol=0,
    atol=floats.apart(log_weights, jnp.float32(ratios)),
  )
  # A difference, a sum, a quotient and its logarithm.
  error = statistics.rounding(4)
  np.testing.assert_allclose(fit.log_hit, np.log(0.99), rtol=0, atol=error)


def test_chances_are_the_mean_over_pairs():
  """By hand; more tokens than pairs, of which the likeliest stand first."""
  tokens, draft, noise = text_of(1.0, 12)
  state = learn(tokens, draft, (6, 6))
  fit = jax.tree.map(lambda leaf: leaf[1], calibration.fit(state))
  table = np.sort(np.ravel(state.log_likelihoods[1]))[::-1]
  # A maximum, an exponential, three sums, a logarithm, a difference.
  error = statistics.rounding(7, np.abs(table[:4]).max())
  np.testing.assert_allclose(
    fit.log_weights,
    table[:4] - np.log(np.exp(table[:4]).sum()),
    rtol=0,
    atol=error,
  )
  law = np.float32(np.log(exact.softmax(draft[1, 0])))
  wanted = sum(
    np.exp(float(weight))
    * exact.softmax((a * np.float64(law) + noise[1, 0]) / tau)
    for a, tau, weight in zip(
      fit.scales, fit.temperatures, fit.log_weights, strict=True
    )
  )

  def log_chances(law, noise):
    return jnp.log(calibration.chances(fit, filters.Law(law, None), noise))

  rows = jnp.asarray(law), jnp.float32(noise[1, 0])
  off = log_chances(*rows) - np.log(wanted)
  error = floats.apart(log_chances, *rows)
  np.testing.assert_allclose(off, float(fit.log_hit), rtol=0, atol=error)
  assert np.abs(off - fit.log_weights[0]).max() > error
  law = law + np.where(np.arange(VOCAB) == 3, np.nan, 0.0)
  broken = filters.Law(jnp.asarray(law, jnp.float32), None)
  assert np.isnan(calibration.chances(fit, broken, noise[1, 0])).all()


def test_rows_learn_at_their_own_pace():
  """One row has three new tokens where the other has one, or none."""
  tokens, draft, _ = text_of(1.0, 6)
  params = filters.sampling_params(GenerateOptions())

  def seen(rows):
    state = calibration.start(jnp.zeros(2, jnp.int32))
    for roots in zip(*rows, strict=True):
      windows = [
        np.pad(draft[row], ((4, 1), (0, 0)))[root : root + 5]
        for row, root in enumerate(roots)
      ]
      state = jax.jit(calibration.update)(
        state, KEYS, jnp.asarray(tokens), jnp.asarray(roots, jnp.int32),
        jnp.asarray(windows, jnp.float32), params.temperature, params,
      )  # fmt: skip
    return state

  mixed = seen(((3, 3, 6), (1, 4, 6)))
  alone = seen(((3, 3, 6), (3, 3, 6))), seen(((1, 4, 6), (1, 4, 6)))
  for found, *wanted in zip(mixed, *alone, strict=True):
    for row in range(2):
      np.testing.assert_array_equal(found[row], wanted[row][row])
  np.testing.assert_allclose(
    mixed.inside + mixed.outside,
    [counted(3, 0, 3), counted(1, 3, 2)],
    rtol=0,
    atol=count_error(1, 3, 2),
  )


def test_logits_after_the_last_token_alone_tell_nothing():
  state = calibration.start(jnp.zeros(2, jnp.int32))
  params = filters.sampling_params(GenerateOptions())
  after = jax.jit(calibration.update)(
    state, KEYS, jnp.zeros((2, 9), jnp.int32), jnp.full(2, 3, jnp.int32),
    jnp.zeros((2, 1, VOCAB)), params.temperature, params,
  )  # fmt: skip
  for before, now in zip(state[:3], after[:3], strict=True):
    np.testing.assert_array_equal(before, now)
  np.testing.assert_array_equal(after.scored, 3)


def test_a_noisy_drafter_is_believed_less():
  """tau follows sigma; a falls where most of what it says is noise."""
  fits = {}
  for sigma in (0.1, 0.5, 4.0):
    tokens, draft, _ = text_of(sigma, 240)
    fits[sigma] = calibration.fit(learn(tokens, draft, (6,) * 40))
  taus = [np.asarray(fit.temperatures[:, 0]) for fit in fits.values()]
  assert (np.diff(taus, axis=0) > 0).all()
  assert (fits[4.0].scales[:, 0] < fits[0.1].scales[:, 0]).all()


def test_a_cold_text_makes_a_noisy_drafter_noisier():
  """At T = .2 logits are off by five times as much, and tau says so."""
  rng = np.random.default_rng(4)
  target = 2.5 * rng.normal(size=(2, 240, VOCAB))
  draft = target + 2.0 * rng.normal(size=target.shape)
  _, _, noise = text_of(2.0, 240)
  taus = []
  for temperature in (0.2, 1.0):
    tokens = np.argmax(target / temperature + noise, axis=-1)
    tokens = np.pad(tokens, ((0, 0), (1, 0)))
    state = learn(tokens, draft, (6,) * 40, temperature=temperature)
    taus.append(np.asarray(calibration.fit(state).temperatures[:, 0]))
  # Both are rounded to a grid in steps of sqrt(2).
  assert (np.abs(np.log2(taus[0] / taus[1] / 5)) < 0.5).all()


def test_tokens_outside_the_support_are_misses():
  """Half of the tokens are cut off by top-k: the worth of a step says so."""
  tokens, draft, _ = text_of(0.5, 120)
  state = learn(tokens, draft, (6,) * 20, top_k=1)
  best = np.argmax(draft, axis=-1)

  def share(hits):
    # Ten tokens to start with, of which .1 misses; old ones count less.
    inside, outside = 9.9, 0.1
    for block in hits:
      kept = calibration._MEMORY**6
      inside = inside * kept + block.sum()
      outside = outside * kept + (1 - block).sum()
    return inside / (inside + outside)

  for row in range(2):
    hits = best[row] == tokens[row, 1:]
    assert 0.1 < hits.mean() < 0.9
    blocks = np.float64(hits).reshape(20, 6)
    np.testing.assert_allclose(
      calibration.fit(state).log_hit[row],
      np.log(share(blocks)),
      rtol=0,
      atol=floats.apart(lambda x: jnp.log(share(x)), jnp.float32(blocks)),
    )
    assert np.isfinite(np.asarray(state.log_likelihoods)).all()


def test_greedy_drafts_have_no_noise():
  params = filters.sampling_params(GenerateOptions(temperature=0.0))
  logits = jnp.asarray(np.random.default_rng(0).normal(size=VOCAB))
  for temperature, silent in ((0.0, True), (1.0, False)):
    law, noise = calibration.perturbed(
      KEYS[0], logits, jnp.float32(temperature), params
    )
    assert bool(jnp.all(noise == 0)) == silent
    np.testing.assert_array_equal(
      filters.probabilities(law, VOCAB), jax.nn.softmax(logits)
    )
