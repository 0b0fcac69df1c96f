"""Tables of draws against theory, and noise that they find out."""

import re

import jax
import jax.numpy as jnp

from listcoupling.experiments import checks


def test_coupling_table_agrees_with_theory():
  lines = checks.coupling_table(3, trials=400).splitlines()
  assert 'TV = ' in lines[0] and len(lines) == 2 + 10
  compared = 0
  for line in lines[2:]:
    figures = re.search(r'(\d\.\d+) ± (\d\.\d+) +(\d\.\d+)', line)
    if figures:
      rate, error, theory = map(float, figures.groups())
      assert abs(rate - theory) < 5 * error + 5e-5, line  # four digits
      compared += 1
  assert compared == 5  # SpecInfer, SpecTr and the shared race have no theory


def test_exact_probabilities_are_those_of_draws():
  rows = checks.exact_rows(0, trials=2000)
  assert len(rows) == 4 * 4 + 1
  assert max(abs(row['z']) for row in rows) < 5
  for row in rows:
    assert row['bound'] <= row['exact'] + 1e-6
  # Control: the next K of the same laws is another probability.
  first, second = rows[:2]
  assert second['exact'] - first['exact'] > 5 * first['sampled_se']


def test_noise_that_misses_the_tail_is_found_out(monkeypatch):
  monkeypatch.setattr(checks, '_VOCAB', 257)
  kinds = checks._noises()

  def twice_as_often_and_always_the_same(key):
    return (jax.random.uniform(key, (1,)) < 0.02).astype(jnp.int32)

  kept = {
    'right': kinds['listcoupling.gumbel'],
    'wrong': (twice_as_often_and_always_the_same, 2),
  }
  monkeypatch.setattr(checks, '_noises', lambda: kept)
  right, wrong = checks.tail_rows(0, trials=20_000)
  assert (right['draws'], wrong['draws']) == (20_000, 10_000)
  assert abs(right['z']) < 5 and right['spread'] > 1e-6
  assert wrong['z'] > 5 and wrong['spread'] < 1e-6
