"""Couplings along real text: exact against sampled, checks, resume, plot."""

import dataclasses
import inspect
import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import next_token as next_token_config
from listcoupling import bounds, files, standard_errors, tables
from listcoupling.data import text
from listcoupling.decoding import analysis
from listcoupling.experiments import next_token
from listcoupling.models import pretrained, transformer
from tests import floats, statistics

REPETITIONS = 2000


def small_config():
  """Three positions of two files that every Python has."""
  config = next_token_config.get_config()
  config.update(
    data=(os.__file__, inspect.__file__),
    held_out_fraction=0.3,
    num_positions=3,
    context_length=16,
    repetitions=REPETITIONS,
  )
  return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(workdir, rows) of a small run on the shipped pair."""
  workdir = tmp_path_factory.mktemp('next_token')
  return workdir, next_token.run(small_config(), workdir, seed=3)


def test_sampled_rates_are_the_exact_values(finished):
  _, rows = finished
  assert [row['position'] for row in rows] == [0, 1, 2]
  for row in rows:
    for name in next_token.COUPLINGS:
      rate, exact = row[name], row[f'{name}_exact']
      statistics.assert_proportion(rate * REPETITIONS, REPETITIONS, exact)
      error = np.sqrt(rate * (1 - rate) / REPETITIONS)
      assert row[f'{name}_se'] == error
  # Negative control: one coupling's rates are not the other's values.
  swapped = [
    row | {'gumbel': row['minhash'], 'minhash': row['gumbel']} for row in rows
  ]
  assert next_token.checks(swapped)['largest_z'] > statistics.SIGMAS


def test_table_holds_exact_values_of_the_laws(finished):
  _, rows = finished
  config = small_config()
  target, drafter = next_token.load_pair(config)
  windows, _ = next_token.contexts(3, config, target.tokenizer)
  logits = next_token.pair_logits(config, windows, target, drafter)
  p, q = (np.exp(np.float64(x - x.max(-1, keepdims=True))) for x in logits)
  p, q = (law / law.sum(-1, keepdims=True) for law in (p, q))
  distance = 0.5 * np.abs(p - q).sum(axis=-1)
  common = np.minimum(p, q)
  minhash = (common * (1 + abs(p - q))).sum(-1) / np.maximum(p, q).sum(-1)
  gumbel = [
    sum(1 / np.maximum(a / a[j], b / b[j]).sum() for j in range(len(a)) if a[j])
    for a, b in zip(p, q)
  ]
  for name, exact, function in (
    ('total_variation', distance, bounds.total_variation),
    ('minhash_exact', minhash, bounds.weighted_minhash_probability),
    ('gumbel_exact', gumbel, bounds.gumbel_coupling_probability),
  ):

    def value(*logits, function=function):
      return jax.vmap(function)(*map(jax.nn.softmax, logits))

    np.testing.assert_allclose(
      [row[name] for row in rows], exact, rtol=0,
      atol=floats.apart(value, *logits),
    )  # fmt: skip


def test_laws_are_those_of_the_decoders_door():
  """Up to roundings, which the last token's sight of the first is not."""
  config = small_config()
  target, drafter = next_token.load_pair(config)
  windows, _ = next_token.contexts(3, config, target.tokenizer)
  whole = np.tril(np.ones((3, 16, 16), bool))
  blind = whole.copy()
  blind[:, -1, 0] = False
  logits = next_token.pair_logits(config, windows, target, drafter)
  for model, own in zip((drafter, target), logits):
    places = np.broadcast_to(np.arange(16), windows.shape)
    found, control = (
      jax.jit(model.apply)(
        model.params, windows, places, mask, model.init_cache(3, 16),
        np.zeros(3, np.int32),
      )[0][:, -1]
      for mask in (whole, blind)
    )  # fmt: skip

    def whole_rows(params, model=model):
      return transformer.causal_logits(model.config, params, windows)

    error = floats.apart(whole_rows, model.params)
    assert (abs(found - own).max(1) < error).all()
    assert (abs(control - own).max(1) > error).all()


