"""Many settings at once: the codec's law, the order, what is run again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.compression import (
  arrival_codec,
  arrivals,
  gaussian,
  gaussian_grid,
)

K, N, V, S = 2, 256, 0.05, 0.5
_R, _L = 1500, 4


def _settings():
  make = functools.partial(gaussian_grid.make_settings, [V], [_L])
  return gaussian_grid.join(
    make(num_decoders=K),
    make(num_decoders=K, is_shared=True),
    make(num_decoders=K, period=[1.6]),
  )


def test_settings_have_the_law_of_the_codec():
  out = gaussian_grid.simulate(
    jax.random.key(6), np.arange(_R), _settings(), num_candidates=N
  )
  assert out.is_certain.all()
  for j, options in enumerate(
    (
      {},
      {'shared_race': True},
      {'label_kind': 'interval', 'width': 1.6 / _L},
    )
  ):
    exact = gaussian.simulate(
      jax.random.key(7), V, _L, num_trials=_R, num_decoders=K,
      num_candidates=N, **options,
    )  # fmt: skip
    for x, y in (
      (np.log(out.squared_error[:, j, 1]), np.log(exact.squared_error)),
      (out.is_match[:, j, 1], exact.is_match),
      (
        out.information_density[:, j, 1].mean(-1),
        np.asarray(exact.information_density).mean(-1),
      ),
    ):
      x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
      error = np.sqrt((x.var() + y.var()) / _R)
      assert abs(x.mean() - y.mean()) < 5 * error, options
  log_error = np.log(out.squared_error[:, :, 1])
  gain = log_error[:, 0] - log_error[:, 2]  # control: kinds do differ
  assert gain.mean() > 5 * gain.std() / np.sqrt(_R)


def test_trials_do_not_depend_on_their_batch():
  run = functools.partial(
    gaussian_grid.simulate, jax.random.key(6), num_candidates=N
  )
  many = run(np.arange(40), _settings())
  few = run(np.array([33, 5]), _settings(), lanes=2)
  np.testing.assert_allclose(
    few.squared_error, many.squared_error[[33, 5]], rtol=1e-4
  )


def test_unsure_trials_are_run_again_in_their_place(monkeypatch):
  """Five settings in an order that no sorting leaves alone, few arrivals."""
  monkeypatch.setattr(gaussian_grid, 'NUM_ARRIVALS', arrivals.BLOCK)
  make = functools.partial(gaussian_grid.make_settings, num_decoders=K)
  kinds = [
    ([0.003], [8], dict(is_shared=True)),
    ([0.1], [8], {}),
    ([[0.1, 0.002]], [3], dict(is_shared=True)),
    ([[0.002, 0.1]], [4], dict(period=[[1.6, 2.4]])),
    ([0.002], [2], {}),
  ]
  settings = gaussian_grid.join(*(make(v, m, **o) for v, m, o in kinds))
  key, trials = jax.random.key(6), np.array([7, 3, 12, 40, 5, 90, 91, 2])
  run = functools.partial(
    gaussian_grid.simulate, key, trials, settings, num_candidates=N, lanes=8
  )
  out, first = run(), run(complete=False)
  assert out.is_certain.all()
  again = ~first.is_certain.all(-1)  # [R, J]
  assert again[:, [0, 2, 3]].any(0).all() and not again.all()
  source, keys = arrival_codec.draw_sources(key, jnp.asarray(trials), K, S)
  drawn = arrivals.draw(
    keys, num_races=K, num_arrivals=arrivals.BLOCK, num_candidates=N,
    complete=True,
  )  # fmt: skip
  whole = jax.jit(arrival_codec.run)
  for j in range(len(kinds)):
    setting = arrival_codec.Setting(*(jnp.asarray(x[j])[..., None]
                                 for x in settings[:4]))  # fmt: skip
    races = arrivals.share(drawn) if settings.is_shared[j] else drawn
    wanted = whole(races, source, setting, S, (2, 2))
    for name in ('squared_error', 'information_density'):
      np.testing.assert_allclose(
        getattr(out, name)[:, j],
        np.moveaxis(np.asarray(getattr(wanted, name)), -1, 0),
        rtol=1e-3, atol=1e-4, err_msg=f'{name} of setting {j}',
      )  # fmt: skip
    np.testing.assert_array_equal(out.is_match[:, j], wanted.is_match.T)


def test_sources_are_those_of_the_codec_and_keys_are_used_once():
  key, trials = jax.random.key(9), jnp.array([4, 0])
  (a, t, offset), race_keys = arrival_codec.draw_sources(key, trials, 3, 0.7)
  for i, trial in enumerate(trials):
    keys = jax.random.split(jax.random.fold_in(key, trial), 4)
    wanted, sides = gaussian.draw_source(keys[0], 3, 0.7)
    assert a[i] == wanted
    np.testing.assert_allclose(t[:, i], sides, rtol=1e-6)
    assert 0 <= offset[i] < 1 and offset[i] != jax.random.uniform(race_keys[i])
    used = [tuple(jax.random.key_data(k).tolist()) for k in keys[:3]]
    assert tuple(jax.random.key_data(race_keys[i]).tolist()) not in used


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(trials=[]), 'trials'),
    (dict(num_candidates=100), 'multiple of 256'),
    (dict(side_variance=0), 'side_variance must be positive'),
    (dict(key=jax.random.PRNGKey(0)), 'key'),
  ],
)
def test_bad_input_is_refused(change, message):
  good = dict(
    key=jax.random.key(0), trials=[0], settings=_settings(), num_candidates=N
  )
  with pytest.raises(ValueError, match=message):
    gaussian_grid.simulate(**{**good, **change})
  with pytest.raises(ValueError, match='test_variance'):
    gaussian_grid.make_settings([0.0], [4], num_decoders=1)
  with pytest.raises(ValueError, match='num_messages'):
    gaussian_grid.make_settings([0.1], [0], num_decoders=1)
