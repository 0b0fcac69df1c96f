"""Toy laws against theory, draws against theory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import toy as default_config
from configs import toy_peaked
from listcoupling import bounds, coupling, files, gumbel, tables
from listcoupling.experiments import toy
from tests import floats, reference, statistics


def _config(**changes):
  config = default_config.get_config()
  config.update(num_pairs=6, num_drafts=(1, 3), trials=400)
  with config.ignore_type():
    config.update(changes)
  return config


def test_rows_agree_with_theory():
  config = _config()
  p, q = toy.random_pairs(0, config)
  trials = config.num_pairs * config.trials
  for count in config.num_drafts:
    row = toy.row(0, config, count)
    pairs = list(zip(np.float64(p), np.float64(q), strict=True))
    expected = {
      'gls': row['gls_exact'],
      'specinfer': np.mean(
        [reference.specinfer_probability([a] * count, b) for a, b in pairs]
      ),
      'spectr': np.mean(
        [reference.spectr_probability(a, b, count) for a, b in pairs]
      ),
    }
    for name, mean in expected.items():
      error = np.sqrt(mean * (1 - mean) / trials)  # at least the true one
      assert abs(row[name] - mean) < statistics.SIGMAS * error, name
    slack = statistics.SIGMAS * np.sqrt(0.25 / trials)
    if count > 1:
      assert row['gls_bound'] < row['gls_exact']
    else:  # one formula, in two programs
      error = floats.apart(jax.vmap(bounds.list_matching_bound), p[:, None], q)
      assert abs(row['gls_exact'] - row['gls_bound']) <= error
    assert row['gls_exact'] < row['optimum']
    assert row['specinfer'] < row['optimum'] + slack
    assert row['shared_race'] < row['optimum_without_replacement'] + slack
    if count > 1:  # control: the theory of SpecTr is not that of GLS
      assert abs(row['gls'] - expected['spectr']) > slack


def test_trial_is_the_public_sampler():
  config = _config()
  p, q = (jnp.asarray(laws[0]) for laws in toy.random_pairs(1, config))
  for key in jax.random.split(jax.random.key(0), 20):
    mine = toy._trial(key, p, q, 3, width=3)
    logits = jnp.log(p), jnp.log(q)
    gls = coupling.gumbel_list_sampling(key, *logits, num_drafts=3)
    shared = coupling.shared_race_list_sampling(key, *logits, num_drafts=3)
    assert bool(mine[0]) == bool(gls.is_match)
    assert bool(mine[1]) == bool(shared.is_match)


def test_run_writes_its_files_and_resumes(tmp_path, monkeypatch, drawn):
  config = _config()
  rows = toy.run(config, tmp_path, 0)
  assert tables.read_csv(tmp_path / 'results.csv') == rows
  record = files.read_json(tmp_path / 'results.json')
  assert record['settings']['seed'] == 0
  assert record['environment']['versions']['jax'] == jax.__version__
  (axes,) = drawn['toy.png']
  curves = dict(zip(*reversed(axes.get_legend_handles_labels())))
  for label, name in (('GLS, exact', 'gls_exact'), ('SpecTr', 'spectr')):
    line = curves[label].lines[0]
    assert line.get_ydata().tolist() == [row[name] for row in rows]
    counts = [row['num_drafts'] for row in rows]
    factors = np.divide(line.get_xdata(), counts).astype(float)
    # Each point is nearer to its own count than to half or twice as many.
    assert (abs(np.log2(factors)) < 0.5).all()
  assert axes.get_xscale() == 'log' and axes.get_xticks().tolist() == [1]
  starts = {curve.lines[0].get_xdata()[0] for curve in curves.values()}
  assert len(starts) == len(curves) == len(toy.METHODS)  # each apart
  monkeypatch.setattr(toy, '_sampled', None)  # nothing is computed again
  assert toy.run(config, tmp_path, 0) == rows
  with pytest.raises(
    ValueError, match=r'other settings of config.trials \(.*, now '
  ):
    toy.run(_config(trials=500), tmp_path, 0)
  text = toy.run.as_text(rows)
  assert f'{rows[1]["gls"]:.3f} ± {rows[1]["gls_se"]:.3f}' in text
  assert f'{rows[1]["gls_exact"]:.4f}' in text
  assert max(map(len, text.splitlines())) <= 100
  shown = text.splitlines()[2].replace(' ± ', '±').split()
  assert len(shown) == 1 + len(toy.METHODS)  # every one has its column
  assert 'not what sampling leaves' in ' '.join(text.split())


@pytest.mark.parametrize(
  'name, value',
  [
    ('num_pairs', 1),
    ('trials', 0),
    ('num_drafts', (0, 2)),
    ('pairs', 'beta'),
  ],
)
def test_bad_settings_are_refused(tmp_path, name, value):
  with pytest.raises(ValueError, match=name):
    toy.run(_config(**{name: value}), tmp_path, 0)
  assert not list(tmp_path.iterdir())


def test_peaked_pairs_are_laws():
  config = toy_peaked.get_config()
  p, q = toy.random_pairs(0, config)
  error = statistics.rounding(1000)  # terms of the sum
  np.testing.assert_allclose(p.sum(axis=1), 1, rtol=0, atol=error)
  config.pairs = default_config.get_config().pairs
  flat = toy.random_pairs(0, config)[1]
  assert q.shape == flat.shape == (12, 1000)
  assert q.max(axis=1).min() > flat.max()


def test_a_trial_may_be_traced_under_64_bits():
  law = jnp.full(4, 0.25, jnp.float32)
  trial = functools.partial(toy._trial, width=2)
  with jax.enable_x64(True), jax.numpy_dtype_promotion('strict'):
    traced = jax.eval_shape(trial, gumbel.seed_key(0), law, law, 2)
  assert traced.shape == (len(toy.SAMPLED),)


def test_coupling_table_agrees_with_theory():
  lines = toy.coupling_table(3, trials=400).splitlines()
  assert 'TV = ' in lines[0] and lines[12] == '' and 'bits: ' in lines[14]
  compared, half = 0, 0.5e-4  # of the fourth digit, the last
  for line in lines[2:12]:
    figures = re.search(r'(\d\.\d+) ± (\d\.\d+) +(\d\.\d+)', line)
    if figures:
      rate, error, theory = map(float, figures.groups())
      error = statistics.SIGMAS * (error + half) + 2 * half
      assert abs(rate - theory) < error, line
      compared += 1
  assert compared == 7  # the shared race has no theory