def test_checks_see_order_and_bounds(finished):
  _, rows = finished
  found = next_token.checks(rows)
  assert found['pareto'] == found['above_bound'] == 3
  assert found['smallest_gain'] > 0
  # Roundings at 1e5 tokens are let pass, a token of mean probability is seen.
  size = 100_000
  logits = np.random.default_rng(0).normal(size=(2, size))

  def gain():
    laws = [*map(jax.nn.softmax, map(jnp.asarray, logits))]
    gumbel = bounds.gumbel_coupling_probability(*laws)
    return float(gumbel) - float(bounds.weighted_minhash_probability(*laws))

  with jax.enable_x64(True):
    exact = gain()
  error = abs(gain() - exact)
  for step, passed in ((error, 3), (1 / size, 0)):
    worse = [
      row | {'gumbel_exact': row['minhash_exact'] - step} for row in rows
    ]
    assert next_token.checks(worse)['pareto'] == passed
    high = [row | {'gumbel_exact': row['optimum'] + step} for row in rows]
    assert next_token.checks(high)['above_bound'] == passed


def test_a_certain_match_that_fails_is_seen():
  row = dict.fromkeys(next_token._NAMES, 1.0) | {'repetitions': REPETITIONS}
  low = row | {'gumbel': 0.995}
  assert next_token.checks([row, low])['largest_z'] > statistics.SIGMAS
  assert next_token.checks([row, row])['largest_z'] == 0


def test_files_and_text(finished):
  workdir, rows = finished
  stored = tables.read_csv(workdir / 'results.csv')
  assert stored == rows
  record = files.read_json(workdir / 'results.json')
  assert record['settings']['text']['tokens'] > 1000
  shown = next_token.as_text(rows)
  assert 'Gumbel >= Weighted MinHash (exact values) at 3 of 3' in shown
  counts = [int(n) for n in re.findall(r'^\S+ to \S+ +(\d+) ', shown, re.M)]
  assert sum(counts) == 3
  mean, error = standard_errors.mean_error(
    [row['gumbel_exact'] for row in rows]
  )
  assert f'{mean:.4f} ± {error:.4f}' in shown


def test_a_finished_table_is_read(finished, monkeypatch):
  workdir, rows = finished
  monkeypatch.setattr(next_token, 'pair_logits', None)
  assert next_token.run(small_config(), workdir, seed=3) == rows


