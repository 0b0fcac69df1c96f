"""Training on a small text: it learns, resumes to the same bits, distils."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import lm_drafter, lm_target
from listcoupling.models import pretrained
from listcoupling.training import language_model

WORDS = 'the race of all arrival times is won by the first of them'.split()


def small_config(path):
  """A few seconds of training: one layer, one file, 30 steps."""
  config = lm_target.get_config()
  config.update(
    data=(str(path),),
    sequence_length=16,
    batch_size=4,
    num_steps=30,
    warmup_steps=2,
    learning_rate=1e-2,
    eval_every=15,
    eval_windows=8,
    checkpoint_every=15,
  )
  config.model.update(
    vocab_size=280,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    intermediate_size=24,
  )
  return config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(config, workdir, result) of one finished run."""
  folder = tmp_path_factory.mktemp('lm')
  rng = np.random.default_rng(0)
  lines = [' '.join(rng.choice(WORDS, 8)) for _ in range(400)]
  (folder / 'text.txt').write_text('\n'.join(lines))
  config = small_config(folder / 'text.txt')
  result = language_model.train_and_evaluate(config, folder / 'run')
  pretrained.save_pretrained(result.model, folder / 'model')
  return config, folder / 'run', result


def test_loss_falls_and_is_recorded(run):
  config, workdir, result = run
  history = result.record['history']
  assert [row['step'] for row in history] == [15, 30]
  losses = [row['cross_entropy'] for row in history]
  assert losses[1] < losses[0] < np.log(280)
  record = json.loads((workdir / 'record.json').read_text())
  assert record['held_out'] == history[-1]
  assert record['text']['documents'] == 1
  assert len(record['text']['sha256']) == 64
  assert record['parameters'] == sum(
    leaf.size for leaf in jax.tree.leaves(result.model.params)
  )
  assert list((workdir / 'events').iterdir())
  assert result.model.tokenizer.decode([]) == ''


def test_stopped_run_resumes_to_the_same_weights(run, tmp_path):
  config, workdir, result = run
  stopped = tmp_path / 'run'
  shutil.copytree(workdir, stopped)
  shutil.rmtree(stopped / 'checkpoints' / '30')
  again = language_model.train_and_evaluate(config, stopped)
  same = jax.tree.map(
    lambda a, b: (a == b).all(), again.model.params, result.model.params
  )
  assert jax.tree.all(same)
  assert [row['step'] for row in again.record['history']] == [15, 30]
  other = config.copy_and_resolve_references()
  other.learning_rate = 2e-2
  with pytest.raises(ValueError, match="other settings of .'learning_rate'"):
    language_model.train_and_evaluate(other, stopped)


def test_windows_depend_on_key_alone():
  tokens = np.arange(100)
  key = jax.random.key(3)
  windows = language_model.sample_windows(key, jax.numpy.asarray(tokens), 50, 9)
  assert windows.shape == (50, 9)
  assert (np.diff(windows, axis=1) == 1).all()
  assert windows.min() >= 0 and windows.max() <= 99
  again = language_model.sample_windows(key, jax.numpy.asarray(tokens), 50, 9)
  np.testing.assert_array_equal(windows, again)
  assert len(set(windows[:, 0].tolist())) > 20


def test_each_step_has_its_own_windows(run):
  config, _, result = run
  params = result.model.params
  optimizer = language_model.make_optimizer(config)
  state = language_model.TrainState(params, optimizer.init(params))
  train, _ = language_model.make_steps(config, result.model.config)
  tokens = jax.numpy.asarray(np.random.default_rng(0).integers(0, 280, 5000))
  losses = [
    float(
      train(state, tokens, jax.random.key(0), step, None)[1]['cross_entropy']
    )
    for step in (0, 1, 0)
  ]
  assert losses[0] == losses[2] != losses[1]


def test_drafter_learns_from_its_target(run, tmp_path):
  config, workdir, _ = run
  config = config.copy_and_resolve_references()
  config.teacher = str(workdir.parent / 'model')
  config.distillation = 1.0
  config.model.hidden_size = 8
  config.seed = 1
  result = language_model.train_and_evaluate(config, tmp_path / 'run')
  first, last = result.record['history']
  assert 0 < last['kl'] < first['kl']
  assert first['overlap'] < last['overlap'] <= 1
  teacher = pretrained.load_pretrained(config.teacher)
  assert result.model.tokenizer.to_str() == teacher.tokenizer.to_str()


def test_a_model_has_no_distance_to_itself(run):
  config, _, result = run
  windows = language_model.held_out_windows(np.arange(200) % 280, config)[0]
  model = (result.model.config, result.model.params)
  loss, metrics = language_model.loss_and_metrics(
    config, model, windows, teacher=model
  )
  assert metrics['overlap'] == pytest.approx(1, abs=1e-5)
  assert metrics['kl'] == pytest.approx(0, abs=1e-5)
  assert loss == pytest.approx(float(metrics['cross_entropy']), rel=1e-6)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'num_steps': 0}, 'num_steps.*0'),
    ({'distillation': 1.5}, '1.5'),
    ({'distillation': 0.5}, 'teacher is empty'),
    ({'warmup_steps': 30}, 'warmup_steps.*30 and 30'),
    ({'sequence_length': 10**6}, '1000001'),
    ({'teacher': str(pretrained.SHIPPED / 'target')}, '280.*1024'),
  ],
)
def test_bad_settings_are_refused(run, change, message, tmp_path):
  config = run[0].copy_and_resolve_references()
  config.update(change)
  with pytest.raises(ValueError, match=message):
    language_model.train_and_evaluate(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()  # nothing was written


def test_shipped_configs_fit_together():
  target, drafter = lm_target.get_config(), lm_drafter.get_config()
  assert target.model.vocab_size == drafter.model.vocab_size
  language_model.check_config(target)
  language_model.check_config(drafter)
  shipped = pretrained.shipped_pair()
  for config, model in zip((target, drafter), shipped):
    for name, value in config.model.items():
      assert getattr(model.config, name) == value
