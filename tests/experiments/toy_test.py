import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from configs import toy as default_config
from configs import toy_peaked
from listcoupling import bounds, coupling
from listcoupling.experiments import results, toy
from tests import reference


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
    pairs = list(zip(p.astype(np.float64), q.astype(np.float64), strict=True))
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
      assert abs(row[name] - mean) < 5 * error, name
    slack = 5 * np.sqrt(0.25 / trials)
    assert row['gls_bound'] <= row['gls_exact'] + 1e-5
    assert row['gls_exact'] <= row['optimum'] + 1e-5
    assert row['specinfer'] < row['optimum'] + slack
    assert row['shared_race'] < row['optimum_without_replacement'] + slack
    if count > 1:  # control: GLS is not SpecTr
      assert abs(row['gls'] - row['spectr']) > 0.02


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


def test_run_writes_its_files_and_resumes(tmp_path, monkeypatch):
  computed = []
  row = toy.row
  monkeypatch.setattr(
    toy, 'row', lambda s, c, k: computed.append(k) or row(s, c, k)
  )
  rows = toy.run(_config(num_drafts=(1,)), tmp_path, 0)
  assert (tmp_path / 'toy.png').stat().st_size > 10_000
  assert results.read_csv(tmp_path / 'results.csv') == rows
  record = results.read_json(tmp_path / 'results.json')
  assert record['settings']['seed'] == 0
  assert record['environment']['versions']['jax'] == jax.__version__
  toy.run(_config(num_drafts=(1,)), tmp_path, 0)
  assert computed == [1]
  # Half a table, as an interrupted run leaves it.
  config = _config()
  full = toy.run(config, tmp_path / 'b', 0)
  results.write_csv(tmp_path / 'b' / 'results.csv', full[1:])
  computed.clear()
  again = toy.run(config, tmp_path / 'b', 0)
  assert computed == [1] and again == full
  computed.clear()
  with pytest.raises(ValueError, match='other settings of config.trials'):
    toy.run(_config(trials=500), tmp_path / 'b', 0)
  assert computed == [] and toy.run(config, tmp_path / 'b', 0) == full
  assert '0.' in toy.as_text(rows)


def test_coupling_table_lists_every_coupling(monkeypatch):
  table = toy.coupling_table(3, trials=50)
  for name in ('GLS', 'MinHash', 'SpecTr', 'low communication', 'optimum'):
    assert name in table
  p, q = np.random.default_rng(3).dirichlet(np.ones(10), 2)
  assert f'{float(bounds.list_matching_probability(p, q, 4)):.4f}' in table


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
  assert isinstance(config, config_dict.ConfigDict)
  p, q = toy.random_pairs(0, config)
  np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
  assert q.shape == (12, 1000) and q.max() > 0.05


def test_result_files_are_all_or_nothing(tmp_path):
  path = tmp_path / 'table.csv'
  results.write_csv(path, [{'a': 1, 'b': np.float32(0.5)}, {'a': 2, 'c': 'x'}])
  assert results.read_csv(path) == [
    {'a': 1, 'b': 0.5, 'c': None},
    {'a': 2, 'b': None, 'c': 'x'},
  ]
  with pytest.raises(RuntimeError):
    with results.replacing(path) as new:
      new.write_text('half')
      raise RuntimeError
  assert len(results.read_csv(path)) == 2
  assert [file.name for file in tmp_path.iterdir()] == ['table.csv']
  with pytest.raises(ValueError, match='table.csv'):
    results.write_csv(path, [])
