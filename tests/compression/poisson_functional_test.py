"""First arrivals: the exponential race, its winners by hand, the codec's law.

Many settings at once: their order, and what is run again.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from listcoupling.compression import gaussian, poisson_functional
from tests import statistics
from tests.compression import roundings

K, N, M, B, S = 2, 256, 512, 64, 0.5
V, L = 0.05, 32


@functools.cache
def _drawn(complete=True):
  key = jax.random.key(5)
  source, keys = poisson_functional.draw_sources(
    key, jnp.arange(B), jnp.full(K, S)
  )
  return source, poisson_functional.draw_arrivals(
    keys, num_races=K, num_arrivals=M, num_candidates=N, complete=complete
  )


@functools.cache
def _dense():
  """First arrival time [K, N, B] of each candidate, its value and uniform."""
  drawn = _drawn()[1]
  time = np.exp(np.asarray(drawn.log_time, np.float64) - 64) / N
  index = np.asarray(drawn.index)
  first = np.full((K, N, B), np.inf)
  normal, uniform = np.zeros((N, B)), np.zeros((N, B))
  for k in range(K):
    for b in range(B):
      np.minimum.at(first[k, :, b], index[k, :, b], time[k, :, b])
      normal[index[k, :, b], b] = drawn.normal[k, :, b]
      uniform[index[k, :, b], b] = drawn.uniform[k, :, b]
  return first, normal, uniform


def test_first_arrivals_are_exponential_and_candidates_normal():
  _, drawn = _drawn()
  assert drawn.log_time.shape == (K, M + N, B)
  first, normal, uniform = _dense()
  for values, law in (
    (first, stats.expon()),
    (normal, stats.norm()),
    (uniform, stats.uniform()),
  ):
    p_value = stats.kstest(values.ravel(), law.cdf).pvalue
    assert p_value > statistics.LEVEL
  wrong = stats.kstest(first.ravel(), stats.expon(scale=1.05).cdf)
  assert wrong.pvalue < statistics.LEVEL
  x, y = (first[k].ravel() for k in (0, 1))
  statistics.assert_mean((x - 1) * (y - 1), 0)  # races are independent
  statistics.assert_mean((x - 1) * normal.ravel(), 0)


def test_fewer_arrivals_are_the_beginning_of_more():
  short, full = _drawn(complete=False)[1], _drawn()[1]
  for a, b in zip(short, full):
    np.testing.assert_array_equal(a, b[:, :M])
  assert np.all(np.diff(short.log_time, axis=1) >= 0)


def _setting(is_interval, v=V):
  return poisson_functional.Settings(
    jnp.full((K, 1), v), jnp.full((K, 1), 1.6), jnp.ones((K, 1)),
    jnp.full(1, float(L)), jnp.full(1, is_interval), jnp.full(1, False),
  )  # fmt: skip


def _by_hand(n, is_interval, b):
  """Squared error and match of the dense races of one lane."""
  source = _drawn()[0]
  first, normal, uniform = (x[..., b] for x in _dense())
  a, t = float(source.value[b]), np.asarray(source.side[:, b], np.float64)
  u = np.sqrt(1 + V) * normal
  place = u / 1.6 + float(source.dither[b]) if is_interval else uniform
  label = np.floor((place % 1) * L)
  prior = stats.norm(0, np.sqrt(1 + V)).pdf(u)
  q = stats.norm(a, np.sqrt(V)).pdf(u) / prior
  sent = np.argmin(first[:n].min(0) / q)
  errors, match = [], False
  for k in range(n):
    law = stats.norm(t[k] / (1 + S), np.sqrt(1 + V - 1 / (1 + S)))
    p = np.where(label == label[sent], law.pdf(u) / prior, 1e-300)
    found = np.argmin(first[k] / p)
    match |= found == sent
    errors.append((gaussian.estimate(u[found], t[k], S, V) - a) ** 2)
  return min(errors), match


def _misses(some, every):
  """[K, B] whether a decoder answers otherwise."""
  off = np.sqrt(some.squared_error) - np.sqrt(every.squared_error)
  return np.nanmax(np.abs(off), 1) > roundings.of_trials(V)[0]


@pytest.mark.parametrize('is_interval', [False, True])
def test_the_winners_are_those_of_the_dense_races(is_interval):
  run = jax.jit(poisson_functional.run)
  source, drawn = _drawn()
  blocks = ((M + N) // poisson_functional.BLOCK,) * 2
  out = run(drawn, source, _setting(is_interval), jnp.full(K, S), blocks)
  for n in (1, 2):
    hand = [_by_hand(n, is_interval, b) for b in range(B)]
    error, match = (np.array(x) for x in zip(*hand))
    best = np.nanmin(out.squared_error[n - 1], 0)
    off = np.abs(np.sqrt(best) - np.sqrt(error))
    close = off < roundings.of_trials(V)[0]
    assert close.sum() >= B - 1  # one may tie in float32
    assert (np.asarray(out.is_match[n - 1]) == match).sum() >= B - 1
  short = run(
    _drawn(False)[1], source, _setting(is_interval), jnp.full(K, S), (1, 1)
  )
  certain = np.asarray(short.is_certain)
  assert 0.2 < certain.mean() < 1  # the certificate says something
  assert not _misses(short, out)[certain].any()
  # Control: at a tiny v the winner may come late, and that is not certain.
  tiny = _setting(is_interval, 2e-4)
  out = run(drawn, source, tiny, jnp.full(K, S), blocks)
  short = run(_drawn(False)[1], source, tiny, jnp.full(K, S), (1, 1))
  missed = _misses(short, out)
  assert missed.any() and not (missed & np.asarray(short.is_certain)).any()


def _made_up():
  """Arrivals of no law at all: every race and every n has its own numbers.

  Trials 0 to 5 have no groups, 6 and 7 a group per decoder, 8 and 9 one race.
  """
  rng = np.random.default_rng(15)
  races, length, count = 3, 2 * poisson_functional.BLOCK, 10
  shape = races, length, count
  pace = np.array([0.9, 0.3, 0.6])[:, None, None]
  drawn = poisson_functional.Arrivals(
    np.sort(rng.normal(64, pace, shape), axis=1).astype(np.float32),
    rng.normal(size=shape).astype(np.float32),
    rng.uniform(size=shape).astype(np.float32),
    rng.integers(0, 40, shape).astype(np.int32),
  )
  source = poisson_functional.Sources(
    np.array([0.1, -1.5, 0.7, 3.0, 0.0, -2.5, 0.4, 1.1, -0.3, 0.9]),
    rng.normal(0, 1.5, (races, count)),
    rng.uniform(size=count),
  )
  trial = np.arange(count)
  all_groups = np.isin(trial, (6, 7)) * np.arange(races)[:, None]
  setting = poisson_functional.Settings(
    rng.uniform(0.02, 0.4, (races, count)),
    rng.uniform(1, 3, (races, count)),
    1.0 + all_groups,
    np.array([2.0, 3, 4, 2, 3, 4, 2, 3, 2, 4]),
    trial % 2 == 0,
    trial >= 8,
  )
  return drawn, source, setting


def _race_of(setting, n, k, b):
  """Race, group, and number of races and groups, by the contract."""
  groups = int(setting.num_groups[n - 1, b])
  if setting.is_shared[b]:
    return 0, 0, 1, 1
  return k // groups, k % groups, n // groups, groups


def _made_up_by_hand(drawn, source, setting, blocks, n, b):
  """Errors, match, certainty and densities of one trial with n decoders."""
  races = _race_of(setting, n, 0, b)[2]
  size = poisson_functional.BLOCK
  heard = [x[:races, : blocks[0] * size, b] for x in drawn]
  v, period = setting.test_variance[n - 1, b], setting.period[n - 1, b]
  a, wide = source.value[b], np.linspace(-12, 12, 4001)

  def cost(z, mean, variance):  # - log of weight over prior
    return (np.sqrt(1 + v) * z - mean) ** 2 / (2 * variance) - z * z / 2

  def label(z, uniform):
    u = np.sqrt(1 + v) * z
    place = u / period + source.dither[b] if setting.is_interval[b] else uniform
    count = setting.num_messages[b] * setting.num_groups[n - 1, b]
    return np.floor(place % 1 * count).astype(int)

  total = heard[0] + cost(heard[1], a, v)
  place = np.unravel_index(total.argmin(), total.shape)
  # Nothing is certain that an arrival after the last could overtake.
  certain = np.all(total.min() <= heard[0][:, -1] + cost(wide, a, v).min())
  z, uniform, index = (x[place] for x in heard[1:])
  w, sent = np.sqrt(1 + v) * z, label(z, uniform)
  errors, match, densities = [], False, []
  for k in range(n):
    race, group, _, groups = _race_of(setting, n, k, b)
    times, *rest = (x[race, : blocks[1] * size, b] for x in drawn)
    t, spread = source.side[k, b], 1 + v - 1 / (1 + S)
    rise = cost(rest[0], t / (1 + S), spread)
    named = sent // groups * groups + group
    mine = np.where(label(*rest[:2]) == named, times + rise, np.inf)
    best = mine.argmin()
    lowest = cost(wide, t / (1 + S), spread).min()
    certain &= mine[best] <= times[-1] + lowest
    found = np.sqrt(1 + v) * rest[0][best]
    errors.append(((S * found + v * t) / (S + v + S * v) - a) ** 2)
    match |= rest[2][best] == index
    law = stats.norm(t / (1 + S), np.sqrt(spread))
    densities.append(
      (stats.norm(a, np.sqrt(v)).logpdf(w) - law.logpdf(w)) / np.log(2)
    )
  return errors, match, certain, densities


@pytest.mark.parametrize('blocks', [(2, 1), (1, 2)])
def test_each_number_of_decoders_has_its_own_setting(blocks):
  drawn, source, setting = _made_up()
  out = jax.jit(poisson_functional.run)(
    *jax.tree.map(jnp.asarray, (drawn, source, setting)), jnp.full(3, S), blocks
  )
  error, density_error = roundings.of_trials(setting.test_variance.min())
  seen = []
  for n in (1, 2, 3):
    for b in range(len(source.value)):
      errors, match, certain, densities = _made_up_by_hand(
        drawn, source, setting, blocks, n, b
      )
      here = poisson_functional.Outcomes(
        *(np.asarray(x[n - 1, ..., b]) for x in out)
      )
      np.testing.assert_allclose(
        np.sqrt(here.squared_error[:n]),
        np.sqrt(errors),
        rtol=0,
        atol=error,
        err_msg=f'{n, b}',
      )
      assert np.isnan(here.squared_error[n:]).all()
      assert here.is_match == match and here.is_certain == certain, (n, b)
      np.testing.assert_allclose(
        here.information_density[:n],
        densities,
        rtol=0,
        atol=density_error,
      )
      seen.append((bool(match), bool(certain)))
  assert len({x for x, _ in seen}) == len({x for _, x in seen}) == 2


_R, _L = 1500, 4
_KINDS = {
  'iid': ({}, {}),
  'shared': ({'is_shared': True}, {'shared_race': True}),
  'interval': (
    {'period': [1.6]}, {'label_kind': 'interval', 'width': 1.6 / _L}
  ),
  'groups': ({'num_groups': 2}, {'num_groups': 2}),
  'interval, groups': (
    {'period': [1.6], 'num_groups': 'all'},
    {'label_kind': 'interval', 'width': 1.6 / _L / 2, 'num_groups': 2},
  ),
}  # fmt: skip


def _settings():
  return poisson_functional.join(
    *(
      poisson_functional.make_settings([V], [_L], num_decoders=K, **options)
      for options, _ in _KINDS.values()
    )
  )


@functools.cache
def _many():
  return poisson_functional.simulate(
    jax.random.key(6), np.arange(_R), _settings(), num_candidates=N
  )


@pytest.mark.parametrize('kind', _KINDS)
def test_settings_have_the_law_of_the_codec(kind):
  out, j = _many(), list(_KINDS).index(kind)
  assert out.is_certain.all()
  exact = gaussian.simulate(
    jax.random.key(7), V, _L, num_trials=_R, num_decoders=K, num_candidates=N,
    **_KINDS[kind][1],
  )  # fmt: skip
  log_error = np.log(out.squared_error[:, j, 1])
  for x, y in (
    (log_error.min(-1), np.log(exact.squared_error).min(-1)),
    (log_error.max(-1), np.log(exact.squared_error).max(-1)),
    (out.is_match[:, j, 1], exact.is_match),
    (
      out.information_density[:, j, 1].mean(-1),
      np.asarray(exact.information_density).mean(-1),
    ),
  ):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    error = np.sqrt((x.var() + y.var()) / _R)
    assert abs(x.mean() - y.mean()) < statistics.SIGMAS * error


def test_kinds_of_settings_differ():
  """The control of the test above."""
  error = np.nanmin(_many().squared_error[:, :, 1], -1)  # [R, J]
  gain = np.log(error[:, 0]) - np.log(error[:, 2])
  assert gain.mean() > statistics.SIGMAS * gain.std() / np.sqrt(_R)
  root = np.sqrt(error)
  same = np.abs(root[:, 2] - root[:, 4]) < roundings.of_trials(V)[0]
  # Other labels, another choice in most trials.
  assert statistics.proportion_z(same.sum(), _R, 0.5) < -statistics.SIGMAS


def test_a_decoder_without_side_information_is_one_that_sees_noise():
  """Two decoders, the second blind or with s = 10^10."""
  settings = poisson_functional.make_settings([V], [_L], num_decoders=K)
  errors = [
    poisson_functional.simulate(
      jax.random.key(6), np.arange(400), settings, num_candidates=N,
      side_variance=[S, far],
    ).squared_error[:, 0, 1]
    for far in (np.inf, 1e10)
  ]  # fmt: skip
  # One that sees t, of deviation 10^5, moves its answers by t / 10^10; and a
  # logarithm of a weight by so much, which wins one race of 10^5 for another.
  roots = np.sqrt(errors)
  assert np.abs(roots[0] - roots[1]).max() < statistics.SIGMAS / 1e10**0.5
  gain = errors[0][:, 1] - errors[0][:, 0]
  assert gain.mean() > statistics.SIGMAS * gain.std() / np.sqrt(len(gain))


def test_trials_do_not_depend_on_their_batch():
  run = functools.partial(
    poisson_functional.simulate, jax.random.key(6), num_candidates=N
  )
  many = run(np.arange(40), _settings())
  few = run(np.array([33, 5]), _settings(), batch_size=2)
  few, many = np.sqrt(few.squared_error), np.sqrt(many.squared_error)
  error = roundings.of_trials(V)[0]
  np.testing.assert_allclose(few, many[[33, 5]], rtol=0, atol=error)
  with pytest.raises(AssertionError):  # control
    np.testing.assert_allclose(few, many[[5, 33]], rtol=0, atol=error)


def test_unsure_trials_are_run_again_in_their_place(monkeypatch):
  """Five settings in an order that no sorting leaves alone, few arrivals."""
  monkeypatch.setattr(
    poisson_functional, 'NUM_ARRIVALS', poisson_functional.BLOCK
  )
  make = functools.partial(poisson_functional.make_settings, num_decoders=K)
  kinds = [
    ([0.003], [8], dict(is_shared=True)),
    ([0.1], [8], {}),
    ([[0.1, 0.002]], [3], dict(is_shared=True)),
    ([[0.002, 0.1]], [4], dict(period=[[1.6, 2.4]])),
    ([0.002], [2], {}),
  ]
  settings = poisson_functional.join(*(make(v, m, **o) for v, m, o in kinds))
  key, trials = jax.random.key(6), np.arange(32)[::-1]
  run = functools.partial(
    poisson_functional.simulate,
    key,
    trials,
    settings,
    num_candidates=N,
    batch_size=8,
  )
  out, first = run(), run(complete=False)
  assert out.is_certain.all()
  again = ~first.is_certain.all(-1)  # [R, J]
  assert again[:, [0, 2, 3]].any(0).all() and not again.all()
  source, keys = poisson_functional.draw_sources(
    key, jnp.asarray(trials), jnp.full(K, S)
  )
  drawn = poisson_functional.draw_arrivals(
    keys, num_races=K, num_arrivals=poisson_functional.BLOCK, num_candidates=N,
    complete=True,
  )  # fmt: skip
  whole = jax.jit(poisson_functional.run)
  for j in range(len(kinds)):
    setting = poisson_functional.Settings(
      *(jnp.asarray(x[j])[..., None] for x in settings)
    )
    wanted = whole(drawn, source, setting, jnp.full(K, S), (2, 2))
    least = float(settings.test_variance[j].min())
    root, density = roundings.of_trials(least)
    for name, power, error in (
      ('squared_error', 0.5, root),
      ('information_density', 1, density),
    ):
      np.testing.assert_allclose(
        getattr(out, name)[:, j] ** power,
        np.moveaxis(np.asarray(getattr(wanted, name)), -1, 0) ** power,
        rtol=0, atol=error, err_msg=f'{name} of setting {j}',
      )  # fmt: skip
    np.testing.assert_array_equal(out.is_match[:, j], wanted.is_match.T)


def test_sources_are_those_of_the_codec_and_keys_are_used_once():
  key, trials = jax.random.key(9), jnp.array([4, 0])
  (a, t, dither), keys = poisson_functional.draw_sources(
    key, trials, jnp.full(3, 0.7)
  )
  for i, trial in enumerate(trials):
    of_trial = gaussian.trial_key(key, trial)
    assert (jax.random.key_data(of_trial) == jax.random.key_data(keys[i])).all()
    wanted, sides = gaussian.draw_source(of_trial, 3, 0.7)
    assert a[i] == wanted
    # A product and a sum, once in one step.
    error = statistics.rounding(2, np.abs(sides).max())
    np.testing.assert_allclose(t[:, i], sides, rtol=0, atol=error)
  assert len({*a.tolist(), *t.ravel().tolist(), *dither.tolist()}) == 10


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(trials=[]), 'trials'),
    (dict(num_candidates=100), 'multiple of 256'),
    (dict(side_variance=0), 'side_variance must be positive'),
    (dict(side_variance=[1.0, 1.0, 1.0]), 'one for each of the 2'),
    (dict(key=jax.random.PRNGKey(0)), 'key'),
  ],
)
def test_bad_input_is_refused(change, message):
  good = dict(
    key=jax.random.key(0), trials=[0], settings=_settings(), num_candidates=N
  )
  with pytest.raises(ValueError, match=message):
    poisson_functional.simulate(**{**good, **change})
  with pytest.raises(ValueError, match='test_variance'):
    poisson_functional.make_settings([0.0], [4], num_decoders=1)
  with pytest.raises(ValueError, match='num_messages'):
    poisson_functional.make_settings([0.1], [0], num_decoders=1)
  with pytest.raises(ValueError, match='period must be positive'):
    poisson_functional.make_settings([0.1], [4], period=[0.0], num_decoders=1)
  with pytest.raises(ValueError, match='num_groups must divide .* = 3, got 2'):
    poisson_functional.make_settings([0.1], [4], num_groups=2, num_decoders=3)