def files_of(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_table_of_other_settings_is_refused_and_kept(finished, tmp_path):
  workdir, rows = finished
  shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
  before = files_of(tmp_path)
  config = small_config()
  config.update(temperature=2.0)
  with pytest.raises(
    ValueError, match=r'of config.temperature \(.*, now 2.0\); .*workdir'
  ):
    next_token.run(config, tmp_path, seed=3)
  with pytest.raises(ValueError, match=r'of contexts.*, seed \(3, now 4\); '):
    next_token.run(small_config(), tmp_path, seed=4)
  assert files_of(tmp_path) == before
  (tmp_path / 'results.json').unlink()
  with pytest.raises(ValueError, match='results.csv has no results.json'):
    next_token.run(small_config(), tmp_path, seed=3)
  assert tables.read_csv(tmp_path / 'results.csv') == rows


def test_other_weights_or_text_under_a_name_are_refused(tmp_path):
  config = small_config()
  document = tmp_path / 'text.txt'
  shutil.copy(os.__file__, document)
  config.data = (str(document),)
  for name, model in zip(('target', 'drafter'), pretrained.shipped_pair()):
    config[name] = str(tmp_path / name)
    pretrained.save_pretrained(model, config[name])
  next_token.run(config, tmp_path / 'run', seed=3)
  before = files_of(tmp_path / 'run')
  assert before.keys() == {
    'results.csv',
    'results.json',
    'next_token.pdf',
    'next_token.png',
  }
  embed = model.params['embed']  # [V, D]; one number far from its head
  other = dict(model.params, embed=embed.at[-1, -1].add(1))
  pretrained.save_pretrained(model._replace(params=other), config.drafter)
  with pytest.raises(ValueError, match='settings of models.drafter; '):
    next_token.run(config, tmp_path / 'run', seed=3)
  pretrained.save_pretrained(model, config.drafter)
  document.write_text(document.read_text() + '#')
  with pytest.raises(ValueError, match='text.sha256'):
    next_token.run(config, tmp_path / 'run', seed=3)
  assert files_of(tmp_path / 'run') == before


def test_places_depend_on_the_seed_alone():
  config = small_config()
  tokenizer = pretrained.shipped_pair()[0].tokenizer
  one, record = next_token.contexts(0, config, tokenizer)
  two, _ = next_token.contexts(0, config, tokenizer)
  other, _ = next_token.contexts(1, config, tokenizer)
  np.testing.assert_array_equal(one, two)
  assert one.shape == (3, 16) and (one != other).any()
  config.held_out_fraction = 0.0
  _, whole = next_token.contexts(0, config, tokenizer)
  assert whole['tokens'] > record['tokens'] > 1000
  assert whole['sha256'] == record['sha256']


def test_a_shorter_vocabulary_is_filled_and_heat_flattens():
  config = small_config()
  target, drafter = next_token.load_pair(config)
  windows = np.arange(8).reshape(1, 8)
  plain = next_token.pair_logits(config, windows, target, drafter)
  config.temperature = 2.0
  hot = next_token.pair_logits(config, windows, target, drafter)
  np.testing.assert_array_equal(hot[0], plain[0] / 2)
  cut = dict(drafter.params, embed=drafter.params['embed'][:1000])
  cut_config = dataclasses.replace(drafter.config, vocab_size=1000)
  short = drafter._replace(config=cut_config, params=cut)
  filled = next_token.pair_logits(config, windows, target, short)
  assert filled[0].shape == filled[1].shape
  assert np.isneginf(filled[0][0, 1000:]).all()
  own = analysis.logits_along(short, windows)[:, -1] / 2
  np.testing.assert_array_equal(filled[0][:, :1000], own)


@pytest.mark.parametrize(
  'change, error, message',
  [
    ({'repetitions': 1}, ValueError, 'repetitions.*1'),
    ({'temperature': 0.0}, ValueError, 'temperature.*0'),
    ({'target': 'somewhere'}, ValueError, "'somewhere' and drafter ''"),
    ({'num_positions': 10**8}, ValueError, 'too few for 100000000'),
    (
      {'target': './nowhere', 'drafter': './nowhere'},
      FileNotFoundError,
      'nowhere',
    ),
    ({'data': ('./no.txt',)}, FileNotFoundError, 'no.txt'),
  ],
)
def test_bad_settings_are_refused(change, error, message, tmp_path):
  config = small_config()
  config.update(change)
  with pytest.raises(error, match=message):
    next_token.run(config, tmp_path / 'run', seed=0)
  assert not (tmp_path / 'run').exists()


def test_models_without_a_common_tokenizer_are_refused(tmp_path):
  _, drafter = pretrained.shipped_pair()
  config = small_config()
  config.target = str(pretrained.SHIPPED / 'target')
  config.drafter = str(tmp_path / 'mute')
  pretrained.save_pretrained(drafter._replace(tokenizer=None), config.drafter)
  with pytest.raises(ValueError, match='mute has no tokenizer'):
    next_token.load_pair(config)
  other = text.train_tokenizer(['another text ' * 9], 300)
  config.drafter = str(tmp_path / 'other')
  pretrained.save_pretrained(drafter._replace(tokenizer=other), config.drafter)
  with pytest.raises(ValueError, match='different tokenizers'):
    next_token.load_pair(config)


def test_only_the_split_of_the_shipped_pair_is_trusted(monkeypatch):
  told = []
  monkeypatch.setattr(
    next_token.logging, 'warning', lambda text, *names: told.append(names)
  )
  config = next_token_config.get_config()
  known, fraction = next_token.SHIPPED_TEXT
  assert config.held_out_fraction == fraction
  assert known in (pretrained.SHIPPED / 'README.md').read_text()
  next_token.warn_of_trained_text(config, known)
  assert not told
  next_token.warn_of_trained_text(config, 'another')
  config.held_out_fraction = 0.0
  next_token.warn_of_trained_text(config, known)
  assert told == [next_token.SHIPPED_TEXT] * 2
  config.target = config.drafter = 'mine'
  next_token.warn_of_trained_text(config, known)
  assert len(told) == 2
